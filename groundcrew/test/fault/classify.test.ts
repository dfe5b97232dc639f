import { DownloadError } from "@ai-sdk/provider-utils";
import {
  APICallError,
  EmptyResponseBodyError,
  InvalidPromptError,
  InvalidResponseDataError,
  InvalidToolInputError,
  JSONParseError,
  LoadAPIKeyError,
  NoContentGeneratedError,
  NoObjectGeneratedError,
  NoOutputGeneratedError,
  NoSuchModelError,
  NoSuchToolError,
  RetryError,
  StreamProviderError,
  TypeValidationError,
  UnsupportedFunctionalityError,
} from "ai";
import { describe, expect, test } from "vitest";
import { errorCodes, GroundcrewError } from "../../src/errors.ts";
import type { Failure, FailureReason } from "../../src/failure.ts";
import { classify } from "../../src/fault/classify.ts";
import { MAX_RETRY_WAIT_MS } from "../../src/limits.ts";

const NOW = Date.UTC(2026, 0, 1);

interface Answer {
  status?: number;
  body?: string;
  data?: unknown;
  headers?: Record<string, string>;
  retryable?: boolean;
  cause?: unknown;
}

function api({ status, body, data, headers, retryable, cause }: Answer): APICallError {
  return new APICallError({
    message: "no",
    url: "http://model",
    requestBodyValues: {},
    ...(status !== undefined && { statusCode: status }),
    ...(body !== undefined && { responseBody: body }),
    ...(headers && { responseHeaders: headers }),
    ...(retryable !== undefined && { isRetryable: retryable }),
    data,
    cause,
  });
}

const coded = (code: string | number, message = "x") => Object.assign(new Error(message), { code });
const again = (reason: FailureReason, more: Partial<Failure> = {}): Failure => ({ chance: "again", reason, ...more });
const never = (reason: FailureReason, more: Partial<Failure> = {}): Failure => ({ chance: "never", reason, ...more });

function called(rows: readonly (readonly [string, unknown, Failure])[]): void {
  test.each(rows)("%s", (_what, thrown, failure) => expect(classify(thrown, NOW)).toEqual(failure));
}

describe("a status", () => {
  test.each<[number, Failure["chance"], FailureReason]>([
    [400, "never", "invalid_request"],
    [401, "never", "auth"],
    [402, "never", "quota"],
    [403, "never", "forbidden"],
    [404, "never", "not_found"],
    [408, "again", "timeout"],
    [410, "never", "not_found"],
    [413, "never", "context_length"],
    [418, "never", "invalid_request"],
    [422, "never", "invalid_request"],
    [425, "again", "server_error"],
    [429, "again", "rate_limited"],
    [500, "again", "server_error"],
    [501, "never", "invalid_request"],
    [502, "again", "server_error"],
    [503, "again", "overloaded"],
    [504, "again", "timeout"],
    [529, "again", "overloaded"],
    [599, "again", "server_error"],
  ])("%i is %s, %s, whoever's error carries it", (status, chance, reason) => {
    const failure = { chance, reason, status };
    const carriers: Record<string, unknown> = {
      plain: { status },
      "of got": Object.assign(new Error("x"), { response: { statusCode: status } }),
      "of axios": Object.assign(new Error("x"), { code: "ERR_BAD_RESPONSE", response: { status, headers: {} } }),
      "of ky": Object.assign(new Error("x"), { response: new Response(null, { status }) }),
      "a Response": new Response(null, { status }),
      "of AWS": Object.assign(new Error("x"), { $metadata: { httpStatusCode: status } }),
      "as a code": coded(String(status)),
      wrapped: new Error("could not save", { cause: { statusCode: status } }),
    };
    for (const [who, thrown] of Object.entries(carriers)) expect(classify(thrown, NOW), who).toEqual(failure);
  });

  called([
    ["409 is a conflict where nobody says more", { status: 409 }, never("invalid_request", { status: 409 })],
    ["409 of a provider that means: in a moment", api({ status: 409 }), again("invalid_request", { status: 409 })],
    ["5xx of a provider that says that it is final", api({ status: 500, retryable: false }), never("server_error", { status: 500 })],
    ["5xx with a header that says so", api({ status: 529, headers: { "x-should-retry": "false" } }), never("overloaded", { status: 529 })],
    ["a code that is a small number is none", coded(104), never("error")],
    ["a status that is a word is none", { status: "error" }, never("error")],
    ["a status below 400 is no failure", { status: 204 }, never("error")],
  ]);
});

