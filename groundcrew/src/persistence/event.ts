/**
 * The journal's vocabulary: every fact that can stand in it, and nothing else. A run's journal is its only truth; state,
 * transcript, stream, timeline and costs are folds over these events.
 *
 * Rules that keep old journals readable for ever: an event is never edited, a field never changes its meaning, a new field
 * is optional, and a shape that has to go is translated in `readEvents` below.
 */
import type { Effect } from "../agent.ts";
import { type ErrorRecord, GroundcrewError } from "../errors.ts";
import type { Principal } from "../principal.ts";
import type { JsonValue } from "./codec.ts";

/** A model call, a tool call, a named piece of a flow; or a wait, which is a step too: it starts, and one day it ends. */
export type StepKind = "model" | "tool" | "code" | "sleep" | "signal" | "child";

export type ParkReason =
  | "approval"
  | "signal"
  | "timer"
  | "child"
  | "budget"
  | "authorization"
  | "unknown_outcome"
  | "retry"
  | "attention";

/** What is known of the world when nobody saw the outcome of a step. */
export type Resolution = "happened" | "did_not_happen";

export type Fact =
  | RunCreated
  | { type: "run.claimed"; worker: string; epoch: number; takeover: boolean }
  | { type: "run.parked"; reason: ParkReason; until?: number; detail: string }
  | { type: "run.released"; why: string }
  | StepStarted
  | { type: "step.succeeded"; step: string; attempt: number; value?: JsonValue; shown?: JsonValue; usage?: JsonValue }
  | { type: "step.failed"; step: string; attempt: number; error: ErrorRecord; final: boolean; retryAt?: number }
  /** The attempt is given up and its output with it; a reader that showed that output takes it back. */
  | { type: "step.abandoned"; step: string; attempt: number; why: string }
  | { type: "step.unknown"; step: string; attempt: number; why: string }
  | { type: "step.resolved"; step: string; resolution: Resolution; value?: JsonValue; by: string }
  | { type: "signal.received"; id: string; name: string; value?: JsonValue; from?: string }
  | { type: "message.received"; id: string; message: JsonValue; from?: string }
  | { type: "cancel.requested"; id: string; why: string; from?: string }
  | { type: "retry.requested"; id: string; from?: string }
  | { type: "session.updated"; state: JsonValue }
  | { type: "progress"; step?: string; fraction: number; what: string }
  | { type: "run.succeeded"; output?: JsonValue }
  | { type: "run.failed"; error: ErrorRecord }
  | { type: "run.cancelled"; why: string; by?: string }
  | { type: "run.expired"; deadline: number };

export interface RunCreated {
  type: "run.created";
  agent: string;
  input?: JsonValue;
  principal: Principal;
  deadline: number;
  session?: string;
  /** Place in the session, from 1. */
  turn?: number;
  parent?: { run: string; step: string; depth: number };
  forked?: {
    run: string;
    step: string;
    by?: string;
    /** Of a run that is tried again: these events stood behind the failure. Steps in them are reused; the code need not come by them. */
    behind?: readonly [first: number, last: number];
  };
}

export interface StepStarted {
  type: "step.started";
  step: string;
  kind: StepKind;
  name: string;
  attempt: number;
  effect?: Effect;
  /** Idempotency key, when it is not the one derived from run and step. */
  key?: string;
  argsHash?: string;
  input?: JsonValue;
  /** For a sleep, and for a wait that gives up: when, in wall-clock milliseconds. */
  until?: number;
  /** For a child: its run. */
  child?: string;
}

/** A fact with its place in the journal. `seq` counts from 1 without a gap; `at` is wall-clock milliseconds and only for people. */
export type Event = Fact & { seq: number; at: number };
export type EventType = Fact["type"];
export type EventOf<T extends EventType> = Extract<Event, { type: T }>;

/** Output of a step in flight, kept beside the journal: the reader's view of tokens as they come. */
export interface Chunk {
  /** The event it follows. */
  after: number;
  /** Counts from 1 behind that event. */
  index: number;
  at: number;
  step: string;
  attempt: number;
  /** An AI SDK UI message chunk, or a preliminary tool result. */
  part: JsonValue;
}

