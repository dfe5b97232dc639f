/** A process ends in the middle of a run; the next one is started, or is there already. How long does the run stand still? */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { type Figure, median } from "./figure.ts";
import { Folder } from "./folder.ts";
import { PostgresGround } from "./ground.ts";

const REPEATS = 10;
const KILL_AT_STEP = 20;
/** Of a worker's step in `pg-recovery`: long enough to be in one when the signal comes. */
const STEP_MS = 20;
const script = new URL("./recovery-process.mjs", import.meta.url);

/** What the process tells about itself, and at what time. */
export type Said = { what: "ready" } | { what: "step"; step: number };
type Report = Said & { at: number };

export async function recovery(): Promise<Figure[]> {
  const spawnMs: number[] = [];
  const readyMs: number[] = [];
  for (let i = 0; i < REPEATS; i++) {
    using folder = new Folder();
    const store = folder.file("crew.db");
    const first = fork(script, [store, "start"]);
    await report(first, (said) => said.what === "step" && said.step === KILL_AT_STEP);
    first.kill("SIGKILL");
    await once(first, "exit");

    const spawnedAt = now();
    const second = fork(script, [store, "resume"]);
    const reports = [report(second, (said) => said.what === "ready"), report(second, (said) => said.what === "step")];
    const [ready, step] = await Promise.all(reports);
    second.kill("SIGKILL");
    await once(second, "exit");
    if (!ready || step?.what !== "step" || step.step < KILL_AT_STEP) throw new Error("The second process did not continue the run.");
    spawnMs.push(step.at - spawnedAt);
    readyMs.push(step.at - ready.at);
  }
  const how = `SIGKILL in step ${KILL_AT_STEP}, ${REPEATS} times, median`;
  return [
    {
      name: "recovery.spawn-ms",
      value: median(spawnMs),
      unit: "ms",
      how: `${how}: from the spawn of the next process, its imports included, to its first step`,
      target: { atMost: 300 },
    },
    {
      name: "recovery.ready-ms",
      value: median(readyMs),
      unit: "ms",
      how: `${how}: from the next process's worker at work to its first step`,
      target: { atMost: 20 },
    },
  ];
}

/** Two workers share a PostgreSQL; the one that has the run is killed, or told to stop. */
export async function pgRecovery(): Promise<Figure[]> {
  await using ground = await PostgresGround.open();
  const killed: number[] = [];
  const stopped: number[] = [];
  for (let i = 0; i < REPEATS; i++) {
    killed.push(await handover(await ground.store(), "SIGKILL"));
    stopped.push(await handover(await ground.store(), "SIGTERM"));
  }
  const how = `at the other worker's next step; steps of ${STEP_MS} ms, default settings, both on one machine; worst of ${REPEATS}`;
  return [
    {
      name: "pg-recovery.kill-ms",
      value: Math.max(...killed),
      unit: "ms",
      how: `from SIGKILL in step ${KILL_AT_STEP} ${how} (median ${median(killed).toFixed(0)})`,
      target: { atMost: 3_000 },
    },
    {
      name: "pg-recovery.stop-ms",
      value: Math.max(...stopped),
      unit: "ms",
      how: `from SIGTERM in step ${KILL_AT_STEP} ${how} (median ${median(stopped).toFixed(0)})`,
      target: { atMost: 1_000 },
    },
  ];
}

/** @returns milliseconds from the signal to the next step of the run, which is the other worker's */
async function handover(store: string, signal: "SIGKILL" | "SIGTERM"): Promise<number> {
  const second = fork(script, [store, "resume", String(STEP_MS)]);
  await report(second, (said) => said.what === "ready");
  const first = fork(script, [store, "start", String(STEP_MS)]);
  const [holder, other] = await Promise.race([reaches(first, second), reaches(second, first)]);
  const gone = once(holder, "exit");
  const next = report(other, (said) => said.what === "step");
  const signalledAt = now();
  holder.kill(signal);
  const step = await next;
  await gone;
  const over = once(other, "exit");
  other.kill("SIGKILL");
  await over;
  if (step.what !== "step" || step.step < KILL_AT_STEP) throw new Error("The other worker did not continue the run.");
  return step.at - signalledAt;
}

/** The worker that is in the step at which it will be signalled, then the one that is not. */
async function reaches(holder: ChildProcess, other: ChildProcess): Promise<[ChildProcess, ChildProcess]> {
  await report(holder, (said) => said.what === "step" && said.step === KILL_AT_STEP);
  return [holder, other];
}

/** Wall-clock time with fractions, comparable between processes. */
function now(): number {
  return performance.timeOrigin + performance.now();
}

function report(child: ChildProcess, matches: (said: Report) => boolean): Promise<Report> {
  return new Promise((resolve, reject) => {
    child.on("message", (said: Report) => {
      if (matches(said)) resolve(said);
    });
    child.on("exit", () => reject(new Error("The process ended before its time.")));
  });
}
