/** What is down is not asked but by one, whoever asks, whatever the store and the clock do. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Failure, FailureReason } from "../../src/failure.ts";
import { type Admission, Breakers } from "../../src/fault/breaker.ts";
import { delay } from "../../src/fault/retry.ts";
import {
  BREAKER_FAILURES,
  BREAKER_SPREAD,
  BREAKER_WINDOW_MS,
  FIRST_BREAKER_MS,
  MAX_BREAKER_KEY_CHARS,
  MAX_BREAKER_MS,
  MAX_BREAKERS,
} from "../../src/limits.ts";
import { type Breaker, unknownBreaker } from "../../src/persistence/store.ts";
import { type Outcome, type Passage, pass } from "../../src/run/gates.ts";
import { seeded } from "../crash/seeded.ts";
import { admitted, failure, type WorkerOfWorld, World } from "./world.ts";

const KEY = "model:provider/model";
const SEED = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
const HOUR = 3_600_000;

let world: World;
let worker: WorkerOfWorld;
let breakers: Breakers;

beforeEach(async () => {
  world = new World(SEED);
  worker = await world.worker();
  breakers = worker.breakers;
});

afterEach(() => world.end());

// ---- hands ----

const down = failure("server_error", { status: 503 });
const call = async (outcome: Failure | undefined, at = breakers, key = KEY) => at.settle(key, await admitted(at, key), outcome);
const calls = async (howMany: number, outcome: Failure | undefined, at = breakers, key = KEY) => {
  for (let n = 0; n < howMany; n++) await call(outcome, at, key);
};
const open = (at = breakers, key = KEY) => calls(BREAKER_FAILURES, down, at, key);
const isOpen = async (at = breakers, key = KEY) => !(await at.admit(key)).go;
/** Until the first may ask again. */
const untilDue = async () => {
  const [one] = await world.stored();
  world.clock.jump((one?.until ?? 0) - world.clock.now());
};
/** Everybody asks at once. */
const ask = (howMany: number, ...ats: Breakers[]): Promise<Admission[]> =>
  Promise.all(ats.flatMap((at) => Array.from({ length: howMany }, () => at.admit(KEY))));
const probesOf = (admissions: readonly Admission[]) => admissions.filter((one) => one.go);

describe("closed", () => {
  test("it lets go at once, and asks the store for nothing, however much goes well", () => {
    for (let n = 0; n < 1_000; n++) {
      const admission = breakers.admit(KEY);
      expect(admission).toMatchObject({ go: true, isProbe: false, isReturning: false });
      expect(breakers.settle(KEY, admission as never, undefined)).toBeUndefined();
    }
    expect(world.questions).toBe(0);
  });

  test("it stays so below five failures, and while half of the calls go well", async () => {
    await calls(BREAKER_FAILURES - 1, down);
    expect(await isOpen()).toBe(false);
    await calls(BREAKER_FAILURES - 1, undefined);
    for (let n = 0; n < 50; n++) {
      await call(undefined);
      await call(down);
    }
    expect(await isOpen()).toBe(false);
    await call(down);
    expect(await isOpen()).toBe(true);
    expect(await breakers.admit(KEY)).toMatchObject({ why: "55 of 109 calls failed within a minute, the last with server_error (503)" });
  });

  test("what was longer ago than a minute does not count, neither for it nor against it", async () => {
    await calls(BREAKER_FAILURES - 1, down);
    world.clock.jump(BREAKER_WINDOW_MS + 7_000);
    await calls(BREAKER_FAILURES - 1, down);
    expect(await isOpen()).toBe(false);
    world.clock.jump(BREAKER_WINDOW_MS);
    await calls(1_000, undefined);
    world.clock.jump(BREAKER_WINDOW_MS);
    await open();
    expect(await isOpen()).toBe(true);
  });

  test.each<FailureReason>(["overloaded", "server_error", "timeout", "network", "bad_response"])("%s opens it", async (reason) => {
    await calls(BREAKER_FAILURES, failure(reason));
    expect(await isOpen()).toBe(true);
  });

  test.each<FailureReason>([
    "rate_limited",
    "quota",
    "auth",
    "forbidden",
    "not_found",
    "invalid_request",
    "context_length",
    "refused",
    "error",
  ])("%s is an answer: it never opens it", async (reason) => {
    await calls(100, failure(reason));
    await calls(100, down); // half of all that were answered
    expect(await isOpen()).toBe(false);
    expect(await world.stored()).toEqual([]);
  });

  test.each<FailureReason>(["aborted", "unavailable"])("%s says nothing, for it or against it", async (reason) => {
    await calls(100, failure(reason));
    await open();
    expect(await isOpen()).toBe(true);
  });

  test("one that is open says nothing of another", async () => {
    await open();
    expect(await isOpen(breakers, "model:provider/other")).toBe(false);
  });
});

