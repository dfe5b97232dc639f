import type { Clock } from "../clock.ts";
import { GroundcrewError } from "../errors.ts";

/** How an effect ended that nobody waited for any more. */
export type Late<T> = { value: T } | { error: unknown };

export interface Bounds {
  /** For the error. */
  name: string;
  timeoutMs: number;
  clock: Clock;
  /** Fires when the run has to stop. */
  signal: AbortSignal;
  /** How long to wait for an outcome once `signal` has fired. */
  graceMs: number;
}

/**
 * Runs `effect` with a signal of its own, which fires when its time is over or the run has to stop, and stops waiting for it
 * then. That means that nobody waits any longer, not that nothing happened: what it means for the step is the caller's to say.
 * What comes later changes nothing any more; `onLate` is told.
 * @throws GroundcrewError `STEP_TIMEOUT`; the reason of `signal`; otherwise what `effect` throws.
 */
export function withDeadline<T>(
  { name, timeoutMs, clock, signal, graceMs, onLate }: Bounds & { onLate?: (late: Late<T>) => void },
  effect: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  if (signal.aborted) return Promise.reject(signal.reason);
  return new Promise((resolve, reject) => {
    const own = new AbortController();
    let cancelGrace = () => {};
    let isLate = false;
    const settle = () => {
      cancelDeadline();
      cancelGrace();
      signal.removeEventListener("abort", stop);
    };
    const giveUp = (reason: unknown) => {
      isLate = true;
      settle();
      own.abort(reason);
      reject(reason);
    };
    const stop = () => {
      own.abort(signal.reason);
      if (graceMs === 0) giveUp(signal.reason);
      else cancelGrace = clock.after(graceMs, () => giveUp(signal.reason));
    };
    const cancelDeadline = clock.after(timeoutMs, () => giveUp(tooLong(name, timeoutMs)));
    signal.addEventListener("abort", stop);
    const end = (late: Late<T>) => {
      if (!isLate) return "error" in late ? reject(late.error) : resolve(late.value);
      const isEcho = "error" in late && late.error === own.signal.reason; // it ended because it was told to
      return isEcho ? undefined : onLate?.(late);
    };
    (async () => effect(own.signal))()
      .then(
        (value) => end({ value }),
        (error) => end({ error }),
      )
      .catch(() => {}) // what comes of telling it has nobody left to go to
      .finally(settle);
  });
}

function tooLong(name: string, timeoutMs: number): GroundcrewError {
  return new GroundcrewError("STEP_TIMEOUT", `"${name}" took longer than ${timeoutMs} ms.`, { value: timeoutMs });
}
