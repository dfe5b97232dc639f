import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { Socket } from "node:net";
import { Readable } from "node:stream";
import vm from "node:vm";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GroundcrewError, isError } from "../../src/errors.ts";
import { BLOB_THRESHOLD_BYTES, MAX_VALUE_BYTES, MAX_VALUE_DEPTH } from "../../src/limits.ts";
import { Codec, type Encoding } from "../../src/persistence/codec.ts";
import { hashValue } from "../../src/persistence/hash.ts";
import { blobHash, type JsonValue } from "../../src/persistence/json-value.ts";
import type { ClassCodec } from "../../src/persistence/rich.ts";

class Money {
  readonly amount: bigint;
  readonly currency: unknown;
  constructor(amount: bigint, currency: unknown) {
    this.amount = amount;
    this.currency = currency;
  }
}

const money: ClassCodec<Money> = {
  name: "Money",
  class: Money,
  encode: ({ amount, currency }) => ({ amount, currency }),
  decode(data) {
    const { amount, currency } = data as Money;
    return new Money(amount, currency);
  },
};

const codec = new Codec([money]);

/** What a later process reads: only the text and the blob, as they were stored. */
function stored({ text, blob }: Encoding): unknown {
  const bytes = text === undefined ? undefined : Buffer.from(text);
  const json = bytes === undefined ? undefined : (JSON.parse(bytes.toString()) as JsonValue);
  return codec.decode(json, (address) => (blob?.hash === address ? Buffer.from(blob.data).toString() : undefined));
}

function roundTrip(value: unknown): unknown {
  return stored(codec.encode(value, "value"));
}

function refusal(act: () => unknown): GroundcrewError {
  try {
    act();
  } catch (error) {
    if (error instanceof GroundcrewError) return error;
    throw error;
  }
  throw new Error("Expected it to be refused.");
}

/** The report of a failed property has the seed and the path to run it again with. */
function holds<T>(property: fc.IProperty<[T]>, numRuns = 300): void {
  fc.assert(property, { numRuns, verbose: fc.VerbosityLevel.Verbose });
}

const text = fc.string({ unit: fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("\0", "\ud800", "\udfff", "$rich", "<")) });
const reserved = fc.constantFrom("$rich", "$blob", "constructor", "prototype", "toString", "length", "then");
const key = fc.oneof(text, reserved).filter((name) => name !== "__proto__");

const finite = fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => number + 0); // -0 + 0 is 0
const plainTree = fc.letrec<{ value: unknown; array: unknown[]; object: object }>((tie) => ({
  value: fc.oneof({ maxDepth: 5 }, fc.constantFrom(null, true, false), text, finite, tie("array"), tie("object")),
  array: fc.array(tie("value"), { maxLength: 6 }),
  object: fc.dictionary(key, tie("value"), { maxKeys: 6, noNullPrototype: true }),
}));
const plain = plainTree.value.filter((value) => !hasMark(value));

function hasMark(value: unknown): boolean {
  return typeof value === "object" && value !== null && (Object.hasOwn(value, "$rich") || Object.hasOwn(value, "$blob"));
}

const leaf = fc.oneof(
  fc.constantFrom(null, undefined, true, Number.NaN, Infinity, -Infinity, -0, 0, /a\/b</giu, new Date(Number.NaN)),
  text,
  fc.double(),
  fc.bigInt(),
  fc.date(),
  fc.uint8Array(),
  fc.float64Array(),
  fc.bigUint64Array(),
  fc.webUrl().map((url) => new URL(url)),
  fc.array(fc.nat(255)).map((bytes) => Uint8Array.from(bytes).buffer),
);