describe("open", () => {
  test("nobody goes before its time, and then one, of all workers; its success closes it for all", async () => {
    const others = await Promise.all([world.worker(), world.worker()]);
    const all = [breakers, ...others.map((one) => one.breakers)];
    await open();
    for (const at of all) await at.refresh();
    expect(probesOf(await ask(50, ...all))).toEqual([]);
    world.clock.jump(FIRST_BREAKER_MS - 1);
    expect(probesOf(await ask(50, ...all))).toEqual([]);
    world.clock.jump(1);
    const probes = probesOf(await ask(50, ...all));
    expect(probes).toMatchObject([{ isProbe: true }]);
    expect(probesOf(await ask(50, ...all))).toEqual([]);
    await Promise.all(all.map((at) => at.refresh()));
    expect(probesOf(await ask(50, ...all))).toEqual([]);

    const [first] = all as [Breakers];
    const prober = (await world.stored())[0]?.state === "probing" ? first : undefined;
    await prober?.settle(KEY, probes[0] as never, undefined);
    expect(await world.stored()).toEqual([]);
    await Promise.all(all.map((at) => at.refresh()));
    expect(probesOf(await ask(50, ...all))).toHaveLength(150);
  });

  test("each probe that fails doubles the wait, up to a minute", async () => {
    await open();
    const waits: number[] = [];
    for (let n = 0; n < 7; n++) {
      const [one] = await world.stored();
      waits.push((one?.until ?? 0) - world.clock.now());
      await untilDue();
      await call(failure("timeout"));
    }
    expect(waits).toEqual([5_000, 10_000, 20_000, 40_000, 60_000, 60_000, 60_000]);
    expect(await breakers.admit(KEY)).toMatchObject({ go: false, why: "still down when asked again: timeout" });
    await untilDue();
    const [before] = await world.stored();
    const probe = await admitted(breakers, KEY);
    expect((await world.stored())[0]?.by).not.toBe(before?.by); // no two turns can be taken for one another
    await breakers.settle(KEY, probe, undefined);
    await open();
    expect(await world.stored()).toMatchObject([{ trips: 1, until: world.clock.now() + FIRST_BREAKER_MS }]);
  });

  test("a probe that is answered, if only with a no, closes it", async () => {
    await open();
    await untilDue();
    await call(failure("rate_limited"));
    expect(await isOpen()).toBe(false);
  });

  test.each<FailureReason>(["aborted", "unavailable"])(
    "a probe that was %s hands its turn on at once, and counts for nothing",
    async (reason) => {
      await open();
      await untilDue();
      await call(failure(reason));
      expect(await world.stored()).toMatchObject([{ state: "open", trips: 1 }]);
      expect(probesOf(await ask(50, breakers))).toMatchObject([{ isProbe: true }]);
    },
  );

  test("a worker that dies while it probes is not waited for longer than a minute", async () => {
    const gone = await world.worker();
    await open();
    await gone.breakers.refresh();
    await untilDue();
    expect(await gone.breakers.admit(KEY)).toMatchObject({ isProbe: true });
    await breakers.refresh();
    world.clock.jump(MAX_BREAKER_MS - 1);
    expect(probesOf(await ask(50, breakers))).toEqual([]);
    world.clock.jump(1);
    expect(probesOf(await ask(50, breakers))).toMatchObject([{ isProbe: true }]);
  });

  test("a probe that takes longer than that still closes it when it goes well, and decides nothing when it fails", async () => {
    const other = await world.worker();
    for (const outcome of [undefined, down]) {
      await open();
      await other.breakers.refresh();
      await untilDue();
      const slow = await admitted(breakers, KEY);
      world.clock.jump(MAX_BREAKER_MS);
      await other.breakers.refresh();
      const next = await admitted(other.breakers, KEY);
      expect(next.isProbe).toBe(true);
      await breakers.settle(KEY, slow, outcome);
      if (outcome) expect(await world.stored()).toMatchObject([{ state: "probing", trips: 1 }]);
      else expect(await world.stored()).toEqual([]);
      await other.breakers.settle(KEY, next, undefined);
      expect(await world.stored()).toEqual([]);
      await breakers.refresh();
    }
  });

  test("what is reported late, from before it opened, neither closes it nor opens it again", async () => {
    const early = await Promise.all(Array.from({ length: 20 }, () => admitted(breakers, KEY)));
    await open();
    const before = await world.stored();
    for (const one of early.splice(0, 10)) await breakers.settle(KEY, one, undefined);
    expect(await world.stored()).toEqual(before);
    await untilDue();
    await call(undefined);
    for (const one of early) await breakers.settle(KEY, one, down);
    expect(await isOpen()).toBe(false);
    await calls(BREAKER_FAILURES - 1, down);
    expect(await isOpen()).toBe(false); // nor do they count
  });

  test("a success of a probe of long ago does not close what has opened since", async () => {
    const other = await world.worker();
    await open();
    await untilDue();
    const late = await admitted(breakers, KEY);
    world.clock.jump(MAX_BREAKER_MS);
    await other.breakers.refresh();
    await call(undefined, other.breakers); // closes it as the next probe
    await open(other.breakers);
    const [again] = await world.stored();
    await breakers.settle(KEY, late, undefined);
    expect(await world.stored()).toEqual([again]);
  });

  test("those that are sent away come back one by one, never before its time", async () => {
    for (const wait of [5_000, 10_000, 20_000, 40_000, 60_000]) {
      if (wait === FIRST_BREAKER_MS) await open();
      else {
        await untilDue();
        await call(down);
      }
      const due = world.clock.now() + wait;
      const backs = (await ask(1_000, breakers)).map((one) => (one.go ? 0 : one.until));
      expect(Math.min(...backs)).toBeGreaterThanOrEqual(due);
      expect(Math.max(...backs)).toBeLessThanOrEqual(due + BREAKER_SPREAD * wait + 1);
      const most = Math.max(...[...Map.groupBy(backs, (at) => Math.floor((10 * (at - due)) / wait)).values()].map((all) => all.length));
      expect(most, `seed ${SEED}: in a tenth of the wait`).toBeLessThan(300);
      expect(new Set(backs).size, `seed ${SEED}: different moments`).toBeGreaterThan(700);
    }
  });

  test("the first who goes after it was closed is told so, once, in each process", async () => {
    const other = await world.worker();
    await open();
    await other.breakers.refresh();
    await untilDue();
    await call(undefined);
    await other.breakers.refresh();
    for (const at of [breakers, other.breakers]) {
      expect(await at.admit(KEY)).toMatchObject({ go: true, isProbe: false, isReturning: true });
      expect(await at.admit(KEY)).toMatchObject({ go: true, isReturning: false });
    }
  });
});

