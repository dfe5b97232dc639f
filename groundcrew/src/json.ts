/**
 * What JSON can say of any value, for readers that need to understand it and not to get it back: models, programs, people.
 * What JSON lacks is written the way a person would: a Date as its ISO text, a BigInt as its digits, a Map as an object, bytes
 * in base64.
 */

/** JSON text of `value`; `null` where there is nothing to say, as of a function. */
export function toJson(value: unknown): string {
  /** The objects around the one that is written, as they were and as they are written. */
  const around: { written: unknown; was: unknown }[] = [];
  const text: string | undefined = JSON.stringify(value, function (this: Record<string, unknown>, key, given: unknown) {
    const was = isBytes(this[key]) ? this[key] : given; // a Buffer has said by then what it thinks JSON is
    const written = toPlain(was);
    if (typeof written !== "object" || written === null) return written;
    while (around.length > 0 && around.at(-1)?.written !== this) around.pop();
    if (around.some((outer) => outer.was === was)) return "[circular]";
    around.push({ written, was });
    return written;
  });
  return text ?? "null";
}

function toPlain(value: unknown): unknown {
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Map) return mapToPlain(value);
  if (value instanceof Set) return [...value];
  if (value instanceof Error) return { name: value.name, message: value.message };
  if (value instanceof RegExp || value instanceof URLSearchParams) return String(value);
  if (isBytes(value)) return base64(value);
  return value;
}

/** With keys that are no texts, a list of pairs: two keys may have the same text. */
function mapToPlain(map: Map<unknown, unknown>): unknown {
  const entries = [...map];
  return entries.every(([key]) => typeof key === "string") ? Object.fromEntries(entries) : entries;
}

function isBytes(value: unknown): value is ArrayBuffer | ArrayBufferView {
  return value instanceof ArrayBuffer || ArrayBuffer.isView(value);
}

function base64(bytes: ArrayBuffer | ArrayBufferView): string {
  const view = bytes instanceof ArrayBuffer ? Buffer.from(bytes) : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.toString("base64");
}
