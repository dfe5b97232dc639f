/** One request, and what its failures mean. Nothing here is Node's own: it runs in browsers too. */
import { coerceError, type ErrorCode, errorCodes, GroundcrewError } from "../errors.ts";
import { MAX_RECONNECT_MS, MAX_RECONNECTS, RECONNECT_MS } from "../limits.ts";
import type { ErrorBody } from "../wire.ts";

export interface Ask {
  method?: "GET" | "POST";
  /** Left out where undefined; repeated for a list. */
  query?: Record<string, string | number | readonly string[] | undefined>;
  headers?: Record<string, string>;
  body?: unknown;
  signal?: AbortSignal;
  /** A status beside 2xx that is an answer too. */
  accept?: number;
}

/** @throws GroundcrewError with the server's code; `UNREACHABLE` when there was no answer, or not one of ours. */
export type Send = (path: string, ask?: Ask) => Promise<Response>;

/** @throws GroundcrewError `CONFIG_INVALID` */
export function sender(url: string, apiKey: string | undefined, fetch: typeof globalThis.fetch): Send {
  if (!/^https?:/.test(url) || !URL.canParse(url)) {
    throw new GroundcrewError(
      "CONFIG_INVALID",
      `Expected the address of a server, such as "http://127.0.0.1:4280", got ${JSON.stringify(url)}.`,
    );
  }
  const base = url.replace(/\/+$/, "").replace(/\/v1$/, ""); // where every path begins: many give it as part of the address
  return async (path, { method = "GET", query = {}, headers = {}, body, signal, accept } = {}) => {
    const init: RequestInit = { method, headers: { ...headers } };
    if (apiKey !== undefined) Object.assign(init.headers as object, { authorization: `Bearer ${apiKey}` });
    if (body !== undefined) {
      init.body = JSON.stringify(body);
      Object.assign(init.headers as object, { "content-type": "application/json" });
    }
    if (signal) init.signal = signal;
    const response = await fetch(`${base}${path}${search(query)}`, init).catch((cause: unknown) => {
      throw signal?.aborted ? cause : unreachable(base, cause);
    });
    if (!response.ok && response.status !== accept) throw await errorOf(response, base);
    return response;
  };
}

function search(query: NonNullable<Ask["query"]>): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const item of [value].flat()) if (item !== undefined) params.append(name, String(item));
  }
  return params.size === 0 ? "" : `?${params}`;
}

function unreachable(base: string, cause: unknown): GroundcrewError {
  return new GroundcrewError("UNREACHABLE", `No answer from ${base}: ${reasonOf(cause)}.`, {
    cause,
    fix: "Check the address, and whether the server runs.",
  });
}

function reasonOf(cause: unknown): string {
  const error = coerceError(cause);
  return error.cause instanceof Error ? error.cause.message : error.message; // fetch hides the reason in its cause
}

async function errorOf(response: Response, base: string): Promise<GroundcrewError> {
  const body: unknown = await response.json().catch(() => undefined);
  if (!isErrorBody(body)) return unreachable(base, new Error(`status ${response.status} without an answer of ours`));
  return toError(body);
}

function isErrorBody(body: unknown): body is ErrorBody {
  return typeof (body as ErrorBody | undefined)?.error?.code === "string";
}

/** The server's error as it was thrown there, as far as it was told. Of a request that was decided, `value` says by whom and when. */
export function toError({ error: { code, message, detail, reference, retry_after, decided } }: ErrorBody): GroundcrewError {
  return new GroundcrewError(toCode(code), detail ?? (reference === undefined ? message : `${message} (reference ${reference})`), {
    ...(reference !== undefined && { run: reference }),
    ...(retry_after !== undefined && { retryAfterMs: retry_after * 1000 }),
    ...(decided && { value: decided }),
  });
}

/** A code of a newer server counts as `INTERNAL`. */
export function toCode(code: string): ErrorCode {
  return errorCodes.find((known) => known === code) ?? "INTERNAL";
}

/** Whether it makes sense to ask again: nobody answered, or the server says that it is about the moment. */
function isTransient(error: unknown): error is GroundcrewError {
  return error instanceof GroundcrewError && [429, 502, 503, 504].includes(error.status);
}

/** Counts failures in a row and waits between them, longer each time, and never for the same time as everybody else. */
export class Patience {
  #failures = 0;

  /** Something came through. */
  reset(): void {
    this.#failures = 0;
  }

  /** Waits, or gives up. @throws `error`, when asking again makes no sense or has made none for long */
  async spend(error: unknown, signal: AbortSignal | undefined): Promise<void> {
    if (!isTransient(error) || this.#failures >= MAX_RECONNECTS) throw error;
    await pause(Math.max(this.#next(), error.retryAfterMs ?? 0), signal);
  }

  /** Waits, and never gives up: there was an answer, only not the one we ask for. */
  async rest(signal: AbortSignal | undefined): Promise<void> {
    await pause(this.#next(), signal);
  }

  #next(): number {
    const backoff = Math.min(RECONNECT_MS * 2 ** this.#failures++, MAX_RECONNECT_MS);
    return backoff * (0.5 + Math.random() / 2);
  }
}

/** Over early, and without an error, when `signal` fires. */
function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
    if (signal?.aborted) end();
  });
}