describe("many workers", () => {
  test("of two that open it at once one is stored, and both go by it", async () => {
    const other = await world.worker();
    const passes = await Promise.all(
      [breakers, other.breakers].flatMap((at) => Array.from({ length: 5 }, async () => ({ at, one: await admitted(at, KEY) }))),
    );
    await Promise.all(passes.map(({ at, one }) => at.settle(KEY, one, down)));
    expect(await world.stored()).toMatchObject([{ version: 1, trips: 1, state: "open" }]);
    const admissions = await ask(1, breakers, other.breakers);
    expect(admissions).toMatchObject([{ go: false }, { go: false }]);
    await untilDue();
    expect(probesOf(await ask(10, breakers, other.breakers))).toHaveLength(1);
  });

  test("one that has not heard of it yet goes on, and hears of it at its first failure", async () => {
    const other = await world.worker();
    await call(undefined, other.breakers);
    await open();
    expect(await isOpen(other.breakers)).toBe(false);
    await call(down, other.breakers);
    expect(await isOpen(other.breakers)).toBe(true);
  });

  test("one that is in trouble without end looks no more than once a second for what others know", async () => {
    await calls(100, undefined);
    world.questions = 0;
    await calls(50, down);
    expect(world.questions).toBe(1);
  });

  test("one whose knowledge is older than the store's memory can still open it", async () => {
    await open();
    await untilDue();
    await call(undefined);
    const other = await world.worker();
    world.clock.jump(2 * HOUR);
    await open(other.breakers, "another"); // with it the closed one is forgotten
    await open();
    expect(await world.stored()).toMatchObject([{ key: "another" }, { key: KEY, version: 1, state: "open" }]);
    expect(await isOpen()).toBe(true);
  });

  test("a turn that comes while the others are read is not undone by what was read", async () => {
    await open();
    await untilDue();
    const reading = breakers.refresh();
    const probe = await admitted(breakers, KEY);
    await reading;
    await breakers.settle(KEY, probe, undefined);
    expect(await isOpen()).toBe(false);
    expect(await world.stored()).toEqual([]);
  });
});

