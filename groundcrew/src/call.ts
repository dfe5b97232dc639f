/**
 * The shape of a call: what a running tool or step knows about itself. Tools keep their AI SDK signature, so this reaches
 * them beside it: `currentCall()`.
 */
import { AsyncLocalStorage } from "node:async_hooks";
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
  /** The session's state, and how to replace it. Recorded with the step's outcome: a step that fails changes nothing. */
  readonly state: { get(): Record<string, unknown>; set(state: Record<string, unknown>): void };
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
 * const add = tool({ inputSchema, execute: async ({ item }) => cart.set([...cart.get(), item]) });
 * ```
 * @throws GroundcrewError `INTERNAL` when used outside a running tool or step.
 */
export function sessionState<T>(name: string, initial: T): { get(): T; set(value: T): void } {
  return {
    get: () => (Object.hasOwn(currentCall().state.get(), name) ? (currentCall().state.get()[name] as T) : structuredClone(initial)),
    set: (value) => currentCall().state.set({ ...currentCall().state.get(), [name]: value }),
  };
}
