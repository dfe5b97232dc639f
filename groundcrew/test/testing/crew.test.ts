/** The test crew's time: everything happens at its time, and nobody waits for it. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { tool } from "ai";
import { expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { agent, flow } from "../../src/agent.ts";
import { systemClock } from "../../src/clock.ts";
import { groundcrew } from "../../src/runtime.ts";
import { FakeClock, fault, hangingTool, scriptedModel, testCrew } from "../../src/testing/testing.ts";

const HOUR = 3_600_000;
const asks = { calls: [{ tool: "stuck", input: {} }] };

const stuck = () => agent("stuck", { model: scriptedModel([asks, "Never said."]), tools: { stuck: hangingTool() }, deadline: "1m" });

test("a run that sleeps for weeks, and its child for hours, are waited for in no time, and nobody loses a lease over it", async () => {
  const nap = flow("nap", async (ctx) => ctx.sleep("5h"));
  const long = flow(
    "long",
    async (ctx) => {
      await ctx.sleep("20d");
      await ctx.call(nap, { input: undefined });
      return (await ctx.waitFor("go", { within: "1d" })) ?? "nobody came";
    },
    { deadline: "60d" },
  );
  const troubles: unknown[] = [];
  await using crew = await testCrew([long, nap], { onTrouble: (trouble) => troubles.push(trouble) });
  const from = crew.clock.now();
  const run = await crew.start(long, { input: undefined });
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded", output: "nobody came", takeovers: 0 });
  const expected = (21 * 24 + 5) * HOUR;
  expect(crew.clock.now() - from).toBeGreaterThanOrEqual(expected);
  expect(crew.clock.now() - from).toBeLessThan(expected + 60_000);
  expect(troubles).toEqual([]);
});

test("a run that waits for a signal for ever is not waited for until its deadline", async () => {
  const waits = flow("waits", async (ctx) => ctx.waitFor("go"));
  await using crew = await testCrew([waits]);
  const from = crew.clock.now();
  const run = await crew.start(waits, { input: undefined });
  expect(await crew.settle(run)).toMatchObject({ status: "parked", reason: "signal", dueAt: null });
  expect(crew.clock.now() - from).toBeLessThan(60_000);
  await run.signal("go", 7);
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded", output: 7 });
});

test("a deadline is kept to the second, also while a tool hangs", async () => {
  const agentOfIt = stuck();
  await using crew = await testCrew([agentOfIt]);
  const from = crew.clock.now();
  expect(await crew.settle(await crew.start(agentOfIt, { prompt: "hello" }))).toMatchObject({ status: "expired" });
  expect(crew.clock.now() - from).toBeGreaterThanOrEqual(60_000);
  expect(crew.clock.now() - from).toBeLessThan(75_000); // deadlines are looked at when the lease is renewed; then the tool is given its grace
});

test("a tool that takes 0.3 s of real time does not run into its time limit of two and a half minutes", async () => {
  const slow = tool({ inputSchema: z.object({}), execute: async () => sleep(300, "done") });
  const asking = agent("asking", {
    model: scriptedModel([{ calls: [{ tool: "slow", input: {} }] }, "Done."]),
    tools: { slow },
    policy: { slow: { timeout: "150s" } },
  });
  await using crew = await testCrew([asking]);
  expect(await crew.settle(await crew.start(asking, { prompt: "hello" }))).toMatchObject({ output: "Done." });
});

test("time passes while nobody is at work, and what is due meanwhile happens at its time", async () => {
  const ticks = flow("ticks", async (ctx) => {
    for (let i = 0; i < 4; i++) await ctx.sleep("1h");
  });
  await using crew = await testCrew([ticks]);
  const run = await crew.start(ticks, { input: undefined });
  await crew.advance("150m");
  expect((await run.view()).status).toBe("parked");
  const slept = (await run.journal()).filter(({ type }) => type === "run.parked");
  expect(slept.length).toBe(3);
  expect(slept.map(({ at }) => Math.round((at - (slept[0]?.at ?? 0)) / HOUR))).toEqual([0, 1, 2]);
  await crew.advance("2h");
  expect((await run.view()).status).toBe("succeeded");
});

test("a crew whose tool never ends closes, and leaves nothing behind", async () => {
  const agentOfIt = stuck();
  const crew = await testCrew([agentOfIt]);
  const run = await crew.start(agentOfIt, { prompt: "hello" });
  await expect.poll(async () => (await run.view()).current.map(({ name }) => name)).toContain("stuck");
  const { store } = await crew.health();
  expect(existsSync(store)).toBe(true);
  const began = performance.now();
  await crew.close();
  await crew.close();
  expect(performance.now() - began).toBeLessThan(5_000);
  expect(existsSync(dirname(store))).toBe(false);
});

test("a trickle takes the time of the clock that it is given, and its words come one by one", async () => {
  const clock = new FakeClock();
  const model = scriptedModel([fault.trickle("one word at a time", 30_000)], { clock });
  const slow = agent("slow", { model, timeout: { chunkMs: 60_000 } });
  await using crew = await testCrew([slow], { clock });
  const run = await crew.start(slow, { prompt: "hello" });
  expect(await crew.settle(run)).toMatchObject({ output: "one word at a time" });
  expect(clock.now() - (await run.view()).createdAt).toBeGreaterThanOrEqual(150_000);
});

test("a clock sets off what a timer sets on its way, at its time; a jump sets each timer off once", async () => {
  const clock = new FakeClock(0);
  const every: number[] = [];
  const look = () => {
    every.push(clock.now());
    clock.after(10, look);
  };
  clock.after(10, look);
  await clock.advance(35);
  expect(every).toEqual([10, 20, 30]);
  clock.jump(1_000);
  expect(every).toEqual([10, 20, 30, 1_035]);
  clock.jump(-500);
  expect(clock.now()).toBe(535);
});

test("the times of a clock are whole milliseconds, whatever it is asked for", async () => {
  const clock = new FakeClock(0.25);
  let at = 0;
  clock.after(10 / 3, () => {
    at = clock.now();
  });
  await clock.advance(10.5);
  expect(at).toBe(4);
  expect(clock.now()).toBe(11);
  clock.jump(-0.75);
  expect(clock.now()).toBe(10);
});

test("a clock that knows parts of a millisecond is as good as any", async () => {
  const folder = mkdtempSync(join(tmpdir(), "groundcrew-kit-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const naps = flow("naps", async (ctx) => {
    await ctx.sleep(5);
    return "awake";
  });
  const clock = { ...systemClock, now: () => performance.timeOrigin + performance.now() };
  const crew = groundcrew({ agents: [naps], store: join(folder, "crew.db"), clock });
  expect(await (await crew.start(naps, { input: undefined })).result()).toBe("awake");
  await crew.close();
});
