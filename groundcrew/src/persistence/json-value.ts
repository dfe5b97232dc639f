/** A value as it stands in an event, and its text beside the journal when it is large. */

export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

/** A value that is kept beside the journal, under its own hash. */
export interface Blob {
  /** SHA-256 of `data`, in hex. */
  hash: string;
  /** JSON text. */
  data: string;
}

/** An object with one of the codec's own keys: a stand-in, or a value that could be mistaken for one and hence gets one. */
export type Marked = { [key: string]: JsonValue };

export function isMarked(value: unknown): value is Marked {
  return typeof value === "object" && value !== null && (Object.hasOwn(value, "$rich") || Object.hasOwn(value, "$blob"));
}

/** Which blob has to be at hand to decode the value, if one has to. */
export function blobHash(json: JsonValue | undefined): string | undefined {
  const address = isMarked(json) ? json["$blob"] : undefined;
  return typeof address === "string" ? address : undefined;
}
