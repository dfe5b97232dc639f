/** A request for somebody's agreement, as people read it: all that they decide on, exactly, and nothing that acts on their terminal. */
import { span } from "../clock.ts";
import { type ApprovalRow, type ApprovalStatus, agreedTo, proposal, type Vote } from "../persistence/approval.ts";
import { clockTime, inert, jsonLines, oneLine, type Paint, type Style, shellWord } from "./terminal.ts";

const STATUS_STYLES: Readonly<Record<ApprovalStatus, Style>> = {
  open: "yellow",
  approved: "green",
  answered: "green",
  denied: "red",
  expired: "red",
  cancelled: "dim",
  superseded: "dim",
};

const NAME_CHARS = 10;
const SHORT_WHY = 80;

/** One line of an inbox: id, age, expires in, agent, tool, for whom, why. */
export const INBOX_HEAD = ["APPROVAL", "AGE", "EXPIRES", "AGENT", "WHAT", "FOR", "WHY"] as const;

export function inboxCells(row: ApprovalRow, now: number): string[] {
  const { agent, name, user, why } = row.request;
  const expires = row.expiresAt === null ? "never" : row.expiresAt <= now ? "now" : `in ${span(row.expiresAt - now)}`;
  const cells = [row.id, span(now - row.requestedAt), expires, agent, `${name}${row.request.kind === "question" ? " ?" : ""}`, user];
  return [...cells.map((cell) => oneLine(cell, SHORT_WHY)), oneLine(why, SHORT_WHY)];
}

/** Whether whoever reads this is one of those who may decide: a server tells nobody else who they are. */
export function isAsked({ to }: Pick<ApprovalRow, "to">): boolean {
  return to.length > 0;
}

/** The commands that end it. */
export function decideCommands({ id, kind }: { id: string; kind: ApprovalRow["request"]["kind"] }): string[] {
  const word = shellWord(id);
  const yes = kind === "question" ? `groundcrew answer ${word} '<answer>'` : `groundcrew approve ${word}`;
  return [yes, `groundcrew deny ${word} --reason '<why>'`];
}

/** All of it. */
export function askedLines(row: ApprovalRow, paint: Paint, now: number): string[] {
  const { request } = row;
  const { spent } = request;
  const facts: [string, string][] = [
    ["why", request.why],
    ["agent", `${request.agent}${request.session === null ? "" : `, session ${request.session}`}`],
    ["for", `${request.user} (tenant ${row.tenant})`],
    ["asked", `${clockTime(row.requestedAt)}, ${span(now - row.requestedAt)} ago, by run ${row.run}, step ${request.step}`],
    ["decides", decidersText(row)],
    ["spent", `${spent.modelSteps} model steps, ${spent.inputTokens} + ${spent.outputTokens} tokens`],
    ["hash", request.hash],
  ];
  return [
    ...summaryLines(row, paint, now),
    "",
    ...facts.flatMap(([name, text]) => (text === "" ? [] : fact(paint, name, [text]))),
    ...fact(paint, WHAT[request.kind], request.input === undefined ? ["(nothing is shown)"] : jsonLines(request.input)),
    ...editedLines(row, paint),
    ...section(paint, "context", request.context),
    ...section(
      paint,
      "votes",
      row.votes.map((vote) => voteText(vote, request.hash)),
    ),
    ...endLines(row, paint),
  ];
}

const WHAT = { tool: "arguments", checkpoint: "shows", question: "asks" } as const;

/** Where it stands, and what the reader can do. */
export function summaryLines(row: ApprovalRow, paint: Paint, now: number): string[] {
  const { id, status, request } = row;
  const head = `${paint("bold", oneLine(id, SHORT_WHY))}  ${oneLine(request.name, SHORT_WHY)}  ${paint(STATUS_STYLES[status], status)}`;
  if (status !== "open") return [`${head}${oneLine(endText(row), Number.POSITIVE_INFINITY)}`];
  const commands = isAsked(row) ? decideCommands({ id, kind: request.kind }).map((command) => `  ${paint("cyan", command)}`) : [];
  return [`${head}, for ${span(now - row.requestedAt)}; ${untilText(row, now)}`, ...commands];
}

function untilText({ expiresAt }: ApprovalRow, now: number): string {
  if (expiresAt === null) return "it does not expire";
  return expiresAt <= now ? "it has expired" : `it expires in ${span(expiresAt - now)}, at ${clockTime(expiresAt)}`;
}

/** ` by ana and bo at 2026-11-23 10:00:00Z, by slack: fine with me` */
export function endText({ verdict }: Pick<ApprovalRow, "verdict">): string {
  if (!verdict) return "";
  const who = verdict.by.length > 0 ? ` by ${verdict.by.join(" and ")}` : "";
  const way = verdict.channel === "runtime" ? "" : ` (${verdict.channel})`;
  return `${who} at ${clockTime(verdict.at)}${way}${verdict.reason ? `: ${verdict.reason}` : ""}`;
}

function decidersText(row: ApprovalRow): string {
  const { to, level, request } = row;
  if (!isAsked(row)) return "others"; // whoever may not know is not told
  const parts = [to.join(" or ")];
  if (request.quorum > 1) parts.push(`${request.quorum} different people have to agree, ${agreedTo(row).length} did`);
  if (!request.selfApproval) parts.push(`not ${request.user}`);
  if (level > 0) parts.push(`escalated ${level === 1 ? "once" : `${level} times`}`);
  return parts.join("; ");
}

/** @param asked the hash of what was asked for: a vote for other arguments has another. */
function voteText({ by, at, channel, hash, reason, similar }: Vote, asked: string): string {
  const edited = hash === asked ? "" : ", with other arguments";
  const more = similar ? `, also to ${similar.uses} more calls` : "";
  return `${by} agrees${edited}${more}, ${clockTime(at)} (${channel})${reason ? `: ${reason}` : ""}`;
}

/** Whoever agrees now agrees to what somebody has made of it since. */
function editedLines(row: ApprovalRow, paint: Paint): string[] {
  const { hash, input } = proposal(row);
  if (row.status !== "open" || hash === row.request.hash) return [];
  return [...fact(paint, "edited to", jsonLines(input)), ...fact(paint, "its hash", [hash])];
}

/** What was decided beside yes and no. */
function endLines({ verdict, request }: ApprovalRow, paint: Paint): string[] {
  if (!verdict) return [];
  const { input, answer, similar, hash } = verdict;
  return [
    ...(input === undefined ? [] : [...fact(paint, "instead", jsonLines(input)), ...fact(paint, "its hash", [hash])]),
    ...(answer === undefined ? [] : fact(paint, "answer", jsonLines(answer))),
    ...(similar ? fact(paint, "similar", [`${similar.uses} more calls of "${request.name}" until ${clockTime(similar.until)}`]) : []),
  ];
}

function section(paint: Paint, name: string, texts: readonly string[]): string[] {
  return texts.length === 0 ? [] : fact(paint, name, texts);
}

/** Text, or JSON, which has nothing left to be made inert. */
function fact(paint: Paint, name: string, lines: readonly string[]): string[] {
  const [first = "", ...rest] = inert(lines.join("\n")).split("\n");
  return [`  ${paint("dim", name.padEnd(NAME_CHARS))} ${first}`, ...rest.map((line) => `  ${" ".repeat(NAME_CHARS)} ${line}`)];
}