/** Builds containers bottom up and lets each take any of those before it, so that references are shared, then closes cycles. */
const rich = fc
  .tuple(
    fc.array(leaf, { minLength: 1, maxLength: 6 }),
    fc.array(fc.record({ kind: fc.nat(5), parts: fc.array(fc.nat(), { maxLength: 4 }), name: key }), { maxLength: 10 }),
    fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 3 }),
  )
  .map(([leaves, containers, cycles]) => {
    const pool: unknown[] = [...leaves];
    const open: unknown[][] = [];
    for (const { kind, parts, name } of containers) {
      const items = parts.map((part) => pool[part % pool.length]);
      const entries = items.map((item) => [item, items] as const);
      const price = new Money(1n, Object.fromEntries([[name, leaves[0]]]));
      pool.push([items, new Map(entries), new Set(items), { [name]: items, items }, failure(name, items[0]), price][kind]);
      if (kind === 0) open.push(items);
    }
    for (const [from, to] of cycles) open[from % Math.max(open.length, 1)]?.push(pool[to % pool.length]);
    return pool;
  });

/** Without a stack: it is not recorded, and the comparison does not look at it. */
function failure(message: string, cause: unknown): Error {
  return Object.assign(new TypeError(message, { cause }), { code: "E_TEST" });
}

/** Every object of the value in the order of a walk, by the number it was first met with: equal lists mean equal sharing. */
function sharing(value: unknown, met = new Map<unknown, number>(), order: number[] = []): number[] {
  if (typeof value !== "object" || value === null) return order;
  const known = met.get(value);
  order.push(known ?? met.size);
  if (known !== undefined) return order;
  met.set(value, met.size);
  const inside = contents(value);
  for (const item of inside) sharing(item, met, order);
  return order;
}

function contents(value: object): unknown[] {
  if (value instanceof Map) return [...value].flat();
  if (value instanceof Set) return [...value];
  if (value instanceof Error) return [value.cause];
  return ArrayBuffer.isView(value) ? [value.buffer] : Object.values(value);
}

