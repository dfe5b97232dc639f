import { hash } from "node:crypto";
import canonicalize from "canonicalize";
import type { JsonValue } from "./json-value.ts";

/** SHA-256 in hex of the canonical JSON (RFC 8785): equal values have equal hashes, whatever the order of their keys. */
export function hashValue(encoded: JsonValue | undefined): string {
  if (encoded === undefined) return hash("sha256", "");
  try {
    return hash("sha256", canonicalize(encoded) as string);
  } catch {
    return hash("sha256", `escaped ${canonicalize(escaped(encoded))}`); // RFC 8785 has no text for a lone surrogate
  }
}

/** The value with its texts as JSON writes them: lone surrogates become ASCII, and different texts stay different. */
function escaped(value: JsonValue): JsonValue {
  if (typeof value === "string") return JSON.stringify(value);
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(escaped);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [JSON.stringify(key), escaped(item)]));
}
