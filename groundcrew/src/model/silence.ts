import type { Clock } from "../clock.ts";
import { GroundcrewError } from "../errors.ts";

/** How long a model may say nothing. Undefined: as long as the attempt may take. */
export interface Silence {
  /** Until the first chunk with content, counted from the request. */
  firstChunkMs?: number | undefined;
  /** Between two such chunks. */
  chunkMs?: number | undefined;
}

export interface Ear {
  /** Fires when the model is not listened to any more. */
  signal: AbortSignal;
  /** Content came. */
  heard: () => void;
  /** All of it came. */
  over: () => void;
}

/**
 * Listens to a model for as long as it goes on saying something. A call that does not heed its signal is left alone.
 * @throws GroundcrewError `STEP_TIMEOUT`, naming the chunk that did not come; the reason of `signal`; what `call` throws
 */
export function listen<T>(
  { firstChunkMs, chunkMs }: Silence,
  clock: Clock,
  signal: AbortSignal,
  call: (ear: Ear) => Promise<T>,
): Promise<T> {
  if (signal.aborted) return Promise.reject(signal.reason);
  return new Promise((resolve, reject) => {
    const own = new AbortController();
    let cancel = () => {};
    let isOver = false;
    const over = () => {
      isOver = true;
      cancel();
    };
    const settle = () => {
      over();
      signal.removeEventListener("abort", stop);
    };
    const giveUp = (reason: unknown) => {
      settle();
      own.abort(reason);
      reject(reason);
    };
    const stop = () => giveUp(signal.reason);
    const wait = (what: string, ms: number | undefined) => {
      cancel();
      if (ms !== undefined && !isOver) cancel = clock.after(ms, () => giveUp(silent(what, ms)));
    };
    signal.addEventListener("abort", stop);
    wait("first chunk", firstChunkMs);
    call({ signal: own.signal, heard: () => wait("next chunk", chunkMs), over })
      .then(resolve, reject)
      .finally(settle);
  });
}

function silent(what: string, ms: number): GroundcrewError {
  return new GroundcrewError("STEP_TIMEOUT", `The ${what} of the model's answer did not come within ${ms} ms.`, { value: ms });
}
