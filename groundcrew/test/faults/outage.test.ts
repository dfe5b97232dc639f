/**
 * A provider that is down for an hour with a thousand runs waiting for it, and one that fails half of the time. On a clock
 * that goes on as soon as nobody has anything left to do.
 *
 * Measured, on a file, with 1,000 runs that begin while it is down: 125 requests in the hour (a first batch of 64 runs, and 61 probes;
 * the bound is 1,062, one per run and 62 probes). After its return 1,000 requests, one per run, over 108 s: one at a time first, then 2, 4, 8 …,
 * 256 at the most; nobody is parked for attention.
 */
import { setImmediate as turn } from "node:timers/promises";
import type { LanguageModel } from "ai";
import { describe, expect, onTestFinished, test } from "vitest";
import { agent } from "../../src/agent.ts";
import type { Store } from "../../src/persistence/store.ts";
import { groundcrew } from "../../src/runtime.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { seeded } from "../crash/seeded.ts";
import { tempStore } from "../support/crew.ts";
import { type Asked, refusal, scripted } from "../support/model.ts";
import { openAt } from "./handed-store.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** What an answer takes, so that some of them are under way at the same time. */
const ANSWER_MS = 2_000;

/** One process whose time goes on as soon as it is idle. */
class World {
  readonly clock = new FakeClock();
  readonly #asked = new Set<Promise<unknown>>();

  /** @param location of the store */
  async open(location: string): Promise<Store> {
    const store = await openAt(location, this.clock);
    onTestFinished(() => store.close());
    return new Proxy(store, { get: (target, name) => this.#counted(target, Reflect.get(target, name)) });
  }

  /** The store's methods, with a count of what has no answer yet. */
  #counted(store: Store, member: unknown): unknown {
    if (typeof member !== "function") return member;
    return (...given: unknown[]) => {
      const answer: unknown = member.apply(store, given);
      if (answer instanceof Promise) {
        this.#asked.add(answer);
        const over = () => this.#asked.delete(answer);
        answer.then(over, over);
      }
      return answer;
    };
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resume) => this.clock.after(ms, resume));
  }

  /** Lets time go on, so much at a time, until `isOver`. @returns how long that took */
  async pass(stepMs: number, isOver: () => boolean, atMost = 2 * HOUR): Promise<number> {
    const begun = this.clock.now();
    while (!isOver()) {
      await this.#rest();
      if (this.clock.now() - begun > atMost) throw new Error(`Not over after ${atMost} ms.`);
      this.clock.jump(stepMs);
    }
    return this.clock.now() - begun;
  }

  /** The AI SDK passes what a model says through several streams, each a few turns of the event loop. */
  async #rest(): Promise<void> {
    for (let quiet = 0; quiet < QUIET_TURNS; ) {
      await turn();
      quiet = this.#asked.size === 0 ? quiet + 1 : 0;
    }
  }
}

const QUIET_TURNS = 4;

/** What a provider was asked, and how much at a time. */
class Traffic {
  requests: number[] = [];
  inFlight = 0;
  peak = 0;

  async during<T>(at: number, work: () => Promise<T>): Promise<T> {
    this.requests.push(at);
    this.inFlight += 1;
    this.peak = Math.max(this.peak, this.inFlight);
    try {
      return await work();
    } finally {
      this.inFlight -= 1;
    }
  }

  /** The most requests that began within any `ms`. */
  burst(ms: number): number {
    let first = 0;
    let most = 0;
    for (const [last, at] of this.requests.entries()) {
      while ((this.requests[first] ?? at) <= at - ms) first += 1;
      most = Math.max(most, last - first + 1);
    }
    return most;
  }
}

/** With each round of answers at most twice as many are asked for as in the round before. */
function mustStartSlowly(requests: readonly number[]): void {
  const [first = 0] = requests;
  for (let round = 0; 2 ** round < requests.length; round++) {
    const begun = requests.filter((at) => at < first + (round + 1) * ANSWER_MS).length;
    expect(begun, `requests in the first ${round + 1} rounds`).toBeLessThan(2 ** (round + 1));
  }
}

