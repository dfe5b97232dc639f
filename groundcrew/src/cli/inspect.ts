/** Commands that only look. */
import { span } from "../clock.ts";
import { MAX_LIST_PAGE } from "../limits.ts";
import { isTerminal, type RunStatus } from "../persistence/store.ts";
import type { RunSummary, RunView } from "../wire.ts";
import { decideCommands, isAsked } from "./approval-text.ts";
import { type Invocation, oneOf, parseCount } from "./arguments.ts";
import { type ExitCode, exit, outcomeOf } from "./exit.ts";
import { followRun } from "./follow.ts";
import { type Output, standardStreams } from "./output.ts";
import { openBackend } from "./place.ts";
import { knownStops, stopLines } from "./stop.ts";
import { clockTime, columns, inert, type Paint, part, type Style, shellWord } from "./terminal.ts";
import { timeline } from "./timeline.ts";

const STATUSES: readonly RunStatus[] = ["queued", "running", "parked", "succeeded", "failed", "cancelled", "expired"];

const STATUS_STYLES: Readonly<Record<RunStatus, Style>> = {
  queued: "dim",
  running: "cyan",
  parked: "yellow",
  succeeded: "green",
  failed: "red",
  cancelled: "dim",
  expired: "red",
};

const DEFAULT_LIST = 20;

export async function runs(call: Invocation, out: Output): Promise<ExitCode> {
  const limit = parseCount(call.text("limit") ?? String(DEFAULT_LIST), "limit", 1, MAX_LIST_PAGE);
  const status = call
    .text("status")
    ?.split(",")
    .map((word) => oneOf(word.trim(), "--status", STATUSES));
  const [agent, session, before] = [call.text("agent"), call.text("session"), call.text("before")];
  const backend = await openBackend(call, "runs");
  try {
    const found = await backend.runs({
      limit,
      ...(status && { status }),
      ...(agent && { agent }),
      ...(session && { session }),
      ...(before && { before }),
    });
    if (out.json) out.document({ runs: found });
    else {
      listRuns(found, limit, out);
      for (const line of stopLines(await knownStops(backend), agent)) out.note(line);
    }
    return exit.ok;
  } finally {
    await backend.close();
  }
}

function listRuns(found: readonly RunSummary[], limit: number, out: Output): void {
  if (found.length === 0) out.note("There are no such runs.");
  const now = Date.now();
  const rows = found.map((run) => [run.id, run.agent, statusText(run), `${span(now - run.createdAt)} ago`, run.session ?? ""].map(inert));
  const lines = columns([["RUN", "AGENT", "STATUS", "STARTED", "SESSION"], ...rows]);
  if (found.length > 0) out.line(out.paint("dim", lines[0] ?? ""));
  for (const [index, line] of lines.slice(1).entries()) {
    const run = found[index];
    out.line(run ? line.replace(statusText(run), out.paint(STATUS_STYLES[run.status], statusText(run))) : line);
  }
  const last = found.at(-1);
  if (last && found.length === limit) out.note(`There may be more: --before ${shellWord(last.id)}`);
}

function statusText({ status, reason }: Pick<RunSummary, "status" | "reason">): string {
  return reason === null || status !== "parked" ? status : `${status}: ${reason.replaceAll("_", " ")}`;
}

export async function show(call: Invocation, out: Output): Promise<ExitCode> {
  const backend = await openBackend(call, "runs");
  try {
    const run = await backend.run(call.args[0] ?? "");
    const [view, events] = await Promise.all([run.view(), run.journal()]);
    if (out.json) {
      out.document({ run: view, events });
      return exit.ok;
    }
    const stopped = isTerminal(view.status) ? [] : stopLines(await knownStops(backend), view.agent);
    const rows = timeline(events, { paint: out.paint, full: call.flag("full") });
    for (const line of [...headLines(view, out.paint), ...stopped, "", ...rows]) out.line(line);
    return exit.ok;
  } finally {
    await backend.close();
  }
}

