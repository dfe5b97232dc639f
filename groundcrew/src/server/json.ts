/**
 * Values on their way out. A run's output may be anything the codec can hold; JSON cannot, so what it lacks is written the
 * way a person would: a Date as its ISO text, a BigInt as its digits, a Map as an object, bytes in base64.
 */

/** JSON text of any recorded value. */
export function toJson(value: unknown): string {
  /** The objects around the one that is written, as they were and as they are written. */
  const around: { written: unknown; was: unknown }[] = [];
  return JSON.stringify(value, function (this: unknown, _key, was: unknown) {
    const written = toPlain(was);
    if (typeof written !== "object" || written === null) return written;
    while (around.length > 0 && around.at(-1)?.written !== this) around.pop();
    if (around.some((outer) => outer.was === was)) return "[circular]";
    around.push({ written, was });
    return written;
  });
}

function toPlain(value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Map) return mapToPlain(value);
  if (value instanceof Set) return [...value];
  if (value instanceof Error) return { name: value.name, message: value.message };
  if (value instanceof RegExp || value instanceof URLSearchParams) return String(value);
  if (value instanceof ArrayBuffer) return Buffer.from(value).toString("base64");
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64");
  return value;
}

/** With keys that are no texts, a list of pairs: two keys may have the same text. */
function mapToPlain(map: Map<unknown, unknown>): unknown {
  const entries = [...map];
  return entries.every(([key]) => typeof key === "string") ? Object.fromEntries(entries) : entries;
}
