/** Plain values, which stand for themselves: one walk that only looks, one stringify. */
import { MAX_VALUE_BYTES, MAX_VALUE_DEPTH } from "../limits.ts";
import { isMarked } from "./json-value.ts";

/** The text of a plain JSON value, or undefined for any other: the reason is found by the slower walk that knows paths. */
export function plainText(value: unknown): string | undefined {
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
export function isPlainObject(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) return true;
  return Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, "isPrototypeOf");
}

export function hasSymbolKey(value: object): boolean {
  const symbols = Object.getOwnPropertySymbols(value);
  return symbols.length > 0 && symbols.some((symbol) => Object.prototype.propertyIsEnumerable.call(value, symbol));
}

/** Tells a built-in from its subclasses, in every realm: a Map has two prototypes, an instance of a class that extends it three. */
export function countPrototypes(value: object): number {
  let count = 0;
  for (let at = Object.getPrototypeOf(value); at !== null && count < 8; at = Object.getPrototypeOf(at)) count++;
  return count;
}
