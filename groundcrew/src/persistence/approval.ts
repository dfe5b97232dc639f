/**
 * Requests for somebody's agreement, as the store holds them. The row is the arbiter: whoever changes it names the version they
 * have seen, so of two decisions in the same instant one wins. The run's journal is told by a signal in the same transaction.
 */
import { GroundcrewError } from "../errors.ts";
import type { Channel } from "../principal.ts";
import type { AuditEntry } from "./audit.ts";
import type { NewDelivery } from "./delivery.ts";
import type { JsonValue } from "./json-value.ts";

/** `tool`: may this call run? `checkpoint`: may this flow go on? `question`: what do you say to this? */
export type ApprovalKind = "tool" | "checkpoint" | "question";

/** `open`, or how it ended. An end never changes. */
export type ApprovalStatus = "open" | ApprovalOutcome;

/**
 * `answered`: a question was. `expired`: nobody decided in time, which is not a denial. `cancelled`: its run ended first.
 * `superseded`: what was asked for is not what would run any more; it is asked for anew.
 */
export type ApprovalOutcome = "approved" | "denied" | "answered" | "expired" | "cancelled" | "superseded";

/** What is done when nobody has decided in time. */
export type OnExpire = "deny" | "fail" | "wait";

/** What is asked, for whom, and why. Never changes. */
export interface ApprovalRequest {
  kind: ApprovalKind;
  /** The tool, or what the flow calls it. */
  name: string;
  /** The step in the run's journal. */
  step: string;
  agent: string;
  session: string | null;
  /** On whose behalf the run works. */
  user: string;
  /** The exact arguments, or what the flow shows. Absent: nothing is shown. */
  input?: JsonValue;
  /** Binds run, call, arguments, tool and rules: what is decided is decided for this alone. */
  hash: string;
  /** The tool as its model knows it: another after a deploy that changed its description or its schema. */
  tool: string;
  /** The rules by which it is decided. */
  rules: string;
  /** Why somebody is asked. */
  why: string;
  /** What the run has used so far. */
  spent: { modelSteps: number; inputTokens: number; outputTokens: number };
  /** The last things said, newest last, cut short. */
  context: readonly string[];
  quorum: number;
  /** Whether whoever the run works for may decide. */
  selfApproval: boolean;
  onExpire: OnExpire;
}

/** One person's word. */
export interface Vote {
  by: string;
  roles: readonly string[];
  /** Of the arguments that it is about: the request's own, or edited ones. */
  hash: string;
  input?: JsonValue;
  at: number;
  channel: Channel;
  reason?: string;
  /** The single-use link that it came by. */
  link?: string;
  /** So many further calls of the same tool in the same run need nobody, if all who agree say so. */
  similar?: Similar;
}

/** Further calls that need nobody. */
export interface Similar {
  uses: number;
  /** Wall-clock milliseconds. */
  until: number;
}

/** How it ended, and by whom. */
export interface Verdict {
  outcome: ApprovalOutcome;
  /** Those who agreed, or the one who did not; empty where time or the runtime decided. */
  by: readonly string[];
  at: number;
  channel: Channel;
  reason?: string;
  /** Of what may run. */
  hash: string;
  /** For edited arguments: what may run instead. */
  input?: JsonValue;
  /** To a question. */
  answer?: JsonValue;
  /** Further calls of the same tool in the same run that need nobody: what all who agreed have said. */
  similar?: Similar;
}

export interface ApprovalRow {
  /** `<run>.<n>`: the run's n-th. */
  id: string;
  run: string;
  tenant: string;
  status: ApprovalStatus;
  /** One more with each change. */
  version: number;
  /** How often it was escalated. */
  level: number;
  /** Who may decide now: `user:ana`, `role:finance`, `requester`. */
  to: readonly string[];
  requestedAt: number;
  /** When it expires, in wall-clock milliseconds; null: never by itself. */
  expiresAt: number | null;
  request: ApprovalRequest;
  votes: readonly Vote[];
  verdict: Verdict | null;
}

/** What is on the table. */
export interface Proposal {
  hash: string;
  input?: JsonValue;
}

/** The arguments as asked for, or as somebody has edited them since; not who has done so. */
export function proposal({ request, votes }: Pick<ApprovalRow, "request" | "votes">): Proposal {
  const { hash, input } = votes.at(-1) ?? request;
  return { hash, ...(input !== undefined && { input }) };
}

/** Who has agreed to what is on the table, and to nothing else. */
export function agreedTo(row: ApprovalRow): string[] {
  const { hash } = proposal(row);
  return row.votes.filter((vote) => vote.hash === hash).map(({ by }) => by); // one person has one vote
}

/** What a change to an approval writes along: the log, the channels, and the run, which goes on with it. */
export interface Amendment {
  /** As it is to be, `version` being one above what was seen. Only `status`, `level`, `to`, `votes` and `verdict` change. */
  next: ApprovalRow;
  /** Told to the run and waking it: an event's facts. */
  signal?: { id: string; value: JsonValue };
  audit: readonly AuditEntry[];
  deliveries: readonly NewDelivery[];
}

/** Whether it was changed; or, when somebody was faster, what it is now. */
export interface Amended {
  won: boolean;
  row: ApprovalRow;
}

export interface ApprovalFilter {
  tenant?: string;
  run?: string;
  /** Default: every status. */
  status?: ApprovalStatus;
  /** Those asked for before this one, newest first: the paging key. */
  before?: string;
  limit: number;
}

export function approvalId(run: string, ordinal: number): string {
  return `${run}.${ordinal}`;
}

const ID = /^(.+)\.\d{1,6}$/;

export function isApprovalId(id: string): boolean {
  return ID.test(id);
}

/** The run that asked. @throws GroundcrewError `APPROVAL_NOT_FOUND` for what is no approval's id */
export function runOfApproval(id: string): string {
  const run = ID.exec(id)?.[1];
  if (run === undefined) throw approvalNotFound(id);
  return run;
}

/** The run that it is about: when that is deleted, so is the news that has arrived. @throws GroundcrewError `APPROVAL_NOT_FOUND` */
export function runOfNews({ approvals: [first] }: NewDelivery): string | null {
  return first === undefined ? null : runOfApproval(first);
}

/** Before a transaction: what is wrong must not be found half-way. @throws GroundcrewError `APPROVAL_NOT_FOUND` */
export function checkNews(news: readonly NewDelivery[]): void {
  news.forEach(runOfNews);
}

export function approvalNotFound(id: string): GroundcrewError {
  return new GroundcrewError("APPROVAL_NOT_FOUND", `There is no approval ${JSON.stringify(id)}.`, { value: id });
}

/** What `next` makes of it: what was asked, by which run and when, is never another afterwards. */
export function changed(before: ApprovalRow, { status, version, level, to, votes, verdict }: ApprovalRow): ApprovalRow {
  return { ...before, status, version, level, to, votes, verdict };
}

/** As it ends when its run has ended before anybody decided. */
export function cancelled(row: ApprovalRow, now: number): ApprovalRow {
  const verdict: Verdict = {
    outcome: "cancelled",
    by: [],
    at: now,
    channel: "runtime",
    reason: "its run has ended",
    hash: row.request.hash,
  };
  return { ...row, status: "cancelled", version: row.version + 1, verdict };
}

export function cancelledEntry({ id, run, tenant, request }: ApprovalRow): AuditEntry {
  const actor = { kind: "runtime" as const, id: "runtime" };
  return { tenant, action: "approval.cancelled", actor, onBehalfOf: request.user, channel: "runtime", run, approval: id };
}
