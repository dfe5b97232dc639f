/**
 * The gates around every effect, outermost first: the product's policy on one screen. A gate sees the call, may refuse it,
 * and lets it through with `next`.
 */
import type { Clock } from "../clock.ts";
import { abortable, withDeadline } from "../fault/timeout.ts";

export interface GatedCall {
  name: string;
  timeoutMs: number;
  clock: Clock;
  /** Fires when the whole run has to stop. */
  signal: AbortSignal;
}

export interface Gated<T> {
  /** The outcome; rejects at once when the run has to stop. */
  now: Promise<T>;
  /** The outcome; when the run has to stop, waits this much longer for it. */
  withGrace(graceMs: number): Promise<T>;
}

export function gated<T>(call: GatedCall, effect: (signal: AbortSignal) => Promise<T>): Gated<T> {
  const outcome = withDeadline(call, effect);
  return {
    get now() {
      return abortable(outcome, call.signal, 0, call.clock);
    },
    withGrace: (graceMs) => abortable(outcome, call.signal, graceMs, call.clock),
  };
}