describe("what is recorded comes back", () => {
  test("a plain JSON value is used as it is and its text is the only text made", () => {
    holds(
      fc.property(plain, (value) => {
        const encoding = codec.encode(value, "value");
        expect(encoding.json).toBe(value);
        expect(encoding.text).toBe(JSON.stringify(value));
        assert.deepStrictEqual(stored(encoding), value);
      }),
    );
  });

  test("a rich value comes back equal, with the same shared references and the same cycles", () => {
    holds(
      fc.property(rich, (value) => {
        const back = roundTrip(value);
        assert.deepStrictEqual(back, value);
        expect(sharing(back)).toEqual(sharing(value));
      }),
    );
  });

  test("what the codec gives and what is read from the stored text decode to the same", () => {
    holds(
      fc.property(rich, (value) => {
        const encoding = codec.encode(value, "value");
        expect(encoding.json).toEqual(JSON.parse(encoding.text as string));
      }),
    );
  });

  test.each([
    ["NaN", Number.NaN],
    ["-0", -0],
    ["a bigint", 12n],
    ["a hole", Object.assign(Array(3), { 0: 1, 2: undefined })],
    ["a very sparse array", Object.assign([], { 4000000: 1 })],
    ["undefined inside", { a: undefined, b: [undefined] }],
    ["a DataView", new DataView(Uint8Array.of(1, 2, 3).buffer)],
    ["search parameters", new URLSearchParams("a=1&a=2")],
    ["keys that look like the codec's own", { $rich: [1], $blob: "x", bytes: 1 }],
    ["a lone surrogate and NUL in a rich value", new Map([["\ud800\0", "\udc00<\u2028"]])],
    ["a key that every object has", { constructor: 1n, toString: null, hasOwnProperty: 2 }],
    ["an error in the data of a class", new Money(1n, failure("in a class", undefined))],
    ["a class in a class", new Money(1n, new Map([["inner", new Money(2n, "EUR")]]))],
  ])("%s", (_name, value) => {
    assert.deepStrictEqual(roundTrip(value), value);
  });

  test("undefined has no field, and a missing field is undefined", () => {
    expect(codec.encode(undefined, "value")).toEqual({ json: undefined, text: undefined });
    expect(roundTrip(undefined)).toBe(undefined);
  });

  test("an error keeps its kind, name, message, cause, code and errors, and loses its stack", () => {
    class PaymentError extends RangeError {
      override name = "PaymentError";
    }
    const inner = new GroundcrewError("TOOL_FAILED", "The tool failed.");
    const thrown = new AggregateError([new PaymentError("no money"), new DOMException("late", "TimeoutError")], "both", { cause: inner });
    const back = roundTrip({ thrown }) as { thrown: AggregateError };
    expect(back.thrown).toBeInstanceOf(AggregateError);
    expect(back.thrown.errors[0]).toBeInstanceOf(RangeError);
    expect(back.thrown.errors[0]).toMatchObject({ name: "PaymentError", message: "no money", stack: "PaymentError: no money" });
    expect(back.thrown.errors[1]).toMatchObject({ name: "TimeoutError", message: "late" });
    expect(back.thrown.cause).toMatchObject({ name: "GroundcrewError", message: "The tool failed.", code: "TOOL_FAILED" });
    expect(JSON.stringify(codec.encode(thrown, "value").json)).not.toContain("codec.test");
  });

  test("an error that is its own cause, or holds itself in its errors, is one error again", () => {
    const own = new Error("own");
    own.cause = own;
    const many = new AggregateError([], "many");
    many.errors.push(many, own);
    const back = roundTrip([many, own]) as [AggregateError, Error];
    expect(back[0].errors[0]).toBe(back[0]);
    expect(back[0].errors[1]).toBe(back[1]);
    expect(back[1].cause).toBe(back[1]);
    expect(Object.hasOwn(roundTrip(new Error("x")) as Error, "cause")).toBe(false);
  });

  test("an object without prototype comes back as a plain object, alone or inside a rich value", () => {
    const bare = Object.assign(Object.create(null), { a: 1 });
    assert.deepStrictEqual(roundTrip(bare), { a: 1 });
    assert.deepStrictEqual(roundTrip([bare, 1n]), [{ a: 1 }, 1n]);
  });

  test("a Buffer comes back as a Uint8Array, and never a byte of the pool it lies in", () => {
    const pool = Buffer.from("a secret of somebody else");
    const view = pool.subarray(2, 3);
    const back = roundTrip([view, new Uint16Array(Uint16Array.of(1, 2, 3).buffer, 2, 1), new DataView(pool.buffer, pool.byteOffset, 1)]);
    assert.deepStrictEqual(back, [Uint8Array.of(115), Uint16Array.of(2), new DataView(Uint8Array.of(97).buffer)]);
    expect((back as [Uint8Array])[0].buffer.byteLength).toBe(1);
  });

  test("values of another realm are taken like our own", () => {
    const far = `({ list: [1, new Date(0)], map: new Map([["a", { b: 1n }]]), bytes: new Uint8Array([1]), error: new TypeError("far") })`;
    const near = { list: [1, new Date(0)], map: new Map([["a", { b: 1n }]]), bytes: Uint8Array.of(1), error: { name: "TypeError" } };
    expect(roundTrip(vm.runInNewContext(far))).toMatchObject(near);
    expect(codec.encode(vm.runInNewContext(`({ a: [{ b: 1 }] })`), "value").text).toBe(`{"a":[{"b":1}]}`);
  });

  test("the key __proto__ is refused with its path and pollutes nothing", () => {
    const hostile = JSON.parse(`{ "args": [{ "__proto__": { "polluted": true } }] }`);
    const error = refusal(() => codec.encode(hostile, "input"));
    expect(error).toMatchObject({ code: "VALUE_UNSERIALIZABLE" });
    expect(error.message).toContain("Expected input.args[0] to be storable, got an object with the key `__proto__`.");
    for (const owner of [JSON.parse(`{"__proto__": 1}`), ["null", "__proto__", 1]]) {
      expect(refusal(() => codec.decode({ $rich: [owner, { polluted: 2 }, true] }, () => undefined)).code).toBe("EVENT_UNREADABLE");
    }
    expect("polluted" in {}).toBe(false);
  });
});

