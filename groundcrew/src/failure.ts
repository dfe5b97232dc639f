/**
 * What a failure is, in the words that everything else decides by: whether the same call may go well another time, and why it
 * did not this time. Made by one pure function (`fault/classify.ts`); recorded with each attempt; never guessed at twice.
 */

/** Why a call failed, as far as an operator or a policy cares. Stable: they stand in journals and in users' code. */
export const FAILURE_REASONS = [
  /** The provider has too many requests from us (429). */
  "rate_limited",
  /** The account has used up what it paid for. */
  "quota",
  /** The provider has too much to do (503, 529). */
  "overloaded",
  /** The provider has failed (5xx). */
  "server_error",
  /** No answer in time: the provider's own time-out (408, 504) or ours. */
  "timeout",
  /** No, or no whole, connection. */
  "network",
  /** An answer that is none: HTML, an empty body, JSON that ends half way, a stream that was cut. */
  "bad_response",
  /** No or a wrong credential (401). */
  "auth",
  /** A credential that may not do this (403). */
  "forbidden",
  /** No such model or address (404). */
  "not_found",
  /** The request itself is wrong (400, 422). */
  "invalid_request",
  /** The prompt is longer than the model takes. */
  "context_length",
  /** The provider's filter took the question or the answer away. */
  "refused",
  /** Somebody stopped it. */
  "aborted",
  /** Its breaker is open: nobody was asked. */
  "unavailable",
  /** The code that was called has thrown something else. */
  "error",
] as const;

export type FailureReason = (typeof FAILURE_REASONS)[number];

/** `never`: the same call fails again. `again`: it may go well soon. `later`: not before `Failure.at`. */
export type Chance = "never" | "again" | "later";

export interface Failure {
  chance: Chance;
  reason: FailureReason;
  /** For `later`: wall-clock milliseconds. */
  at?: number;
  /** HTTP status, where there was an answer. */
  status?: number;
}

/**
 * An author's say in it. What it returns replaces the verdict; undefined leaves it.
 * A `Date` means: not before then.
 */
export type Classify = (error: unknown, verdict: Failure) => Chance | Date | undefined;
