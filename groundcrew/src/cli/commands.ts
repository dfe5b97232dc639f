/** The command line's grammar: every command with its arguments and options. */

interface Option {
  type: "string" | "boolean";
  short?: string;
  /** How help names the value. */
  value?: string;
  help: string;
}

export interface CommandSpec {
  name: string;
  /** Positional arguments; a name in brackets may be left out, and one that ends with `…` may be several. */
  args: readonly string[];
  help: string;
  options: Readonly<Record<string, Option>>;
}

/** What every command takes. */
export const always: CommandSpec["options"] = {
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

const say: CommandSpec["options"] = {
  ...target,
  reason: { type: "string", short: "r", value: "text", help: "Why. It is on record, and who is denied is told it." },
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
    name: "inbox",
    args: [],
    help: "What waits for your decision: open approvals and questions, newest first.",
    options: {
      ...target,
      all: { type: "boolean", help: "All that are open, also those that others have to decide. Operators only." },
      watch: { type: "boolean", short: "w", help: "Go on: show new ones as they come, until Ctrl-C." },
      before: { type: "string", value: "approval", help: "Only older than this one: the next page." },
      limit: { type: "string", short: "n", value: "count", help: "At most so many. Default 20." },
    },
  },
  {
    name: "approval",
    args: ["approval"],
    help: "All about one: its exact arguments, why, who may decide until when, and what has happened.",
    options: target,
  },
  {
    name: "approve",
    args: ["approval"],
    help: "Agree: it runs once, with exactly these arguments.",
    options: {
      ...say,
      input: { type: "string", short: "i", value: "json", help: "Other arguments instead: JSON, @file, or - for standard input." },
      hash: { type: "string", value: "hash", help: "As `approval` has shown it: refused if somebody has changed the arguments since." },
      similar: { type: "string", value: "count", help: "So many further calls of the tool in this run need nobody; with --within." },
      within: { type: "string", value: "duration", help: "For how long they need nobody, e.g. 1h." },
    },
  },
  { name: "deny", args: ["approval"], help: "Refuse, and say why: the agent is told it (--reason is required).", options: say },
  {
    name: "answer",
    args: ["approval", "answer"],
    help: "Answer a question. JSON, or a text as it is; @file, or - for standard input.",
    options: target,
  },
  { name: "delegate", args: ["approval", "target…"], help: "Let others decide as well: user:ana, role:finance.", options: say },
  {
    name: "pause",
    args: ["run", "why"],
    help: "Hold a run: no step begins until it is resumed. What is in flight may end.",
    options: target,
  },
  { name: "resume", args: ["run"], help: "Let a paused run go on.", options: target },
  { name: "say", args: ["run", "text"], help: "Tell the agent something, which it reads before its next step.", options: target },
  { name: "raise", args: ["run", "steps"], help: "Give a run so many more model steps than its agent has.", options: target },
  { name: "takeover", args: ["run"], help: "Speak to the user in the agent's place; it waits until you hand back.", options: target },
  { name: "speak", args: ["run", "text"], help: "Say something to the user of a run that was taken over.", options: target },
  { name: "handback", args: ["run"], help: "Let the agent go on, with what was said.", options: target },
  {
    name: "stop",
    args: ["[agent]"],
    help: "The emergency stop: nothing of the agent, or of any agent, begins anywhere. What is in flight goes on and is named.",
    options: {
      ...target,
      why: { type: "string", value: "text", help: "Why (required). It is on record, and everybody who waits is told." },
    },
  },
  { name: "lift", args: ["[agent]"], help: "Take a stop back: of the agent, or the one of everything.", options: target },
  { name: "stops", args: [], help: "What is stopped, by whom, and why.", options: target },
  {
    name: "audit",
    args: ["list|export|verify", "[file]"],
    help: "list: the newest entries of the audit log. export: all of it, as lines of JSON. verify: whether it is what was written, here or in an exported file.",
    options: {
      ...target,
      tenant: { type: "string", value: "tenant", help: "Whose log. Default: yours; verify on a store: every tenant's." },
      after: { type: "string", value: "record", help: "list, export: begin behind this record." },
      limit: { type: "string", short: "n", value: "count", help: "list: at most so many. Default 20." },
      run: { type: "string", value: "run", help: "list: only of this run." },
      approval: { type: "string", value: "approval", help: "list: only of this approval." },
      head: { type: "string", value: "record:hash", help: "verify: a head that you have kept elsewhere; it has to be in the log." },
    },
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
