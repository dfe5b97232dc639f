/** What an operator reads first: why a run is where it is, what happens next, and when. */
import { describe, expect, test } from "vitest";
import { agent, type Definition } from "../../src/agent.ts";
import type { Failure } from "../../src/failure.ts";
import type { Event, Fact } from "../../src/persistence/event.ts";
import { fold } from "../../src/persistence/fold.ts";
import type { RunRow } from "../../src/persistence/store.ts";
import { type RunView, viewOf } from "../../src/run/view.ts";
import { scripted } from "../support/model.ts";

const NOW = 1_000_000;
const principal = { tenant: "acme", user: "dana", roles: [] };
const DEADLINE = NOW + 3_600_000;
const created: Fact = { type: "run.created", agent: "support", principal, deadline: DEADLINE };
const support = agent("support", { model: scripted([]), faults: { attempts: 8 } });

const overloaded: Failure = { chance: "again", reason: "overloaded", status: 529 };

function view(row: Partial<RunRow>, facts: readonly Fact[], definition?: Definition): RunView {
  const events = [created, ...facts].map((fact, index) => ({ ...fact, seq: index + 1, at: NOW - 3_000 }) as Event);
  const whole: Partial<RunRow> = {
    id: "run_1",
    agent: "support",
    principal,
    deadline: DEADLINE,
    worker: "w1",
    dueAt: null,
    reason: null,
    ...row,
  };
  return viewOf(whole as RunRow, fold(events), { output: undefined, isAlive: true, definition, now: NOW });
}

const started = (attempt: number, rest: object = {}): Fact => ({
  type: "step.started",
  step: "model:1",
  kind: "model",
  name: "big",
  attempt,
  effect: "read",
  ...rest,
});
const failed = (attempt: number, rest: object = {}): Fact => ({
  type: "step.failed",
  step: "model:1",
  attempt,
  error: { code: "MODEL_FAILED", name: "Error", message: "too much to do.", user: "" },
  final: false,
  retryAt: NOW + 30_000,
  failure: overloaded,
  ...rest,
});
const waits = { type: "run.parked", reason: "retry", until: NOW + 30_000, detail: "somebody waits" } as const;
const waiting = { status: "parked", reason: "retry", dueAt: NOW + 30_000 } as const;

describe("a run that waits for its next attempt", () => {
  test("says which attempt of how many failed with what, and when the next one comes", () => {
    const { summary } = view(waiting, [started(1), failed(1), started(2), failed(2), waits], support);
    expect(summary).toBe(
      'Parked: "big" has failed 2 of 8 times, the last time with: too much to do (overloaded 529). ' +
        "The next attempt is in 30.0s; `retry` makes it now.",
    );
  });

  test("says it without the number where the agent is not known", () => {
    expect(view(waiting, [started(1), failed(1), waits]).summary).toContain('"big" has failed once, the last time with: too much to do (');
  });

  test("counts for a fallback its own attempts, and no probe", () => {
    const fallback = { name: "small", candidate: 1 };
    const facts = [started(1), failed(1), started(2, fallback), failed(2), started(3, fallback), failed(3, { isProbe: true }), waits];
    expect(view(waiting, facts, support).summary).toContain('"small" has failed 1 of 8 times');
  });

  test("of an earlier release, whose journal has no verdicts, says what it said then", () => {
    expect(view(waiting, [started(1), failed(1, { failure: undefined }), waits]).summary).toBe(
      'Parked: "big" is tried again after: too much to do. The next attempt is in 30.0s; `retry` makes it now.',
    );
  });

  test("says so when its deadline comes first", () => {
    const { summary } = view({ ...waiting, dueAt: DEADLINE }, [started(1), failed(1), waits]);
    expect(summary).toContain("The run's deadline comes before the next attempt");
  });
});

test("a run that finds a breaker open says what is not asked and when it is asked again, not that an attempt has failed", () => {
  const detail = '"big" is not asked: it is down';
  const parked: Fact = { ...waits, detail };
  const says = 'Parked: "big" is not asked: it is down. It is asked again in 30.0s; `retry` looks at once.';
  expect(view(waiting, [parked], support).summary).toBe(says);
  const before = [started(1), failed(1, { retryAt: NOW - 5_000 })]; // its time has come, and then the breaker was open
  expect(view(waiting, [...before, parked], support).summary).toBe(says);
});

