import type { Clock } from "../clock.ts";
import { GroundcrewError } from "../errors.ts";

/**
 * Runs `effect` with a signal that fires when its time is over or the run has to stop. Passing the deadline means that nobody
 * waits any longer, not that nothing happened: what that means for the step is the caller's to say.
 * @throws GroundcrewError `STEP_TIMEOUT`; otherwise what `effect` throws.
 */
export async function withDeadline<T>(
  call: { name: string; timeoutMs: number; clock: Clock; signal: AbortSignal },
  effect: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const own = new AbortController();
  const stop = () => own.abort(call.signal.reason);
  if (call.signal.aborted) stop();
  else call.signal.addEventListener("abort", stop, { once: true });
  let cancelTimer = () => {};
  const deadline = new Promise<never>((_, reject) => {
    cancelTimer = call.clock.after(call.timeoutMs, () => {
      const error = new GroundcrewError("STEP_TIMEOUT", `"${call.name}" took longer than ${call.timeoutMs} ms.`, { value: call.timeoutMs });
      own.abort(error);
      reject(error);
    });
  });
  const outcome = effect(own.signal);
  outcome.catch(() => {}); // a result that comes late is nobody's error
  try {
    return await Promise.race([outcome, deadline]);
  } finally {
    cancelTimer();
    call.signal.removeEventListener("abort", stop);
  }
}

/** `outcome`, but no longer than `graceMs` after `signal` fires; rejects with the signal's reason then. */
export async function abortable<T>(outcome: Promise<T>, signal: AbortSignal, graceMs: number, clock: Clock): Promise<T> {
  let cancelTimer = () => {};
  let stop = () => {};
  const stopped = new Promise<never>((_, reject) => {
    stop = () => {
      if (graceMs === 0) reject(signal.reason);
      else cancelTimer = clock.after(graceMs, () => reject(signal.reason));
    };
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([outcome, stopped]);
  } finally {
    cancelTimer();
    signal.removeEventListener("abort", stop);
  }
}
