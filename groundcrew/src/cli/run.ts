/** `run`: starts a run, follows it, prints what came of it. */
import { text as readText } from "node:stream/consumers";
import type { RunView } from "../wire.ts";
import { type Invocation, parseJson, usage } from "./arguments.ts";
import { type Backend, type Handle, openBackend, type Request } from "./backend.ts";
import { type ExitCode, exit } from "./exit.ts";
import { Follow } from "./follow.ts";
import { nextCommands } from "./inspect.ts";
import { untilInterrupted } from "./interrupt.ts";
import { needsSomebody, outcomeOf } from "./outcome.ts";
import { type Output, standardStreams } from "./output.ts";
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

async function readRequest(call: Invocation): Promise<Request> {
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
  return { ...what, ...(session !== undefined && { session }), ...(key !== undefined && { key }) } as Request;
}

async function wait(started: Handle, backend: Backend, out: Output): Promise<ExitCode> {
  const signal = untilInterrupted();
  if (out.json) out.document({ type: "started", run: started.id });
  else out.note(painter(process.stderr)("dim", `run ${inert(started.id)}`));
  const follow = out.json
    ? undefined
    : new Follow({ rows: "work", full: false, paint: painter(process.stderr), to: "err", streams: standardStreams });
  try {
    for await (const item of started.events({ signal })) {
      if (follow) follow.item(item);
      else out.document(item);
      if (item.type === "run.parked" && needsSomebody(await started.view())) break;
    }
  } finally {
    follow?.close();
  }
  if (signal.aborted) return leave(started.id, backend, out);
  const view = await started.view();
  if (out.json) out.document({ type: "ended", run: view });
  else tell(view, follow?.lastText ?? "", out);
  return outcomeOf(view);
}

/** The result to standard output, unless it stands there already; everything else beside it. */
function tell(view: RunView, shown: string, out: Output): void {
  if (view.status === "succeeded") {
    if (view.output !== undefined && view.output !== shown) out.line(inert(valueText(view.output, true)));
    return;
  }
  const paint = painter(process.stderr);
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