const required: Record<EventType, readonly string[]> = {
  "run.created": ["agent", "principal", "deadline"],
  "run.claimed": ["worker", "epoch"],
  "run.parked": ["reason"],
  "run.released": [],
  "step.started": ["step", "kind", "name", "attempt"],
  "step.succeeded": ["step", "attempt"],
  "step.failed": ["step", "attempt", "error", "final"],
  "step.abandoned": ["step", "attempt"],
  "step.unknown": ["step", "attempt"],
  "step.resolved": ["step", "resolution"],
  "signal.received": ["id", "name"],
  "message.received": ["id", "message"],
  "cancel.requested": ["id"],
  "retry.requested": ["id"],
  "session.updated": ["state"],
  progress: ["fraction", "what"],
  "run.succeeded": [],
  "run.failed": ["error"],
  "run.cancelled": [],
  "run.expired": ["deadline"],
};

/**
 * One journal row: the consecutive events of one write. What an event shares with the one before it in the row, and what is
 * nearly always the same, is left out: at a kilobyte a step that decides how many steps fit on a page.
 */
export function writeEvents(events: readonly Event[]): string {
  return JSON.stringify(events.map((event, index) => packed(event, events[index - 1])));
}

type PackedEvent = Omit<Event, "seq" | "at"> & { seq?: number; at?: number; step?: string; attempt?: number; name?: string; kind?: StepKind };

function packed(event: Event, before: Event | undefined): PackedEvent {
  const result: PackedEvent = { ...event };
  if (before) {
    result.seq = undefined;
    result.at = event.at === before.at ? undefined : event.at - before.at;
  }
  if (!isStepEvent(event)) return result;
  if (before && isStepEvent(before) && before.step === event.step) result.step = undefined;
  if ("attempt" in event && event.attempt === 1) result.attempt = undefined;
  if (event.type === "step.started" && event.name === event.step) result.name = undefined;
  if (event.type === "step.started" && event.kind === "code") result.kind = undefined;
  return result;
}

/**
 * The events of a row, checked.
 * @param last the number of the row's last event.
 * @throws GroundcrewError `EVENT_UNREADABLE` for anything that is not a known event: a run is never resumed on a guess.
 */
export function readEvents(run: string, last: number, row: string): Event[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(row);
  } catch (cause) {
    throw unreadable(run, last, "it is not JSON", cause);
  }
  if (!Array.isArray(parsed) || parsed.length === 0) throw unreadable(run, last, "it is not a list of events");

  const first = last - parsed.length + 1;
  for (let i = 0; i < parsed.length; i++) {
    const seq = first + i;
    const type: unknown = parsed[i]?.type;
    const fields = typeof type === "string" && Object.hasOwn(required, type) ? required[type as EventType] : undefined;
    if (!fields) throw unreadable(run, seq, `its type ${JSON.stringify(type)} is not known to this release`);
    const event = unpacked(parsed[i], parsed[i - 1], seq);
    for (const field of fields) {
      if (event[field] === undefined) throw unreadable(run, seq, `${event.type} lacks \`${field}\``);
    }
    if (event.seq !== seq) throw unreadable(run, seq, `it says it is number ${event.seq}`);
  }
  return parsed as Event[];
}

/** Fills in, in place, what `packed` left out. */
function unpacked(event: PackedEvent, before: Event | undefined, seq: number): PackedEvent & Record<string, unknown> {
  if (before) {
    event.seq ??= seq;
    event.at = before.at + (event.at ?? 0);
  }
  if (event.type.startsWith("step.")) {
    if (before && isStepEvent(before)) event.step ??= before.step;
    if (event.type !== "step.resolved") event.attempt ??= 1;
    if (event.type === "step.started") {
      event.name ??= event.step;
      event.kind ??= "code";
    }
  }
  return event as PackedEvent & Record<string, unknown>;
}

function isStepEvent(event: Event): event is Extract<Event, { type: `step.${string}` }> {
  return event.type.startsWith("step.");
}

function unreadable(run: string, seq: number, why: string, cause?: unknown): GroundcrewError {
  return new GroundcrewError("EVENT_UNREADABLE", `Event ${seq} of run ${run} cannot be read: ${why}.`, {
    run,
    cause,
    fix: "If it was written by a newer release, finish the roll-out; otherwise restore the store from a backup.",
  });
}
