/** How long a step is tried, whatever it is that keeps it waiting. */
import { expect, test } from "vitest";
import { agent } from "../../src/agent.ts";
import { MAX_BREAKER_MS } from "../../src/limits.ts";
import { fault, scriptedModel, testCrew } from "../../src/testing/testing.ts";

const MINUTE = 60_000;
const exhausted = { status: "parked", reason: "attention", code: "RETRIES_EXHAUSTED" };

test("a step whose next attempt would come after its time is given up with attempts left, and `retry` gives it its time again", async () => {
  const model = scriptedModel(() => fault.status(429, { retryAfter: "240" }));
  const asking = agent("asking", { model, faults: { attempts: 50, patience: "10m" } });
  await using crew = await testCrew([asking]);
  const run = await crew.start(asking, { prompt: "hello" });
  for (const calls of [3, 6]) {
    const from = crew.clock.now();
    expect(await crew.settle(run)).toMatchObject(exhausted);
    expect(model.calls).toHaveLength(calls); // at 0, 4 and 8 minutes
    expect(crew.clock.now() - from).toBeLessThan(10 * MINUTE);
    await run.retry();
  }
});

test("runs that find a breaker open all the time do not wait for longer than they may", async () => {
  const asking = agent("asking", { model: scriptedModel(() => fault.status(503)), faults: { patience: "10m" } });
  await using crew = await testCrew([asking]);
  const runs = await Promise.all(Array.from({ length: 12 }, () => crew.start(asking, { prompt: "hello" })));
  await crew.advance(MINUTE);
  const tried: typeof runs = []; // what was not even begun waits until its deadline
  for (const run of runs) if ((await run.journal()).some(({ type }) => type === "step.started")) tried.push(run);
  expect(tried.length).toBeGreaterThanOrEqual(5);
  await crew.advance(9 * MINUTE - 2 * MAX_BREAKER_MS);
  for (const run of tried) expect(await run.row()).toMatchObject({ reason: "retry" }); // not before, either
  await crew.advance(3 * MAX_BREAKER_MS);
  for (const run of tried) expect(await run.view()).toMatchObject(exhausted);
}, 60_000);
