import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tool } from "ai";
import { expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { agent } from "../../src/agent.ts";
import { groundcrew } from "../../src/runtime.ts";
import { FakeClock, failingTool, fault, hangingTool, killAt, scriptedModel, testCrew, withFaults } from "../../src/testing/testing.ts";
import { pay } from "./killed.ts";

const lookup = tool({ inputSchema: z.object({ id: z.number() }), execute: async ({ id }) => `order ${id} is on its way` });
const asks = { calls: [{ tool: "lookup", input: { id: 7 } }] };

test("an hour of a provider's trouble costs a test no hour, and the run comes to its answer", async () => {
  const model = scriptedModel([
    fault.status(429, { retryAfter: "300" }),
    fault.reset(),
    fault.cut("Half an"),
    fault.hang("Half an"),
    "An answer.",
  ]);
  const support = agent("support", { model, timeout: { chunkMs: 60_000 } });
  await using crew = await testCrew([support]);
  const began = performance.now();
  const from = crew.clock.now();
  const run = await crew.start(support, { prompt: "hello" });
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded", output: "An answer." });
  expect(model.calls).toHaveLength(5);
  expect(crew.clock.now() - from).toBeGreaterThan(300_000);
  expect(performance.now() - began).toBeLessThan(20_000);
  const failures = (await run.journal()).flatMap((event) => (event.type === "step.failed" ? event.failure?.reason : []));
  expect(failures).toEqual(["rate_limited", "network", "bad_response", "timeout"]);
});

test("a run that waits for somebody is told apart from one that is at work", async () => {
  const support = agent("support", { model: scriptedModel([fault.status(401), "Mended."]) });
  await using crew = await testCrew([support]);
  const run = await crew.start(support, { prompt: "hello" });
  expect(await crew.settle(run)).toMatchObject({ status: "parked", reason: "attention", code: "RETRIES_EXHAUSTED" });
  await run.retry();
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded", output: "Mended." });
});

test("a script that is used up fails the run instead of saying nothing", async () => {
  const support = agent("support", { model: scriptedModel([]) });
  await using crew = await testCrew([support]);
  expect(await crew.settle(await crew.start(support, { prompt: "hello" }))).toMatchObject({ status: "failed" });
});

test("a tool fails in turn, each way of failing is seen, and it works again behind the script", async () => {
  const faulty = withFaults(lookup, [new Error("away"), { throws: "a text" }, "hang", "hang, ignoring its signal", "ok"]);
  const model = scriptedModel([asks, asks, asks, asks, asks, asks, "Done."]);
  const support = agent("support", { model, tools: { lookup: faulty }, policy: { lookup: { effect: "read", attempts: 1 } } });
  await using crew = await testCrew([support]);
  const run = await crew.start(support, { prompt: "hello" });
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded", output: "Done." });
  expect(faulty.executions).toBe(6);
  const ends = (await run.journal()).filter(({ type }) => type === "step.failed");
  expect(ends.map((event) => (event as { error: { message: string } }).error.message)).toEqual([
    "away",
    "a text",
    expect.stringContaining("took longer"),
    expect.stringContaining("took longer"),
  ]);
});

test("a tool that always fails, one that never ends, and one that answers what the test wants", async () => {
  const tools = { down: failingTool("a text"), stuck: hangingTool(), asked: withFaults(lookup, [{ returns: "order 8 is lost" }]) };
  const calls = [...Object.keys(tools), "asked"].map((name) => ({ tool: name, input: { id: 7 } }));
  const model = scriptedModel([{ text: "I look.", calls }, "Done."]);
  const support = agent("support", { model, tools, policy: { stuck: { effect: "read", timeout: "1s", attempts: 1 } } });
  await using crew = await testCrew([support]);
  expect(await crew.settle(await crew.start(support, { prompt: "hello" }))).toMatchObject({ output: "Done." });
  const shown = JSON.stringify(model.calls[1]?.prompt.at(-1)?.content);
  for (const words of ["a text", "took longer than 1000 ms", "order 8 is lost", "order 7 is on its way"]) expect(shown).toContain(words);
  expect([tools.down.executions, tools.stuck.executions, tools.asked.executions]).toEqual([1, 1, 2]);
});

test("a connection that is reset behind some words is the network's fault, and the words are taken back", async () => {
  const support = agent("support", { model: scriptedModel([fault.reset("Your money"), "It is on its way."]) });
  await using crew = await testCrew([support]);
  const run = await crew.start(support, { prompt: "hello" });
  expect(await crew.settle(run)).toMatchObject({ output: "It is on its way." });
  const failed = (await run.journal()).find(({ type }) => type === "step.failed");
  expect(failed).toMatchObject({ failure: { chance: "again", reason: "network" } });
});

test("a script that is a function is told what it is asked, and how often", async () => {
  const model = scriptedModel(({ prompt }, n) => (prompt.length < 6 ? asks : `asked ${n} times`));
  const support = agent("support", { model, tools: { lookup } });
  await using crew = await testCrew([support]);
  expect(await crew.settle(await crew.start(support, { prompt: "hello" }))).toMatchObject({ output: "asked 4 times" });
});

test("a clock sets timers off in their order, once, and not before their time", async () => {
  const clock = new FakeClock(1_000);
  const went: string[] = [];
  clock.after(20, () => went.push(`b at ${clock.now()}`));
  clock.after(10, () => went.push(`a at ${clock.now()}`));
  const cancel = clock.after(15, () => went.push("never"));
  await clock.advance(9);
  expect(went).toEqual([]);
  cancel();
  await clock.advance(50);
  expect(went).toEqual(["a at 1010", "b at 1020"]);
  expect(clock.now()).toBe(1_059);
});

const killed = new URL("./killed.ts", import.meta.url);

function storePath(): string {
  const folder = mkdtempSync(join(tmpdir(), "groundcrew-kit-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "crew.db");
}

test("a process is killed at the named point, and another goes on with what it left", async () => {
  const store = storePath();
  await killAt("effect.after", killed, { nth: 2, args: [store] });
  const crew = groundcrew({ agents: [pay], store });
  const [row] = await crew.runs();
  expect(await (await crew.run(row?.id ?? "")).result()).toBe("seen, paid");
  await crew.close();
});

test("a process that never comes by the point is told, with what it said", async () => {
  await expect(killAt("reconcile.before", killed, { args: [storePath()] })).rejects.toMatchObject({
    code: "INTERNAL",
    message: expect.stringContaining("reconcile.before"),
  });
});
