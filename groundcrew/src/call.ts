/**
 * The shape of a call: what a running tool or step knows about itself. Tools keep their AI SDK signature, so this reaches
 * them beside it: `currentCall()`.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { checkName } from "./agent.ts";
import { GroundcrewError } from "./errors.ts";
import type { Principal } from "./principal.ts";

export interface Call {
  readonly run: string;
  readonly agent: string;
  readonly session: string | undefined;
  /** On whose behalf the run works. */
  readonly principal: Principal;
  /** The step's key in the journal, e.g. `tool:call_1`. */
  readonly step: string;
  /** From 1. */
  readonly attempt: number;
  /** Idempotency key: the same for every attempt of this step, and for no other. Hand it to providers that take one. */
  readonly key: string;
  /** Fires when the run is cancelled, the step's time is over, or another worker has taken the run. */
  readonly signal: AbortSignal;
  /** Tells every reader how far the step is. `fraction` from 0 to 1. */
  progress(fraction: number, what: string): void;
  /** The session's state, part by part. Changes are recorded with the step's outcome: a step that fails changes nothing. */
  readonly state: { get(name: string): unknown; update(name: string, change: StateChange["change"]): void };
}

/** A change of one part of a session's state; made again on what a step beside this one has left, so it must do nothing else. */
export interface StateChange {
  name: string;
  change: (before: unknown) => unknown;
}

const calls = new AsyncLocalStorage<Call>();

/** Runs `work` with `call` as the current one, also behind its awaits. */
export function withCall<T>(call: Call, work: () => T): T {
  return calls.run(call, work);
}

/**
 * The call that is running here.
 *
 * ```ts
 * const refund = tool({ inputSchema, execute: async ({ orderId }) => payments.refund(orderId, { idempotencyKey: currentCall().key }) });
 * ```
 * @throws GroundcrewError `INTERNAL` outside a tool or step; `callOrUndefined()` where that is expected.
 */
export function currentCall(): Call {
  const call = calls.getStore();
  if (!call) {
    throw new GroundcrewError("INTERNAL", "`currentCall()` was used outside a running tool or step.", {
      fix: "Call it inside a tool's `execute` or a flow's step. Code that also runs without Groundcrew uses `callOrUndefined()`.",
    });
  }
  return call;
}

/** The call that is running here, or undefined: for tools that also work without Groundcrew. */
export function callOrUndefined(): Call | undefined {
  return calls.getStore();
}

/**
 * One named, typed part of a session's state. What a tool sets is recorded with the tool's result and is there in the
 * session's later turns.
 *
 * ```ts
 * const cart = sessionState<string[]>("cart", []);
 * const add = tool({ inputSchema, execute: async ({ item }) => cart.update((items) => [...items, item]) });
 * ```
 * Tools of one answer run side by side: `update` builds on what the others have left, `set` replaces it.
 * @throws GroundcrewError `INPUT_INVALID` for a name that is none; `INTERNAL` when used outside a running tool or step.
 */
export function sessionState<T>(name: string, initial: T): SessionPart<T> {
  checkName("INPUT_INVALID", "session state's name", name);
  const orInitial = (value: unknown) => (value === undefined ? structuredClone(initial) : value) as T;
  return {
    get: () => orInitial(currentCall().state.get(name)),
    set: (value) => currentCall().state.update(name, () => value),
    update: (change) => currentCall().state.update(name, (before) => change(orInitial(before))),
  };
}

export interface SessionPart<T> {
  /** A copy: changing it changes nothing. */
  get(): T;
  set(value: T): void;
  /** Replaces the value by what `change` makes of it. `change` may be called twice, and must do nothing else. */
  update(change: (before: T) => T): void;
}