/** Where the run is, why, what happens next, and what the reader can do about it. */
export function headLines(view: RunView, paint: Paint): string[] {
  const now = Date.now();
  const parked = view.status === "parked" ? ` (parked for ${span(now - view.since)})` : "";
  const life = isTerminal(view.status) ? `, ${span(view.since - view.createdAt)}` : `, for ${span(now - view.createdAt)}${parked}`;
  const head = `${paint("bold", inert(view.id))}  ${inert(view.agent)}  ${paint(STATUS_STYLES[view.status], statusText(view))}${life}`;
  const progress =
    view.progress && !isTerminal(view.status) ? [`${Math.round(view.progress.fraction * 100)} % ${inert(view.progress.what)}`] : [];
  return [
    head,
    inert(view.summary),
    ...progress,
    ...waitingLines(view, now),
    ...nextCommands(view).map((command) => `  ${paint("cyan", command)}`),
  ];
}

/** Each request that people have not decided, where there are several: one alone stands in the summary. */
function waitingLines({ approvals = [] }: RunView, now: number): string[] {
  if (approvals.length < 2) return [];
  return approvals.map(({ id, name, to, since, until, why }) => {
    const end = until === null ? "never expires" : `until ${clockTime(until)}`;
    return `  ${inert(`${id}  ${name}, for ${span(now - since)}, ${end}${part(": ", to.join(" or "))}${part(": ", why)}`)}`;
  });
}

/** The commands that move a run which does not move by itself. */
export function nextCommands(view: RunView): string[] {
  const id = shellWord(view.id);
  if (isTerminal(view.status)) return endedCommands(view);
  return [...supervisionCommands(view, id), ...(view.status === "parked" ? parkedCommands(view, id) : [])];
}

function endedCommands({ id, status }: RunView): string[] {
  return status === "failed" || status === "expired" ? [`groundcrew retry ${shellWord(id)}`] : [];
}

/** What people hold up, people let go on. A server that is older says nothing of it. */
function supervisionCommands({ approvals = [], paused, handover }: RunView, id: string): string[] {
  return [
    ...(paused ? [`groundcrew resume ${id}`] : []),
    ...(handover ? [`groundcrew speak ${id} '<text>'`, `groundcrew handback ${id}`] : []),
    ...approvals.slice(0, MAX_SHOWN).flatMap((one) => [
      `groundcrew approval ${shellWord(one.id)}`, // an owner whose run's view names nobody may still be asked: it says so
      ...(isAsked(one) ? decideCommands(one) : []),
    ]),
    ...(approvals.length > MAX_SHOWN ? ["groundcrew inbox"] : []),
  ];
}

/** Requests whose commands are spelled out. */
const MAX_SHOWN = 3;

function parkedCommands(view: RunView, id: string): string[] {
  if (view.reason === "unknown_outcome") {
    const inDoubt = view.current.filter((step) => step.status === "unknown");
    return inDoubt.map((step) => `groundcrew resolve ${id} ${shellWord(step.step)} happened|did-not-happen [--result '<json>']`);
  }
  if (view.reason === "signal") {
    const awaited = view.current.filter((step) => step.kind === "signal");
    return awaited.map((step) => `groundcrew signal ${id} ${shellWord(step.name)} '<json>'`);
  }
  if ((view.reason !== "attention" && view.reason !== "retry") || view.code === "PAUSED") return [];
  const isGivenUp = view.code === "RETRIES_EXHAUSTED" || view.code === "QUARANTINED";
  return [`groundcrew retry ${id}`, ...(isGivenUp ? [`groundcrew fork ${id} --from <step>`, `groundcrew cancel ${id}`] : [])];
}

export async function tail(call: Invocation, out: Output): Promise<ExitCode> {
  const after = call.text("after");
  const backend = await openBackend(call, "runs");
  try {
    const run = await backend.run(call.args[0] ?? "");
    const following = { rows: "all", full: call.flag("full"), paint: out.paint, to: "out", streams: standardStreams } as const;
    const { isInterrupted } = await followRun(run, out, following, after === undefined ? {} : { after });
    if (isInterrupted) return exit.interrupted;
    return outcomeOf(await run.view());
  } finally {
    await backend.close();
  }
}
