/** Who checks the checks: each of them sees what it is there for, and nothing where nothing is. */
import { describe, expect, test } from "vitest";
import type { Event } from "../groundcrew/src/index.ts";
import { EffectChecks } from "./effect-checks.ts";
import { callsOf, expectedOf } from "./expected.ts";
import { FaultLog } from "./fault-log.ts";
import { planOf } from "./faults.ts";
import { flawOfJournal } from "./journal-flaw.ts";
import { conversationOf, orderOf, type Shape } from "./programs.ts";
import { Report } from "./report.ts";
import { type Arrival, type Page, World } from "./world.ts";

const SEED = 7;

describe("a seed", () => {
  const programs = (seed: number) => Array.from({ length: 200 }, (_, i) => orderOf(seed, i));
  const blows = (seed: number) => {
    const plan = planOf(seed, ["kill", "stop", "cut"], 4);
    return Array.from({ length: 50 }, () => plan.next().value);
  };

  test("makes the same programs and the same plan of faults each time, and another seed makes others", () => {
    expect(programs(SEED)).toEqual(programs(SEED));
    expect(programs(SEED).map(expectedOf)).toEqual(programs(SEED).map(expectedOf));
    expect(programs(SEED)).not.toEqual(programs(SEED + 1));
    expect(blows(SEED)).toEqual(blows(SEED));
    expect(blows(SEED)).not.toEqual(blows(SEED + 1));
  });

  test("leaves out no shape of program in a hundred, and no kind of fault in a round", () => {
    const shapes = new Set<Shape>(["work", "agent", "crash", "agent-crash", "fails", "waits", "cut", "expires", "session"]);
    expect(
      new Set(
        programs(SEED)
          .slice(0, 100)
          .map(({ shape }) => shape),
      ),
    ).toEqual(shapes);
    expect(
      new Set(
        blows(SEED)
          .slice(0, 3)
          .map(({ kind }) => kind),
      ).size,
    ).toBe(3);
  });

  test("gives each effect an id of its own", () => {
    const ids = programs(SEED).flatMap((order) => (order.shape === "session" ? [] : callsOf(order).map(({ id }) => id)));
    expect(new Set(ids).size).toBe(ids.length);
    const tokens = programs(SEED).flatMap((order) =>
      conversationOf(order)
        .clients.flat()
        .map(({ token }) => token),
    );
    expect(new Set(tokens).size).toBe(tokens.length);
  });
});

describe("the check of effects", () => {
  const PID = 100;
  const arrival = (more: Partial<Arrival> = {}): Arrival => ({ key: "k", attempt: 1, pid: PID, at: 10_000, answer: "done", ...more });

  async function problemsOf(effect: Page["effect"], arrivals: Arrival[], log = new FaultLog(), succeeded?: number): Promise<string[]> {
    const world = await World.open();
    const report = new Report();
    const step = succeeded === undefined ? undefined : ({ status: "succeeded", attempt: succeeded } as never);
    new EffectChecks(world, log, report).ofPage("an effect", { effect, arrivals, voided: 0 }, step);
    await world.close();
    return report.problems.map(({ kind, what }) => `${kind} ${what.split(":")[0]}`);
  }

  function hit(pid: number | null, from: number): FaultLog {
    const log = new FaultLog();
    log.faults.push({ kind: "kill", pid, from, to: from, isStandstill: false });
    return log;
  }

  test("sees a second taking place of what may happen once, also when a fault explains it", async () => {
    const twice = [arrival(), arrival({ attempt: 2, at: 11_000 })];
    expect(await problemsOf("once", twice, hit(PID, 10_500))).toEqual(["doubled an effect (once) took effect more than once"]);
    expect(await problemsOf("once", [arrival({ answer: "refused" }), arrival({ attempt: 2 })], hit(PID, 10_000))).toEqual([]);
  });

  test("sees a key that changes from one attempt to the next, and an attempt that is made twice", async () => {
    const keys = [arrival(), arrival({ attempt: 2, key: "another" })];
    expect(await problemsOf("keyed", keys, hit(null, 10_000))).toEqual(["doubled an effect (keyed) came under more than one key"]);
    expect(await problemsOf("keyed", [arrival(), arrival()], hit(null, 10_000))).toEqual([
      "doubled an effect (keyed) had one attempt made twice",
    ]);
  });

  test("lets what may be repeated be repeated when a fault hit the process that made the call, and not otherwise", async () => {
    const again = [arrival(), arrival({ pid: 200, at: 11_000 })];
    expect(await problemsOf("read", again, hit(PID, 10_500))).toEqual([]);
    const needless = ["doubled an effect (read) was asked for again without need"];
    expect(await problemsOf("read", again)).toEqual(needless);
    expect(await problemsOf("read", again, hit(300, 10_500))).toEqual(needless);
    expect(await problemsOf("read", again, hit(PID, 1_000))).toEqual(needless);
    expect(await problemsOf("read", again, hit(PID, 90_000))).toEqual(needless);
    expect(await problemsOf("read", [arrival({ answer: "failed" }), arrival({ at: 11_000 })])).toEqual([]);
  });

  test("sees an attempt behind the one that is on record as done", async () => {
    const again = [arrival(), arrival({ attempt: 2 })];
    expect(await problemsOf("read", again, hit(PID, 10_000), 1)).toEqual(["doubled an effect (read) was tried again after it was done"]);
    expect(await problemsOf("read", again, hit(PID, 10_000), 2)).toEqual([]);
  });

  test("misses what never happened", async () => {
    const world = await World.open();
    const report = new Report();
    const order = orderOf(SEED, 0);
    new EffectChecks(world, new FaultLog(), report).ofRun(order, "run", [], true);
    await world.close();
    expect(report.count("lost")).toBeGreaterThan(0);
  });
});

describe("the check of journals", () => {
  const journal = (...facts: object[]) => facts.map((fact, i) => ({ seq: i + 1, at: 0, ...fact })) as Event[];
  const created = { type: "run.created" };
  const started = { type: "step.started", step: "a", attempt: 1, effect: "once" };
  const succeeded = { type: "step.succeeded", step: "a", attempt: 1 };
  const end = { type: "run.succeeded" };

  test("finds nothing wrong with a whole one", () => {
    expect(flawOfJournal(journal(created, started, succeeded, end))).toBeUndefined();
  });

  test.each([
    ["a gap", journal(created, { ...end, seq: 3 })],
    ["no end", journal(created, started)],
    ["two ends", journal(created, end, end)],
    ["an epoch that does not grow", journal(created, { type: "run.claimed", epoch: 2 }, { type: "run.claimed", epoch: 2 }, end)],
    ["a step that is done twice", journal(created, started, succeeded, succeeded, end)],
    ["a step that begins again when it is done", journal(created, started, succeeded, { ...started, attempt: 2 }, end)],
    ["a step that begins behind a cancel", journal(created, { type: "cancel.requested" }, started, { type: "run.cancelled" })],
  ])("sees %s", (_what, events) => {
    expect(flawOfJournal(events)).toBeDefined();
  });
});
