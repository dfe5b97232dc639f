import { describe, expect, test } from "vitest";
import type { Event, Fact } from "../../src/persistence/event.ts";
import { readEvents, writeEvents } from "../../src/persistence/event-row.ts";

const principal = { tenant: "t", user: "u", roles: [] };
const numbered = (facts: Fact[]) => facts.map((fact, i): Event => ({ ...fact, seq: i + 1, at: 1_000 + Math.floor(i / 2) }));

/** Each way in which an event can be like the one before it. */
const events = numbered([
  { type: "run.created", agent: "a", principal, deadline: 9 },
  { type: "step.started", step: "one", kind: "code", name: "one", attempt: 1 },
  { type: "step.succeeded", step: "one", attempt: 1, value: 1 },
  { type: "step.started", step: "two", kind: "tool", name: "two", attempt: 1 },
  { type: "step.started", step: "three", kind: "code", name: "other", attempt: 2 },
  { type: "step.unknown", step: "three", attempt: 2, why: "?" },
  { type: "step.resolved", step: "three", resolution: "happened", by: "u" },
  { type: "step.abandoned", step: "two", attempt: 1, why: "?" },
  { type: "step.started", step: "two", kind: "tool", name: "two", attempt: 2 },
  { type: "step.succeeded", step: "two", attempt: 2 },
  { type: "run.released", why: "?" },
  { type: "step.succeeded", step: "two", attempt: 1 },
]);

type Row = Record<string, unknown>[];
const rowOf = (all: Event[]) => JSON.parse(writeEvents(all)) as Row;
const read = (row: unknown, last = (row as Row).length) => readEvents("r", last, JSON.stringify(row));
const unreadable = expect.objectContaining({ code: "EVENT_UNREADABLE" });

describe("a row of events", () => {
  test("comes back as it was", () => {
    expect(read(rowOf(events))).toEqual(events);
    for (const one of events) expect(readEvents("r", one.seq, writeEvents([one]))).toEqual([one]);
  });

  test("leaves out what the event before said", () => {
    const [, , ended] = rowOf(events);
    expect(ended).toEqual({ type: "step.succeeded", value: 1, at: 1 });
  });

  test("that lost any one field that was needed is unreadable, never filled in", () => {
    const needed = ["type", "step", "kind", "name", "attempt", "agent", "principal", "deadline", "resolution"];
    let tried = 0;
    for (const part of [events, ...events.map((one) => [one])]) {
      for (const [index, fields] of rowOf(part).entries()) {
        for (const field of Object.keys(fields).filter((one) => needed.includes(one) || (index === 0 && (one === "at" || one === "seq")))) {
          const damaged = rowOf(part);
          delete damaged[index]?.[field];
          expect(() => read(damaged, part.at(-1)?.seq), `${index}.${field}`).toThrow(unreadable);
          tried++;
        }
      }
    }
    expect(tried).toBeGreaterThan(50);
  });

  test.each([0, -1, 1.5, "1", null, [], 2 ** 60])("with %j as an attempt is unreadable", (attempt) => {
    const row = [{ type: "step.succeeded", step: "one", attempt, seq: 1, at: 1 }];
    expect(() => read(row)).toThrow(unreadable);
  });

  test.each([
    ["a list of nothing", []],
    ["no list", {}],
    ["null", [null]],
    ["a text", ["step.started"]],
    ["a type of an object's own", [{ type: "constructor", seq: 1, at: 1 }]],
    ["a step that is no text", [{ type: "step.succeeded", step: 1, attempt: 1, seq: 1, at: 1 }]],
    ["a time that is none", [{ type: "run.released", seq: 1, at: "now" }]],
    ["another number", [{ type: "run.released", seq: 2, at: 1 }]],
    ["a first event that leaves out what stood before", [{ type: "step.succeeded", seq: 1, at: 1 }]],
  ])("with %s is unreadable", (_, row) => {
    expect(() => read(row, 1)).toThrow(unreadable);
  });

  test("that is no JSON is unreadable", () => {
    expect(() => readEvents("r", 1, writeEvents(events).slice(0, -1))).toThrow(unreadable);
  });
});
