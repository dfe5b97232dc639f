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
import { types } from "node:util";
import canonicalize from "canonicalize";
import { type ParseOperations, type StringifyOperations, stringify, unflatten } from "devalue";
import { describe, GroundcrewError, isError } from "../errors.ts";
import { BLOB_THRESHOLD_BYTES, MAX_NAME_CHARS, MAX_VALUE_BYTES, MAX_VALUE_DEPTH } from "../limits.ts";

export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

/** A JSON-compatible stand-in for a recorded value. */
export type Encoded = JsonValue;

/** A value that is kept beside the journal, under its own hash. */
export interface Blob {
  /** SHA-256 of `data`, in hex. */
  hash: string;
  /** JSON text. */
  data: string;
}

/** What {@link Codec.encode} made of a value. All but `blob` are undefined for `undefined`: the field stays away. */
export interface Encoding {
  /** Stands in the event. A plain value is not copied: it may be the very object that was given. */
  json: Encoded | undefined;
  /** The text of `json`, so that a writer need not make it a second time. */
  text: string | undefined;
  /** To be stored together with the event. */
  blob?: Blob;
}

/**
 * How instances of a class are recorded. Exactly this class: an instance of a subclass needs a codec of its own, because what
 * the subclass adds would be lost. The data may contain other registered classes, but not the instance itself.
 */
export interface ClassCodec<T = unknown> {
  /** Stands in journals for ever. */
  name: string;
  class: abstract new (...args: never[]) => T;
  encode(value: T): unknown;
  decode(data: unknown): T;
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
  decode(json: Encoded | undefined, blob: (hash: string) => string | undefined): unknown {
    if (!isMarked(json)) return json;
    const inner = Object.hasOwn(json, "$blob") ? parseBlob(json, blob) : json;
    return isMarked(inner) ? this.#decodeRich(inner) : inner;
  }

