import ms from "ms";
import { GroundcrewError } from "./errors.ts";
import { MAX_DURATION_MS, MAX_TIMER_MS } from "./limits.ts";

/** Where the time comes from. Tests hand in their own; nothing else in the runtime asks the machine for the time. */
export interface Clock {
  /** Wall-clock milliseconds since 1970. May jump: never subtract two readings to get a duration that matters. */
  now(): number;
  /** Runs `task` after `delayMs`; returns a function that takes it back. The timer does not keep the process alive. */
  after(delayMs: number, task: () => void): () => void;
}

export const systemClock: Clock = {
  now: Date.now,
  after(delayMs, task) {
    const timer = setTimeout(task, Math.min(Math.max(0, delayMs), MAX_TIMER_MS));
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** `"500ms"`, `"10s"`, `"5m"`, `"4h"`, `"1d"`, `"2w"`, or a number of milliseconds. */
export type Duration = `${number}${"ms" | "s" | "m" | "h" | "d" | "w"}` | number;

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

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A duration as people say it, two units at most: `12.3s`, `4m 10s`, `3d 4h`. */
export function span(ms: number): string {
  const whole = Math.max(0, ms);
  if (whole < SECOND) return `${Math.round(whole)}ms`;
  if (whole < MINUTE) return `${(Math.floor(whole / 100) / 10).toFixed(1)}s`;
  if (whole < HOUR) return two(whole, MINUTE, "m", SECOND, "s");
  if (whole < DAY) return two(whole, HOUR, "h", MINUTE, "m");
  return two(whole, DAY, "d", HOUR, "h");
}

function two(ms: number, big: number, bigName: string, small: number, smallName: string): string {
  return `${Math.floor(ms / big)}${bigName} ${Math.floor((ms % big) / small)}${smallName}`;
}