describe("what a body says counts for more than its status", () => {
  const body = (status: number, text: string | object) => api({ status, body: typeof text === "string" ? text : JSON.stringify(text) });
  const openAi = (code: string, message = "x") => ({ error: { message, type: "invalid_request_error", code } });
  const anthropic = (message: string, type = "invalid_request_error") => ({ type: "error", error: { type, message } });
  const google = (status: string, message: string, rest = {}) => ({ error: { code: 429, status, message, ...rest } });

  test.each<[string, APICallError, FailureReason]>([
    ["OpenAI, quota", body(429, openAi("insufficient_quota")), "quota"],
    ["OpenAI, billing", body(429, openAi("billing_hard_limit_reached")), "quota"],
    ["Anthropic, credit", body(400, anthropic("Your credit balance is too low to access the Anthropic API.")), "quota"],
    ["DeepSeek, balance", body(402, "Insufficient Balance"), "quota"],
    [
      "Google, a day's requests",
      body(429, google("RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan.", { quotaId: "RequestsPerDay" })),
      "quota",
    ],
    ["OpenAI, context", body(400, openAi("context_length_exceeded")), "context_length"],
    ["OpenAI, Responses", body(400, openAi("x", "Your input exceeds the context window of this model.")), "context_length"],
    [
      "OpenAI, larger than its minute",
      body(429, openAi("rate_limit_exceeded", "Request too large for gpt-x on tokens per min")),
      "context_length",
    ],
    ["Anthropic, context", body(400, anthropic("prompt is too long: 210000 tokens > 200000 maximum")), "context_length"],
    ["Anthropic, with output", body(400, anthropic("input length and `max_tokens` exceed context limit: 1 + 2 > 2")), "context_length"],
    ["Anthropic, bytes", body(413, anthropic("Request exceeds the maximum size", "request_too_large")), "context_length"],
    [
      "Google, context",
      body(400, google("INVALID_ARGUMENT", "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).")),
      "context_length",
    ],
    ["Bedrock, context", body(400, { message: "Input is too long for requested model." }), "context_length"],
    [
      "Mistral, context",
      body(400, "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"),
      "context_length",
    ],
    ["xAI, context", body(400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens."), "context_length"],
    ["llama.cpp, context", body(400, { error: { type: "exceed_context_size_error", message: "x" } }), "context_length"],
    ["OpenAI, policy", body(400, openAi("content_policy_violation")), "refused"],
    ["Azure, filter", body(400, openAi("content_filter")), "refused"],
    ["Anthropic, filter", body(400, anthropic("Output blocked by content filtering policy")), "refused"],
    ["OpenRouter, moderation", body(403, "Your chosen model requires moderation and your input was flagged"), "refused"],
  ])("%s", (_who, error, reason) => {
    expect(classify(error, NOW)).toEqual(never(reason, { status: error.statusCode }));
  });

  called([
    [
      "a busy minute of Google is not a spent account, though it says so",
      body(429, google("RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan. Please retry in 34.5s.")),
      { chance: "later", reason: "rate_limited", at: NOW + 34_500, status: 429 },
    ],
    [
      "a busy moment of Bedrock is no long prompt",
      body(429, "Too many tokens, please wait before trying again."),
      again("rate_limited", { status: 429 }),
    ],
    ["a 403 of GitHub can be a rate limit", body(403, "You have exceeded a secondary rate limit."), again("rate_limited", { status: 403 })],
    [
      "a 400 of AWS can be a throttle",
      { name: "ThrottlingException", $metadata: { httpStatusCode: 400 } },
      again("rate_limited", { status: 400 }),
    ],
    ["a server in trouble may quote anything", body(500, "while handling: maximum context length"), again("server_error", { status: 500 })],
    ["a parameter's name is no refusal", body(400, "Unknown parameter: safety_identifier"), never("invalid_request", { status: 400 })],
  ]);
});

describe("errors of the AI SDK", () => {
  const usage = {} as never;
  const noObject = (finishReason: "stop" | "content-filter" | "interrupted") =>
    new NoObjectGeneratedError({
      response: {} as never,
      usage,
      finishReason,
      cause: new JSONParseError({ text: "{", cause: new Error("x") }),
    });
  called([
    [
      "the last attempt counts",
      new RetryError({ message: "x", reason: "maxRetriesExceeded", errors: [api({ status: 401 }), api({ status: 503 })] }),
      again("overloaded", { status: 503 }),
    ],
    [
      "an answer that is no JSON",
      api({ status: 200, cause: new JSONParseError({ text: "<html>", cause: new Error("x") }) }),
      again("bad_response", { status: 200 }),
    ],
    [
      "an answer that broke",
      api({ status: 200, retryable: true, cause: new TypeError("terminated", { cause: coded("UND_ERR_SOCKET") }) }),
      again("network", { status: 200 }),
    ],
    ["an answer that cannot be read", api({ status: 200 }), again("bad_response", { status: 200 })],
    ["no answer at all", api({ retryable: true }), again("network")],
    ["an error that says nothing", api({}), never("error")],
    ["no body", new EmptyResponseBodyError(), again("bad_response")],
    ["data that is none", new InvalidResponseDataError({ data: {} }), again("bad_response")],
    ["a chunk of another form", new TypeValidationError({ value: { detail: "x" }, cause: new Error("x") }), again("bad_response")],
    [
      "a chunk that is an error of another form",
      new TypeValidationError({ value: { error: { type: "overloaded_error" } }, cause: new Error("x") }),
      again("overloaded"),
    ],
    ["no content", new NoContentGeneratedError(), again("bad_response")],
    ["no output", new NoOutputGeneratedError({}), again("bad_response")],
    ["no output because of a limit", new NoOutputGeneratedError({ cause: api({ status: 429 }) }), again("rate_limited", { status: 429 })],
    ["another form than was asked for is the model's doing", noObject("stop"), never("error")],
    ["no form because of the filter", noObject("content-filter"), never("refused")],
    ["no form because the stream was cut", noObject("interrupted"), again("bad_response")],
    ["a tool that is not there", new NoSuchToolError({ toolName: "x" }), never("error")],
    [
      "arguments of another form",
      new InvalidToolInputError({ toolName: "x", toolInput: "", cause: new TypeValidationError({ value: 1, cause: 1 }) }),
      never("error"),
    ],
    ["no such model", new NoSuchModelError({ modelId: "x", modelType: "languageModel" }), never("not_found")],
    ["no key", new LoadAPIKeyError({ message: "x" }), never("auth")],
    [
      "a prompt that is none",
      new InvalidPromptError({ prompt: 1, message: "x", cause: new TypeValidationError({ value: 1, cause: 1 }) }),
      never("invalid_request"),
    ],
    ["what the model cannot do", new UnsupportedFunctionalityError({ functionality: "x" }), never("invalid_request")],
    [
      "a picture of the prompt that is gone",
      new DownloadError({ url: "x", statusCode: 404, statusText: "x" }),
      never("invalid_request", { status: 404 }),
    ],
    ["an error in a stream with a type", new StreamProviderError({ message: "x", type: "rate_limit_error" }), again("rate_limited")],
    ["an error in a stream with a sentence", new StreamProviderError({ message: "prompt is too long" }), never("context_length")],
    ["an error in a stream with nothing", new StreamProviderError({ message: "x" }), again("server_error")],
    [
      "an error of the gateway",
      { name: "GatewayRateLimitError", type: "rate_limit_exceeded", statusCode: 429, isRetryable: true },
      again("rate_limited", { status: 429 }),
    ],
    [
      "an event of Anthropic, as it comes",
      { type: "error", error: { type: "overloaded_error", message: "Overloaded" } },
      again("overloaded"),
    ],
  ]);
});

describe("a way that broke", () => {
  const fetchFailed = (cause: unknown) => new TypeError("fetch failed", { cause });
  const wrapped = (times: number) => Array.from({ length: times }).reduce((cause) => new Error("x", { cause }), coded("ECONNRESET"));
  called([
    ...[
      "ECONNREFUSED",
      "ECONNRESET",
      "EPIPE",
      "ETIMEDOUT",
      "ENOTFOUND",
      "EAI_AGAIN",
      "UND_ERR_SOCKET",
      "UND_ERR_CONNECT_TIMEOUT",
      "CERT_HAS_EXPIRED",
      "DEPTH_ZERO_SELF_SIGNED_CERT",
      "ERR_TLS_CERT_ALTNAME_INVALID",
    ].map((code) => [code, fetchFailed(coded(code)), again("network")] as const),
    ["headers that did not come", fetchFailed(coded("UND_ERR_HEADERS_TIMEOUT")), again("timeout")],
    ["an answer that is no HTTP", fetchFailed(coded("HPE_INVALID_CONSTANT")), again("bad_response")],
    ["both addresses", fetchFailed(new AggregateError([coded("ECONNREFUSED"), coded("ECONNREFUSED")])), again("network")],
    ["a cause deep down", wrapped(9), again("network")],
    ["a fetch that says no more", fetchFailed(undefined), again("network")],
    ["a cause deeper than anybody wraps", wrapped(1_000), never("error")],
    ["a cause that is a text", new Error("x", { cause: "ECONNRESET" }), never("error")],
    ["a file that is not there", coded("ENOENT"), never("error")],
    ["a mistake in the code", new TypeError("x is not a function"), never("error")],
  ]);
});

describe("an end that somebody made", () => {
  called([
    ["an abort", new DOMException("x", "AbortError"), never("aborted")],
    ["a deadline of the platform", new DOMException("x", "TimeoutError"), again("timeout")],
    [
      "an abort by our deadline",
      Object.assign(new Error("x", { cause: new GroundcrewError("STEP_TIMEOUT", "x") }), { name: "AbortError" }),
      again("timeout"),
    ],
    ["our deadline", new GroundcrewError("STEP_TIMEOUT", "x"), again("timeout")],
    ["a cancel", new GroundcrewError("RUN_CANCELLED", "x"), never("aborted")],
    ["a takeover", new GroundcrewError("SUPERSEDED", "x"), never("aborted")],
    [
      "a service that asks for patience",
      new GroundcrewError("INBOX_FULL", "x", { retryAfterMs: 1_500 }),
      { chance: "later", reason: "rate_limited", at: NOW + 1_500 },
    ],
    [
      "a refusal that callModel reports",
      new GroundcrewError("MODEL_FAILED", "x", { cause: { finishReason: "content-filter" } }),
      never("refused"),
    ],
    [
      "a cut that callModel reports",
      new GroundcrewError("MODEL_FAILED", "x", { cause: { finishReason: "interrupted" } }),
      again("bad_response"),
    ],
    [
      "a value that cannot be kept, whatever caused it",
      new GroundcrewError("VALUE_UNSERIALIZABLE", "x", { cause: coded("ECONNRESET") }),
      never("error"),
    ],
  ]);

  test("only of our own errors that name a passing trouble is tried again", () => {
    const retried = errorCodes.filter((code) => classify(new GroundcrewError(code, "x"), NOW).chance !== "never");
    expect(retried.sort()).toEqual(["INBOX_FULL", "STEP_TIMEOUT", "STORE_BUSY", "STORE_FULL", "STORE_UNAVAILABLE", "UNREACHABLE"]);
  });
});

describe("the moment that a provider names", () => {
  const at = (headers: Record<string, string>, status = 429) => {
    const failure = classify(api({ status, headers }), NOW);
    return failure.at === undefined ? undefined : failure.at - NOW;
  };
  const date = (ms: number) => new Date(NOW + ms).toUTCString();
  const rfc3339 = (ms: number) => new Date(NOW + ms).toISOString();

  test.each<[string, Record<string, string>, number | undefined]>([
    ["seconds", { "retry-after": "7" }, 7_000],
    ["parts of a second", { "retry-after": "0.5" }, 500],
    ["nothing", { "retry-after": "0" }, 0],
    ["milliseconds, which count for more", { "retry-after-ms": "20", "retry-after": "7" }, 20],
    ["milliseconds that are none", { "retry-after-ms": "x", "retry-after": "7" }, 7_000],
    ["a date", { "retry-after": date(3_000) }, 3_000],
    ["a date of a clock that differs", { "retry-after": date(63_000), date: date(60_000) }, 3_000],
    ["a year", { "retry-after": "31536000" }, MAX_RETRY_WAIT_MS],
    ["a number without end", { "retry-after": "9".repeat(400) }, MAX_RETRY_WAIT_MS],
    ["a date in a year", { "retry-after": date(31_536_000_000) }, MAX_RETRY_WAIT_MS],
    ["names in capitals", { "Retry-After": "7" }, 7_000],
    ["OpenAI, requests", { "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s" }, 1_000],
    ["OpenAI, tokens", { "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s" }, 360_000],
    ["OpenAI, soon", { "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms" }, 120],
    [
      "the later of two",
      {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "2m59.56s",
      },
      179_560,
    ],
    [
      "not of what is left",
      {
        "x-ratelimit-remaining-requests": "9",
        "x-ratelimit-reset-requests": "1h",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1s",
      },
      1_000,
    ],
    ["Anthropic", { "anthropic-ratelimit-input-tokens-remaining": "0", "anthropic-ratelimit-input-tokens-reset": rfc3339(9_000) }, 9_000],
    [
      "Anthropic, with some left",
      { "anthropic-ratelimit-tokens-remaining": "50", "anthropic-ratelimit-tokens-reset": rfc3339(9_000) },
      undefined,
    ],
    ["GitHub, seconds since 1970", { "x-ratelimit-remaining": "0", "x-ratelimit-reset": String(NOW / 1_000 + 30) }, 30_000],
    ["OpenRouter, milliseconds since 1970", { "x-ratelimit-remaining": "0", "x-ratelimit-reset": String(NOW + 30_000) }, 30_000],
    ["a reset alone", { "ratelimit-reset": "12" }, 12_000],
    ["Retry-After before a reset", { "retry-after": "1", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "99" }, 1_000],
  ])("%s", (_what, headers, wait) => expect(at(headers)).toBe(wait));

  test.each(["soon", "-5", "", "NaN", "Infinity", "1e3", "7 apples", "apples 2099", "0x10", "1s2", date(-60_000)])("is not %j", (text) => {
    expect(at({ "retry-after": text, "retry-after-ms": text })).toBeUndefined();
  });

  test("does not count where another call would not help", () => {
    expect(classify(api({ status: 401, headers: { "retry-after": "7" } }), NOW)).toEqual(never("auth", { status: 401 }));
  });

  test("is not read off a reset alone where the trouble is no limit", () => expect(at({ "ratelimit-reset": "12" }, 500)).toBeUndefined());

  test.each<[string, unknown]>([
    ["Headers", new Headers({ "Retry-After": "7" })],
    ["a map", new Map([["Retry-After", "7"]])],
    ["lists", { "Retry-After": ["7", "8"] }],
  ])("is found in headers that are %s", (_what, headers) => {
    const failure = { chance: "later", reason: "overloaded", at: NOW + 7_000, status: 503 };
    expect(classify({ status: 503, headers }, NOW)).toEqual(failure);
    expect(classify(new Error("x", { cause: { response: { status: 503, headers } } }), NOW)).toEqual(failure);
  });
});

describe("whatever is thrown", () => {
  const mine = (): never => {
    throw new Error("mine");
  };
  const hostile = (name: string) => Object.defineProperty(new Error("x"), name, { get: mine });
  const refusing = () => new Proxy({}, { get: mine, has: mine, ownKeys: mine, getPrototypeOf: mine });
  const revoked = () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    return proxy;
  };
  const own = () => {
    const error = new Error("x");
    error.cause = error;
    return error;
  };
  const endless = (): object => new Proxy({}, { get: (_target, key) => (key === "cause" || key === "error" ? endless() : undefined) });
  const forever = {
    *[Symbol.iterator]() {
      for (let n = 0; ; n++) yield [`x-${n}`, "1"];
    },
  };

  // Made where they are thrown: vitest would look into them for the names of the tests.
  test.each<[string, () => unknown]>([
    ["null", () => null],
    ["undefined", () => undefined],
    ["a text", () => "429"],
    ["a number", () => 429],
    ["a symbol", () => Symbol("x")],
    ["a function", () => () => {}],
    ["an empty object", () => ({})],
    ["a proxy that refuses", refusing],
    ["a proxy that was revoked", revoked],
    ["its own cause", own],
    ["causes without end", endless],
    ["a getter that throws", () => hostile("cause")],
    ["a message that throws", () => hostile("message")],
    ["a name that throws", () => hostile("name")],
    ["a status whose value throws", () => ({ status: { valueOf: mine, toString: mine } })],
    ["errors that are many", () => new AggregateError(Array.from({ length: 100_000 }, () => new Error("x")))],
  ])("%s gets a verdict", (_what, make) => expect(classify(make(), NOW)).toEqual(never("error")));

  test.each<[string, () => unknown]>([
    ["a getter that throws", () => Object.assign(hostile("name"), { status: 503 })],
    ["its own cause", () => Object.assign(own(), { status: 503 })],
    ["headers without end", () => ({ status: 503, headers: forever })],
    ["headers that refuse", () => ({ status: 503, headers: refusing() })],
  ])("%s does not hide the rest", (_what, make) => expect(classify(make(), NOW)).toEqual(again("overloaded", { status: 503 })));
});