  #decodeRich(json: Marked): unknown {
    const { $rich: rich, ...others } = json;
    if (rich === undefined || Object.keys(others).length > 0) throw unreadable("its form is not known to this release");
    try {
      checkReferences(rich);
      return unflatten(rich as number | JsonValue[], revivers(this.#byName), { operations: parsing });
    } catch (cause) {
      throw isError(cause, "EVENT_UNREADABLE") ? cause : unreadable("it is malformed", cause);
    }
  }
}

/** Which blob has to be at hand to decode the value, if one has to. */
export function blobHash(json: Encoded | undefined): string | undefined {
  const address = isMarked(json) ? json["$blob"] : undefined;
  return typeof address === "string" ? address : undefined;
}

/** SHA-256 in hex of the canonical JSON (RFC 8785): equal values have equal hashes, whatever the order of their keys. */
export function hashValue(encoded: Encoded | undefined): string {
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

type ClassTable = Map<object, ClassCodec>;

// ——— Plain values: one walk that only looks, one stringify. ———

/** The text of a plain JSON value, or undefined for any other: the reason is found by the slower walk that knows paths. */
function plainText(value: unknown): string | undefined {
  try {
    const isPlain = new PlainWalk().visit(value, 0) && !isMarked(value);
    return isPlain ? JSON.stringify(value) : undefined;
  } catch {
    return undefined; // a getter or a proxy that throws
  }
}

class PlainWalk {
  #room = MAX_VALUE_BYTES;
  readonly #seen = new Set<object>();

  /** Whether `JSON.stringify` keeps all of the value, whose text may not be larger than a value may be. */
  visit(value: unknown, depth: number): boolean {
    switch (typeof value) {
      case "string":
        this.#room -= value.length;
        return this.#room > 0;
      case "number":
        return value === 0 ? 1 / value > 0 : Number.isFinite(value);
      case "boolean":
        return true;
      case "object":
        if (value === null) return true;
        if (depth === MAX_VALUE_DEPTH) return false;
        if (this.#seen.size === this.#seen.add(value).size) return false; // shared, or a cycle
        return this.#visitInside(value, depth + 1);
      default:
        return false;
    }
  }

  #visitInside(value: object, depth: number): boolean {
    if ("toJSON" in value && typeof value.toJSON === "function") return false;
    if (Array.isArray(value)) {
      this.#room -= value.length;
      if (this.#room <= 0 || !isPlainArray(value)) return false;
      for (let i = 0; i < value.length; i++) if (!this.visit(value[i], depth)) return false;
      return true;
    }
    if (!isPlainObject(value) || hasSymbolKey(value)) return false;
    for (const key of Object.keys(value)) {
      this.#room -= key.length;
      if (key === "__proto__" || !this.visit((value as Record<string, unknown>)[key], depth)) return false;
    }
    return this.#room > 0;
  }
}

/** Above this many elements, looking for a named property costs more than writing the array. */
const MAX_ELEMENTS_LOOKED_THROUGH = 64;

function isPlainArray(value: unknown[]): boolean {
  if (Object.getPrototypeOf(value) !== Array.prototype && countPrototypes(value) !== 2) return false;
  return value.length > MAX_ELEMENTS_LOOKED_THROUGH || Object.keys(value).length === value.length;
}

/** Of this realm or another: a sandbox has an `Object.prototype` of its own. */
function isPlainObject(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) return true;
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, "isPrototypeOf");
}

function hasSymbolKey(value: object): boolean {
  const symbols = Object.getOwnPropertySymbols(value);
  return symbols.length > 0 && symbols.some((symbol) => Object.prototype.propertyIsEnumerable.call(value, symbol));
}

/** Tells a built-in from its subclasses, in every realm: a Map has two prototypes, an instance of a class that extends it three. */
function countPrototypes(value: object): number {
  let count = 0;
  for (let at = Object.getPrototypeOf(value); at !== null && count < 8; at = Object.getPrototypeOf(at)) count++;
  return count;
}

// ——— Rich values: one walk that checks all and knows where it is, then devalue. ———

/** What devalue writes for the value. */
function richText(value: unknown, root: string, classes: ClassTable): string {
  const walk = new RichWalk(root, classes);
  try {
    walk.visit(value, 0);
    const reducers = { error: (thing: unknown) => walk.errors.get(thing), class: (thing: unknown) => walk.instances.get(thing) };
    return stringify(value, reducers, { operations: reading });
  } catch (cause) {
    if (isError(cause, "VALUE_UNSERIALIZABLE") || isError(cause, "LIMIT_EXCEEDED")) throw cause;
    throw walk.refusal("a value that throws when it is read", "Return plain data.", cause);
  }
}

/** What stands in the place of an error. What it is made from comes first: on a cycle the rest is not read by then. */
interface ErrorData {
  /** Which of the language's own classes it is, when not just `Error`. */
  kind?: string;
  name: string;
  message: string;
  code?: string | number;
  cause?: unknown;
  errors?: unknown[];
}

/** The language's own classes of errors, beside AggregateError, which is made in another way. */
const NATIVE_ERRORS = [EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError] as const;

/** For each built-in that devalue writes, how many prototypes it has. */
const BUILT_INS: readonly (readonly [is: (value: unknown) => boolean, prototypes: number])[] = [
  [types.isDate, 2],
  [types.isRegExp, 2],
  [types.isArrayBuffer, 2],
  [types.isDataView, 2],
  [types.isTypedArray, 3],
  [Buffer.isBuffer, 4],
  [(value) => value instanceof URL || value instanceof URLSearchParams, 2],
];

class RichWalk {
  /** What devalue is given instead of an error. */
  readonly errors = new Map<unknown, ErrorData>();
  /** What devalue is given instead of an instance of a registered class. */
  readonly instances = new Map<unknown, [name: string, data: unknown]>();
  readonly #root: string;
  readonly #classes: ClassTable;
  readonly #path: Segment[] = [];
  #room = MAX_VALUE_BYTES;
  /** Objects in the order they were met; Infinity from when nothing that is still open can be reached from them (Tarjan). */
  readonly #order = new Map<object, number>();
  readonly #open: object[] = [];

  constructor(root: string, classes: ClassTable) {
    this.#root = root;
    this.#classes = classes;
  }

  /** @returns the earliest object, by its order, that can be reached from here and is still open. */
  visit(value: unknown, depth: number): number {
    if (typeof value === "string") this.#spend(value.length);
    if (typeof value === "bigint") this.#spend(64); // not its digits: they take long to count, and the text is measured
    if (typeof value === "function") throw this.refusal("a function", "Return data without functions.");
    if (typeof value === "symbol") throw this.refusal("a symbol", "Return a text in its place.");
    if (typeof value !== "object" || value === null) return Infinity;
    const known = this.#order.get(value);
    if (known !== undefined) return known;
    if (depth === MAX_VALUE_DEPTH) throw this.#tooDeep();
    return this.#enter(value, depth + 1);
  }