describe("a store that is slow", () => {
  test("and answers a read that it was asked after a turn as of before it: one goes all the same", async () => {
    await open();
    await untilDue();
    const [before] = await world.stored();
    let answer = () => {};
    const stored = new Promise<void>((resolve) => {
      answer = resolve;
    });
    const store = {
      now: () => world.clock.now(),
      breakers: async () => (before ? [before] : []),
      turn: (next: Breaker) => stored.then(() => next),
    };
    const slow = new Breakers({ store, random: Math.random, onTrouble: () => {} });
    await slow.refresh();
    const first = slow.admit(KEY);
    await slow.refresh();
    const second = slow.admit(KEY);
    answer();
    expect(await Promise.all([first, second])).toMatchObject([{ go: true, isProbe: true }, { go: false }]);
  });
});

describe("a store that is slow to read", () => {
  test("undoes nothing that was turned while it did", async () => {
    await open();
    const [before] = await world.stored();
    await untilDue();
    const answers: ((rows: Breaker[]) => void)[] = [];
    const store = {
      now: () => world.clock.now(),
      breakers: () => new Promise<Breaker[]>((resolve) => answers.push(resolve)),
      turn: async (next: Breaker) => next,
    };
    const slow = new Breakers({ store, random: Math.random, onTrouble: () => {} });
    const rows = before ? [before] : [];
    const first = slow.refresh();
    answers[0]?.(rows);
    await first;
    const second = slow.refresh();
    await slow.settle(KEY, await admitted(slow, KEY), undefined);
    answers[1]?.(rows);
    await second;
    expect(slow.admit(KEY)).toMatchObject({ go: true, isProbe: false });
  });
});

