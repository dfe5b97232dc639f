/** Commands that change a run, or clean up behind many. */
import { GroundcrewError, isError } from "../errors.ts";
import type { RunView } from "../wire.ts";
import { type Invocation, oneOf, parseJson, usage } from "./arguments.ts";
import type { Backend, Handle } from "./backend.ts";
import { type ExitCode, exit } from "./exit.ts";
import { headLines } from "./inspect.ts";
import type { Output } from "./output.ts";
import { openBackend } from "./place.ts";
import { inert } from "./terminal.ts";

export async function signal(call: Invocation, out: Output): Promise<ExitCode> {
  const [, name = "", json] = call.args;
  const value = json === undefined ? undefined : parseJson(json, "the signal's value");
  return act(call, out, async (run) => {
    await run.signal(name, value, call.text("id"));
    return `Sent "${inert(name)}".`;
  });
}

const ANSWERS = ["happened", "did-not-happen"] as const;

export async function resolve(call: Invocation, out: Output): Promise<ExitCode> {
  const [, step = "", word = ""] = call.args;
  const answer = oneOf(word, "the answer", ANSWERS);
  const given = call.text("result");
  if (given !== undefined && answer !== "happened") throw usage("A step that did not happen has no result.", "Leave --result out.");
  const result = given === undefined ? {} : { result: parseJson(given, "--result") };
  return act(call, out, async (run) => {
    await run.resolve(step, answer === "happened" ? { resolution: "happened", ...result } : { resolution: "did_not_happen" });
    return `Recorded: ${inert(step)} ${answer.replaceAll("-", " ")}.`;
  });
}

export async function cancel(call: Invocation, out: Output): Promise<ExitCode> {
  return act(
    call,
    out,
    async (run) => {
      await run.cancel(call.args[1]);
      return "Asked the run to end.";
    },
    cancelling,
  );
}

/** The request waits beside the run until a worker takes it up; until then the run does not know of it. */
function cancelling(view: RunView): RunView {
  if (view.status === "queued") return { ...view, summary: "It will be ended as soon as a worker takes it up." };
  return view.status === "running" ? { ...view, summary: "It will be ended: its step in flight is told to stop." } : view;
}

export async function retry(call: Invocation, out: Output): Promise<ExitCode> {
  return begin(call, out, (run) => run.retry());
}

export async function fork(call: Invocation, out: Output): Promise<ExitCode> {
  const from = call.text("from");
  if (from === undefined) throw usage("`groundcrew fork` needs --from.", "`groundcrew show --full` names the steps of a run.");
  return begin(call, out, (run) => run.fork(from));
}

/** Does something to a run and says where the run is then. */
export async function act(
  call: Invocation,
  out: Output,
  what: (run: Handle) => Promise<string>,
  seen = (view: RunView) => view,
): Promise<ExitCode> {
  return withRun(call, async (run) => {
    const done = await what(run).catch(async (error: unknown) => {
      throw isError(error, "RUN_FINISHED") ? finished(await run.view(), error) : error;
    });
    const view = seen(await run.view());
    if (out.json) out.document({ run: view });
    else for (const line of [done, ...headLines(view, out.paint)]) out.line(line);
    return exit.ok;
  });
}

/** The store speaks of signals, and nobody here has sent one. */
function finished({ id, status, summary }: RunView, cause: unknown): GroundcrewError {
  const how = status === "succeeded" ? "" : ` ${summary}`;
  return new GroundcrewError("RUN_FINISHED", `Run ${id} has ended (${status}).${how}`, { run: id, cause });
}

/** Lets a run go on, maybe as a new one, and says which. */
async function begin(call: Invocation, out: Output, what: (run: Handle, backend: Backend) => Promise<string>): Promise<ExitCode> {
  return withRun(call, async (run, backend) => {
    const next = await backend.run(await what(run, backend));
    const view = await next.view();
    if (out.json) out.document({ run: view });
    else for (const line of headLines(view, out.paint)) out.line(line);
    return exit.ok;
  });
}

async function withRun(call: Invocation, what: (run: Handle, backend: Backend) => Promise<ExitCode>): Promise<ExitCode> {
  const backend = await openBackend(call, "runs");
  try {
    return await what(await backend.run(call.args[0] ?? ""), backend);
  } finally {
    await backend.close();
  }
}

export async function cleanup(call: Invocation, out: Output): Promise<ExitCode> {
  const dryRun = call.flag("dry-run");
  const backend = await openBackend(call, "config");
  try {
    const report = await backend.cleanup(dryRun);
    if (out.json) out.document({ dryRun, ...report });
    else {
      const { runs, sessions, events, chunks, blobs } = report;
      const counts = `runs ${runs}, sessions ${sessions}, events ${events}, pieces of output ${chunks}, blobs ${blobs}`;
      out.line(`${dryRun ? "Would delete" : "Deleted"}: ${counts}.`);
      if (report.more) out.note("There is more: one pass deletes a bounded number. Run the command again.");
    }
    return exit.ok;
  } finally {
    await backend.close();
  }
}
