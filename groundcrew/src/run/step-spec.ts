/** What the loop and a flow say of a step that is to be performed. */
import type { Call } from "../call.ts";
import type { ErrorCode } from "../errors.ts";
import type { Classify, Failure } from "../failure.ts";
import type { Standing } from "../fault/candidate.ts";
import type { StepKind } from "../persistence/event.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import type { Effect, Reconciled } from "../policy.ts";

/** What becomes of a step without an attempt left: the run waits for somebody, fails, tells its model, or goes on without. */
export type Exhaustion = "park" | "fail" | "tell" | "degrade";

export interface StepSpec<T> {
  /** Its key in the journal: a resumed run finds it by this. */
  step: string;
  kind: StepKind;
  /** What can do it, the first choice first. */
  candidates: readonly [Candidate<T>, ...Candidate<T>[]];
  /** Which of them to begin with. Default: the first. */
  start?: number;
  /** For people, in the timeline. */
  input?: JsonValue | undefined;
  /** What the step depends on; a resumed run that comes with another is refused. */
  argsHash?: string | undefined;
  /** What a failure counts as when it is none of ours. */
  failure: ErrorCode;
  /** Who may say otherwise about a failure; the first that says something counts. */
  classify?: readonly (Classify | undefined)[];
  /** How long it is tried, in milliseconds, waiting included. */
  patienceMs: number;
  exhausted: (failure: Failure) => Exhaustion;
  /** Why it must not begin, if so: it ends as failed with this, and no candidate is asked. */
  refused?: Error | undefined;
  /** Asked right before each attempt: whether what it was released for still holds. When it does not, it is left as it is. */
  holds?: () => Promise<boolean>;
  /** What the journal keeps beside the value. */
  describe?: (value: T) => Promise<Described> | Described;
}

export interface Described {
  shown?: JsonValue | undefined;
  usage?: JsonValue | undefined;
}

/** What the step was released for holds no longer: not a failure, it is asked for anew. */
export class Lapsed extends Error {}

/** One way to do the step. */
export interface Candidate<T> extends Standing {
  /** What people call it: a model's id, a tool's name. */
  name: string;
  effect: Effect;
  /** For one attempt. */
  timeoutMs: number;
  /** Idempotency key. Default: one of the run and the step. */
  key?: string;
  /** See `gates.ts`. */
  breaker?: string | undefined;
  provider?: string | undefined;
  /** The effect. */
  run: (call: Call) => Promise<T> | T;
  reconcile?: ((call: { key: string; signal: AbortSignal }) => Promise<Reconciled<unknown>> | Reconciled<unknown>) | undefined;
  /** When what it gives is less than what was asked for: what it is, for people. */
  standsFor?: string;
}
