/** From anything that was thrown to a verdict: whether the same call may go well another time, and why it did not. */
import { type ErrorCode, isError } from "../errors.ts";
import type { Chance, Failure, FailureReason } from "../failure.ts";
import { MAX_RETRY_WAIT_MS } from "../limits.ts";
import { type Facts, factsOf } from "./facts.ts";
import { DURATION, waitAsked, waitIn } from "./headers.ts";
import { conclusive, meaningOf, NETWORK_CODE, SDK_ERRORS, statusOfKinds } from "./meaning.ts";

/**
 * Pure and total. The outermost error that says something definite decides; where none does, what the outermost hints at;
 * an error of which nothing is known is the caller's own (`error`) and is not tried again.
 * @param now wall-clock milliseconds: moments that a provider names are measured from it
 */
export function classify(thrown: unknown, now: number): Failure {
  try {
    const chain = factsOf(thrown);
    const found = first(chain, definite) ?? first(chain, likely);
    if (found === undefined) return { chance: "never", reason: "error" };
    const status = first(chain, (facts) => (isError(facts.thrown) ? undefined : facts.status)); // ours is for our own callers
    return { ...timed(found, chain, now), ...(status !== undefined && { status }) };
  } catch {
    return { chance: "never", reason: "error" }; // whoever throws while being looked at is not asked a second time
  }
}

type Found = Pick<Failure, "chance" | "reason">;

function first<T>(chain: readonly Facts[], look: (facts: Facts) => T | undefined): T | undefined {
  for (const facts of chain) {
    const found = look(facts);
    if (found !== undefined) return found;
  }
  return undefined;
}

const again = (reason: FailureReason): Found => ({ chance: "again", reason });
const never = (reason: FailureReason): Found => ({ chance: "never", reason });

/** Our own errors that are more than their author's mistake. `pass`: the cause decides. */
const OURS: Partial<Record<ErrorCode, Found | "pass">> = {
  STEP_TIMEOUT: again("timeout"),
  UNREACHABLE: again("network"),
  INBOX_FULL: again("rate_limited"),
  STORE_UNAVAILABLE: again("overloaded"),
  STORE_BUSY: again("overloaded"),
  STORE_FULL: again("overloaded"),
  RUN_CANCELLED: never("aborted"),
  RUN_EXPIRED: never("aborted"),
  SUPERSEDED: never("aborted"),
  CLOSED: never("aborted"),
  MODEL_FAILED: "pass",
  OUTPUT_INVALID: "pass",
  NOTIFY_FAILED: "pass",
};

function definite(facts: Facts): Found | undefined {
  if (isError(facts.thrown)) {
    const found = OURS[facts.thrown.code] ?? never("error");
    return found === "pass" ? undefined : found;
  }
  if (facts.finish === "content-filter") return never("refused");
  if (facts.finish === "interrupted") return again("bad_response");
  const sdk = SDK_ERRORS.get(facts.name);
  if (sdk?.isDefinite) return sdk;
  if (facts.name === "TimeoutError") return again("timeout");
  return answered(facts) ?? lost(facts);
}

/** There was an answer, and it was an error. */
function answered(facts: Facts): Found | undefined {
  const status = statusOfKinds(facts);
  if (status === undefined || status < 400) return undefined;
  // The prompt that is downloaded from somewhere else: whatever is wrong with it, the provider never saw it.
  if (facts.name === "AI_DownloadError" && status < 500 && status !== 429) return never("invalid_request");
  const found = conclusive(facts, status) ?? meaningOf(status);
  const isFinal = facts.retryable === false || facts.headers.get("x-should-retry") === "false";
  const isOpen = facts.retryable === true || facts.headers.get("x-should-retry") === "true";
  if (found.chance === "again" && isFinal && wouldRetry(facts.status)) return never(found.reason);
  if (found.reason === "invalid_request" && isOpen) return again(found.reason);
  return found;
}

/** Only where the AI SDK itself would try again does its `isRetryable: false` say something. */
function wouldRetry(status = 0): boolean {
  return status >= 500 || status === 408 || status === 409 || status === 429;
}

/** There was no answer, or not all of it. */
function lost({ kinds }: Facts): Found | undefined {
  const code = kinds.find((kind) => NETWORK_CODE.test(kind));
  if (code === undefined) return undefined;
  if (code.startsWith("HPE_")) return again("bad_response");
  return again(/^UND_ERR_(HEADERS|BODY)_TIMEOUT$|^ESOCKETTIMEDOUT$/.test(code) ? "timeout" : "network");
}

/** What is said by an error that only tells where it happened. */
function likely(facts: Facts): Found | undefined {
  const { name, message, status } = facts;
  if (name === "AbortError" || name === "ResponseAborted") return never("aborted");
  const sdk = SDK_ERRORS.get(name);
  if (sdk) return sdk;
  if (name === "TypeError" && /^(fetch failed|terminated|failed to fetch)$/i.test(message)) return again("network");
  if (name === "AI_StreamProviderError") return conclusive(facts, 400) ?? broken(message);
  if (name !== "AI_APICallError") return undefined;
  if (status !== undefined) return again("bad_response"); // it began well
  return facts.retryable ? again("network") : undefined;
}

/** An error inside a stream that has neither a code nor a type: the provider took the question and then failed. */
function broken(message: string): Found {
  if (/overloaded|capacity/i.test(message)) return again("overloaded");
  if (/rate.?limit|too many requests/i.test(message)) return again("rate_limited");
  return again(/timed? ?out/i.test(message) ? "timeout" : "server_error");
}

/** Adds the moment that the provider names. */
function timed(found: Found, chain: readonly Facts[], now: number): Failure {
  if (found.chance !== "again") return { chance: found.chance, reason: found.reason };
  const wait = first(chain, (facts) => {
    if (isError(facts.thrown) && facts.thrown.retryAfterMs !== undefined) return Math.min(facts.thrown.retryAfterMs, MAX_RETRY_WAIT_MS);
    return waitAsked(facts.headers, now, found.reason === "rate_limited") ?? waitSaid(facts, now);
  });
  const chance: Chance = wait === undefined ? "again" : "later";
  return { chance, reason: found.reason, ...(wait !== undefined && { at: now + Math.ceil(wait) }) };
}

const SAID = new RegExp(`(?:try again|retry) (?:in|after) (${DURATION.source})`);

/** "Please try again in 6m0s.": all there is when the failure stands in a stream, and all that Gemini ever says. */
function waitSaid({ text }: Facts, now: number): number | undefined {
  const wait = waitIn(SAID.exec(text)?.[1], now);
  return wait === undefined ? undefined : Math.min(wait, MAX_RETRY_WAIT_MS);
}
