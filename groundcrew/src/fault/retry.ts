import type { Failure } from "../failure.ts";
import { FIRST_BACKOFF_MS, MAX_BACKOFF_MS, RETRY_SPREAD } from "../limits.ts";

/**
 * Milliseconds until the next attempt. Exponential with full jitter (a random part of 0.5 s, 1 s, 2 s … 60 s), so that runs that
 * failed together do not come back together. Where a moment was named, never before it, and spread behind it: a thousand runs that
 * were told the same second would fail again as one; and who named it in vain a few times is believed less and less.
 * @param failures of this step so far, this one included
 * @param random between 0 and 1
 * @param longest the longest wait that nobody asked for
 */
export function delay(failures: number, failure: Failure, random: number, now: number, longest = MAX_BACKOFF_MS): number {
  const backoff = Math.min(longest, FIRST_BACKOFF_MS * 2 ** (failures - 1));
  if (failure.chance !== "later" || failure.at === undefined) return Math.round(random * backoff);
  const asked = Math.max(0, failure.at - now);
  return Math.ceil(asked + random * Math.max(backoff, asked * RETRY_SPREAD));
}
