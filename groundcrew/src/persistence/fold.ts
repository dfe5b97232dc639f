/**
 * The state of a run is what its journal says, folded event by event. The writer folds as it appends, a resume folds what it
 * reads: the same function, so a run continues from exactly the state it would have had.
 */

import type { ErrorCode, ErrorRecord } from "../errors.ts";
import type { Failure, FailureReason } from "../failure.ts";
import { APPROVAL_FLOOD_MS } from "../limits.ts";
import type { Effect } from "../policy.ts";
import type { ApprovalRequest, Verdict } from "./approval.ts";
import type { Event, Resolution, RunCreated, StepKind } from "./event.ts";
import type { JsonValue } from "./json-value.ts";

export interface StepState {
  step: string;
  kind: StepKind;
  name: string;
  /** `running` may also mean: the process that ran it is gone. `abandoned` will be tried again. */
  status: "running" | "succeeded" | "failed" | "abandoned" | "unknown";
  /** Tries begun so far. Takeovers cause tries too; only `failures` spend the retry budget. */
  attempt: number;
  failures: number;
  /** Number and time of the event that began the latest attempt. */
  seq: number;
  startedAt: number;
  effect?: Effect;
  key?: string;
  argsHash?: string;
  input?: JsonValue;
  until?: number;
  child?: string;
  value?: JsonValue;
  /** What the model is shown instead of `value`, when the tool says so. */
  shown?: JsonValue;
  usage?: JsonValue;
  error?: ErrorRecord;
  retryAt?: number;
  resolution?: Resolution;
  /** Which of its candidates the latest attempt tried; absent: the first. */
  candidate?: number;
  /** What each failed attempt that counts was taken for, oldest first; since somebody said `retry`, or from the beginning. */
  faults: readonly Fault[];
  /** When the first of these began. */
  triedSince: number;
  /** Whether all attempts are used up and somebody has to say how to go on. */
  isExhausted?: boolean;
  /** Whether the run fails with it. */
  isFatal?: boolean;
  /** What it gave way to, when it failed and the run goes on without it. */
  degraded?: { reason: FailureReason; instead?: string };
}

/** A failed attempt. */
export interface Fault {
  candidate: number;
  failure: Failure;
}

export interface ReceivedSignal {
  id: string;
  value?: JsonValue;
}

/** What was asked of people, and what became of it. */
export interface ApprovalState {
  approval: string;
  request: ApprovalRequest;
  to: readonly string[];
  until: number | undefined;
  requestedAt: number;
  /** When it was escalated or reminded last, and how often. */
  level: number;
  escalatedAt: number;
  reminders: number;
  remindedAt: number;
  verdict: Verdict | undefined;
  /** Why it counts for nothing any more. */
  voided: string | undefined;
  /** The approval whose verdict covers this one as well. */
  like: string | undefined;
}

/** By default from the user. */
export interface Arrived {
  seq: number;
  message: JsonValue;
  /** `person`: who speaks to the user in the agent's place. `staff`: who tells the agent something that is not for the user. */
  from?: "person" | "staff";
}

export interface RunState {
  /** Number of the last event. */
  head: number;
  created: RunCreated | undefined;
  /** Why it is parked, or was ended before its deadline, for people. */
  detail: string | undefined;
  /** What a park is about that somebody has to look into. */
  code: ErrorCode | undefined;
  /** In the order they first started. */
  steps: Map<string, StepState>;
  /** Signals received and not yet taken, by name. */
  signals: Map<string, ReceivedSignal[]>;
  /** Messages that came while the run was at work, with the number of the event. */
  messages: Arrived[];
  /** Consumed ids, so that a signal handed out twice is recorded once. */
  received: Set<string>;
  cancel: { why: string; from?: string } | undefined;
  /** In the order in which they were asked for. */
  approvals: Map<string, ApprovalState>;
  /** When requests were made since somebody said `retry`; wall-clock milliseconds. */
  askedAt: readonly number[];
  /** Whether it was stopped for asking too often, and nobody has said `retry` since. */
  isFlooding: boolean;
  /** Who holds it, and why. */
  paused: { why: string; from?: string } | undefined;
  /** Model steps beyond those of its agent. */
  extraSteps: number;
  /** Who speaks to the user in the agent's place. */
  handover: string | undefined;
  sessionState: JsonValue | undefined;
  progress: { fraction: number; what: string } | undefined;
  takeovers: number;
  /** Number of the event of the last claim. */
  claimedAt: number;
  /** Takeovers in a row without a step that ended in between; `deaths` of them with code of the run at work in this process. */
  barren: number;
  deaths: number;
  /** Time that workers have spent on it, in milliseconds: over earlier stays, and since when in this one. */
  worked: { ms: number; since: number };
  /** When the newest event was written. */
  at: number;
  /** Whether somebody has said `retry` since the last attempt of any step began: the next one is made whatever is known to be down. */
  isPressed: boolean;
  /** Steps that gave way, in order. */
  degraded: { step: string; name: string; reason: FailureReason; instead?: string }[];
  /** Which candidate gave the last model step. */
  modelCandidate: number;
  output: JsonValue | undefined;
  error: ErrorRecord | undefined;
}

