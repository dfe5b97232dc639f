/** The way back from what `rich.ts` wrote: nothing is guessed. */
import { type ParseOperations, unflatten } from "devalue";
import { describe, GroundcrewError, isError } from "../errors.ts";
import type { JsonValue } from "./json-value.ts";
import { type ClassCodec, type ErrorData, NATIVE_ERRORS } from "./rich.ts";

/** @throws GroundcrewError `EVENT_UNREADABLE` */
export function revive(rich: JsonValue, classes: ReadonlyMap<string, ClassCodec>): unknown {
  try {
    checkReferences(rich);
    return unflatten(rich as number | JsonValue[], revivers(classes), { operations: parsing });
  } catch (cause) {
    throw isError(cause, "EVENT_UNREADABLE") ? cause : unreadable("it is malformed", cause);
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

const REGISTER = "Register it again with the `classes` setting, under the same name.";
const RESTORE = "If it was written by a newer release, finish the roll-out; otherwise restore the store from a backup.";

export function unreadable(why: string, cause?: unknown, fix = RESTORE): GroundcrewError {
  const detail = cause === undefined ? { fix } : { fix, cause };
  return new GroundcrewError("EVENT_UNREADABLE", `A recorded value cannot be read: ${why}.`, detail);
}
