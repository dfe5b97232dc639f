/** From what was typed to an exit code: reads the command line, calls the command, says what went wrong. */
import { helpText, type Invocation, parse } from "./arguments.ts";
import { type ExitCode, exit, exitCodeOf } from "./exit.ts";
import { errorDocument, errorText, known, type Output, standardOutput } from "./output.ts";
import { codeOf, pageOf } from "./pages.ts";
import { jsonText, painter } from "./terminal.ts";

type Handler = (call: Invocation, out: Output) => Promise<ExitCode>;

/** Loaded when called: `groundcrew help` should not wait for a server and a store. */
const handlers: Readonly<Record<string, () => Promise<Handler>>> = {
  dev: async () => (await import("./dev.ts")).dev,
  serve: async () => (await import("./serve.ts")).serve,
  run: async () => (await import("./run.ts")).run,
  runs: async () => (await import("./inspect.ts")).runs,
  show: async () => (await import("./inspect.ts")).show,
  tail: async () => (await import("./inspect.ts")).tail,
  signal: async () => (await import("./act.ts")).signal,
  resolve: async () => (await import("./act.ts")).resolve,
  cancel: async () => (await import("./act.ts")).cancel,
  retry: async () => (await import("./act.ts")).retry,
  fork: async () => (await import("./act.ts")).fork,
  inbox: async () => (await import("./inbox.ts")).inbox,
  approval: async () => (await import("./inbox.ts")).approval,
  approve: async () => (await import("./decide.ts")).approve,
  deny: async () => (await import("./decide.ts")).deny,
  answer: async () => (await import("./decide.ts")).answer,
  delegate: async () => (await import("./decide.ts")).delegate,
  pause: async () => (await import("./steer.ts")).pause,
  resume: async () => (await import("./steer.ts")).resume,
  say: async () => (await import("./steer.ts")).say,
  raise: async () => (await import("./steer.ts")).raise,
  takeover: async () => (await import("./steer.ts")).takeover,
  speak: async () => (await import("./steer.ts")).speak,
  handback: async () => (await import("./steer.ts")).handback,
  stop: async () => (await import("./stop.ts")).stop,
  lift: async () => (await import("./stop.ts")).lift,
  stops: async () => (await import("./stop.ts")).stops,
  audit: async () => (await import("./audit.ts")).audit,
  store: async () => (await import("./store.ts")).store,
  cleanup: async () => (await import("./act.ts")).cleanup,
};

/** Runs one command and ends the process with its exit code. */
export async function main(argv: readonly string[]): Promise<void> {
  process.stdout.on("error", endWithReader);
  process.stderr.on("error", endWithReader);
  const alive = setInterval(() => {}, 2 ** 30); // the runtime's own timers let a process end; a command that waits must not
  const code = await dispatch(argv);
  clearInterval(alive);
  // The config file may have opened things of its own that would keep the process; what was printed has to leave first.
  await Promise.all([process.stdout, process.stderr].map((stream) => new Promise((resolve) => stream.write("", resolve))));
  process.exit(code);
}

/** `groundcrew runs | head` closes our pipe: nobody is left to read, and that is no failure. */
function endWithReader(error: NodeJS.ErrnoException): void {
  process.exit(error.code === "EPIPE" ? exit.ok : exit.failed);
}

async function dispatch(argv: readonly string[]): Promise<ExitCode> {
  const asked = { json: argv.includes("--json"), debug: argv.includes("--debug") };
  try {
    const first = argv[0];
    if (first === "--version" || first === "-v") return await printVersion(asked.json);
    if (first === "--help" || first === "-h") return print(helpText());
    const call = parse(argv);
    if (call.flag("help")) return print(helpText(call.command));
    if (call.command.name === "help") return await printHelp(call);
    const handler = await handlers[call.command.name]?.();
    return (await handler?.(call, standardOutput(call.flag("json")))) ?? exit.ok;
  } catch (thrown) {
    const error = known(thrown);
    const text = asked.json ? jsonText(errorDocument(error, asked.debug)) : errorText(error, painter(process.stderr), asked.debug);
    process.stderr.write(`${text}\n`);
    return exitCodeOf(error.code);
  }
}

function print(text: string): ExitCode {
  process.stdout.write(`${text}\n`);
  return exit.ok;
}

async function printHelp(call: Invocation): Promise<ExitCode> {
  const topic = call.args[0];
  if (topic === undefined) return print(helpText());
  const code = codeOf(topic);
  if (code !== undefined) return print(await pageOf(code));
  return print(helpText(parse([topic, "--help"]).command));
}

async function printVersion(json: boolean): Promise<ExitCode> {
  const { readFile } = await import("node:fs/promises");
  const manifest = JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8")) as { version: string };
  return print(json ? jsonText({ version: manifest.version, node: process.versions.node }) : manifest.version);
}
