/** A provider in trouble is asked less, whoever waits is served in turn, and nobody waits for what will not come. */
import { getEventListeners } from "node:events";
import { setImmediate as turn } from "node:timers/promises";
import { beforeEach, describe, expect, test } from "vitest";
import { Paces, type Turn } from "../../src/fault/pace.ts";
import {
  LONGEST_PACE_WAIT_MS,
  MAX_BREAKERS,
  MAX_PACE_WAITERS,
  MAX_RETRY_WAIT_MS,
  PACE_QUIET_MS,
  PACE_STEP_MS,
  RETRY_SPREAD,
} from "../../src/limits.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { seeded } from "../crash/seeded.ts";

const SEED = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const HOUR = 3_600_000;

let clock: FakeClock;
let paces: Paces;

beforeEach(() => {
  clock = new FakeClock();
  paces = new Paces({ clock, random: seeded(SEED) });
});

// ---- hands ----

const free = new AbortController().signal;

/** Calls that went through, in the order in which they did. */
class Calls {
  readonly begun: { n: number; leave: () => void }[] = [];
  readonly away: Extract<Turn, { go: false }>[] = [];
  readonly failed: unknown[] = [];
  #asked = 0;

  /** Asks for so many turns, and lets those go that may. */
  async ask(howMany: number, { signal = free, provider = "p" }: { signal?: AbortSignal; provider?: string } = {}) {
    for (let left = howMany; left > 0; left--) {
      const n = this.#asked++;
      paces.enter(provider, signal).then(
        (one) => (one.go ? this.begun.push({ n, leave: one.leave }) : this.away.push(one)),
        (error) => this.failed.push(error),
      );
    }
    await turn();
    return this.begun.length;
  }

  /** The oldest of them end well. */
  async end(howMany: number, provider = "p") {
    for (const { leave } of this.begun.splice(0, howMany)) {
      paces.eased(provider);
      leave();
    }
    await turn();
    return this.begun.length;
  }

  /** The oldest of them end otherwise. */
  async fail(howMany: number, until?: number) {
    for (const { leave } of this.begun.splice(0, howMany)) {
      paces.slow("p", until);
      leave();
    }
    await turn();
    return this.begun.length;
  }
}

let calls: Calls;
beforeEach(() => {
  calls = new Calls();
});

/** A limit of one, and nothing in flight. */
const trouble = async () => {
  await calls.ask(1);
  await calls.fail(1);
};

describe("without trouble", () => {
  test("nobody waits", async () => {
    expect(await calls.ask(10_000)).toBe(10_000);
  });
});

