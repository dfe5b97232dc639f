/** `run`: starts a run, follows it, prints what came of it. */
import { text as readText } from "node:stream/consumers";
import type { RunView } from "../wire.ts";
import { type Invocation, parseJson, usage } from "./arguments.ts";
import type { Backend, Handle, RunRequest } from "./backend.ts";
import { type ExitCode, exit, needsSomebody, outcomeOf } from "./exit.ts";
import { followRun, untilInterrupted } from "./follow.ts";
import { nextCommands } from "./inspect.ts";
import { type Output, standardStreams } from "./output.ts";
import { openBackend } from "./place.ts";
import { knownStops, stopLines } from "./stop.ts";
import { inert, painter, shellWord, valueText } from "./terminal.ts";

export async function run(call: Invocation, out: Output): Promise<ExitCode> {
  const request = await readRequest(call);
  const backend = await openBackend(call, call.flag("detach") ? "config" : "worker");
  try {
    const started = await backend.start(call.args[0] ?? "", request);
    if (call.flag("detach")) {
      if (out.json) out.document({ run: started.id });
      else out.line(inert(started.id));
      if (!backend.isServer) out.note("It begins when a worker takes it up: `groundcrew dev` or `groundcrew serve`.");
      return exit.ok;
    }
    return await wait(started, backend, out);
  } finally {
    await backend.close();
  }
}

async function readRequest(call: Invocation): Promise<RunRequest> {
  const [given, json] = [call.args[1], call.text("input")];
  if ((given === undefined) === (json === undefined)) {
    throw usage(
      "`groundcrew run` needs either a prompt or --input.",
      'For an agent: groundcrew run support "Where is my order?". For a flow: --input \'{"a":1}\'.',
    );
  }
  const [session, key] = [call.text("session"), call.text("key")];
  const what =
    json !== undefined ? { input: parseJson(json, "--input") } : { prompt: given === "-" ? await readText(process.stdin) : given };
  return { ...what, ...(session !== undefined && { session }), ...(key !== undefined && { key }) } as RunRequest;
}

async function wait(started: Handle, backend: Backend, out: Output): Promise<ExitCode> {
  const paint = painter(process.stderr);
  const signal = untilInterrupted(); // before anybody is told that there is a run to leave
  if (out.json) out.document({ type: "started", run: started.id });
  else out.note(paint("dim", `run ${inert(started.id)}`));
  const following = { rows: "work", full: false, paint, to: "err", streams: standardStreams } as const;
  const told = new Set<string>();
  let agent: string | undefined;
  const { isInterrupted, lastText } = await followRun(started, out, following, {
    signal,
    enough: async (item, tell) => {
      if (item.type === "run.created") agent = item.agent;
      const mayBeStopped = item.type === "run.created" || item.type === "run.released";
      if (!out.json && mayBeStopped) tellOnce(stopLines(await knownStops(backend), agent), told, tell);
      if (item.type !== "run.parked") return false;
      const view = await started.view();
      const isForPeople = view.reason === "signal" || view.reason === "approval";
      if (!out.json && isForPeople && !needsSomebody(view))
        tellOnce(
          nextCommands(view).map((command) => `  ${command}`),
          told,
          tell,
        );
      return needsSomebody(view);
    },
  });
  if (isInterrupted) return leave(started.id, backend, out);
  const view = await started.view();
  if (out.json) out.document({ type: "ended", run: view });
  else report(view, lastText, out);
  return outcomeOf(view);
}

/** What somebody may do about a wait that would also end by itself, or why nothing moves. */
function tellOnce(lines: readonly string[], told: Set<string>, tell: (line: string) => void): void {
  for (const line of lines) {
    if (!told.has(line)) tell(line);
    told.add(line);
  }
}

/** The result to standard output, unless it stands there already; everything else beside it. */
function report(view: RunView, shown: string, out: Output): void {
  const paint = painter(process.stderr);
  if (view.status === "succeeded") {
    if (view.output !== undefined && view.output !== shown) out.line(inert(valueText(view.output, true)));
    if (view.summary !== "Done.") out.note(paint("yellow", inert(view.summary))); // it had to do without something
    return;
  }
  out.note(paint(view.status === "parked" ? "yellow" : "red", inert(view.summary)));
  for (const command of [...nextCommands(view), `groundcrew show ${shellWord(view.id)}`]) out.note(`  ${command}`);
}

function leave(id: string, backend: Backend, out: Output): ExitCode {
  const what = backend.isServer
    ? "Stopped following. The run goes on"
    : "Stopped following. The run is safe in the store and goes on with the next worker (`groundcrew dev` or `serve`)";
  out.note(`${what}; follow it again with: groundcrew tail ${shellWord(id)}`);
  return exit.interrupted;
}
