import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { errorCodes } from "../../src/errors.ts";
import { FAILURE_REASONS } from "../../src/failure.ts";
import type { Event, EventType, Fact } from "../../src/persistence/event.ts";
import { readEvents, writeEvents } from "../../src/persistence/event-row.ts";
import { apply, fold } from "../../src/persistence/fold.ts";

/** Few names, so that events meet each other's steps and signals. */
const step = fc.constantFrom("a", "b", "model:1", "tool:x", "__proto__", "constructor", "");
const name = fc.constantFrom("go", "a", "child:a", "toString", "__proto__");
const text = fc.string({ unit: "binary", maxLength: 20 });
const value = fc.jsonValue({ maxDepth: 3 }) as fc.Arbitrary<never>;
const attempt = fc.integer({ min: 1, max: 4 });
const moment = fc.nat();
const error = fc.record({ code: fc.constantFrom(...errorCodes), name: text, message: text, user: text });
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const reason = fc.constantFrom(...FAILURE_REASONS);
const failure = fc.record({ chance: fc.constantFrom("never", "again", "later"), reason, at: maybe(moment), status: maybe(fc.nat(599)) });
const principal = fc.record({ tenant: text, user: text, roles: fc.array(text, { maxLength: 2 }) });

const approval = fc.constantFrom("run_1.1", "run_1.2", "run_0.1");
const targets = fc.array(fc.constantFrom("role:finance", "user:ana", "requester"), { maxLength: 2 });
const outcome = fc.constantFrom("approved", "denied", "answered", "expired", "cancelled", "superseded");
const channel = fc.constantFrom("api", "chat", "cli", "link", "slack", "runtime");
const verdict = fc.record({ outcome, by: fc.array(text, { maxLength: 2 }), at: moment, channel, hash: text, input: maybe(value) });
const request = fc.record({
  kind: fc.constantFrom("tool", "checkpoint", "question"),
  ...{
    name,
    step,
    agent: text,
    session: fc.constant(null),
    user: text,
    input: maybe(value),
    hash: text,
    tool: text,
    rules: text,
    why: text,
  },
  spent: fc.record({ modelSteps: fc.nat(), inputTokens: fc.nat(), outputTokens: fc.nat() }),
  context: fc.array(text, { maxLength: 2 }),
  quorum: fc.nat(3),
  selfApproval: fc.boolean(),
  onExpire: fc.constantFrom("deny", "fail", "wait"),
});

/** One arbitrary for each type of event there is: a new type does not compile without one. */
const facts: { [T in EventType]: fc.Arbitrary<Omit<Extract<Fact, { type: T }>, "type">> } = {
  "run.created": fc.record({ agent: name, principal, deadline: moment, input: maybe(value) }),
  "run.claimed": fc.record({ worker: text, epoch: fc.nat(), takeover: fc.boolean() }),
  "run.parked": fc.record({
    reason: fc.constantFrom("signal", "timer", "child", "unknown_outcome", "retry", "attention"),
    until: maybe(moment),
    detail: text,
    code: maybe(fc.constantFrom("RETRIES_EXHAUSTED", "QUARANTINED")),
  }),
  "run.released": fc.record({ why: text }),
  "step.started": fc.record({
    step,
    kind: fc.constantFrom("model", "tool", "code", "sleep", "signal", "child", "approval"),
    name,
    attempt,
    effect: maybe(fc.constantFrom("read", "idempotent", "keyed", "once")),
    key: maybe(text),
    argsHash: maybe(text),
    input: maybe(value),
    until: maybe(moment),
    child: maybe(text),
    candidate: maybe(fc.nat(3)),
  }),
  "step.succeeded": fc.record({ step, attempt, value: maybe(value), shown: maybe(value), usage: maybe(value) }),
  "step.failed": fc.record({
    step,
    attempt,
    error,
    final: fc.boolean(),
    retryAt: maybe(moment),
    failure: maybe(failure),
    exhausted: maybe(fc.constant(true)),
    isFatal: maybe(fc.constant(true)),
    isProbe: maybe(fc.constant(true)),
  }),
  "step.late": fc.record({ step, attempt, outcome: fc.constantFrom("succeeded", "failed"), value: maybe(value), error: maybe(error) }),
  "step.degraded": fc.record({ step, name, reason, instead: maybe(text) }),
  "loop.blocked": fc.record({ ms: fc.nat(), steps: fc.array(text, { maxLength: 3 }) }),
  "step.abandoned": fc.record({ step, attempt, why: text }),
  "step.unknown": fc.record({ step, attempt, why: text }),
  "step.resolved": fc.record({ step, resolution: fc.constantFrom("happened", "did_not_happen"), value: maybe(value), by: text }),
  "signal.received": fc.record({ id: text, name, value: maybe(value), from: maybe(text) }),
  "message.received": fc.record({ id: text, message: value, from: maybe(text) }),
  "cancel.requested": fc.record({ id: text, why: text, from: maybe(text) }),
  "retry.requested": fc.record({ id: text, from: maybe(text) }),
  "run.paused": fc.record({ id: text, why: text, from: maybe(text) }),
  "run.resumed": fc.record({ id: text, from: maybe(text) }),
  "limit.raised": fc.record({ id: text, steps: fc.nat(100), from: maybe(text) }),
  "approval.requested": fc.record({ approval, to: targets, until: maybe(moment), request, like: maybe(approval) }),
  "approval.escalated": fc.record({ id: text, approval, level: fc.nat(5), to: targets }),
  "approval.reminded": fc.record({ id: text, approval, times: fc.nat(5) }),
  "approval.ended": fc.record({ id: text, approval, verdict }),
  "approval.voided": fc.record({ approval, why: text }),
  "approval.skipped": fc.record({ step, name, why: text }),
  "handover.began": fc.record({ id: text, from: text }),
  "handover.said": fc.record({ id: text, message: value, from: text }),
  "handover.ended": fc.record({ id: text, from: text, message: maybe(value) }),
  "session.updated": fc.record({ state: value }),
  progress: fc.record({ step: maybe(step), fraction: fc.double({ min: 0, max: 1, noNaN: true }), what: text }),
  "run.succeeded": fc.record({ output: maybe(value) }),
  "run.failed": fc.record({ error }),
  "run.cancelled": fc.record({ why: text, by: maybe(text) }),
  "run.expired": fc.record({ deadline: moment, why: maybe(text) }),
};

