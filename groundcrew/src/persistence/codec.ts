/**
 * Any value of user code as JSON that can stand inside an event, and back.
 *
 * A plain JSON value stands for itself. Everything else stands as `{"$rich": …}`, written by devalue, and comes back as it
 * was: Date, Map, Set, BigInt, typed arrays, ArrayBuffer, URL, URLSearchParams, RegExp, Error, registered classes,
 * `undefined`, holes, NaN, infinities, -0, cycles and shared references. What cannot come back as it was is refused with its
 * path before anything is written. A large value stands as `{"$blob": …}`, its text beside the journal.
 *
 * What changes on the way, on purpose: an object without prototype comes back as a plain object; a Buffer as a Uint8Array; a
 * view on a part of a buffer as a view on just that part, so that no neighbouring byte is stored; an Error as an Error with
 * its name, message, cause, `code` and, for an AggregateError, errors, but without its stack. Getters are read as data.
 */
import { hash } from "node:crypto";
import { describe, GroundcrewError } from "../errors.ts";
import { BLOB_THRESHOLD_BYTES, MAX_NAME_CHARS, MAX_VALUE_BYTES } from "../limits.ts";
import { type Blob, isMarked, type JsonValue, type Marked } from "./json-value.ts";
import { plainText } from "./plain.ts";
import { revive, unreadable } from "./revive.ts";
import { type ClassCodec, type ClassTable, richText, tooLarge } from "./rich.ts";

/** What {@link Codec.encode} made of a value. All but `blob` are undefined for `undefined`: the field stays away. */
export interface Encoding {
  /** Stands in the event. A plain value is not copied: it may be the very object that was given. */
  json: JsonValue | undefined;
  /** The text of `json`, so that a writer need not make it a second time. */
  text: string | undefined;
  /** To be stored together with the event. */
  blob?: Blob;
}

export class Codec {
  readonly #byName = new Map<string, ClassCodec>();
  readonly #byPrototype: ClassTable = new Map();

  /** @throws GroundcrewError `CONFIG_INVALID` when a name or a class is registered twice. */
  constructor(classes: readonly ClassCodec[] = []) {
    for (const codec of classes) {
      const prototype: object = codec.class.prototype;
      const isNamed = codec.name.length > 0 && codec.name.length <= MAX_NAME_CHARS;
      if (!isNamed) throw badClass(codec, `must have a name of 1 to ${MAX_NAME_CHARS} characters`);
      if (this.#byName.has(codec.name)) throw badClass(codec, "must be the only one of this name");
      if (this.#byPrototype.has(prototype)) throw badClass(codec, "must be a class that is not registered yet");
      if (prototype === Object.prototype || prototype === Array.prototype) throw badClass(codec, "must not take over plain values");
      this.#byName.set(codec.name, codec);
      this.#byPrototype.set(prototype, codec);
    }
  }

  /**
   * @param root how a message names the value, such as `` `step "fetch"`.value ``.
   * @throws GroundcrewError `VALUE_UNSERIALIZABLE` with the path of what cannot be stored, `LIMIT_EXCEEDED`
   */
  encode(value: unknown, root: string): Encoding {
    if (value === undefined) return { json: undefined, text: undefined };
    const plain = plainText(value);
    const text = plain ?? `{"$rich":${richText(value, root, this.#byPrototype)}}`;
    const bytes = text.length * 3 <= BLOB_THRESHOLD_BYTES ? 0 : Buffer.byteLength(text); // UTF-8 needs at most 3 per character
    if (bytes > MAX_VALUE_BYTES) throw tooLarge(root, bytes);
    if (bytes > BLOB_THRESHOLD_BYTES) return asBlob(text, bytes);
    return { json: plain === undefined ? JSON.parse(text) : (value as JsonValue), text };
  }

  /**
   * The value again; a plain one is not copied.
   * @param blob the text of a blob that was stored with the event.
   * @throws GroundcrewError `EVENT_UNREADABLE`, and whatever `blob` throws. What cannot be read is never taken for empty.
   */
  decode(json: JsonValue | undefined, blob: (hash: string) => string | undefined): unknown {
    if (!isMarked(json)) return json;
    const inner = Object.hasOwn(json, "$blob") ? parseBlob(json, blob) : json;
    return isMarked(inner) ? this.#decodeRich(inner) : inner;
  }

  #decodeRich(json: Marked): unknown {
    const { $rich: rich, ...others } = json;
    if (rich === undefined || Object.keys(others).length > 0) throw unreadable("its form is not known to this release");
    return revive(rich, this.#byName);
  }
}

function asBlob(text: string, bytes: number): Encoding {
  const address = hash("sha256", text);
  const json = { $blob: address, bytes };
  return { json, text: JSON.stringify(json), blob: { hash: address, data: text } };
}

function parseBlob(json: Marked, blob: (hash: string) => string | undefined): JsonValue {
  const { $blob: address, bytes, ...others } = json;
  if (typeof address !== "string" || typeof bytes !== "number" || Object.keys(others).length > 0) {
    throw unreadable("its form is not known to this release");
  }
  const text = blob(address);
  if (text === undefined) throw unreadable(`its blob ${address} is missing`);
  if (hash("sha256", text) !== address) throw unreadable(`its blob ${address} is damaged`);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw unreadable(`its blob ${address} is not JSON`, cause);
  }
}

function badClass(codec: ClassCodec, rule: string): GroundcrewError {
  return new GroundcrewError("CONFIG_INVALID", `Expected each of \`classes\` to be right, but ${describe(codec.name)} ${rule}.`);
}
