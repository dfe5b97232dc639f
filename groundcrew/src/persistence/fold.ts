/**
 * The state of a run is what its journal says, folded event by event. The writer folds as it appends, a resume folds what it
 * reads: the same function, so a run continues from exactly the state it would have had.
 */
import type { Effect } from "../agent.ts";
import type { ErrorRecord } from "../errors.ts";
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
}

export interface ReceivedSignal {
  id: string;
  value?: JsonValue;
}

export interface RunState {
  /** Number of the last event. */
  head: number;
  created: RunCreated | undefined;
  /** Why it is parked, for people. */
  detail: string | undefined;
  /** In the order they first started. */
  steps: Map<string, StepState>;
  /** Signals received and not yet taken, by name. */
  signals: Map<string, ReceivedSignal[]>;
  /** User messages that came while the run was at work, with the number of the event. */
  messages: { seq: number; message: JsonValue }[];
  /** Consumed ids, so that a signal handed out twice is recorded once. */
  received: Set<string>;
  cancel: { why: string; from?: string } | undefined;
  sessionState: JsonValue | undefined;
  progress: { fraction: number; what: string } | undefined;
  takeovers: number;
  output: JsonValue | undefined;
  error: ErrorRecord | undefined;
}

export function fold(events: Iterable<Event>): RunState {
  const state: RunState = {
    head: 0,
    created: undefined,
    detail: undefined,
    steps: new Map(),
    signals: new Map(),
    messages: [],
    received: new Set(),
    cancel: undefined,
    sessionState: undefined,
    progress: undefined,
    takeovers: 0,
    output: undefined,
    error: undefined,
  };
  for (const event of events) apply(state, event);
  return state;
}

/** Brings `state` one event further. Changes it in place: a journal of n events folds in n steps, not in n copies. */
export function apply(state: RunState, event: Event): void {
  state.head = event.seq;
  switch (event.type) {
    case "run.created":
      state.created = event;
      return;
    case "run.claimed":
      state.detail = undefined;
      if (event.takeover) state.takeovers++;
      return;
    case "run.parked":
      state.detail = event.detail;
      return;
    case "signal.received":
      state.received.add(event.id);
      queueOf(state, event.name).push(event.value === undefined ? { id: event.id } : { id: event.id, value: event.value });
      return;
    case "message.received":
      state.received.add(event.id);
      state.messages.push({ seq: event.seq, message: event.message });
      return;
    case "cancel.requested":
      state.received.add(event.id);
      state.cancel ??= event.from === undefined ? { why: event.why } : { why: event.why, from: event.from };
      return;
    case "retry.requested":
      state.received.add(event.id);
      for (const step of state.steps.values()) if (step.retryAt !== undefined) step.retryAt = event.at;
      return;
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
    case "run.cancelled":
    case "run.expired":
      return; // the run's row says it
    case "step.started":
    case "step.succeeded":
    case "step.failed":
    case "step.abandoned":
    case "step.unknown":
    case "step.resolved":
      applyStep(state, event);
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
      if (step.kind === "signal") state.signals.get(step.name)?.shift();
      return;
    case "step.failed":
      step.status = event.final ? "failed" : "abandoned";
      step.failures++;
      step.error = event.error;
      if (event.retryAt !== undefined) step.retryAt = event.retryAt;
      return;
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
  const { type: _type, at, seq, ...facts } = event;
  const step: StepState = { ...facts, status: "running", failures: before?.failures ?? 0, seq, startedAt: at };
  state.steps.set(event.step, step);
}

function queueOf(state: RunState, name: string): ReceivedSignal[] {
  const queue = state.signals.get(name) ?? [];
  state.signals.set(name, queue);
  return queue;
}