  #enter(value: object, depth: number): number {
    const own = this.#order.size;
    this.#order.set(value, own);
    this.#open.push(value);
    const codec = this.#classes.get(Object.getPrototypeOf(value));
    const earliest = codec ? this.#visitInstance(value, codec, depth) : this.#visitInside(value, depth);
    if (codec && earliest <= own) {
      const fix = "Give it data without the way back: an instance is made from its data, which has to be whole by then.";
      throw this.refusal(`an instance of ${codec.name} that contains itself`, fix);
    }
    if (earliest < own) return earliest;
    for (const closed of this.#open.splice(this.#open.lastIndexOf(value))) this.#order.set(closed, Infinity);
    return Infinity;
  }

  #visitInstance(value: object, codec: ClassCodec, depth: number): number {
    let data: unknown;
    try {
      data = codec.encode(value);
    } catch (cause) {
      throw this.refusal(`an instance of ${codec.name} whose codec throws`, "Correct its `encode`.", cause);
    }
    this.instances.set(value, [codec.name, data]);
    return this.#in(() => ".encode()", data, depth);
  }

  #visitInside(value: object, depth: number): number {
    if (types.isNativeError(value) || value instanceof Error) return this.#visitError(value, depth);
    if (Array.isArray(value) && countPrototypes(value) === 2) return this.#visitArray(value, depth);
    if (types.isMap(value) && countPrototypes(value) === 2) return this.#visitMap(value, depth);
    if (types.isSet(value) && countPrototypes(value) === 2) return this.#visitSet(value, depth);
    if (isPlainObject(value)) return this.#visitObject(value as Record<string, unknown>, depth);
    if (!BUILT_INS.some(([is, prototypes]) => is(value) && countPrototypes(value) === prototypes)) throw this.#refuseInstance(value);
    if (ArrayBuffer.isView(value) && !types.isArrayBuffer(value.buffer)) {
      throw this.refusal("a view on shared memory", "Return a copy of its bytes.");
    }
    if (ArrayBuffer.isView(value) || types.isArrayBuffer(value)) this.#spend(value.byteLength);
    return Infinity;
  }

  #visitObject(value: Record<string, unknown>, depth: number): number {
    if (typeof value["toJSON"] === "function") throw this.refusal("an object with a `toJSON` method", "Return what it gives.");
    if (hasSymbolKey(value)) throw this.refusal("an object with a symbol as key", "Use a text as key.");
    let earliest = Infinity;
    for (const key of Object.keys(value)) {
      if (key === "__proto__") throw this.refusal("an object with the key `__proto__`", "Rename or remove the key.");
      this.#spend(key.length);
      earliest = Math.min(earliest, this.#at(key, value, depth));
    }
    return earliest;
  }

  #visitArray(value: unknown[], depth: number): number {
    this.#spend(value.length);
    let earliest = Infinity;
    for (const key of Object.keys(value)) {
      const isIndex = String(Number(key) >>> 0) === key;
      if (!isIndex) throw this.refusal(`an array with a property ${describe(key)}`, "Return an object, or `[...array]`.");
      earliest = Math.min(earliest, this.#in(Number(key), value[Number(key)], depth));
    }
    return earliest;
  }

  #visitMap(value: Map<unknown, unknown>, depth: number): number {
    let earliest = Infinity;
    for (const [key, item] of value) {
      this.#spend(1);
      const inKey = this.#in(() => ` key ${describe(key)}`, key, depth);
      earliest = Math.min(
        earliest,
        inKey,
        this.#in(() => `.get(${describe(key)})`, item, depth),
      );
    }
    return earliest;
  }

  #visitSet(value: Set<unknown>, depth: number): number {
    let earliest = Infinity;
    let count = 0;
    for (const item of value) {
      this.#spend(1);
      const index = count++;
      earliest = Math.min(
        earliest,
        this.#in(() => ` item ${index}`, item, depth),
      );
    }
    return earliest;
  }

  #visitError(error: Error & { code?: unknown }, depth: number): number {
    const kind = [...NATIVE_ERRORS, AggregateError].find((native) => error instanceof native)?.name;
    const data: ErrorData = { ...(kind !== undefined && { kind }), name: String(error.name), message: String(error.message) };
    if (typeof error.code === "string" || typeof error.code === "number") data.code = error.code;
    if ("cause" in error) data.cause = error.cause;
    if (error instanceof AggregateError) data.errors = [...error.errors];
    this.errors.set(error, data);
    this.#spend(data.name.length + data.message.length);
    return Math.min(this.#in("cause", data.cause, depth), this.#in("errors", data.errors, depth));
  }

  /** The path is left as it is when something throws: it says where. */
  #in(segment: Segment, value: unknown, depth: number): number {
    this.#path.push(segment);
    const earliest = this.visit(value, depth);
    this.#path.pop();
    return earliest;
  }

  #at(key: string, owner: Record<string, unknown>, depth: number): number {
    this.#path.push(key); // before the property is read: a getter may throw
    const earliest = this.visit(owner[key], depth);
    this.#path.pop();
    return earliest;
  }

  /** Counts what the text needs at least, so that it need not be made to find out that it is too large. */
  #spend(bytes: number): void {
    this.#room -= bytes;
    if (this.#room <= 0) throw tooLarge(this.#root, MAX_VALUE_BYTES - this.#room);
  }

  #where(): string {
    const path = this.#path.map(asCode).join("");
    if (path.length <= MAX_PATH_CHARS) return this.#root + path;
    return `${this.#root}${path.slice(0, MAX_PATH_CHARS / 2)}…${path.slice(-MAX_PATH_CHARS / 2)}`;
  }

  refusal(got: string, fix: string, cause?: unknown): GroundcrewError {
    const detail = cause === undefined ? { fix } : { fix, cause };
    return new GroundcrewError("VALUE_UNSERIALIZABLE", `Expected ${this.#where()} to be storable, got ${got}.`, detail);
  }

  #refuseInstance(value: object): GroundcrewError {
    if (types.isPromise(value)) return this.refusal("a promise", "Await it.");
    const name = Object.getPrototypeOf(value)?.constructor?.name;
    const got = typeof name === "string" && name !== "" ? `an instance of ${name}` : "an object with a prototype of its own";
    return this.refusal(got, "Return plain data, or register the class with the `classes` setting.");
  }

  #tooDeep(): GroundcrewError {
    const message = `Expected ${this.#root} to be nested at most ${MAX_VALUE_DEPTH} deep, got more at ${this.#where()}.`;
    return new GroundcrewError("LIMIT_EXCEEDED", message, { fix: "Return flat data, with ids in the place of nested objects." });
  }
}