/** @param isUp whether this request is answered */
function provider(world: World, traffic: Traffic, isUp: (asked: Asked) => boolean): LanguageModel {
  return scripted((asked) =>
    traffic.during(world.clock.now(), async () => {
      if (!isUp(asked)) return refusal(503);
      await world.sleep(ANSWER_MS);
      return "up again";
    }),
  );
}

async function crewOf(world: World, location: string, model: LanguageModel, attempts?: number) {
  const store = await world.open(location);
  const asking = agent("asking", { model, ...(attempts !== undefined && { faults: { attempts } }) });
  const crew = groundcrew({
    agents: [asking],
    store,
    clock: world.clock,
    worker: { lease: "1d", concurrency: 1_000 },
    onTrouble: () => {},
  });
  onTestFinished(() => crew.close());
  const ended = new Set<string>();
  const unwatch = store.watch((change) => {
    if (change.runs !== null) for (const id of change.ended) ended.add(id);
  });
  onTestFinished(unwatch);
  const start = (count: number) => Promise.all(Array.from({ length: count }, () => crew.start(asking, { prompt: "Are you there?" })));
  return { crew, start, ended };
}

const RUNS = 1_000;

test(`${RUNS} runs wait an hour for a provider that is down: it is asked now and then by one of them, and all finish when it returns, without a stampede`, async () => {
  const world = new World();
  const traffic = new Traffic();
  const back = world.clock.now() + HOUR;
  const model = provider(world, traffic, () => world.clock.now() >= back);
  const { crew, start, ended } = await crewOf(world, tempStore(), model);
  await start(RUNS);

  await world.pass(1_000, () => world.clock.now() >= back);
  expect(ended.size).toBe(0);
  const whileDown = traffic.requests.length;
  const peakWhileDown = traffic.peak;
  const parked = await crew.runs({ status: ["parked"], limit: 2 * RUNS });
  expect(new Set(parked.map(({ reason }) => reason))).toEqual(new Set(["retry"]));

  traffic.peak = 0;
  traffic.requests = [];
  const took = await world.pass(100, () => ended.size === RUNS);
  console.info(
    `${RUNS} runs; while down ${whileDown} requests, at most ${peakWhileDown} at a time; after its return ${traffic.requests.length}, ` +
      `at most ${traffic.peak} at a time and ${traffic.burst(1_000)} a second, over ${Math.round(took / 1_000)} s`,
  );
  const rows = await crew.runs({ status: ["succeeded"], limit: 2 * RUNS });
  expect(rows).toHaveLength(RUNS);
  expect(whileDown).toBeLessThanOrEqual(RUNS + 62);
  expect(traffic.requests).toHaveLength(RUNS); // nobody is asked twice for one answer
  expect(traffic.peak).toBeLessThanOrEqual(RUNS / 2);
  mustStartSlowly(traffic.requests);
}, 300_000);

describe("a provider that fails half of the time", () => {
  const FEW = 100;
  const seed = Math.floor(Math.random() * 2 ** 32);
  const random = seeded(seed);

  test.each<[string, (asked: Asked) => boolean]>([
    [`at random (seed ${seed})`, () => random() < 0.5],
    ["every other time", ({ n }) => n % 2 === 0],
  ])(
    "%s: all of 100 runs finish, and nobody has to help",
    async (_how, isUp) => {
      const world = new World();
      const traffic = new Traffic();
      // With the eight attempts of the defaults one run in 256 would wait for somebody.
      const { crew, start, ended } = await crewOf(world, tempStore(), provider(world, traffic, isUp), 30);
      await start(FEW);
      await world.pass(500, () => ended.size === FEW);
      expect(await crew.runs({ status: ["succeeded"], limit: 2 * FEW })).toHaveLength(FEW);
      expect(traffic.requests.length).toBeGreaterThanOrEqual(FEW);
      console.info(`${traffic.requests.length} requests for ${FEW} answers, at most ${traffic.peak} at a time`);
    },
    60_000,
  );
});
