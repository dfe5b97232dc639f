/**
 * Places where a test may kill this process, to prove that a crash exactly there loses nothing and repeats nothing. They do
 * nothing unless the environment names one, and at which pass to die: `GROUNDCREW_FAILPOINT="commit.after:3"`.
 */
import { GroundcrewError } from "./errors.ts";

/** Every failpoint there is: a test that goes through this list has missed none. */
export const FAILPOINTS = [
  /** A transaction of the store is whole and not yet durable. */
  "commit.before",
  /** It is durable, and nobody has been told. */
  "commit.after",
  /** A model, a tool or a flow's own code is about to be called. */
  "effect.before",
  /** It has answered, and the journal does not know. */
  "effect.after",
  /** A part of an answer came in. */
  "chunk",
  "reconcile.before",
  "reconcile.after",
] as const;

export type Failpoint = (typeof FAILPOINTS)[number];

const armed = parse(process.env["GROUNDCREW_FAILPOINT"]);

/** Dies here, like a process whose power was cut, when the environment says so. */
export function failpoint(name: Failpoint): void {
  if (armed === undefined || name !== armed.name) return;
  if (--armed.passes === 0) process.kill(process.pid, "SIGKILL");
}

/** A name that is spelled wrong would make a test pass that has killed nothing. */
function parse(text: string | undefined): { name: string; passes: number } | undefined {
  if (text === undefined) return undefined;
  const [name = "", nth] = text.split(":");
  const passes = Number(nth);
  if (FAILPOINTS.some((known) => known === name) && Number.isInteger(passes) && passes > 0) return { name, passes };
  throw new GroundcrewError("CONFIG_INVALID", `GROUNDCREW_FAILPOINT is ${JSON.stringify(text)}, which is no failpoint.`, {
    value: text,
    fix: `Write a name and a number from 1, such as "commit.after:3". Names: ${FAILPOINTS.join(", ")}.`,
  });
}
