/** `inbox` and `approval`: what waits for people, and all about one of it. */
import { setTimeout as sleep } from "node:timers/promises";
import { isError } from "../errors.ts";
import { MAX_LIST_PAGE } from "../limits.ts";
import type { ApprovalRow } from "../persistence/approval.ts";
import { askedLines, decideCommands, INBOX_HEAD, inboxCells } from "./approval-text.ts";
import { type Invocation, parseCount } from "./arguments.ts";
import type { Backend } from "./backend.ts";
import { type ExitCode, exit } from "./exit.ts";
import { untilInterrupted } from "./follow.ts";
import { onApproval } from "./on-approval.ts";
import type { Output } from "./output.ts";
import { openBackend } from "./place.ts";
import { columns, inert, shellWord } from "./terminal.ts";

const DEFAULT_LIST = 20;

/** Between two looks: people do not react faster, and a server has others to answer. */
const LOOK_MS = 1_000;

export async function inbox(call: Invocation, out: Output): Promise<ExitCode> {
  const limit = parseCount(call.text("limit") ?? String(DEFAULT_LIST), "limit", 1, MAX_LIST_PAGE);
  const before = call.text("before");
  const page = { all: call.flag("all"), limit, ...(before !== undefined && { before }) };
  const backend = await openBackend(call, "runs");
  try {
    if (call.flag("watch")) return await watch(backend, { ...page, limit: MAX_LIST_PAGE }, out);
    const found = await backend.inbox(page);
    if (out.json) out.document({ approvals: found });
    else {
      list(found, limit, out);
      const isWhole = !page.all && before === undefined && found.length < limit;
      if (isWhole) for (const line of withheldLines(await knownWithheld(backend, found))) out.note(line);
    }
    return exit.ok;
  } finally {
    await backend.close();
  }
}

function list(found: readonly ApprovalRow[], limit: number, out: Output): void {
  const last = found.at(-1);
  if (!last) {
    out.note("Nothing waits for you.");
    return;
  }
  const now = Date.now();
  const [head = "", ...lines] = columns([INBOX_HEAD, ...found.map((row) => inboxCells(row, now))]);
  out.line(out.paint("dim", head));
  for (const line of lines) out.line(line);
  if (found.length === limit) out.note(`There may be more: --before ${shellWord(last.id)}`);
  out.note(`All about one: groundcrew approval ${shellWord(found[0]?.id ?? "")}`);
}

/** With one user alone nobody could ever decide, and an empty inbox would not say why. */
function withheldLines({ length }: readonly ApprovalRow[]): string[] {
  if (length === 0) return [];
  const [wait, run] = length === 1 ? ["waits", "the run works"] : ["wait", "the runs work"];
  return [`${length} more ${wait} for somebody else: ${run} for you, and "selfApproval" is off.`];
}

/** None where the server is older, or the key may not know: the inbox itself was shown. */
async function knownWithheld(backend: Backend, theirs: readonly ApprovalRow[]): Promise<ApprovalRow[]> {
  try {
    return await backend.withheld(theirs);
  } catch (error) {
    if (isError(error)) return [];
    throw error;
  }
}

/** Each one once, oldest first, and when it waits no more. */
async function watch(backend: Backend, page: Parameters<Backend["inbox"]>[0], out: Output): Promise<ExitCode> {
  const stop = untilInterrupted();
  const waiting = new Set<string>();
  let isAway = false;
  if (!out.json) out.note("Waiting for requests. Ctrl-C ends it.");
  while (!stop.aborted) {
    try {
      const found = await backend.inbox(page);
      if (isAway && !out.json) out.note("The server answers again.");
      isAway = false;
      tellNew(found, waiting, out);
    } catch (error) {
      if (!backend.isServer || !isError(error, "UNREACHABLE")) throw error;
      if (!isAway && !out.json) out.note("The server does not answer; trying again.");
      isAway = true;
    }
    await sleep(LOOK_MS, undefined, { signal: stop }).catch(() => {}); // the loop looks why
  }
  return exit.interrupted;
}

function tellNew(found: readonly ApprovalRow[], waiting: Set<string>, out: Output): void {
  const open = new Set(found.map(({ id }) => id));
  for (const id of waiting) {
    if (open.has(id)) continue;
    waiting.delete(id);
    if (out.json) out.document({ type: "gone", approval: id });
    else out.line(out.paint("dim", `${inert(id)} waits no more.`));
  }
  for (const row of found.toReversed()) {
    if (waiting.has(row.id)) continue;
    waiting.add(row.id);
    if (out.json) out.document({ type: "waiting", approval: row });
    else for (const line of newLines(row, out)) out.line(line);
  }
}

/** Enough to see that one has to look; what is decided on is shown whole by `approval`. */
function newLines(row: ApprovalRow, { paint }: Output): string[] {
  const cells = inboxCells(row, Date.now());
  const [id = "", , expires = "", agent = "", what = "", user = "", why = ""] = cells;
  const commands = [`groundcrew approval ${shellWord(row.id)}`, ...decideCommands({ id: row.id, kind: row.request.kind })];
  return [
    `${paint("bold", id)}  ${agent}: ${paint("yellow", what)} for ${user}, expires ${expires}`,
    `  ${why}`,
    ...commands.map((command) => `  ${paint("cyan", command)}`),
  ];
}

export async function approval(call: Invocation, out: Output): Promise<ExitCode> {
  return onApproval(call, async (backend, id) => {
    const row = await backend.approval(id);
    if (out.json) out.document({ approval: row });
    else for (const line of askedLines(row, out.paint, Date.now())) out.line(line);
    return exit.ok;
  });
}
