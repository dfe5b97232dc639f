import { parseArgs } from "node:util";

export interface Options {
  store: "sqlite" | "postgres";
  programs: number;
  seed: number;
  /** Goes on with further programs until so much time has passed. */
  minutes: number;
  workers: number;
  json: boolean;
  /** Kinds of faults to leave out, to find out which one does the harm. */
  without: string[];
}

export const USAGE = `Usage: npm run chaos -- --store sqlite|postgres [--programs N] [--seed S] [--minutes M] [--workers W]
       [--without KIND,…] [--json]

Runs N random agent programs (default 300) on W worker processes (default 4, at least 2) while they, and the store, are killed,
stopped, cut off and deployed over; then checks that nothing was lost and nothing doubled that may not be. With --minutes it goes
on with further programs until so many minutes are over. --without leaves out kinds of faults, as the result names them. The last
line is the result as JSON; with --json standard output has no other.`;

/** @throws TypeError with a sentence for whoever typed it */
export function optionsOf(args: string[]): Options | "help" {
  const { values } = parseArgs({
    args,
    options: {
      store: { type: "string" },
      programs: { type: "string", default: "300" },
      seed: { type: "string" },
      minutes: { type: "string", default: "0" },
      workers: { type: "string", default: "4" },
      without: { type: "string", default: "" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return "help";
  const { store } = values;
  if (store !== "sqlite" && store !== "postgres") throw new TypeError(`Expected --store to be sqlite or postgres, got ${store}.`);
  return {
    store,
    programs: whole("--programs", values.programs, 1),
    seed: values.seed === undefined ? Date.now() % 1_000_000 : whole("--seed", values.seed, 0),
    minutes: whole("--minutes", values.minutes, 0),
    workers: whole("--workers", values.workers, 2),
    json: values.json,
    without: values.without.split(",").filter(Boolean),
  };
}

function whole(name: string, text: string, min: number): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= min) return value;
  throw new TypeError(`Expected ${name} to be a whole number from ${min}, got ${text}.`);
}
