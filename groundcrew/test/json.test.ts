import { describe, expect, test } from "vitest";
import { toJson } from "../src/json.ts";
import { toModelOutput } from "../src/tool/tool.ts";

const said = (value: unknown) => JSON.parse(toJson(value));

describe("what JSON says of", () => {
  test.each([
    ["bytes", new Uint8Array([1, 2]), "AQI="],
    ["a Buffer, whatever it says of itself", { file: Buffer.from("hi") }, { file: "aGk=" }],
    ["a part of a buffer", new Uint8Array([0, 1, 2, 3]).subarray(1, 3), "AQI="],
    ["an ArrayBuffer", new Uint8Array([1, 2]).buffer, "AQI="],
    ["a regular expression", /a+/gi, "/a+/gi"],
    ["a Map of texts", new Map([["a", 1]]), { a: 1 }],
    ["a Map of anything else", new Map<unknown, number>([[1, 1]]), [[1, 1]]],
    [
      "a Map whose keys look alike",
      new Map<unknown, string>([
        [1, "number"],
        ["1", "text"],
      ]),
      [
        [1, "number"],
        ["1", "text"],
      ],
    ],
    ["a Set in a Map", new Map([["a", new Set([12n])]]), { a: ["12"] }],
    ["a Date", new Date(0), "1970-01-01T00:00:00.000Z"],
    ["an address", new URL("https://a.example/b?c"), "https://a.example/b?c"],
    ["an error", new RangeError("too far"), { name: "RangeError", message: "too far" }],
    ["nothing", undefined, null],
    ["a function", () => 1, null],
  ])("%s", (_name, value, expected) => {
    expect(said(value)).toEqual(expected);
  });

  test("a value that contains itself ends, and one that is there twice is there twice", () => {
    const shared = { a: 1 };
    const cyclic: Record<string, unknown> = { first: shared, second: shared, map: new Map() };
    (cyclic["map"] as Map<string, unknown>).set("up", cyclic);
    expect(said(cyclic)).toEqual({ first: { a: 1 }, second: { a: 1 }, map: { up: "[circular]" } });
  });

  test("a key that would change an object's nature is a key", () => {
    expect(toJson(new Map([["__proto__", 1]]))).toBe('{"__proto__":1}');
  });
});

test("a model reads of a tool's result what a program reads of it", async () => {
  const output = {
    bytes: new Uint8Array([1, 2]),
    pattern: /a/,
    map: new Map<unknown, number>([
      [1, 1],
      ["1", 2],
    ]),
  };
  expect(await toModelOutput(undefined, "call", {}, output)).toEqual({ type: "json", value: said(output) });
});
