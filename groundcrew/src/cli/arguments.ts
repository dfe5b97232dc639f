/** The reading of what was typed: which command it is, with its arguments and options, or what was probably meant. */
import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import { type Duration, duration } from "../clock.ts";
import { coerceError, describe, GroundcrewError } from "../errors.ts";
import { always, type CommandSpec, commands } from "./commands.ts";

/** What was typed, understood. */
export interface Invocation {
  command: CommandSpec;
  /** Positional arguments, in the order of the command's `args`. */
  args: string[];
  text(option: string): string | undefined;
  flag(option: string): boolean;
}

/** @throws GroundcrewError `INPUT_INVALID`, with what was probably meant. */
export function parse(argv: readonly string[]): Invocation {
  const [name = "help", ...rest] = argv;
  const command = commands.find((known) => known.name === name);
  if (!command) {
    const meant = nearest(
      name,
      commands.map((known) => known.name),
    );
    throw usage(
      `There is no command ${describe(name)}.`,
      meant ? `Did you mean \`groundcrew ${meant}\`?` : "`groundcrew help` lists them.",
    );
  }
  const { values, positionals } = readOptions(command, rest);
  if (values["help"] !== true) checkArgs(command, positionals);
  return {
    command,
    args: positionals,
    text: (option) => (typeof values[option] === "string" ? values[option] : undefined),
    flag: (option) => values[option] === true,
  };
}

function readOptions(command: CommandSpec, args: string[]) {
  const known = { ...command.options, ...always };
  const options: ParseArgsOptionsConfig = {};
  for (const [name, { type, short }] of Object.entries(known)) options[name] = { type, ...(short && { short }) };
  try {
    return parseArgs({ args, options, allowPositionals: true, strict: true });
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    const unknown = /^Unknown option '(-[^' ]*)/.exec(message)?.[1];
    if (unknown === undefined) throw usage(`${message.split("\n")[0]}.`.replace("..", "."), see(command));
    const meant = nearest(unknown.replace(/^-+/, ""), Object.keys(known));
    throw usage(`\`groundcrew ${command.name}\` has no option ${unknown}.`, meant ? `Did you mean --${meant}?` : see(command));
  }
}

function checkArgs(command: CommandSpec, given: readonly string[]): void {
  const missing = command.args.filter((name) => !isOptional(name))[given.length];
  if (missing !== undefined) throw usage(`\`groundcrew ${command.name}\` needs ${shownArg(missing)}.`, `Usage: ${usageLine(command)}`);
  if (given.length > command.args.length && !command.args.at(-1)?.endsWith("…")) {
    const first = given[command.args.length];
    throw usage(
      `\`groundcrew ${command.name}\` does not take ${describe(first)}.`,
      `Usage: ${usageLine(command)} (put a text with spaces in quotes)`,
    );
  }
}

/** @throws GroundcrewError `INPUT_INVALID` */
export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw usage(
      `Expected ${what} to be JSON, got ${describe(text)}.`,
      `A text is written with its quotes: '${JSON.stringify("text")}'.`,
      cause,
    );
  }
}

/**
 * What was given in the place of a value: the text itself, what stands in `@file`, or what comes by standard input for `-`.
 * @throws GroundcrewError `INPUT_INVALID`
 */
export async function readGiven(given: string, what: string): Promise<string> {
  if (given === "-") return readAll(process.stdin);
  if (!given.startsWith("@")) return given;
  try {
    return await readFile(given.slice(1), "utf8");
  } catch (cause) {
    throw usage(`Expected ${what} in ${given.slice(1)}: ${coerceError(cause).message}.`, undefined, cause);
  }
}

/** @throws GroundcrewError `DURATION_INVALID` */
export function parseDuration(text: string, option: string): Duration {
  duration(text as Duration, `--${option}`);
  return text as Duration;
}

/** @throws GroundcrewError `INPUT_INVALID` */
export function parseCount(text: string, option: string, min: number, max: number, shown = `--${option}`): number {
  const count = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (count >= min && count <= max) return count;
  throw usage(`Expected ${shown} to be a whole number from ${min} to ${max}, got ${describe(text)}.`);
}

/** @throws GroundcrewError `INPUT_INVALID` */
export function oneOf<T extends string>(text: string, what: string, known: readonly T[]): T {
  const found = known.find((one) => one === text);
  if (found !== undefined) return found;
  throw usage(`Expected ${what} to be one of ${known.join(", ")}, got ${describe(text)}.`);
}

export function usage(message: string, fix?: string, cause?: unknown): GroundcrewError {
  return new GroundcrewError("INPUT_INVALID", message, { ...(fix !== undefined && { fix }), ...(cause !== undefined && { cause }) });
}

const isOptional = (arg: string) => arg.startsWith("[");
const see = (command: CommandSpec) => `\`groundcrew help ${command.name}\` lists its options.`;

export function usageLine(command: CommandSpec): string {
  return ["groundcrew", command.name, ...command.args.map(shownArg)].join(" ");
}

function shownArg(arg: string): string {
  return isOptional(arg) || arg.includes("|") ? arg : `<${arg}>`;
}

/** The known word that is a slip of the fingers away from `word`, if there is one. */
function nearest(word: string, known: readonly string[]): string | undefined {
  const ranked = known.map((candidate) => ({ candidate, distance: distance(word.toLowerCase(), candidate) }));
  const best = ranked.reduce((a, b) => (b.distance < a.distance ? b : a));
  return best.distance <= Math.max(1, Math.floor(best.candidate.length / 2)) ? best.candidate : undefined;
}

/** Levenshtein's: letters to add, drop or change. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** Help for one command, or the list of all. */
export function helpText(command?: CommandSpec): string {
  if (!command) {
    const width = Math.max(...commands.map(({ name }) => name.length));
    const list = commands.map(({ name, help }) => `  ${name.padEnd(width)}  ${help}`);
    return [
      "Usage: groundcrew <command> [options]",
      "",
      ...list,
      "",
      "`groundcrew help <command>` explains one, `groundcrew help <CODE>` an error.",
    ].join("\n");
  }
  const rows = Object.entries({ ...command.options, ...always }).map(([name, option]) => {
    const short = option.short ? `-${option.short}, ` : "    ";
    return [`  ${short}--${name}${option.value ? ` <${option.value}>` : ""}`, option.help] as const;
  });
  const width = Math.max(...rows.map(([left]) => left.length));
  const options = rows.map(([left, help]) => `${left.padEnd(width)}  ${help}`);
  return [`Usage: ${usageLine(command)} [options]`, "", command.help, "", "Options:", ...options].join("\n");
}