describe("what cannot come back as it was is refused with its path", () => {
  const cases: [name: string, value: unknown, path: string, got: string][] = [
    ["a function", { items: [1, 2, 3, { onClick() {} }] }, ".items[3].onClick", "a function"],
    ["a symbol", [Symbol("s")], "[0]", "a symbol"],
    ["a promise", { "a b": Promise.resolve() }, `["a b"]`, "a promise"],
    ["a WeakMap", new Map([["k", new WeakMap()]]), `.get("k")`, "an instance of WeakMap"],
    ["a map key", new Map([[() => 1, 1]]), " key a function", "a function"],
    ["an item of a set", new Set([1, Symbol.iterator]), " item 1", "a symbol"],
    ["a socket", { connection: new Socket() }, ".connection", "an instance of Socket"],
    ["a stream", new Readable(), "", "an instance of Readable"],
    ["a Response", { response: new Response("x") }, ".response", "an instance of Response"],
    ["a class instance", { a: new (class Cart {})() }, ".a", "an instance of Cart"],
    ["an instance of a subclass of a registered class", new (class Coin extends Money {})(1n, "EUR"), "", "an instance of Coin"],
    ["a subclass of a built-in", [new (class Registry extends Map {})()], "[0]", "an instance of Registry"],
    ["a subclass of Array", [new (class Stack extends Array {})()], "[0]", "an instance of Stack"],
    ["a class instance with toJSON", { at: { toJSON: () => 1 } }, ".at", "an object with a `toJSON` method"],
    ["a hidden toJSON", Object.defineProperty({ a: 1 }, "toJSON", { value: () => 2 }), "", "an object with a `toJSON` method"],
    ["a symbol as key", { [Symbol("s")]: 1 }, "", "an object with a symbol as key"],
    ["a match, which is an array with properties", { m: "ab".match(/b/) }, ".m", `an array with a property "index"`],
    ["an object with an own prototype", [Object.create({ inherited: 1 })], "[0]", "an instance of Object"],
    ["a boxed text", [new String("x")], "[0]", "an instance of String"],
    ["shared memory", [new Uint8Array(new SharedArrayBuffer(1))], "[0]", "a view on shared memory"],
    [
      "a getter that throws",
      { a: Object.defineProperty({}, "b", { enumerable: true, get: fail }) },
      ".a.b",
      "a value that throws when it is read",
    ],
    ["a revoked proxy", [revoked()], "[0]", "a value that throws when it is read"],
    ["a cause", new Error("x", { cause: { f: setTimeout } }), ".cause.f", "a function"],
    ["an aggregated error", new AggregateError([1, Symbol.iterator]), ".errors[1]", "a symbol"],
    ["the data of a class", { price: new Money(1n, { f() {} }) }, ".price.encode().currency.f", "a function"],
  ];
  test.each(cases)("%s", (_name, value, path, got) => {
    const error = refusal(() => codec.encode(value, '`step "fetch"`.value'));
    expect(error.code).toBe("VALUE_UNSERIALIZABLE");
    expect(error.message).toContain(`Expected \`step "fetch"\`.value${path} to be storable, got ${got}.`);
    expect(error.fix).toBeTruthy();
  });

  test("an instance that contains itself, by whatever way round", () => {
    const direct = new Money(1n, {});
    Object.assign(direct.currency as object, { direct });
    const outer: Record<string, unknown> = {};
    const inner = { outer };
    Object.assign(outer, { inner, late: new Money(1n, inner) }); // `inner` was seen, with its cycle, before the class is
    Object.assign(inner, { again: outer["late"] });
    const second: Record<string, unknown> = {};
    const closed = { second };
    Object.assign(second, { closed, late: new Money(1n, closed) }); // through an object that is no longer being walked
    for (const value of [direct, outer, second]) {
      expect(refusal(() => codec.encode(value, "value")).message).toContain("an instance of Money that contains itself");
    }
    const apart: unknown[] = [];
    apart.push(apart, new Money(1n, "EUR")); // a cycle beside it is none of its business
    assert.deepStrictEqual(roundTrip(apart), apart);
  });

  test("a class codec that throws is named, with what it threw", () => {
    const broken = new Codec([{ ...money, encode: fail }]);
    const error = refusal(() => broken.encode([new Money(1n, "EUR")], "value"));
    expect(error).toMatchObject({ code: "VALUE_UNSERIALIZABLE", cause: new Error("no") });
    expect(error.message).toContain("value[0]");
  });

  test("a class or a name that is registered twice", () => {
    const wrong = [
      [money, { ...money, class: Date }],
      [money, { ...money, name: "Other" }],
      [{ ...money, class: Object }],
      [{ ...money, name: "" }],
    ];
    for (const classes of wrong) expect(refusal(() => new Codec(classes)).code).toBe("CONFIG_INVALID");
  });

  test("a class may have any name: even one of devalue's own, even with quotes", () => {
    for (const name of ["Date", "error", "class", `a"b\\c`, "__proto__"]) {
      const named = new Codec([{ ...money, name }]);
      const value = [new Money(1n, new Date(0)), new Date(1), failure("x", undefined)];
      const { json } = named.encode(value, "value");
      assert.deepStrictEqual(
        named.decode(json, () => undefined),
        value,
      );
    }
  });
});

