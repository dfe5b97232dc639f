/**
 * Request bodies, bounded before they are parsed: in bytes, however they are sent, and in depth, because code behind us
 * recurses over what it is given.
 */
import type { MiddlewareHandler } from "hono";
import { GroundcrewError } from "../errors.ts";
import { MAX_BODY_BYTES, MAX_VALUE_DEPTH } from "../limits.ts";

/** Reads the body once, where nobody has before; handlers find it in `c.req.text()` and `c.req.json()`. */
export function boundedBody(mostBytes = MAX_BODY_BYTES): MiddlewareHandler {
  return async function boundedBody(c, next) {
    const isRead = c.req.bodyCache.text !== undefined;
    if (!isRead && c.req.method !== "GET" && c.req.method !== "HEAD" && c.req.raw.body !== null) {
      const text = decode(await readBytes(c.req.raw, mostBytes));
      checkDepth(text);
      c.req.bodyCache.text = Promise.resolve(text) as never; // a promise is what hono keeps there, whatever its type says
    }
    await next();
  };
}

/** The body as it came. @throws GroundcrewError `LIMIT_EXCEEDED` */
export async function readBytes(request: Request, mostBytes: number): Promise<Uint8Array> {
  if (Number(request.headers.get("content-length")) > mostBytes) throw tooLarge(mostBytes);
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of (request.body ?? []) as AsyncIterable<Uint8Array>) {
    size += part.byteLength;
    if (size > mostBytes) throw tooLarge(mostBytes);
    parts.push(part);
  }
  return parts.length === 1 && parts[0] ? parts[0] : Buffer.concat(parts);
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new GroundcrewError("INPUT_INVALID", "Expected the body to be UTF-8.", { cause });
  }
}

/** Counts brackets outside of texts. Cheaper than to build the value, and in constant space. */
function checkDepth(text: string): void {
  let depth = 0;
  let isQuoted = false;
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i);
    if (isQuoted) {
      if (char === BACKSLASH) i++;
      else if (char === QUOTE) isQuoted = false;
    } else if (char === QUOTE) isQuoted = true;
    else if (char === OPEN_OBJECT || char === OPEN_ARRAY) {
      if (++depth > MAX_VALUE_DEPTH) throw new GroundcrewError("LIMIT_EXCEEDED", `The body is nested deeper than ${MAX_VALUE_DEPTH}.`);
    } else if (char === CLOSE_OBJECT || char === CLOSE_ARRAY) depth--;
  }
}

const [QUOTE, BACKSLASH, OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY] = [...'"\\{}[]'].map((char) => char.charCodeAt(0));

function tooLarge(mostBytes: number): GroundcrewError {
  return new GroundcrewError("LIMIT_EXCEEDED", `The body is larger than ${mostBytes} bytes.`, {
    fix: "Put documents where a tool can fetch them, and send their address.",
  });
}
