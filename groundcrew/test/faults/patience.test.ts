/** How long a step is tried, whatever it is that keeps it waiting. */
import { expect, test } from "vitest";
import { agent } from "../../src/agent.ts";
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