describe("a run that waits for somebody", () => {
  const attention = { status: "parked", reason: "attention", dueAt: DEADLINE } as const;
  const exhausted = [started(1), failed(1), started(2), failed(2, { exhausted: true, retryAt: undefined })];

  test("says that no attempt is left, what failed, and what can be done", () => {
    const parked: Fact = { type: "run.parked", reason: "attention", code: "RETRIES_EXHAUSTED", detail: "no more" };
    const { summary, code, dueAt } = view(attention, [...exhausted, parked], support);
    expect([code, dueAt]).toEqual(["RETRIES_EXHAUSTED", null]);
    expect(summary).toBe(
      'Parked, with no attempt left: "big" has failed 2 times, the last time with: too much to do (overloaded 529). ' +
        "When that is mended, `retry` gives it all its attempts again. `fork` goes on from an earlier step, `cancel` ends the run.",
    );
  });

  test("says of a tool in doubt beside it that it has to be answered for as well", () => {
    const refund = { step: "tool:r", kind: "tool", name: "refund", effect: "once" };
    const facts: Fact[] = [
      ...exhausted,
      started(1, refund),
      { type: "step.unknown", step: "tool:r", attempt: 1, why: "" },
      { type: "run.parked", reason: "attention", code: "RETRIES_EXHAUSTED", detail: "no more" },
    ];
    expect(view(attention, facts).summary).toMatch(/What became of "refund" has to be said as well: `groundcrew resolve`\.$/);
  });

  test("says that it was quarantined, and what for", () => {
    const detail = "5 processes in a row have died. `retry` gives it another chance.";
    const { summary, code } = view(attention, [{ type: "run.parked", reason: "attention", code: "QUARANTINED", detail }]);
    expect(code).toBe("QUARANTINED");
    expect(summary).toBe(`Quarantined: ${detail} \`fork\` goes on from an earlier step, \`cancel\` ends the run.`);
  });

  test("for another reason, or of an earlier release, says what was recorded", () => {
    const { summary, code } = view(attention, [{ type: "run.parked", reason: "attention", detail: "The code does not fit." }]);
    expect([summary, code]).toEqual(["Parked: The code does not fit.", null]);
  });

  test("says nothing of it any more once it goes on", () => {
    const parked: Fact = { type: "run.parked", reason: "attention", code: "QUARANTINED", detail: "died" };
    const claimed: Fact = { type: "run.claimed", worker: "w", epoch: 2, takeover: false };
    expect(view({ status: "running" }, [parked, claimed]).code).toBeNull();
    expect(view({ status: "queued", dueAt: NOW }, [parked]).code).toBeNull();
    expect(view(attention, [parked, claimed]).code).toBeNull(); // set aside since, for a reason that its journal does not hold
  });
});

describe("a run at work", () => {
  test("says which model is asked for the how manieth time, and after what", () => {
    const facts = [started(1), failed(1), started(2, { name: "small", candidate: 1 })];
    expect(view({ status: "running" }, facts).summary).toMatch(
      /^Running: asking small \(fallback\) for 3\.0s \(attempt 2, after overloaded 529\)\. /,
    );
    expect(view({ status: "running" }, [started(1)]).summary).toMatch(/^Running: asking big for 3\.0s\. /);
  });

  test("says which step is tried again beside the one that runs", () => {
    const facts = [started(1), failed(1), started(1, { step: "tool:a", kind: "tool", name: "search" })];
    expect(view({ status: "running" }, facts).summary).toMatch(/^Running: in search for 3\.0s, big is tried again in 30\.0s\. /);
  });
});

describe("a run that had to do without something", () => {
  const missing = (name: string, rest: object = {}): Fact => ({ type: "step.degraded", step: "model:1", name, reason: "timeout", ...rest });
  const facts = [started(1), missing("search"), missing("rates", { instead: "yesterday" }), missing("search", { reason: "network" })];

  test("lists each once, with why it is missing and what stands in", () => {
    expect(view({ status: "succeeded" }, facts).degraded).toEqual([
      { name: "search", reason: "network" },
      { name: "rates", reason: "timeout", instead: "yesterday" },
    ]);
    expect(view({ status: "succeeded" }, [started(1)]).degraded).toEqual([]);
  });

  test("says so while it runs and when it is done", () => {
    expect(view({ status: "succeeded" }, facts).summary).toBe("Done, without search, with yesterday instead of rates.");
    expect(view({ status: "running" }, facts).summary).toMatch(/^Running without search, with yesterday instead of rates: asking big/);
  });
});

test("a run that was ended before its deadline says what it passed", () => {
  const ended: Fact = { type: "run.expired", deadline: DEADLINE, why: "workers have spent 5m 0s on it" };
  expect(view({ status: "expired" }, [ended]).summary).toBe(
    "Ended because workers have spent 5m 0s on it. `retry` continues it as a new run.",
  );
  expect(view({ status: "expired" }, [{ type: "run.expired", deadline: DEADLINE }]).summary).toMatch(
    /^Ended because it passed its deadline/,
  );
});