const fact = fc.oneof(
  ...Object.entries(facts).map(([type, fields]) => (fields as fc.Arbitrary<object>).map((rest) => ({ type, ...present(rest) }) as Fact)),
);
const journal = fc
  .array(fact, { maxLength: 60 })
  .map((all) => all.map((one, index): Event => ({ ...one, seq: index + 1, at: 1_000 + index })));
const eventful = fc
  .array(fact, { minLength: 1, maxLength: 60 })
  .map((all) => all.map((one, index): Event => ({ ...one, seq: index + 1, at: 1_000 + index })));

/** What JSON leaves of it: -0 becomes 0. */
function asJson(events: Event[]): Event[] {
  return JSON.parse(JSON.stringify(events));
}

/** As a journal holds it: a field that is undefined is not there. */
function present<T extends object>(fields: T): T {
  return Object.fromEntries(Object.entries(fields).filter(([, field]) => field !== undefined)) as T;
}

describe("the fold", () => {
  test("takes any events in any order without failing, and says how far it came", () => {
    fc.assert(
      fc.property(journal, (events) => {
        expect(fold(events).head).toBe(events.length);
      }),
    );
  });

  test("of a whole journal is the fold of its parts, wherever a writer has stopped and another has gone on", () => {
    fc.assert(
      fc.property(journal, fc.nat(), (events, cut) => {
        const at = cut % (events.length + 1);
        const state = fold(structuredClone(events.slice(0, at)));
        for (const event of structuredClone(events.slice(at))) apply(state, event);
        expect(state).toEqual(fold(events));
      }),
    );
  });

  test("is the same for the events in memory and for those that come back from the disk", () => {
    fc.assert(
      fc.property(eventful, (events) => {
        const read = readEvents("run", events.length, writeEvents(events));
        expect(fold(read)).toEqual(fold(asJson(events)));
      }),
    );
  });

  test("changes no event: a journal can be folded twice", () => {
    fc.assert(
      fc.property(journal, (events) => {
        const before = structuredClone(events);
        fold(events);
        expect(events).toEqual(before);
        expect(fold(events)).toEqual(fold(before));
      }),
    );
  });

  test("never gives an outcome to a step that has none, and never takes one from a step that has", () => {
    fc.assert(
      fc.property(journal, (events) => {
        const state = fold([]);
        for (const event of events) {
          const before = new Map([...state.steps].map(([key, { status }]) => [key, status]));
          apply(state, event);
          for (const [key, { status }] of state.steps) {
            const own = "step" in event && event.step === key;
            if (!own) expect(status).toBe(before.get(key));
          }
        }
      }),
    );
  });

  test("counts only failures against a step, not the attempts that a takeover cut short", () => {
    fc.assert(
      fc.property(journal, (events) => {
        for (const [key, { failures }] of fold(events).steps) {
          const began = events.findIndex((event) => event.type === "step.started" && event.step === key);
          const failed = events.filter((event, index) => index > began && event.type === "step.failed" && event.step === key);
          expect(failures).toBe(failed.length);
        }
      }),
    );
  });

  test("names that every object has are names like any other", () => {
    fc.assert(
      fc.property(journal, (events) => {
        fold(events);
        expect(({} as { step?: unknown }).step).toBeUndefined();
        expect(Object.keys(Object.prototype)).toEqual([]);
      }),
    );
  });
});

describe("events", () => {
  test("come back from a row as they went in", () => {
    fc.assert(
      fc.property(eventful, (events) => {
        expect(readEvents("run", events.length, writeEvents(events))).toEqual(asJson(events));
      }),
    );
  });

  test("that are cut off, garbled, numbered wrongly, unknown or incomplete are refused, never guessed at", () => {
    fc.assert(
      fc.property(eventful, fc.nat(), (events, where) => {
        const row = writeEvents(events);
        const cut = row.slice(0, where % row.length);
        expect(() => readEvents("run", events.length, cut)).toThrow(expect.objectContaining({ code: "EVENT_UNREADABLE", run: "run" }));
        expect(() => readEvents("run", events.length + 1, row)).toThrow(expect.objectContaining({ code: "EVENT_UNREADABLE" }));
      }),
    );
    for (const row of [
      "[]",
      "null",
      "{}",
      "7",
      '["x"]',
      "[null]",
      '[{"type":"run.exploded","seq":1,"at":1}]',
      '[{"type":"toString","seq":1,"at":1}]',
      '[{"type":"__proto__","seq":1}]',
      '[{"type":"step.started","seq":1,"at":1}]',
      '[{"seq":1}]',
    ]) {
      expect(() => readEvents("run", 1, row), row).toThrow(expect.objectContaining({ code: "EVENT_UNREADABLE", run: "run" }));
    }
  });
});
