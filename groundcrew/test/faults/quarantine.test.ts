/** A run that takes its process down each time is told from the runs beside it, and from deaths that are nobody's doing. */
import { expect, test } from "vitest";
import { MAX_DEATHS } from "../../src/limits.ts";
import { fold } from "../../src/persistence/fold.ts";
import type { Run } from "../../src/runtime.ts";
import { reaches } from "../support/crew.ts";
import { call } from "../support/model.ts";
import type { ProviderRequest } from "../support/provider.ts";
import { until, within } from "../support/until.ts";
import { type Stage, setStage, type WorkerProcess } from "./stage.ts";

/** The model lets its tool act under the name it was told, once, and says what came of it. */
function actOnce({ body }: ProviderRequest) {
  const messages = body["messages"] as { role: string; content: unknown }[];
  const result = messages.find(({ role }) => role === "tool");
  const name = String(messages.find(({ role }) => role === "user")?.content);
  return result ? `So it was ${result.content}` : { calls: [call("act", { name }, `call-${name}`)] };
}

const folded = async (run: Run<unknown>) => fold((await run.journal()) as never);

/** Starts a process anew whenever one has died, as a process manager does, until `isOver`. @returns how often */
async function keepAlive(stage: Stage, isOver: () => Promise<boolean>): Promise<{ deaths: number; worker: WorkerProcess }> {
  let worker = await stage.spawn();
  let deaths = 0;
  await until(
    "it is over",
    async () => {
      if (worker.isOver()) {
        expect(await worker.ended).toBe("SIGKILL");
        deaths++;
        worker = await stage.spawn();
      }
      return isOver();
    },
    60_000,
  );
  return { deaths, worker };
}

test(`a run whose tool kills the process each time is quarantined after ${MAX_DEATHS} deaths, while the other runs on its worker finish; \`retry\` gives it another chance`, async () => {
  const stage = await setStage();
  stage.provider.script(actOnce);
  const others = ["a", "b", "c", "d"];
  stage.decide = (name) => (name === "killer" ? { dies: true } : { gives: `done: ${name}` });
  const killer = await stage.crew.start("acting", { prompt: "killer" });
  const beside = await Promise.all(others.map((name) => stage.crew.start("acting", { prompt: name })));

  const isOver = async () => (await killer.row()).reason === "attention";
  const first = await keepAlive(stage, isOver);
  expect(first.deaths).toBeGreaterThanOrEqual(MAX_DEATHS);
  expect(first.deaths).toBeLessThanOrEqual(MAX_DEATHS + 1); // the first may come before its step is on disk
  expect(await killer.view()).toMatchObject({ status: "parked", reason: "attention", code: "QUARANTINED", takeovers: first.deaths });
  expect((await killer.view()).summary).toMatch(/^Quarantined: .*"act".*retry/);
  for (const [n, run] of beside.entries()) expect(await within("it finishes", run.result())).toBe(`So it was done: ${others[n]}`);
  for (const run of beside) expect((await folded(run)).deaths).toBe(0);
  expect(stage.calls.filter((name) => name === "killer")).toHaveLength(first.deaths);

  // Its worker is alive and well, and takes up new runs.
  const later = await stage.crew.start("acting", { prompt: "later" });
  expect(await within("a new run finishes", later.result())).toBe("So it was done: later");
  expect(first.worker.isOver()).toBe(false);

  await killer.retry();
  await until("it has another chance, and takes it", async () => stage.calls.filter((name) => name === "killer").length > first.deaths);
  expect(await first.worker.ended).toBe("SIGKILL");
  stage.decide = (name) => ({ gives: `done: ${name}` });
  await keepAlive(stage, async () => (await killer.row()).status === "succeeded");
  expect(await killer.result()).toBe("So it was done: killer");
}, 90_000);

test("twenty processes that are killed from outside in the middle of a model call are held against no run", async () => {
  const KILLS = 20;
  const stage = await setStage();
  stage.provider.script(({ n }) => (n <= KILLS ? { text: "one two three four", hangAt: "middle" } : "At last."));
  const run = await stage.crew.start("asking", { prompt: "Hello?" });
  for (let n = 1; n <= KILLS; n++) {
    const worker = await stage.spawn();
    await until(`request ${n} is there`, () => stage.provider.requests.length >= n);
    worker.kill("SIGKILL");
    expect(await worker.ended).toBe("SIGKILL");
  }
  await stage.spawn();
  expect(await within("it finishes", run.result())).toBe("At last.");
  expect(await folded(run)).toMatchObject({ takeovers: KILLS, deaths: 0 });
  expect(stage.provider.requests).toHaveLength(KILLS + 1);
}, 90_000);

test("a deploy in the middle of a tool is held against no run: what ends by SIGTERM has not died of it", async () => {
  const DEPLOYS = 3; // one more than would make it a suspect; each waits its eight seconds for the tool
  const stage = await setStage();
  stage.provider.script(actOnce);
  const run = await stage.crew.start("acting", { prompt: "slow" });
  const waiting: (() => void)[] = [];
  stage.decide = () => new Promise((resolve) => waiting.push(() => resolve({ gives: "done: slow" })));
  // The new process is there before the old one ends; each old one waits its grace for the tool in vain.
  const old: WorkerProcess[] = [];
  for (let n = 1; n <= DEPLOYS; n++) {
    old.push(await stage.spawn());
    await until(`the tool is called for the ${n}th time`, () => stage.calls.length === n, 30_000);
    old.at(-1)?.kill("SIGTERM");
    expect(await old.at(-1)?.ended).toBe(0);
    expect((await run.row()).reason).not.toBe("attention");
    expect((await folded(run)).deaths).toBe(0);
  }
  await stage.spawn();
  await until("the tool is called once more", () => stage.calls.length === DEPLOYS + 1);
  for (const answer of waiting) answer();
  expect(await within("it finishes", run.result())).toBe("So it was done: slow");
  expect((await reaches(run, "succeeded")).takeovers).toBe(0);
}, 120_000);