describe("in trouble", () => {
  test("leaving twice makes room once", async () => {
    await trouble();
    await calls.ask(5);
    for (let n = 0; n < 3; n++) calls.begun[0]?.leave();
    await turn();
    expect(calls.begun).toHaveLength(2);
  });

  test("half of what is in flight goes on, one is always let go, and a burst of refusals is one sign", async () => {
    await calls.ask(64);
    await calls.ask(100);
    expect(await calls.fail(40)).toBe(124);
    const limits: number[] = [];
    for (let n = 0; n < 9; n++) {
      clock.jump(PACE_STEP_MS);
      await calls.fail(1); // what is left goes on
      await calls.fail(calls.begun.length); // in the same moment
      limits.push(await calls.ask(300));
    }
    expect(limits[0]).toBeLessThanOrEqual(62);
    for (const [n, limit] of limits.entries()) if (n > 0) expect(limit).toBe(Math.max(1, Math.floor((limits[n - 1] as number) / 2)));
    expect(limits.at(-1)).toBe(1);
  });

  test("each full round of calls that go well makes room for one more, and no more", async () => {
    await trouble();
    await calls.ask(100);
    const limits: number[] = [];
    for (let round = 0; round < 8; round++) {
      limits.push(calls.begun.length);
      await calls.end(calls.begun.length);
    }
    expect(limits).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  test("what has come back doubles with each round, and not beyond the first trouble", async () => {
    paces.ramp("p");
    await calls.ask(200);
    const limits: number[] = [];
    for (let round = 0; round < 6; round++) {
      limits.push(calls.begun.length);
      paces.ramp("p"); // another who came back
      await calls.end(calls.begun.length);
    }
    expect(limits).toEqual([1, 2, 4, 8, 16, 32]);
    clock.jump(PACE_STEP_MS);
    paces.slow("p");
    await calls.end(calls.begun.length); // two rounds of what is left
    const now = calls.begun.length;
    await calls.end(now);
    expect(calls.begun.length - now).toBe(1);
  });

  test("coming back once more takes nothing of what the first return has reached", async () => {
    paces.ramp("p");
    await calls.ask(7);
    while (calls.begun.length > 0) await calls.end(calls.begun.length);
    paces.ramp("p");
    expect(await calls.ask(100)).toBe(8);
  });

  test("those that were up all the time keep what they have when another comes back", async () => {
    await calls.ask(50);
    paces.ramp("p");
    await calls.ask(1);
    expect(await calls.end(1)).toBe(50);
  });

  test("a minute without trouble lifts the limit, but not over those who still wait", async () => {
    await trouble();
    await calls.ask(100);
    clock.jump(PACE_QUIET_MS);
    expect(await calls.end(1)).toBe(2);
    while (calls.begun.length > 0) await calls.end(1);
    expect(await calls.ask(500)).toBe(500);
  });

  test("one second less than a minute does not", async () => {
    await trouble();
    clock.jump(PACE_QUIET_MS - 1_000);
    expect(await calls.ask(500)).toBe(1);
  });

  test("it is nobody else's", async () => {
    await trouble();
    expect(await calls.ask(100, { provider: "q" })).toBe(100);
  });
});

describe("who waits", () => {
  test("is served in turn, and nobody goes past them", async () => {
    await trouble();
    await calls.ask(5);
    const order: number[] = [];
    while (calls.begun.length > 0) {
      order.push(calls.begun[0]?.n ?? -1);
      await calls.end(1);
      if (order.length < 5) await calls.ask(1); // a newcomer
    }
    expect(order).toEqual([...order].sort((a, b) => a - b));
    expect(order).toHaveLength(9);
  });

  test("leaves at once when its run has to stop, takes no place with it, and is told why", async () => {
    await trouble();
    const stop = new AbortController();
    await calls.ask(1);
    await calls.ask(3, { signal: stop.signal });
    await calls.ask(1);
    stop.abort(new Error("cancelled"));
    await turn();
    expect(calls.failed).toEqual([new Error("cancelled"), new Error("cancelled"), new Error("cancelled")]);
    expect(await calls.end(1)).toBe(1);
    expect(calls.begun.map(({ n }) => n)).toEqual([5]);
    await calls.ask(1, { signal: stop.signal });
    expect(calls.failed).toHaveLength(4);
  });

  test("one that was served and is stopped then does not lose its place's leave", async () => {
    await trouble();
    const stop = new AbortController();
    await calls.ask(2, { signal: stop.signal });
    await calls.end(1);
    expect(getEventListeners(stop.signal, "abort")).toEqual([]); // nothing is left on a signal that lives as long as its run
    stop.abort();
    await turn();
    expect(calls.failed).toEqual([]);
    await calls.ask(1);
    await calls.end(2);
    expect(await calls.ask(1)).toBeGreaterThanOrEqual(1);
  });

  test("is one of so many: beyond that one is sent away, and told when to come back", async () => {
    await trouble();
    await calls.ask(1 + MAX_PACE_WAITERS);
    expect(calls.away).toEqual([]);
    await calls.ask(10);
    expect(calls.away).toHaveLength(10);
    for (const { until } of calls.away) {
      expect(until).toBeGreaterThanOrEqual(clock.now() + LONGEST_PACE_WAIT_MS);
      expect(until).toBeLessThanOrEqual(clock.now() + 2 * LONGEST_PACE_WAIT_MS + 1);
    }
    await calls.end(1);
    await calls.ask(1);
    expect(calls.away).toHaveLength(10);
  });
});

describe("a provider that names a time", () => {
  test("gets no call before it, and then not all at once", async () => {
    await calls.ask(8);
    await calls.fail(8, clock.now() + 3_000);
    expect(await calls.ask(100)).toBe(0);
    clock.jump(2_999);
    await turn();
    expect(calls.begun).toHaveLength(0);
    clock.jump(1);
    await turn();
    expect(calls.begun).toHaveLength(4);
    expect(calls.away).toEqual([]);
  });

  test("that is further away finds nobody waiting in memory: they are told when, each another moment, none before", async () => {
    const until = clock.now() + 60_000;
    await calls.ask(50);
    await trouble();
    await calls.ask(100);
    await calls.fail(50, until);
    await calls.ask(100);
    expect(calls.away.length).toBeGreaterThanOrEqual(150);
    const backs = calls.away.map((one) => one.until);
    expect(Math.min(...backs)).toBeGreaterThanOrEqual(until);
    expect(Math.max(...backs)).toBeLessThanOrEqual(until + 60_000 * RETRY_SPREAD + 1);
    expect(new Set(backs).size, `seed ${SEED}`).toBeGreaterThan(100);
    await calls.end(calls.begun.length);
    expect(await calls.ask(1)).toBe(0);
    clock.jump(60_000);
    expect(await calls.ask(1)).toBe(1);
  });

  test("the latest that was named counts, and one that is past, or none at all, is no time", async () => {
    for (const until of [clock.now() - 1, clock.now(), Number.NaN, Number.NEGATIVE_INFINITY]) {
      await calls.ask(1);
      await calls.fail(1, until);
    }
    expect(await calls.ask(1)).toBe(1);
    await calls.fail(1, clock.now() + 2_000);
    paces.slow("p", clock.now() + 4_000);
    paces.slow("p", clock.now() + 1_000);
    await calls.ask(1);
    clock.jump(3_999);
    await turn();
    expect(calls.begun).toEqual([]);
    clock.jump(1);
    await turn();
    expect(calls.begun).toHaveLength(1);
  });

  test.each([Number.POSITIVE_INFINITY, Number.MAX_SAFE_INTEGER, 8.64e15])("is not believed beyond ten minutes: %s", async (until) => {
    paces.slow("p", until);
    await calls.ask(1);
    expect(calls.away).toHaveLength(1);
    expect(calls.away[0]?.until).toBeLessThanOrEqual(clock.now() + MAX_RETRY_WAIT_MS * (1 + RETRY_SPREAD) + 1);
    clock.jump(MAX_RETRY_WAIT_MS);
    expect(await calls.ask(1)).toBe(1);
  });
});

describe("bounds", () => {
  test("a clock that goes back an hour neither holds anybody for an hour, nor keeps the limit from being lifted or lowered", async () => {
    await calls.ask(64);
    await calls.fail(1);
    clock.jump(-HOUR);
    await calls.fail(1); // another sign, though not later
    await calls.fail(calls.begun.length);
    expect(await calls.ask(100)).toBeLessThanOrEqual(16);
    await calls.fail(calls.begun.length, clock.now() + 3_000);
    clock.jump(-HOUR);
    await calls.ask(1);
    for (const { until } of calls.away) expect(until).toBeLessThanOrEqual(clock.now() + 2 * MAX_RETRY_WAIT_MS);
  });

  test("any number of providers is borne: the oldest that nobody uses is forgotten, not one with calls, nor one that wants none yet", async () => {
    paces.ramp("busy"); // one at a time
    await calls.ask(1, { provider: "busy" });
    paces.slow("held", clock.now() + 60_000);
    for (let n = 0; n < 3 * MAX_BREAKERS; n++) {
      await paces.enter(`p${n}`, free).then((one) => one.go && one.leave());
    }
    expect(await calls.ask(1, { provider: "busy" })).toBe(1);
    await calls.ask(1, { provider: "held" });
    expect(calls.away).toHaveLength(1);
    expect(calls.begun).toHaveLength(1);
  });
});