describe("a store that is away", () => {
  test("opens, probes and closes all the same, and is told about once per outage", async () => {
    for (let outage = 1; outage <= 2; outage++) {
      world.isStoreAway = true;
      await open();
      expect(await isOpen()).toBe(true);
      world.clock.jump(FIRST_BREAKER_MS);
      expect(probesOf(await ask(20, breakers))).toMatchObject([{ isProbe: true }]);
      await breakers.refresh();
      world.clock.jump(MAX_BREAKER_MS);
      await call(undefined);
      expect(await isOpen()).toBe(false);
      expect(worker.troubles).toHaveLength(outage);
      world.isStoreAway = false;
      await breakers.refresh();
      expect(await world.stored()).toEqual([]);
      expect(await isOpen()).toBe(false);
    }
  });

  test("is told what was opened meanwhile, and what was closed", async () => {
    const other = await world.worker();
    world.isStoreAway = true;
    await open();
    world.isStoreAway = false;
    await breakers.refresh();
    expect(await world.stored()).toMatchObject([{ key: KEY, state: "open", version: 1 }]);
    await other.breakers.refresh();
    expect(await isOpen(other.breakers)).toBe(true);

    await untilDue();
    const probe = await admitted(breakers, KEY);
    world.isStoreAway = true;
    await breakers.settle(KEY, probe, undefined);
    expect(await isOpen()).toBe(false);
    world.isStoreAway = false;
    await breakers.refresh();
    expect(await world.stored()).toEqual([]);
  });

  test("that answers late holds nobody up who would only be sent away", async () => {
    let answer = (_: never[]) => {};
    const never = new Promise<never>(() => {});
    const asked = new Promise<never[]>((resolve) => {
      answer = resolve;
    });
    const store = { now: () => world.clock.now(), breakers: () => asked, turn: () => never };
    const slow = new Breakers({ store, random: Math.random, onTrouble: () => {} });
    for (let n = 0; n < BREAKER_FAILURES; n++) void slow.settle(KEY, (await admitted(slow, KEY)) as never, down);
    expect(slow.admit(KEY)).toMatchObject({ go: false });
    answer([]);
    await asked;
    expect(slow.admit(KEY)).toMatchObject({ go: false });
  });
});

describe("bounds", () => {
  test("a clock that goes back an hour keeps nothing closed off for an hour, and forgets no call for longer than it has to", async () => {
    await calls(BREAKER_FAILURES - 1, down);
    world.clock.jump(-HOUR - 7_000);
    await calls(BREAKER_FAILURES - 1, down);
    expect(await isOpen()).toBe(false);
    await call(down);
    expect(await isOpen()).toBe(true);
    world.clock.jump(-1_000); // a little is waited for
    expect(await isOpen()).toBe(true);
    world.clock.jump(-HOUR);
    expect(probesOf(await ask(20, breakers))).toMatchObject([{ isProbe: true }]);
  });

  test("any number of names is borne, and those that are open are not forgotten for those that are closed", async () => {
    await open();
    for (let n = 0; n < 3 * MAX_BREAKERS; n++) await call(undefined, breakers, `model:p/${n}`);
    expect(await isOpen()).toBe(true);
  });

  test.each([
    ["too long for the store", "x".repeat(MAX_BREAKER_KEY_CHARS + 1)],
    ["no text", "\ud800"],
  ])("a name that is %s is counted in each process alone, and troubles nobody", async (_what, key) => {
    await open(breakers, key);
    await breakers.refresh();
    expect(await isOpen(breakers, key)).toBe(true);
    world.clock.jump(FIRST_BREAKER_MS);
    const probe = await admitted(breakers, key);
    await breakers.refresh();
    await breakers.settle(key, probe, down);
    expect(await breakers.admit(key)).toMatchObject({ go: false, why: "still down when asked again: server_error (503)" });
    world.clock.jump(2 * FIRST_BREAKER_MS);
    await call(undefined, breakers, key);
    await breakers.refresh();
    expect(await isOpen(breakers, key)).toBe(false);
    expect(worker.troubles).toEqual([]);
  });

  test("a name that is also a property of every object is a name like any other", async () => {
    for (const key of ["__proto__", "constructor", "toString"]) {
      expect(await isOpen(breakers, key)).toBe(false);
      await open(breakers, key);
      expect(await isOpen(breakers, key)).toBe(true);
    }
    expect(unknownBreaker("__proto__").state).toBe("closed");
  });
});

