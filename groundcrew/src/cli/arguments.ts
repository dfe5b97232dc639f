/** The command line's grammar: every command with its arguments and options, and the reading of what was typed. */
import { type ParseArgsOptionsConfig, parseArgs } from "node:util";
import { describe, GroundcrewError } from "../errors.ts";

interface Option {
  type: "string" | "boolean";
  short?: string;
  /** How help names the value. */
  value?: string;
  help: string;
}

export interface CommandSpec {
  name: string;
  /** Positional arguments; a name in brackets may be left out. */
  args: readonly string[];
  help: string;
  options: Readonly<Record<string, Option>>;
}

const always: CommandSpec["options"] = {
  json: { type: "boolean", help: "Print JSON: one document, or one line for each item of what is followed." },
  debug: { type: "boolean", help: "Print the stack and the causes of an error." },
  help: { type: "boolean", short: "h", help: "Print this." },
};

const config: CommandSpec["options"] = {
  config: { type: "string", short: "c", value: "file", help: "Config file. Default: groundcrew.config.{ts,js,mjs} in this directory." },
};

/** Where the runs are: a server, the store of a config file, or a bare store. */
const target: CommandSpec["options"] = {
  url: { type: "string", value: "url", help: "Server to talk to. Default: $GROUNDCREW_URL; without it, the config file's store." },
  "api-key": {
    type: "string",
    value: "key",
    help: "Its API key. Better in $GROUNDCREW_API_KEY, which other users of the machine cannot see.",
  },
  ...config,
  store: { type: "string", value: "store", help: "Store file or postgres:// URL, for commands that need no agent." },
};

const detach: CommandSpec["options"] = {
  detach: { type: "boolean", short: "d", help: "Do not wait: print the run's id." },
};

const listen: CommandSpec["options"] = {
  host: { type: "string", value: "address", help: "Address to listen on. Default 127.0.0.1; any other demands an API key." },
  port: { type: "string", short: "p", value: "number", help: "Port to listen on. Default 4280; 0 takes a free one." },
};

export const commands: readonly CommandSpec[] = [
  {
    name: "dev",
    args: [],
    help: "Server and worker for your config file; starts again when its code changes.",
    options: { ...config, ...listen },
  },
  {
    name: "serve",
    args: [],
    help: "The same for production. SIGTERM lets steps in flight end and hands the runs back; a second one ends at once.",
    options: {
      ...config,
      ...listen,
      role: { type: "string", value: "role", help: "all (default), api (no worker) or worker (no server)." },
    },
  },
  {
    name: "run",
    args: ["agent", "[prompt]"],
    help: "Start a run, follow it, print its result. With `-` as prompt, the prompt is read from standard input.",
    options: {
      ...target,
      input: { type: "string", short: "i", value: "json", help: "Input of a flow." },
      session: { type: "string", short: "s", value: "id", help: "Conversation this is the next turn of." },
      key: { type: "string", short: "k", value: "key", help: "Idempotency key: the same key and request is the same run." },
      ...detach,
    },
  },
  {
    name: "runs",
    args: [],
    help: "List runs, newest first.",
    options: {
      ...target,
      status: { type: "string", value: "list", help: "Only these, e.g. parked,failed." },
      agent: { type: "string", value: "name", help: "Only of this agent or flow." },
      session: { type: "string", short: "s", value: "id", help: "Only of this session." },
      before: { type: "string", value: "run", help: "Only older than this run: the next page." },
      limit: { type: "string", short: "n", value: "count", help: "At most so many. Default 20." },
    },
  },
  {
    name: "show",
    args: ["run"],
    help: "Where a run is, why, what happens next, and its timeline.",
    options: { ...target, full: { type: "boolean", help: "Inputs and outputs whole instead of shortened, and the key of every step." } },
  },
  {
    name: "tail",
    args: ["run"],
    help: "Follow a run from its beginning to its end.",
    options: {
      ...target,
      after: { type: "string", value: "cursor", help: "Begin behind this place; each item of --json names its `cursor`." },
      full: { type: "boolean", help: "Inputs and outputs whole instead of shortened, and the key of every step." },
    },
  },
  {
    name: "signal",
    args: ["run", "name", "[json]"],
    help: "Send a durable message to a run that waits for it.",
    options: { ...target, id: { type: "string", value: "id", help: "The same id twice is one signal." } },
  },
  {
    name: "resolve",
    args: ["run", "step", "happened|did-not-happen"],
    help: "Answer for a step whose outcome nobody saw.",
    options: { ...target, result: { type: "string", value: "json", help: "What it gave, when it happened." } },
  },
  { name: "cancel", args: ["run", "[why]"], help: "End a run; its step in flight is told to stop.", options: target },
  {
    name: "retry",
    args: ["run"],
    help: "Let a parked run go on now, or continue one that failed as a new run from where it broke.",
    options: target,
  },
  {
    name: "fork",
    args: ["run"],
    help: "Start a new run that shares everything before a step.",
    options: { ...target, from: { type: "string", value: "step", help: "The step to begin at (required)." } },
  },
  {
    name: "cleanup",
    args: [],
    help: "Delete what has outlived its retention. A running worker does this by itself.",
    options: { ...target, "dry-run": { type: "boolean", help: "Only say what would go." } },
  },
  {
    name: "store",
    args: ["copy|distribute"],
    help: "copy: move a whole store to another place, e.g. from a file to PostgreSQL. distribute: spread its tables over the machines of a PostgreSQL with Citus.",
    options: {
      from: { type: "string", value: "store", help: "copy: the store to read, e.g. file:.groundcrew/crew.db" },
      to: { type: "string", value: "store", help: "copy: the store to fill, e.g. postgres://user@host/database" },
      store: { type: "string", value: "url", help: "distribute: the PostgreSQL store." },
    },
  },
  { name: "help", args: ["[command|CODE]"], help: "Explain a command, or an error by its code.", options: {} },
];

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
  if (given.length > command.args.length) {
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

/** @throws GroundcrewError `INPUT_INVALID` */
export function parseCount(text: string, option: string, min: number, max: number): number {
  const count = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (count >= min && count <= max) return count;
  throw usage(`Expected --${option} to be a whole number from ${min} to ${max}, got ${describe(text)}.`);
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
