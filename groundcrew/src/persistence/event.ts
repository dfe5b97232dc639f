/**
 * The journal's vocabulary: every fact that can stand in it, and nothing else. A run's journal is its only truth; state,
 * transcript, stream, timeline and costs are folds over these events.
 *
 * Rules that keep old journals readable for ever: an event is never edited, a field never changes its meaning, a new field
 * is optional, and a shape that has to go is translated in `readEvents` (`event-row.ts`).
 */

import type { ErrorCode, ErrorRecord } from "../errors.ts";
import type { Failure, FailureReason } from "../failure.ts";
import type { Effect } from "../policy.ts";
import type { Principal } from "../principal.ts";
import type { ApprovalRequest, Verdict } from "./approval.ts";
import type { JsonValue } from "./json-value.ts";

/** A model call, a tool call, a named piece of a flow; or a wait, which is a step too: it starts, and one day it ends. */
export type StepKind = "model" | "tool" | "code" | "sleep" | "signal" | "child" | "approval";

export type ParkReason = "approval" | "signal" | "timer" | "child" | "budget" | "authorization" | "unknown_outcome" | "retry" | "attention";

/** What is known of the world when nobody saw the outcome of a step. */
export type Resolution = "happened" | "did_not_happen";

export type Fact =
  | RunCreated
  | { type: "run.claimed"; worker: string; epoch: number; takeover: boolean }
  /** `code`: for a park that somebody has to look into, what it is about. */
  | { type: "run.parked"; reason: ParkReason; until?: number; detail: string; code?: ErrorCode }
  | { type: "run.released"; why: string }
  | StepStarted
  | { type: "step.succeeded"; step: string; attempt: number; value?: JsonValue; shown?: JsonValue; usage?: JsonValue }
  | StepFailed
  /** The attempt is given up and its output with it; a reader that showed that output takes it back. */
  | { type: "step.abandoned"; step: string; attempt: number; why: string }
  | { type: "step.unknown"; step: string; attempt: number; why: string }
  /** What an attempt still came to when nobody waited for it any more. It changes nothing. */
  | { type: "step.late"; step: string; attempt: number; outcome: "succeeded" | "failed"; value?: JsonValue; error?: ErrorRecord }
  /** The run goes on without something that its author called optional, or with what stands in for it. */
  | { type: "step.degraded"; step: string; name: string; reason: FailureReason; instead?: string }
  /** Nothing else ran in this process meanwhile. `steps` were at work; one of them, most likely, did it. */
  | { type: "loop.blocked"; ms: number; steps: readonly string[] }
  | { type: "step.resolved"; step: string; resolution: Resolution; value?: JsonValue; by: string }
  | { type: "signal.received"; id: string; name: string; value?: JsonValue; from?: string }
  | { type: "message.received"; id: string; message: JsonValue; from?: string }
  | { type: "cancel.requested"; id: string; why: string; from?: string }
  | { type: "retry.requested"; id: string; from?: string }
  /** A person holds the run: no step begins. */
  | { type: "run.paused"; id: string; why: string; from?: string }
  | { type: "run.resumed"; id: string; from?: string }
  /** More model steps than its agent has. */
  | { type: "limit.raised"; id: string; steps: number; from?: string }
  | ApprovalRequested
  /** More people may decide. */
  | { type: "approval.escalated"; id: string; approval: string; level: number; to: readonly string[] }
  /** People were told again; the `times`th time. */
  | { type: "approval.reminded"; id: string; approval: string; times: number }
  | { type: "approval.ended"; id: string; approval: string; verdict: Verdict }
  /** What was approved is not what would run: it counts for nothing, and is asked for anew. */
  | { type: "approval.voided"; approval: string; why: string }
  /** In shadow mode: somebody would have been asked. */
  | { type: "approval.skipped"; step: string; name: string; why: string }
  /** A person speaks to the user in the agent's place, and says things, until it is handed back. */
  | { type: "handover.began"; id: string; from: string }
  | { type: "handover.said"; id: string; message: JsonValue; from: string }
  | { type: "handover.ended"; id: string; from: string; message?: JsonValue }
  | { type: "session.updated"; state: JsonValue }
  | { type: "progress"; step?: string; fraction: number; what: string }
  | { type: "run.succeeded"; output?: JsonValue }
  | { type: "run.failed"; error: ErrorRecord }
  | { type: "run.cancelled"; why: string; by?: string }
  | { type: "run.expired"; deadline: number; why?: string };

export interface RunCreated {
  type: "run.created";
  agent: string;
  input?: JsonValue;
  principal: Principal;
  deadline: number;
  /** It is given up when nobody has taken it up by then. */
  startBy?: number;
  session?: string;
  /** Place in the session, from 1. */
  turn?: number;
  parent?: { run: string; step: string; depth: number };
  forked?: {
    run: string;
    step: string;
    by?: string;
    /** The run whose idempotency keys this one goes on with: what it tries again is the same action to a provider. */
    keysOf?: string;
    /** Of a run that is tried again: these events stood behind the failure. Steps in them are reused; the code need not come by them. */
    behind?: readonly [first: number, last: number];
  };
}

/** Somebody is asked. Everything of the request stands here: the row in the store is read off it. */
export interface ApprovalRequested {
  type: "approval.requested";
  approval: string;
  to: readonly string[];
  /** When it expires. */
  until?: number;
  request: ApprovalRequest;
  /** For a call that an earlier verdict covers: that approval. Nobody is asked. */
  like?: string;
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
  /** Which of the step's candidates (a model and its fallbacks) is tried; absent: the first. */
  candidate?: number;
}

export interface StepFailed {
  type: "step.failed";
  step: string;
  attempt: number;
  error: ErrorRecord;
  /** Whether the step is over. */
  final: boolean;
  /** When it is tried again; wall-clock milliseconds. */
  retryAt?: number;
  /** What the failure was taken for. Absent in journals of 0.1. */
  failure?: Failure;
  /** All attempts are used up, and somebody has to say how to go on. */
  exhausted?: true;
  /** The run fails with it, whoever takes it up. */
  isFatal?: true;
  /** The attempt was a probe of something known to be down: it does not spend the step's attempts. */
  isProbe?: true;
  /** Nothing was called: it was refused, or what it would have called was known to be down. */
  isUnasked?: true;
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
