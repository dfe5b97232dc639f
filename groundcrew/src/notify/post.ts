/** One HTTP request to an endpoint that the operator has named. */
import { describe, GroundcrewError } from "../errors.ts";
import { MAX_ANSWER_BYTES, SEND_TIMEOUT_MS } from "../limits.ts";
import type { Answer } from "./channel.ts";

export interface Posted extends Answer {
  headers: Headers;
  /** The beginning of what was answered. */
  text: string;
}

/**
 * Sends `body` there and nowhere else: a redirect is an answer like any other, because what is signed for one address is not for the
 * next. @throws what `fetch` throws, and when there was no answer in time
 */
export async function post(url: URL, headers: Record<string, string>, body: string, signal: AbortSignal): Promise<Posted> {
  const response = await fetch(url, {
    method: "POST",
    headers,
    body,
    redirect: "manual",
    signal: AbortSignal.any([signal, AbortSignal.timeout(SEND_TIMEOUT_MS)]),
  });
  return { status: response.status, headers: response.headers, text: await beginningOf(response) };
}

/** An answer without an end, or one of gigabytes, is left where it is. */
async function beginningOf(response: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of response.body ?? []) {
    parts.push(part);
    bytes += part.byteLength;
    if (bytes >= MAX_ANSWER_BYTES) break; // leaving the loop cancels the rest
  }
  return Buffer.concat(parts).subarray(0, MAX_ANSWER_BYTES).toString();
}

/** @throws GroundcrewError `CONFIG_INVALID` for what could be read on its way */
export function checkAddress(field: string, given: unknown): URL {
  const url = typeof given === "string" && URL.canParse(given) ? new URL(given) : undefined;
  const isPrivate = url?.protocol === "https:" || (url?.protocol === "http:" && isLoopback(url.hostname));
  if (url && isPrivate && url.username === "" && url.password === "") return url;
  const got = url ? `${url.protocol}//${url.host}` : describe(given); // a password in it stays out of the message
  throw new GroundcrewError("CONFIG_INVALID", `Expected \`${field}\` to be an https address without a password in it, got ${got}.`, {
    fix: "Plain http goes to this machine only.",
  });
}

export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || hostname === "::1" || /^127(\.\d{1,3}){3}$/.test(hostname);
}
