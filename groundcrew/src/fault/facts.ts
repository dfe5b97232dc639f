/**
 * What can be read off anything that was thrown, by its shape: the AI SDK's errors, those of HTTP clients, of sockets, plain
 * objects out of a stream. Nothing of it is trusted: a getter may throw, a cause may be its own cause.
 */
import { MAX_CAUSES, MAX_EVIDENCE_CHARS, MAX_FAILURE_HEADERS } from "../limits.ts";

export interface Facts {
  thrown: unknown;
  name: string;
  message: string;
  /** Codes and types, as they are spelled: `ECONNRESET`, `rate_limit_error`, `ThrottlingException`. */
  kinds: readonly string[];
  /** Of the HTTP answer. */
  status: number | undefined;
  /** Of the HTTP answer; names in lower case. */
  headers: ReadonlyMap<string, string>;
  /** All that it says of itself, in lower case. */
  text: string;
  /** What the provider's package says: `isRetryable`. */
  retryable: boolean | undefined;
  /** How an answer ended that is no answer. */
  finish: string;
}

/** The facts of `thrown` and of all that caused it, outermost first. Never throws. */
export function factsOf(thrown: unknown): Facts[] {
  const seen = new Set<unknown>();
  const visit = (error: unknown): Facts[] => {
    if (seen.size >= MAX_CAUSES || seen.has(error) || !isObject(error)) return [];
    seen.add(error);
    return [read(error), ...causesOf(error).flatMap(visit)];
  };
  return visit(thrown);
}

/** Of many attempts the last one counts; of many addresses the first. */
function causesOf(error: object): unknown[] {
  const many = get(error, "errors");
  const errors = Array.isArray(many) ? Array.from({ length: Math.min(many.length, MAX_CAUSES) }, (_, at) => get(many, at)) : [];
  const refused = get(error, "name") === "AI_TypeValidationError" ? get(error, "value") : undefined; // an error in a form of its own
  return [get(error, "lastError"), get(error, "cause"), get(error, "error"), refused, ...errors];
}

function read(error: object): Facts {
  const [response, data, detail] = [get(error, "response"), get(error, "data"), get(error, "error")];
  const answered = get(response, "data"); // where axios keeps a body
  const spoken = [error, detail, data, get(data, "error"), answered, get(answered, "error")];
  const name = text(get(error, "name"));
  const message = text(get(error, "message"));
  const kinds = [name, ...spoken.flatMap((part) => ["code", "type", "status"].map((key) => text(get(part, key))))].filter(Boolean);
  const bodies = [get(error, "responseBody"), get(response, "body"), answered, detail, ...spoken.map((part) => get(part, "message"))];
  return {
    thrown: error,
    name,
    message,
    kinds,
    status: firstStatus([
      get(error, "statusCode"),
      get(error, "status"),
      get(response, "status"),
      get(response, "statusCode"),
      get(get(error, "$metadata"), "httpStatusCode"),
      errorStatus(get(error, "code")),
    ]),
    headers: firstHeaders([get(error, "responseHeaders"), get(error, "headers"), get(response, "headers")]),
    text: [...kinds, ...bodies.map(text)].join("\n").toLowerCase().slice(0, MAX_EVIDENCE_CHARS),
    retryable: boolean(get(error, "isRetryable")),
    finish: text(get(error, "finishReason")),
  };
}

function firstStatus(values: readonly unknown[]): number | undefined {
  return values.map((value) => Number(text(value))).find((status) => Number.isInteger(status) && status >= 100 && status <= 599);
}

/** A code is a status only where it can be nothing else: many things have small numbers for codes. */
function errorStatus(code: unknown): unknown {
  return /^[45]\d\d$/.test(text(code)) ? code : undefined;
}

function firstHeaders(candidates: readonly unknown[]): ReadonlyMap<string, string> {
  return candidates.map(headersOf).find((headers) => headers.size > 0) ?? new Map();
}

/** `Headers`, a map, or a plain object whose values may be lists. */
function headersOf(value: unknown): ReadonlyMap<string, string> {
  const headers = new Map<string, string>();
  if (!isObject(value)) return headers;
  try {
    const pairs = Symbol.iterator in value ? (value as Iterable<[unknown, unknown]>) : Object.entries(value);
    for (const [name, held] of pairs) {
      if (headers.size >= MAX_FAILURE_HEADERS) break;
      headers.set(text(name).toLowerCase(), text([held].flat()[0]));
    }
  } catch {
    // A getter of somebody's own error may throw: what was read of it so far is what there is to judge by.
  }
  return headers;
}

function get(value: unknown, key: PropertyKey): unknown {
  if (!isObject(value)) return undefined;
  try {
    return Reflect.get(value, key);
  } catch {
    return undefined; // a getter of somebody else's
  }
}

function isObject(value: unknown): value is object {
  return (typeof value === "object" && value !== null) || typeof value === "function";
}

/** A number is a text too: codes come as either. */
function text(value: unknown): string {
  return typeof value === "string" || typeof value === "number" ? String(value).slice(0, MAX_EVIDENCE_CHARS) : "";
}

function boolean(value: unknown): boolean | undefined {
  return typeof value === "boolean" ? value : undefined;
}