describe("a thousand runs", () => {
  interface Provider {
    calls: number;
    inFlight: number;
    mostInFlight: number;
    /** @throws the failure */
    call(): Promise<void>;
  }

  const providerOf = (callMs: number, fails: () => boolean): Provider => ({
    calls: 0,
    inFlight: 0,
    mostInFlight: 0,
    async call() {
      this.calls += 1;
      this.inFlight += 1;
      this.mostInFlight = Math.max(this.mostInFlight, this.inFlight);
      await world.sleep(callMs);
      this.inFlight -= 1;
      if (fails()) throw down;
    },
  });

  /** One run, behind the real gates: tries until it is answered, and waits as long as it is told. */
  async function runOf(deps: WorkerOfWorld, provider: Provider, random: () => number): Promise<void> {
    for (let failures = 0; ; ) {
      const passage: Passage = {
        agent: "any",
        breaker: KEY,
        provider: "provider",
        signal: new AbortController().signal,
        isPressed: false,
        isProbe: false,
      };
      const attempt = async (): Promise<Outcome<true>> =>
        provider.call().then(
          () => ({ value: { of: true } }),
          (thrown: Failure) => ({ failure: thrown }),
        );
      const outcome = await pass(deps, passage, attempt);
      if (outcome.value) return;
      if (outcome.refused) await world.until(outcome.refused.until);
      else await world.sleep(delay(++failures, down, random(), world.clock.now()));
    }
  }

  /** As each worker does with each renewal of its lease. */
  const keepFresh = async (workers: readonly WorkerOfWorld[], isOver: () => boolean) => {
    for (; !isOver(); await world.sleep(3_000)) for (const one of workers) await one.breakers.refresh();
  };

  test.each([1, 4])(
    "whose provider is down for an hour ask it 62 times beside what was in flight, and all end after it is back, without a stampede (%i workers)",
    async (howMany) => {
      const others = await Promise.all(Array.from({ length: howMany - 1 }, () => world.worker()));
      const workers = [worker, ...others];
      const random = seeded(SEED);
      let isDown = true;
      let done = 0;
      const provider = providerOf(1_000, () => isDown);
      const isOver = () => done === 1_000;
      void keepFresh(workers, isOver);
      for (let n = 0; n < 1_000; n++) void runOf(workers[n % howMany] as WorkerOfWorld, provider, random).then(() => done++);
      await world.pass(HOUR);
      expect(provider.calls, `seed ${SEED}`).toBeGreaterThan(1_000 + 30); // it was noticed when it came back
      expect(provider.calls, `seed ${SEED}`).toBeLessThanOrEqual(1_000 + 62);
      expect(done).toBe(0);

      isDown = false;
      provider.mostInFlight = 0;
      const back = world.clock.now();
      while (!isOver() && world.clock.now() - back < 10 * 60_000) await world.pass(1_000);
      const took = world.clock.now() - back;
      expect(done, `seed ${SEED}: within ten minutes`).toBe(1_000);
      expect(provider.mostInFlight, `seed ${SEED}: took ${took} ms`).toBeLessThan(250); // for a second, behind a ramp
    },
    60_000,
  );

  test("whose provider fails half of the time, at random, get through", async () => {
    const random = seeded(SEED);
    let done = 0;
    const provider = providerOf(500, () => random() < 0.5);
    void keepFresh([worker], () => done === 1_000);
    for (let n = 0; n < 1_000; n++) void runOf(worker, provider, random).then(() => done++);
    const began = world.clock.now();
    while (done < 1_000 && world.clock.now() - began < HOUR) await world.pass(1_000);
    expect(done, `seed ${SEED}: within an hour`).toBe(1_000);
    expect(provider.calls, `seed ${SEED}`).toBeLessThan(3_000); // 2,000 are what it takes
  }, 60_000);
});
