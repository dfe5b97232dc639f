/** What is said of an approval, in words, the same in every channel. Whatever comes from a model, a tool or a user is inert. */
import { span } from "../clock.ts";
import { inert } from "../inert.ts";
import { type ApprovalRow, agreedTo, proposal, type Verdict } from "../persistence/approval.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import type { Notice } from "./channel.ts";

/** One approval as people read it. */
export interface Account {
  headline: string;
  /** What there is to know, by what it is. */
  facts: readonly (readonly [label: string, text: string])[];
  /** What is to be agreed to, whole. */
  shown: readonly (readonly [label: string, text: string])[];
}

/** One line for all of it. */
export function headlineOf({ about, approvals }: Notice): string {
  const [first] = approvals;
  if (!first) return "News of an approval";
  const one = about === "ended" ? `${subjectOf(first)}: ${first.status}` : `${FIRST_WORD[about]}${askedOf(first)}`;
  return approvals.length === 1 ? one : `${approvals.length} approvals: ${one} …`;
}

const FIRST_WORD = { requested: "", reminded: "Reminder: ", escalated: "Nobody has decided: " };

/** @param notice about which nothing is left to decide says how it ended */
export function accountOf(approval: ApprovalRow, { about, at }: Pick<Notice, "about" | "at">): Account {
  const { request, verdict } = approval;
  const label = SHOWN[request.kind];
  if (about === "ended") {
    const shown = [[label, jsonOf(verdict?.input ?? request.input)]] as const;
    return { headline: `${subjectOf(approval)}: ${approval.status}`, facts: endOf(approval), shown };
  }
  const { hash, input } = proposal(approval);
  const edited = [
    [`${label} as edited since: to be agreed to`, jsonOf(input)],
    [`${label} as first asked for: not to be used`, jsonOf(request.input)],
  ] as const;
  const shown = hash === request.hash ? ([[label, jsonOf(request.input)]] as const) : edited;
  return { headline: askedOf(approval), facts: circumstancesOf(approval, at), shown };
}

const SHOWN = { tool: "Arguments", checkpoint: "What is shown", question: "The question" };

function askedOf({ request: { kind, agent, name } }: ApprovalRow): string {
  if (kind === "tool") return line(`${agent} asks to call ${name}`);
  return line(kind === "question" ? `${agent} has a question: ${name}` : `${agent} asks to go on: ${name}`);
}

function subjectOf({ request: { agent, name } }: ApprovalRow): string {
  return line(`${agent}, ${name}`);
}

function circumstancesOf(row: ApprovalRow, at: number): [string, string][] {
  const { id, run, level, to, expiresAt, request } = row;
  const { why, user, spent, quorum, context } = request;
  return [
    ["Approval", inert(id)],
    ["Why", inert(why)],
    ["On behalf of", inert(user)],
    ["Run", inert(run)],
    ["May decide", inert(to.join(", "))],
    ...(quorum > 1
      ? [["People needed", `${quorum}, of whom have agreed: ${agreedTo(row).map(inert).join(", ") || "none yet"}`] as [string, string]]
      : []),
    ["Expires", expiresAt === null ? "never" : `${new Date(expiresAt).toISOString()} (in ${span(expiresAt - at)})`],
    ...(level > 0 ? [["Escalated", `${level} times`] as [string, string]] : []),
    ["Used so far", `${spent.modelSteps} model steps, ${spent.inputTokens} tokens in, ${spent.outputTokens} out`],
    ...context.map((said): [string, string] => ["Said before", inert(said)]),
  ];
}

function endOf({ id, run, status, verdict }: ApprovalRow): [string, string][] {
  return [
    ["Approval", inert(id)],
    ["Run", inert(run)],
    ["Outcome", inert(verdict ? outcomeOf(verdict) : status)],
    ...(verdict?.reason === undefined ? [] : [["Reason", inert(verdict.reason)] as [string, string]]),
    ...(verdict?.answer === undefined ? [] : [["Answer", jsonOf(verdict.answer)] as [string, string]]),
  ];
}

/** What has become of it, in a sentence. */
export function outcomeText(row: ApprovalRow): string {
  if (row.verdict) return outcomeOf(row.verdict);
  return `Noted. ${agreedTo(row).length} of ${row.request.quorum} people have agreed.`;
}

function outcomeOf({ outcome, by, at, channel }: Verdict): string {
  const who = by.length > 0 ? ` by ${by.join(" and ")}` : "";
  const way = channel === "runtime" ? "" : ` (${channel})`;
  return `${outcome}${who} at ${new Date(at).toISOString()}${way}`;
}

/** Nothing is left out: who agrees, agrees to all of it. */
function jsonOf(value: JsonValue | undefined): string {
  return value === undefined ? "(nothing is shown)" : inert(JSON.stringify(value, null, 2));
}

/** Where those decide who cannot do it here. */
export function elsewhere({ id, request: { kind } }: ApprovalRow, { url }: Notice): string {
  const verb = kind === "question" ? "answer" : "approve";
  const server = url === undefined ? "" : ` --url ${url}`;
  return inert(`groundcrew approval ${id}${server} shows it whole; groundcrew ${verb} ${id}${server} decides it.`);
}

function line(text: string): string {
  return inert(text).replace(/[\n\t]+/g, " ");
}
