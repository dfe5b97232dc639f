import ms from "ms";
import { GroundcrewError } from "./errors.ts";
import { MAX_DURATION_MS } from "./limits.ts";

/** Where the time comes from. Tests hand in their own; nothing else in the runtime asks the machine for the time. */
export interface Clock {
  /** Wall-clock milliseconds since 1970. May jump: never subtract two readings to get a duration that matters. */
  now(): number;
  /** Runs `task` after `delayMs`; returns a function that takes it back. The timer does not keep the process alive. */
  after(delayMs: number, task: () => void): () => void;
}

/** Longest delay a Node timer takes; longer ones fire at once, with a warning. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: Date.now,
  after(delayMs, task) {
    const timer = setTimeout(task, Math.min(Math.max(0, delayMs), MAX_TIMER_MS));
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** `"10s"`, `"4h"`, `"1d"`, or a number of milliseconds. */
export type Duration = ms.StringValue | number;

/**
 * A duration in milliseconds.
 * @param field names the setting in the error, e.g. `policy.refund.timeout`.
 * @throws GroundcrewError `DURATION_INVALID` for text that is no duration, a negative number, or more than ten years.
 */
export function duration(value: Duration, field: string): number {
  const parsed = typeof value === "number" ? value : parse(value);
  if (!Number.isFinite(parsed) || parsed < 0 || parsed > MAX_DURATION_MS) {
    throw new GroundcrewError("DURATION_INVALID", `Expected \`${field}\` to be a duration, got ${JSON.stringify(value)}.`, {
      value,
      fix: 'Write a number of milliseconds or a text such as "30s", "10m", "4h", "7d" (ten years at most).',
    });
  }
  return parsed;
}

function parse(text: unknown): number {
  try {
    return ms(text as ms.StringValue) ?? Number.NaN;
  } catch {
    return Number.NaN; // `ms` throws for an empty text and for what is no text at all; both are answered above
  }
}