/** A longer path loses its middle: a message is for reading. */
const MAX_PATH_CHARS = 1_000;

/** One step of a path: a property, an element, or what else there is inside a value. */
type Segment = string | number | (() => string);

function asCode(segment: Segment): string {
  if (typeof segment === "function") return segment();
  if (typeof segment === "number") return `[${segment}]`;
  const isName = segment.length <= 80 && /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(segment);
  return isName ? `.${segment}` : `[${describe(segment)}]`;
}

const reading: Partial<StringifyOperations> = {
  /** Only the bytes of the view: its buffer may be a pool, with bytes of somebody else in it. */
  viewInfo(view: ArrayBufferView) {
    const { buffer, byteOffset, byteLength } = view;
    const part = byteLength === buffer.byteLength ? buffer : new Uint8Array(buffer, byteOffset, byteLength).slice().buffer;
    return { buffer: part, byteOffset: 0, byteLength, bufferByteLength: byteLength };
  },
};

// ——— And back: nothing is guessed. ———

/** An object with one of the codec's own keys: a stand-in, or a value that could be mistaken for one and hence gets one. */
type Marked = { [key: string]: JsonValue };

function isMarked(value: unknown): value is Marked {
  return typeof value === "object" && value !== null && (Object.hasOwn(value, "$rich") || Object.hasOwn(value, "$blob"));
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

/** devalue takes an index that leads nowhere for `undefined`; here it is an error. */
function checkReferences(rich: JsonValue): void {
  if (typeof rich === "number" && Number.isInteger(rich) && rich >= -6 && rich <= -3) return; // NaN, the infinities, -0
  if (!Array.isArray(rich) || typeof rich[0] !== "object" || rich[0] === null) throw new Error("no value stands at the start");
  for (const entry of rich) {
    if (typeof entry !== "object" || entry === null) continue;
    for (const reference of referencesIn(entry)) {
      if (!isReference(reference, rich.length)) throw new Error(`nothing stands at ${JSON.stringify(reference)}`);
    }
  }
}

const [HOLE, SPARSE, FIRST_CONSTANT] = [-2, -7, -6]; // of devalue's format

function isReference(value: JsonValue, count: number): boolean {
  return Number.isInteger(value) && (value as number) >= FIRST_CONSTANT && (value as number) < count && value !== HOLE;
}

/** The places of an entry where devalue expects an index, or a constant below zero. */
function referencesIn(entry: JsonValue[] | { [key: string]: JsonValue }): JsonValue[] {
  if (!Array.isArray(entry)) return Object.values(entry);
  if (entry[0] === SPARSE) return entry.filter((_, i) => i > 2 && i % 2 === 1); // length, then pairs of place and reference
  if (typeof entry[0] !== "string") return entry.filter((item) => item !== HOLE);
  if (/Array$|^DataView$/.test(entry[0])) return []; // a buffer, an offset and a length, which devalue checks
  return entry.filter((item) => typeof item === "number");
}

const parsing: Partial<ParseOperations> = {
  createNullPrototypeObject: () => ({}),
  fromISOString(iso) {
    const date = new Date(iso);
    const again = Number.isNaN(date.getTime()) ? "" : date.toISOString();
    if (again !== iso) throw new Error(`${describe(iso)} is not a date`);
    return date;
  },
};

function revivers(classes: ReadonlyMap<string, ClassCodec>) {
  const errors = new Map<ErrorData, Error>();
  const instances = new Set<unknown>();
  return {
    /** On a cycle this is called with the same data twice, the second time with all of it. */
    error(data: ErrorData): Error {
      const error = errors.get(data) ?? newError(data);
      errors.set(data, error);
      return fillError(error, data);
    },
    class(data: unknown): unknown {
      if (!Array.isArray(data) || data.length !== 2 || instances.has(data)) throw new Error("an instance has no data of its own");
      instances.add(data);
      const codec = classes.get(data[0]);
      if (!codec) throw unreadable(`its class ${describe(data[0])} is not registered`, undefined, REGISTER);
      return codec.decode(data[1]);
    },
  };
}

function newError({ kind, name, message }: ErrorData): Error {
  if (typeof name !== "string" || typeof message !== "string") throw new Error("an error has no name or message");
  if (kind === undefined) return new Error();
  if (kind === "AggregateError") return new AggregateError([]);
  const native = NATIVE_ERRORS.find((candidate) => candidate.name === kind);
  if (!native) throw new Error(`there is no kind of error ${describe(kind)}`);
  return new native();
}

function fillError(error: Error, data: ErrorData): Error {
  const hidden = { message: data.message, stack: `${data.name}: ${data.message}`, cause: data.cause, errors: data.errors, name: data.name };
  for (const [key, value] of Object.entries(hidden)) {
    const isNeeded = key === "name" ? error.name !== value : key in data || key === "stack";
    if (isNeeded) Object.defineProperty(error, key, { value, configurable: true, writable: true, enumerable: false });
  }
  if (data.code !== undefined) Object.assign(error, { code: data.code });
  return error;
}

// ——— What can be wrong. ———

function badClass(codec: ClassCodec, rule: string): GroundcrewError {
  return new GroundcrewError("CONFIG_INVALID", `Expected each of \`classes\` to be right, but ${describe(codec.name)} ${rule}.`);
}

function tooLarge(root: string, bytes: number): GroundcrewError {
  const message = `Expected ${root} to be at most ${MAX_VALUE_BYTES} bytes, got ${bytes} or more.`;
  return new GroundcrewError("LIMIT_EXCEEDED", message, { fix: "Keep it in object storage and return its address." });
}

const REGISTER = "Register it again with the `classes` setting, under the same name.";
const RESTORE = "If it was written by a newer release, finish the roll-out; otherwise restore the store from a backup.";

function unreadable(why: string, cause?: unknown, fix = RESTORE): GroundcrewError {
  const detail = cause === undefined ? { fix } : { fix, cause };
  return new GroundcrewError("EVENT_UNREADABLE", `A recorded value cannot be read: ${why}.`, detail);
}