export function fold(events: Iterable<Event>): RunState {
  const state: RunState = {
    head: 0,
    created: undefined,
    detail: undefined,
    code: undefined,
    steps: new Map(),
    signals: new Map(),
    messages: [],
    received: new Set(),
    cancel: undefined,
    approvals: new Map(),
    askedAt: [],
    isFlooding: false,
    paused: undefined,
    extraSteps: 0,
    handover: undefined,
    sessionState: undefined,
    progress: undefined,
    takeovers: 0,
    claimedAt: 0,
    barren: 0,
    deaths: 0,
    worked: { ms: 0, since: 0 },
    at: 0,
    isPressed: false,
    degraded: [],
    modelCandidate: 0,
    output: undefined,
    error: undefined,
  };
  for (const event of events) apply(state, event);
  return state;
}

/** Brings `state` one event further. Changes it in place: a journal of n events folds in n steps, not in n copies. */
export function apply(state: RunState, event: Event): void {
  const before = state.at;
  state.head = event.seq;
  state.at = event.at;
  switch (event.type) {
    case "run.created":
      state.created = event;
      return;
    case "run.claimed":
      state.detail = undefined;
      state.code = undefined;
      if (event.takeover) takeOver(state, before);
      state.claimedAt = event.seq;
      state.worked.since = event.at;
      return;
    case "run.parked":
      state.detail = event.detail;
      state.code = event.code;
      if (event.code === "APPROVALS_FLOODED") state.isFlooding = true;
      endStay(state, event.at);
      return;
    case "signal.received":
      state.received.add(event.id);
      queueOf(state, event.name).push(event.value === undefined ? { id: event.id } : { id: event.id, value: event.value });
      return;
    case "message.received":
      state.received.add(event.id);
      state.messages.push(arrived(event, isStaff(state, event.from) ? "staff" : undefined));
      return;
    case "cancel.requested":
      state.received.add(event.id);
      state.cancel ??= event.from === undefined ? { why: event.why } : { why: event.why, from: event.from };
      return;
    case "retry.requested":
      state.received.add(event.id);
      state.isPressed = true;
      state.askedAt = [];
      state.isFlooding = false;
      for (const step of state.steps.values()) tryAgain(step, event.at);
      advance(state);
      return;
    case "run.paused":
      state.received.add(event.id);
      state.paused = event.from === undefined ? { why: event.why } : { why: event.why, from: event.from };
      return;
    case "run.resumed":
      state.received.add(event.id);
      state.paused = undefined;
      return;
    case "limit.raised":
      state.received.add(event.id);
      state.extraSteps += event.steps;
      return;
    case "handover.began":
      state.received.add(event.id);
      state.handover = event.from;
      return;
    case "handover.said":
      state.received.add(event.id);
      state.messages.push(arrived(event, "person"));
      return;
    case "handover.ended":
      state.received.add(event.id);
      state.handover = undefined;
      if (event.message !== undefined) state.messages.push(arrived({ seq: event.seq, message: event.message }, "staff"));
      return;
    case "approval.requested":
    case "approval.escalated":
    case "approval.reminded":
    case "approval.ended":
    case "approval.voided":
      return applyApproval(state, event);
    case "approval.skipped":
      return; // nobody was asked
    case "session.updated":
      state.sessionState = event.state;
      return;
    case "progress":
      state.progress = { fraction: event.fraction, what: event.what };
      return;
    case "run.succeeded":
      state.output = event.output;
      return;
    case "run.failed":
      state.error = event.error;
      return;
    case "run.released":
      return endStay(state, event.at);
    case "run.expired":
      state.detail = event.why;
      return;
    case "run.cancelled":
    case "loop.blocked":
      return; // nothing is decided by them
    case "step.started":
    case "step.succeeded":
    case "step.failed":
    case "step.abandoned":
    case "step.unknown":
    case "step.resolved":
    case "step.late":
    case "step.degraded":
      applyStep(state, event);
  }
}

function arrived({ seq, message }: { seq: number; message: JsonValue }, from: Arrived["from"]): Arrived {
  return { seq, message, ...(from !== undefined && { from }) };
}

/** Somebody else than the user whom the run works for. */
function isStaff({ created }: RunState, from: string | undefined): boolean {
  return from !== undefined && from !== created?.principal.user;
}

