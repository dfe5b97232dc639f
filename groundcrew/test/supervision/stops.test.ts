/** What a process knows of stops: read again before it is old, and never taken from an answer to somebody's earlier question. */
import { expect, onTestFinished, test, vi } from "vitest";
import { STOP_LOOK_MS } from "../../src/limits.ts";
import type { Stop } from "../../src/persistence/store.ts";
import { Stops } from "../../src/supervision/stops.ts";

const stop: Stop = { agent: "*", why: "harm", by: "olga", at: 0 };

/** A store that answers when the test says so. */
function slowStore() {
  let now = 0;
  vi.spyOn(performance, "now").mockImplementation(() => now);
  onTestFinished(() => void vi.restoreAllMocks());
  const asked: ((stops: readonly Stop[]) => void)[] = [];
  const stops = () => new Promise<Stop[]>((resolve) => asked.push((found) => resolve([...found])));
  const pass = (ms: number) => {
    now += ms;
  };
  return { stops: new Stops({ stops }), asked, pass };
}

test("who comes while a look is slow waits for a later one, and is not told what was so before", async () => {
  const { stops, asked, pass } = slowStore();
  const early = stops.of("support");
  pass(STOP_LOOK_MS);
  const late = stops.of("support");
  const latest = stops.of("support");
  expect(asked).toHaveLength(2);
  asked[1]?.([stop]);
  asked[0]?.([]);
  expect(await late).toEqual(stop);
  expect(await latest).toEqual(stop);
  await early;
  expect(await stops.of("support")).toEqual(stop); // the earlier answer came later, and is not believed
});

test("who comes while a look is young shares it", async () => {
  const { stops, asked, pass } = slowStore();
  const one = stops.of("support");
  pass(STOP_LOOK_MS - 1);
  const other = stops.of("research");
  asked[0]?.([{ ...stop, agent: "support" }]);
  expect(await one).toMatchObject({ agent: "support" });
  expect(await other).toBeUndefined();
  expect(asked).toHaveLength(1);
});
