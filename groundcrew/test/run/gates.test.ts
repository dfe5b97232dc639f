/** The gates together: a stop that is set while something waits for its turn. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { BREAKER_FAILURES, FIRST_BREAKER_MS, STOP_LOOK_MS } from "../../src/limits.ts";
import type { Stop } from "../../src/persistence/store.ts";
import { type GateDeps, type Outcome, pass } from "../../src/run/gates.ts";
import { Stops } from "../../src/supervision/stops.ts";
import { admitted, failure, World } from "../fault/world.ts";

const KEY = "model:provider/model";
const STOP: Stop = { agent: "*", why: "it does harm", by: "olga", at: 0 };

let world: World;
let deps: GateDeps;
let stops: Stop[];

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  world = new World(1);
  stops = [];
  deps = { ...(await world.worker()), stops: new Stops({ stops: async () => stops }) };
});

afterEach(async () => {
  await world.end();
  vi.useRealTimers();
});

/** An attempt that wants to begin. */
function attempt(agent: string) {
  const begun = vi.fn(async (): Promise<Outcome<string>> => ({ value: { of: "done" } }));
  const passage = { agent, breaker: KEY, provider: "provider", signal: new AbortController().signal, isPressed: false, isProbe: false };
  return { begun, outcome: pass(deps, passage, begun) };
}

async function stop(one: Stop): Promise<void> {
  stops = [one];
  vi.advanceTimersByTime(STOP_LOOK_MS); // what a process knows of stops may be so old
  await world.rest();
}

/** The breaker is open, and somebody may find out now whether it has to be. */
async function untilProbe(): Promise<void> {
  for (let n = 0; n < BREAKER_FAILURES; n++) {
    await deps.breakers.settle(KEY, await admitted(deps.breakers, KEY), failure("server_error"));
  }
  world.clock.jump(FIRST_BREAKER_MS);
}

test("what waits for its turn when its agent is stopped does not begin, and the turn goes to the next", async () => {
  deps.paces.slow("provider", world.clock.now() + 3_000);
  const mine = attempt("stopped");
  const other = attempt("another");
  await world.rest();
  await stop({ ...STOP, agent: "stopped" });
  await world.pass(3_000);
  expect(await mine.outcome).toEqual({ stopped: { ...STOP, agent: "stopped" } });
  expect(await other.outcome).toEqual({ value: { of: "done" } });
  expect(mine.begun).not.toHaveBeenCalled();
  expect(other.begun).toHaveBeenCalledOnce();
});

test("what is stopped when it asks takes neither the one probe nor a turn", async () => {
  await untilProbe();
  await stop(STOP);
  const enter = vi.spyOn(deps.paces, "enter");
  expect(await attempt("any").outcome).toEqual({ stopped: STOP });
  expect(enter).not.toHaveBeenCalled();
  expect(await world.stored()).toMatchObject([{ state: "open", trips: 1 }]);
});

test("a probe that is stopped while it waits for its turn says nothing of what it would have called: the next one probes", async () => {
  await untilProbe();
  deps.paces.slow("provider", world.clock.now() + 3_000);
  const probe = attempt("stopped");
  await world.rest();
  expect(await world.stored()).toMatchObject([{ state: "probing" }]);
  await stop({ ...STOP, agent: "stopped" });
  await world.pass(3_000);
  expect(await probe.outcome).toMatchObject({ stopped: { by: "olga" } });
  expect(await world.stored()).toMatchObject([{ state: "open", trips: 1 }]);
  expect(await attempt("another").outcome).toEqual({ value: { of: "done" } });
  expect(await world.stored()).toEqual([]);
});