/** The process that held the run is gone, or could not be told from one that is. */
function takeOver(state: RunState, at: number): void {
  state.takeovers++;
  state.barren++;
  // Only what began in that stay: a process that died before it could say what it found may have left an older step open.
  const isOwnCode = ({ kind, status, seq }: StepState) =>
    status === "running" && (kind === "tool" || kind === "code") && seq > state.claimedAt;
  if ([...state.steps.values()].some(isOwnCode)) state.deaths++;
  endStay(state, at);
}

function endStay(state: RunState, at: number): void {
  state.worked.ms += Math.max(0, at - state.worked.since);
  state.worked.since = at;
}

/** Something came of the run: what went before is no longer held against it. */
function advance(state: RunState): void {
  state.barren = 0;
  state.deaths = 0;
}

/** Somebody said so: it has all its attempts again, and begins at once. */
function tryAgain(step: StepState, at: number): void {
  if (step.retryAt === undefined && !step.isExhausted) return;
  step.retryAt = at;
  step.faults = [];
  step.triedSince = at;
  step.isExhausted = false;
}

type ApprovalEvent = Extract<Event, { approval: string }>;

function applyApproval(state: RunState, event: ApprovalEvent): void {
  if (event.type === "approval.requested") {
    const { approval, request, to, until, like, at } = event;
    const none = { level: 0, escalatedAt: at, reminders: 0, remindedAt: at, verdict: undefined, voided: undefined };
    state.approvals.set(approval, { approval, request, to, until, requestedAt: at, like, ...none });
    if (like === undefined) state.askedAt = [...state.askedAt.filter((asked) => asked > at - APPROVAL_FLOOD_MS), at];
    return;
  }
  if ("id" in event) state.received.add(event.id);
  const asked = state.approvals.get(event.approval);
  if (!asked) return; // cannot be: it ends only after it was asked for
  switch (event.type) {
    case "approval.escalated":
      asked.level = event.level;
      asked.escalatedAt = event.at;
      asked.to = event.to;
      return;
    case "approval.reminded":
      asked.reminders = event.times;
      asked.remindedAt = event.at;
      return;
    case "approval.ended":
      asked.verdict ??= event.verdict; // an end never changes
      return;
    case "approval.voided":
      asked.voided = event.why;
  }
}

type StepEvent = Extract<Event, { step: string; type: `step.${string}` }>;

function applyStep(state: RunState, event: StepEvent): void {
  if (event.type === "step.started") return begin(state, event);
  const step = state.steps.get(event.step);
  if (!step) return; // cannot be: a step ends only after it began; a fold is total all the same
  switch (event.type) {
    case "step.succeeded":
      step.status = "succeeded";
      if (event.value !== undefined) step.value = event.value;
      if (event.shown !== undefined) step.shown = event.shown;
      if (event.usage !== undefined) step.usage = event.usage;
      if (step.kind === "model") state.modelCandidate = step.candidate ?? 0;
      advance(state);
      if (step.kind === "signal") state.signals.get(step.name)?.shift();
      return;
    case "step.failed":
      step.status = event.final ? "failed" : "abandoned";
      step.failures++;
      step.error = event.error;
      if (event.retryAt !== undefined) step.retryAt = event.retryAt;
      if (event.exhausted) step.isExhausted = true;
      if (event.isFatal) step.isFatal = true;
      if (event.failure && !event.isProbe) step.faults = [...step.faults, { candidate: step.candidate ?? 0, failure: event.failure }];
      advance(state);
      return;
    case "step.degraded": {
      const { name, reason, instead } = event;
      step.degraded = { reason, ...(instead !== undefined && { instead }) };
      state.degraded.push({ step: event.step, name, ...step.degraded });
      return;
    }
    case "step.late":
      return; // it came too late to change anything
    case "step.abandoned":
      step.status = "abandoned";
      return;
    case "step.unknown":
      step.status = "unknown";
      return;
    case "step.resolved":
      step.resolution = event.resolution;
      if (event.resolution === "did_not_happen") {
        step.status = "abandoned";
        return;
      }
      step.status = "succeeded";
      if (event.value !== undefined) step.value = event.value;
  }
}

function begin(state: RunState, event: Extract<Event, { type: "step.started" }>): void {
  const before = state.steps.get(event.step);
  state.isPressed = false;
  const { type: _type, at, seq, ...facts } = event;
  const { failures = 0, faults = [], triedSince = at } = before ?? {};
  const step: StepState = { ...facts, status: "running", failures, faults, triedSince, seq, startedAt: at };
  state.steps.set(event.step, step);
}

function queueOf(state: RunState, name: string): ReceivedSignal[] {
  const queue = state.signals.get(name) ?? [];
  state.signals.set(name, queue);
  return queue;
}
