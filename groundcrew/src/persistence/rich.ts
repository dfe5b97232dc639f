/** Values that JSON alone would change: one walk that checks all and knows where it is, then devalue. `revive.ts` is the way back. */
import { types } from "node:util";
import { type StringifyOperations, stringify } from "devalue";
import { describe, GroundcrewError, isError } from "../errors.ts";
import { MAX_VALUE_BYTES, MAX_VALUE_DEPTH } from "../limits.ts";
import { countPrototypes, hasSymbolKey, isPlainObject } from "./plain.ts";

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

export type ClassTable = Map<object, ClassCodec>;

/** What devalue writes for the value. */
export function richText(value: unknown, root: string, classes: ClassTable): string {
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
export interface ErrorData {
  /** Which of the language's own classes it is, when not just `Error`. */
  kind?: string;
  name: string;
  message: string;
  code?: string | number;
  cause?: unknown;
  errors?: unknown[];
}

/** The language's own classes of errors, beside AggregateError, which is made in another way. */
export const NATIVE_ERRORS = [EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError] as const;

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

export function tooLarge(root: string, bytes: number): GroundcrewError {
  const message = `Expected ${root} to be at most ${MAX_VALUE_BYTES} bytes, got ${bytes} or more.`;
  return new GroundcrewError("LIMIT_EXCEEDED", message, { fix: "Keep it in object storage and return its address." });
}
