/** What providers do to their callers, by name: each with where it strikes, how it is played, and what it has to be called. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Chance, FailureReason } from "../../src/failure.ts";
import type { Reply, Where } from "./provider.ts";

export interface NamedFault {
  name: string;
  /** "instead": there is no answer that it could strike in the middle of. */
  where: Where | "instead";
  reply: Reply;
  /** "answer": it is borne, and the answer comes whole. "deadline": nothing ever says that it is over; only a deadline does. */
  is: Called | "answer" | "deadline";
}

export interface Called {
  chance: Chance;
  reason: FailureReason;
  status?: number;
  /** For `later`: the wait, counted from the request. */
  inMs?: number;
}

/** What the provider says when nothing happens to it. */
export const ANSWER = "The quick brown fox jumps over the lazy dog.";

/** @param now of the clock that the caller under test reads: dates are relative to it */
export function faults(now: number): NamedFault[] {
  return [...statuses(now), ...unreadable, ...PLACES.flatMap(broken), ...slow, ...missing];
}

const PLACES: readonly Where[] = ["before", "middle", "after"];

const openAi = (code: string, message: string, type = "invalid_request_error") => ({ error: { message, type, param: null, code } });

function statuses(now: number): NamedFault[] {
  const limited = (name: string, headers: Record<string, string>, is: Partial<Called> = {}) =>
    refusal(
      name,
      429,
      { chance: "again", reason: "rate_limited", ...is },
      openAi("rate_limit_exceeded", "Slow down.", "requests"),
      headers,
    );
  return [
    limited("429", {}),
    limited("429, Retry-After in seconds", { "retry-after": "2" }, { chance: "later", inMs: 2_000 }),
    limited("429, Retry-After as a date", { "retry-after": new Date(now + 3_000).toUTCString() }, { chance: "later", inMs: 3_000 }),
    limited("429, Retry-After negative", { "retry-after": "-5" }),
    limited("429, Retry-After absurdly large", { "retry-after": "31536000" }, { chance: "later", inMs: 600_000 }),
    limited(
      "429, rate limit headers of OpenAI",
      { "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s" },
      { chance: "later", inMs: 360_000 },
    ),
    refusal("429, quota", 429, { chance: "never", reason: "quota" }, openAi("insufficient_quota", "You exceeded your current quota.")),
    refusal("500", 500, { chance: "again", reason: "server_error" }),
    refusal("502", 502, { chance: "again", reason: "server_error" }),
    refusal("503", 503, { chance: "again", reason: "overloaded" }),
    refusal("504", 504, { chance: "again", reason: "timeout" }),
    refusal("529", 529, { chance: "again", reason: "overloaded" }),
    refusal("408", 408, { chance: "again", reason: "timeout" }),
    refusal("401", 401, { chance: "never", reason: "auth" }),
    refusal("403", 403, { chance: "never", reason: "forbidden" }),
    refusal("404", 404, { chance: "never", reason: "not_found" }, openAi("model_not_found", "There is no such model.")),
    refusal("400", 400, { chance: "never", reason: "invalid_request" }),
    refusal(
      "400, context length exceeded",
      400,
      { chance: "never", reason: "context_length" },
      openAi("context_length_exceeded", "This model's maximum context length is 8192 tokens."),
    ),
    refusal("400, content refused", 400, { chance: "never", reason: "refused" }, openAi("content_filter", "The prompt was filtered.")),
  ];
}

function refusal(name: string, status: number, is: Called, body: string | object = "", headers: Record<string, string> = {}): NamedFault {
  return { name, where: "instead", reply: { status, headers, body }, is: { status, ...is } };
}

const badResponse: Called = { chance: "again", reason: "bad_response" };
const network: Called = { chance: "again", reason: "network" };

const unreadable: NamedFault[] = [
  { name: "HTML instead of an answer", where: "instead", reply: { status: 200, body: "<html>Sign in</html>" }, is: badResponse },
  { name: "an empty body", where: "instead", reply: { status: 200 }, is: badResponse },
  { name: "JSON that ends half way", where: "instead", reply: { status: 200, body: '{"choices": [{"mess' }, is: badResponse },
  { name: "a connection that is refused", where: "instead", reply: { goesTo: "closed port" }, is: network },
  { name: "a name that is not found", where: "instead", reply: { goesTo: "unknown name" }, is: network },
];

const text = ANSWER;

/** The three places, each in each way in which a stream can stop. */
function broken(where: Where): NamedFault[] {
  const overloaded = { error: { message: "The engine is overloaded.", type: "overloaded_error", code: null } };
  return [
    { name: "a stream that ends", where, reply: { text, endAt: where }, is: badResponse },
    { name: "a connection that is reset", where, reply: { text, resetAt: where }, is: network },
    { name: "a stream that falls silent", where, reply: { text, hangAt: where }, is: "deadline" },
    {
      name: "an error in the stream",
      where,
      reply: { text, error: { at: where, frame: overloaded } },
      is: { chance: "again", reason: "overloaded" },
    },
    {
      name: "a frame that is no JSON",
      where,
      reply: { text, error: { at: where, frame: undefined } }, // goes out as `undefined`
      is: badResponse,
    },
  ];
}

const slow: NamedFault[] = [
  { name: "headers that come late", where: "instead", reply: { text, wait: () => sleep(100) }, is: "answer" },
  { name: "headers that never come", where: "instead", reply: { text, wait: () => new Promise(() => {}) }, is: "deadline" },
  { name: "a trickle", where: "middle", reply: { text, between: () => sleep(20) }, is: "answer" },
  { name: "a stream that never ends", where: "after", reply: { text, isEndless: true, between: () => sleep(5) }, is: "deadline" },
];

const missing: NamedFault[] = [{ name: "no usage", where: "after", reply: { text, usage: false }, is: "answer" }];
