/** A process is killed in the middle of a run; the next one is started. How long does the run stand still? */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { type Figure, median } from "./figure.ts";
import { Folder } from "./folder.ts";

const REPEATS = 10;
const KILL_AT_STEP = 20;
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
