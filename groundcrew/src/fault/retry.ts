import { APICallError } from "ai";
import { isError } from "../errors.ts";
import { MAX_RETRY_WAIT_MS } from "../limits.ts";

const FIRST_WAIT_MS = 500;
const LONGEST_BACKOFF_MS = 30_000;

/** Whether the same call may go well another time. A refusal, a mistake in the request and a cancellation will not. */
export function isRetryable(error: Error): boolean {
  if (isError(error)) return error.code === "STEP_TIMEOUT";
  if (APICallError.isInstance(error)) return error.isRetryable;
  if (error.name === "AbortError") return false;
  const cause = error.cause instanceof Error ? error.cause : error;
  const code = Reflect.get(cause, "code");
  return typeof code === "string" && NETWORK_CODES.has(code);
}

/** Failures of the way, not of the answer. */
const NETWORK_CODES: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "EAI_AGAIN",
  "UND_ERR_SOCKET",
  "UND_ERR_CONNECT_TIMEOUT",
  "UND_ERR_HEADERS_TIMEOUT",
  "UND_ERR_BODY_TIMEOUT",
]);

/**
 * Milliseconds until the next try: what the provider asks for, or exponential with full jitter (a random part of 0.5 s, 1 s,
 * 2 s … 30 s), so that many runs that failed together do not come back together.
 */
export function backoff(failures: number, error: Error, random: number, now: number): number {
  const asked = APICallError.isInstance(error) ? retryAfter(error.responseHeaders ?? {}, now) : undefined;
  if (asked !== undefined) return Math.min(asked, MAX_RETRY_WAIT_MS);
  return Math.round(random * Math.min(LONGEST_BACKOFF_MS, FIRST_WAIT_MS * 2 ** (failures - 1)));
}

/** `retry-after-ms`, or `retry-after` in seconds or as a date; undefined for nothing useful. */
function retryAfter(headers: Record<string, string>, now: number): number | undefined {
  const text = headers["retry-after"] ?? "";
  const millis = Number.parseFloat(headers["retry-after-ms"] ?? "");
  const seconds = /^\s*\d+(\.\d+)?\s*$/.test(text) ? Number(text) * 1000 : Number.NaN;
  const wait = [millis, seconds, Date.parse(text) - now].find((candidate) => Number.isFinite(candidate));
  return wait !== undefined && wait >= 0 ? wait : undefined;
}