function revoked(): unknown {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

function fail(): never {
  throw new Error("no");
}

describe("bounds", () => {
  function nested(depth: number, innermost: unknown): unknown {
    let value = innermost;
    for (let i = 0; i < depth; i++) value = i % 2 ? [value] : { a: value };
    return value;
  }

  test.each([
    ["plain", 1],
    ["rich", 1n],
  ])("a %s value may be as deep as the limit and no deeper", (_name, innermost) => {
    assert.deepStrictEqual(roundTrip(nested(MAX_VALUE_DEPTH, innermost)), nested(MAX_VALUE_DEPTH, innermost));
    const error = refusal(() => codec.encode(nested(MAX_VALUE_DEPTH + 1, [innermost]), "value"));
    expect(error.code).toBe("LIMIT_EXCEEDED");
    expect(error.message).toMatch(/nested at most 256 deep, got more at value\.a\[0\]\.a/);
  });

  test("a value a million deep is refused, not a crash", () => {
    let list: unknown = null;
    let error: unknown = null;
    let map: unknown = null;
    for (let i = 0; i < 1_000_000; i++) {
      list = [list];
      error = i % 100 === 0 ? new Error("next", { cause: error }) : error;
      map = i % 10 === 0 ? new Map([[map, 1]]) : map;
    }
    const endless = new Codec([{ ...money, encode: () => new Money(1n, "EUR") }]);
    for (const value of [list, error, map]) expect(refusal(() => codec.encode(value, "value")).code).toBe("LIMIT_EXCEEDED");
    expect(refusal(() => endless.encode(new Money(1n, "EUR"), "value")).code).toBe("LIMIT_EXCEEDED");
    expect(refusal(() => codec.decode({ $rich: chain(100_000) }, () => undefined)).code).toBe("EVENT_UNREADABLE");
  });

  function chain(length: number): JsonValue[] {
    return Array.from({ length }, (_, i) => [Math.min(i + 1, length - 1)]);
  }

  test("shared references do not multiply: 2^200 paths through 200 objects cost 200 objects", () => {
    let value: object = {};
    for (let i = 0; i < 200; i++) value = { a: value, b: value };
    expect(codec.encode(value, "value").text?.length).toBeLessThan(10_000);
  });

  test("a value at the threshold stays in the event, one byte more goes to a blob under its hash", () => {
    const atThreshold = "é".repeat((BLOB_THRESHOLD_BYTES - 2) / 2);
    expect(codec.encode(atThreshold, "value")).toEqual({ json: atThreshold, text: JSON.stringify(atThreshold) });
    const { json, text, blob } = codec.encode(`${atThreshold}a`, "value");
    expect(json).toEqual({ $blob: blob?.hash, bytes: BLOB_THRESHOLD_BYTES + 1 });
    expect(text).toBe(JSON.stringify(json));
    expect(blob).toEqual({ hash: hash("sha256", `"${atThreshold}a"`), data: `"${atThreshold}a"` });
    expect(blobHash(json)).toBe(blob?.hash);
    expect(blobHash({ a: 1 })).toBe(undefined);
  });

  test("large values come back from their blob, plain and rich, with their lone surrogates", () => {
    const plainValue = { text: "\ud800\0x".repeat(BLOB_THRESHOLD_BYTES) };
    const richValue = [plainValue, plainValue, new Uint8Array(BLOB_THRESHOLD_BYTES), { $blob: "not a reference" }];
    for (const value of [plainValue, richValue]) assert.deepStrictEqual(roundTrip(value), value);
  });

  test("a value above the limit is refused with both sizes, and before its text is made when that can be seen", () => {
    const chunk = "x".repeat(1024 * 1024);
    const room = "é".repeat((MAX_VALUE_BYTES - 2) / 2);
    expect(codec.encode(room, "value").blob?.data.length).toBe(room.length + 2);
    const tooMany = Array(MAX_VALUE_BYTES).fill(0);
    for (const value of [
      `${room}a`,
      Array(1_000_000).fill(chunk),
      [1n, ...Array(33).fill(chunk)],
      new Uint8Array(MAX_VALUE_BYTES),
      tooMany,
    ]) {
      const error = refusal(() => codec.encode(value, "value"));
      expect(error.code).toBe("LIMIT_EXCEEDED");
      expect(error.message).toMatch(new RegExp(`^Expected value to be at most ${MAX_VALUE_BYTES} bytes, got \\d{8,} or more`));
    }
  });
});

describe("what cannot be read is an error, never an empty value", () => {
  const noBlob = () => undefined;

  test("a record with anything changed in it gives the typed error or a value, never another error", () => {
    const replacement = fc.oneof(fc.integer({ min: -9, max: 30 }), fc.constantFrom(null, "", "Map", "class", "error", [], {}, 1.5, 1e9));
    const edit = fc.tuple(fc.nat(), replacement);
    holds(
      fc.property(fc.tuple(rich, fc.array(edit, { minLength: 1, maxLength: 3 })), ([value, edits]) => {
        const json = JSON.parse(codec.encode([value, 1n], "value").text as string);
        for (const [at, replacement] of edits) replaceAt(json, at, replacement);
        try {
          expect(codec.decode(json, noBlob) ?? "nothing").not.toBe("nothing");
        } catch (error) {
          if (!isError(error, "EVENT_UNREADABLE")) throw error;
        }
      }),
      1_000,
    );
  });

  /** Replaces one of all places below `$rich`, `at` counted round. */
  function replaceAt(json: { $rich: unknown }, at: number, replacement: unknown): void {
    const places: [owner: Record<string, unknown>, key: string][] = [];
    const collect = (owner: object): void => {
      for (const [key, item] of Object.entries(owner)) {
        places.push([owner as Record<string, unknown>, key]);
        if (typeof item === "object" && item !== null) collect(item);
      }
    };
    collect(json);
    const [owner, key] = places[at % places.length] as [Record<string, unknown>, string];
    owner[key] = structuredClone(replacement);
  }

  const malformed: [name: string, json: JsonValue][] = [
    ["an index that leads nowhere", { $rich: [[1]] }],
    ["an index below all constants", { $rich: [{ a: -8 }] }],
    ["a hole where none can be", { $rich: [{ a: -2 }] }],
    ["a broken index", { $rich: [[0.5]] }],
    ["an index in a sparse array that leads nowhere", { $rich: [[-7, 3, 0, 9]] }],
    ["an undefined at the top", { $rich: -1 }],
    ["a null at the top", { $rich: [null] }],
    ["nothing at the top", { $rich: [] }],
    ["a text", { $rich: "[[1]]" }],
    ["null", { $rich: null }],
    ["an unknown type", { $rich: [["Temporal.Never", "x"]] }],
    ["a date that is none", { $rich: [["Date", "yesterday"]] }],
    ["a date of another form", { $rich: [["Date", "2026"]] }],
    ["an unknown key beside it", { $rich: [[1], 2], version: 2 }],
    ["both forms", { $rich: [[1], 2], $blob: "x", bytes: 1 }],
    ["an unregistered class", { $rich: [["class", 1], [2, 3], "Gone", 1] }],
    ["an instance without data", { $rich: [["class", 1], [2], "Money"] }],
    ["an instance in its own data", { $rich: [["class", 1], [2, 0], "Money"] }],
    ["an error without name", { $rich: [["error", 1], { message: 2 }, "x"] }],
    ["an error of no known kind", { $rich: [["error", 1], { kind: 2, name: 2, message: 2 }, "constructor"] }],
    ["bytes without a buffer", { $rich: [["Uint8Array", 1], 1_000_000_000] }],
    ["a number that is none", { $rich: [["BigInt", "12x"]] }],
    ["a reference without size", { $blob: "x" }],
    ["a reference that is no text", { $blob: null, bytes: 1 }],
  ];
  test.each(malformed)("%s", (_name, json) => {
    const error = refusal(() => codec.decode(json, noBlob));
    expect(error.code).toBe("EVENT_UNREADABLE");
    expect(error.fix).toBeTruthy();
  });

  test("a class that is not registered any more is named, with what to do", () => {
    const { json } = codec.encode(new Money(1n, "EUR"), "value");
    const error = refusal(() => new Codec().decode(json, noBlob));
    expect(error.message).toContain(`its class "Money" is not registered. Register it again`);
  });

  test("a class codec that throws", () => {
    const { json } = codec.encode(new Money(1n, "EUR"), "value");
    const broken = new Codec([{ ...money, decode: fail }]);
    expect(refusal(() => broken.decode(json, noBlob))).toMatchObject({ code: "EVENT_UNREADABLE", cause: new Error("no") });
  });

  test("a blob that is missing, damaged, not JSON, or another reference", () => {
    const inside = (data: string): JsonValue => ({ $blob: hash("sha256", data), bytes: data.length });
    const again = JSON.stringify(inside("1"));
    expect(refusal(() => codec.decode(inside("1"), noBlob)).message).toContain("is missing");
    expect(refusal(() => codec.decode(inside("1"), () => "2")).message).toContain("is damaged");
    expect(refusal(() => codec.decode(inside("{"), () => "{")).message).toContain("is not JSON");
    expect(refusal(() => codec.decode(inside(again), () => again)).code).toBe("EVENT_UNREADABLE");
  });

  test("a store that fails while the blob is read is the store's error", () => {
    const down = new GroundcrewError("STORE_UNAVAILABLE", "down");
    const read = () => {
      throw down;
    };
    expect(refusal(() => codec.decode({ $blob: "x", bytes: 1 }, read))).toBe(down);
  });
});

describe("hashes", () => {
  test("the order of keys does not matter, everything else does", () => {
    holds(
      fc.property(fc.dictionary(text, fc.oneof(text, fc.integer())), (value) => {
        const reversed = Object.fromEntries(Object.entries(value).reverse());
        expect(hashValue(reversed)).toBe(hashValue(value));
        expect(hashValue({ ...value, other: 1 })).not.toBe(hashValue({ ...value, other: 2 }));
      }),
    );
  });

  test("lone surrogates hash, and not like what they are written as", () => {
    const values: (JsonValue | undefined)[] = [
      "\ud800",
      "\udc00",
      "\\ud800",
      `"\\ud800"`,
      "\ufffd",
      ["\ud800"],
      { "\ud800": 1 },
      { "\udc00": 1 },
      undefined,
      null,
      "",
    ];
    expect(new Set(values.map((value) => hashValue(value))).size).toBe(values.length);
    expect(hashValue("\ud800")).toBe(hashValue("\ud800"));
  });

  test("the hash is that of RFC 8785", () => {
    expect(hashValue({ b: [1e21, 0.1], a: "é" })).toBe(hash("sha256", `{"a":"é","b":[1e+21,0.1]}`));
  });
});
