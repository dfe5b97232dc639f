/**
 * What a person's word makes of a request: whether they may decide, whether it is decided by it, and what is written down.
 * Pure: who calls it changes the row by compare-and-set and, when somebody was faster, asks again with the new row.
 */
import { checkTargets, REQUESTER } from "../approval.ts";
import { GroundcrewError, misset } from "../errors.ts";
import { MAX_APPROVERS, MAX_REASON_CHARS, MAX_SIMILAR_USES } from "../limits.ts";
import {
  type Amendment,
  type ApprovalOutcome,
  type ApprovalRow,
  proposal,
  type Similar,
  type Verdict,
  type Vote,
} from "../persistence/approval.ts";
import type { AuditEntry } from "../persistence/audit.ts";
import type { DeliveryAbout, NewDelivery } from "../persistence/delivery.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import type { Actor } from "../principal.ts";
import type { People } from "./people.ts";

/** A person's word, checked and ready: durations are milliseconds, edited arguments have passed schema and rules. */
export type CheckedDecision =
  | {
      do: "approve";
      reason?: string;
      /** Other arguments than asked for, and the hash that binds them. */
      edited?: { input: JsonValue; hash: string };
      /** Further calls of the same tool in the same run that need nobody; where several have to agree, if all say so. */
      similar?: { uses: number; withinMs: number };
    }
  | { do: "deny"; reason: string }
  | { do: "answer"; answer: JsonValue }
  | { do: "delegate"; to: readonly string[]; reason?: string };

export interface Judging {
  people: People;
  /** Wall-clock milliseconds of the store. */
  now: number;
  /** The single-use link that the word came by. */
  link?: string | undefined;
  /** Of the arguments that were shown: when somebody has edited them since, this is no word about them. */
  hash?: string | undefined;
  /** By which people are told what came of it. */
  channels: readonly string[];
}

/**
 * @returns what is to be written. Its signal is there when the run has to know.
 * @throws GroundcrewError `APPROVAL_ENDED`, `FORBIDDEN`, `INPUT_INVALID`
 */
export function judge(row: ApprovalRow, word: CheckedDecision, actor: Actor, judging: Judging): Amendment {
  checkWord(row, word);
  mustBeOpen(row, judging.now);
  mustMay(row, actor, judging.people);
  mustHaveSeen(row, word, judging.hash);
  mustBeUnused(row, actor, judging.link);
  switch (word.do) {
    case "approve":
      return approve(row, word, actor, judging);
    case "deny":
      return ended(row, actor, judging.channels, {
        ...verdict("denied", [actor.user], actor, judging),
        reason: word.reason,
        hash: row.request.hash,
      });
    case "answer":
      return ended(row, actor, judging.channels, {
        ...verdict("answered", [actor.user], actor, judging),
        answer: word.answer,
        hash: row.request.hash,
      });
    case "delegate":
      return delegate(row, word, actor, judging);
  }
}

/** Ends it without a person: in time nobody decided, or what was asked for has changed. */
export function endByRuntime(
  row: ApprovalRow,
  outcome: "expired" | "superseded",
  reason: string,
  now: number,
  channels: readonly string[],
): Amendment {
  return ended(row, RUNTIME, channels, { outcome, by: [], at: now, channel: "runtime", reason, hash: row.request.hash });
}

const RUNTIME: Actor = { tenant: "", user: "runtime", roles: [], kind: "service", channel: "runtime" };

/** What the runtime does by itself, for the log. */
export function entryOfRuntime(row: ApprovalRow, action: string, detail?: JsonValue): AuditEntry {
  return entry(row, RUNTIME, action, detail);
}

/** Who has won, for whoever comes second. */
export function endedError({ id, status, verdict }: ApprovalRow): GroundcrewError {
  const by = verdict && verdict.by.length > 0 ? ` by ${verdict.by.join(" and ")}` : "";
  const when = verdict ? ` at ${new Date(verdict.at).toISOString()}` : "";
  return new GroundcrewError("APPROVAL_ENDED", `Approval ${id} is ${status}${by}${when}.`, {
    value: { status, by: verdict?.by ?? [], at: verdict?.at ?? null },
    fix: "Nothing was changed.",
  });
}

function mustBeOpen(row: ApprovalRow, now: number): void {
  if (row.status !== "open") throw endedError(row);
  if (row.expiresAt === null || now < row.expiresAt) return;
  const at = new Date(row.expiresAt).toISOString();
  throw new GroundcrewError("APPROVAL_ENDED", `Approval ${row.id} has expired at ${at}.`, {
    value: { status: "expired", by: [], at: row.expiresAt },
    fix: "Nothing was changed.",
  });
}

/** Whether the request is one for this person. */
export function mayDecide(row: ApprovalRow, actor: Actor, people: People): boolean {
  return objection(row, actor, people) === undefined;
}

function mustMay(row: ApprovalRow, actor: Actor, people: People): void {
  const objected = objection(row, actor, people);
  if (objected) throw forbidden(row, `"${actor.user}" ${objected.why}`, objected.fix);
}

/** Why this person may not decide it, if so. A service never decides, and neither does somebody of another tenant. */
function objection(row: ApprovalRow, actor: Actor, people: People): { why: string; fix?: string } | undefined {
  const { user, selfApproval } = row.request;
  if (actor.kind !== "person")
    return { why: "is a key, not a person: only a person can decide.", fix: "Give a person's key `person: true`." };
  if (actor.tenant !== row.tenant) return { why: "belongs to another tenant." };
  if (!selfApproval && actor.user === user) {
    const fix = "Somebody else decides it; or its author sets `selfApproval: true`.";
    return { why: "is who the run works for, and may not decide on it.", fix };
  }
  if (people.isMeant(actor, row.to, user)) return undefined;
  return { why: `is none of those who may decide: ${row.to.join(", ")}.` };
}

function mustHaveSeen(row: ApprovalRow, word: CheckedDecision, hash: string | undefined): void {
  if (word.do !== "approve" || hash === undefined || hash === proposal(row).hash) return;
  throw new GroundcrewError("INPUT_INVALID", `The arguments of approval ${row.id} were edited since they were shown.`, {
    value: hash,
    fix: "Look at it again: `groundcrew approval`, or the inbox.",
  });
}

/** A link is good for one word. Where several people have to agree the request is still open after it. */
function mustBeUnused(row: ApprovalRow, actor: Actor, link: string | undefined): void {
  if (link === undefined || !row.votes.some((vote) => vote.link === link && vote.by === actor.user)) return;
  throw new GroundcrewError("LINK_INVALID", `The link has been used: "${actor.user}" has agreed to approval ${row.id} by it.`);
}

function forbidden(row: ApprovalRow, why: string, fix?: string): GroundcrewError {
  return new GroundcrewError("FORBIDDEN", `Approval ${row.id}: ${why}`, { value: row.id, ...(fix !== undefined && { fix }) });
}

function checkWord({ request: { kind, name } }: ApprovalRow, word: CheckedDecision): void {
  if ("reason" in word && word.reason !== undefined && (typeof word.reason !== "string" || word.reason.length > MAX_REASON_CHARS)) {
    throw invalid("reason", `a text of at most ${MAX_REASON_CHARS} characters`, word.reason);
  }
  if (word.do === "deny" && word.reason.trim() === "") throw invalid("reason", "given: whoever is denied is told why", word.reason);
  if (word.do === "answer" && kind !== "question") throw invalid("do", `approve, deny or delegate: "${name}" is no question`, word.do);
  if (word.do === "approve" && kind === "question") throw invalid("do", "answer, deny or delegate: this is a question", word.do);
  if (word.do === "approve" && word.edited && kind !== "tool") throw invalid("input", "left out: there are no arguments to edit", word.do);
  if (word.do === "approve" && word.similar) {
    if (kind !== "tool") throw invalid("similar", "left out: there are no similar calls", word.similar);
    const { uses, withinMs } = word.similar;
    const isBounded = Number.isInteger(uses) && uses >= 1 && uses <= MAX_SIMILAR_USES && withinMs > 0;
    if (!isBounded) throw invalid("similar", `1 to ${MAX_SIMILAR_USES} \`uses\` and a \`within\``, uses);
  }
}

function invalid(field: string, expected: string, value: unknown): GroundcrewError {
  return misset(field, expected, value, "INPUT_INVALID");
}

/** Each person counts once, for the arguments that they saw: who edits them begins the count anew. */
function approve(row: ApprovalRow, word: Extract<CheckedDecision, { do: "approve" }>, actor: Actor, judging: Judging): Amendment {
  const hash = word.edited?.hash ?? proposal(row).hash;
  const vote: Vote = {
    by: actor.user,
    roles: actor.roles,
    hash,
    ...(word.edited ? { input: word.edited.input } : proposal(row).input !== undefined && { input: proposal(row).input as JsonValue }),
    at: judging.now,
    channel: actor.channel,
    ...(word.reason !== undefined && { reason: word.reason }),
    ...(judging.link !== undefined && { link: judging.link }),
    ...(word.similar && { similar: { uses: word.similar.uses, until: judging.now + word.similar.withinMs } }),
  };
  const before = row.votes.filter(({ by }) => by !== actor.user);
  const votes = [...before, vote];
  const agreeing = votes.filter((one) => one.hash === hash && stillMay(row, one, judging.people));
  if (agreeing.length < row.request.quorum) {
    const isRepeat = row.votes.some((one) => one.by === actor.user && one.hash === hash);
    const next = { ...row, version: row.version + 1, votes };
    const detail = { hash, of: row.request.quorum, ...(vote.similar && { similar: { ...vote.similar } }) };
    return {
      next,
      audit: [entry(next, actor, isRepeat ? "approval.voted.again" : "approval.voted", detail, word.reason)],
      deliveries: [],
    };
  }
  const input = vote.hash === row.request.hash ? undefined : vote.input;
  const similar = similarOf(agreeing);
  return ended({ ...row, votes }, actor, judging.channels, {
    ...verdict(
      "approved",
      agreeing.map(({ by }) => by),
      actor,
      judging,
    ),
    hash,
    ...(word.reason !== undefined && { reason: word.reason }),
    ...(input !== undefined && { input }),
    ...(similar && { similar }),
  });
}

/** What needs several people's word is not freed of it by the word of one: the least that all of them have said. */
function similarOf(agreeing: readonly Vote[]): Similar | undefined {
  const said = agreeing.flatMap(({ similar }) => similar ?? []);
  if (said.length < agreeing.length) return undefined;
  return { uses: Math.min(...said.map(({ uses }) => uses)), until: Math.min(...said.map(({ until }) => until)) };
}

/** With the roles that the configuration gives them now, beside those that they came with then. */
function stillMay(row: ApprovalRow, { by, roles }: Vote, people: People): boolean {
  return people.isMeant({ tenant: row.tenant, user: by, roles }, row.to, row.request.user);
}

/** Those whom it was not for before hear of it as if it were asked for now. */
function delegate(row: ApprovalRow, word: Extract<CheckedDecision, { do: "delegate" }>, actor: Actor, { channels }: Judging): Amendment {
  const to = checkTargets("to", word.to, "INPUT_INVALID");
  if (to.includes(REQUESTER) && !row.request.selfApproval) throw forbidden(row, "it may not be handed to whoever the run works for.");
  const all = [...new Set([...row.to, ...to])];
  if (all.length > MAX_APPROVERS) throw invalid("to", `such that at most ${MAX_APPROVERS} may decide`, to);
  const next = { ...row, version: row.version + 1, to: all };
  const added = to.filter((target) => !row.to.includes(target));
  return {
    next,
    audit: [entry(next, actor, "approval.delegated", { to: [...to] }, word.reason)],
    deliveries: added.length === 0 ? [] : newsOf({ ...next, to: added }, "requested", `${row.id}/${next.version}`, channels),
  };
}

function verdict(outcome: ApprovalOutcome, by: readonly string[], actor: Actor, { now }: Judging): Omit<Verdict, "hash"> {
  return { outcome, by, at: now, channel: actor.channel };
}

function ended(row: ApprovalRow, actor: Actor, channels: readonly string[], verdict: Verdict): Amendment {
  const next: ApprovalRow = { ...row, status: verdict.outcome, version: row.version + 1, verdict };
  const detail: JsonValue = {
    outcome: verdict.outcome,
    by: [...verdict.by],
    hash: verdict.hash,
    asked: row.request.hash,
    ...(verdict.input !== undefined && { input: verdict.input }),
    ...(verdict.answer !== undefined && { answer: verdict.answer }),
    ...(verdict.similar && { similar: { ...verdict.similar } }),
  };
  return {
    next,
    signal: { id: `approval:${row.id}:ended`, value: { type: "approval.ended", verdict: verdict as unknown as JsonValue } },
    audit: [entry(next, actor, `approval.${verdict.outcome}`, detail, verdict.reason)],
    deliveries: newsOf(next, "ended", row.id, channels),
  };
}

/** What people are told of it, once by each channel. @param what tells this news from other news of its kind */
export function newsOf({ id, tenant, to }: ApprovalRow, about: DeliveryAbout, what: string, channels: readonly string[]): NewDelivery[] {
  return channels.map((channel) => ({ id: `${channel}/${about}/${what}`, tenant, channel, about, approvals: [id], to }));
}

/** Somebody's attempt to decide, for the log. */
export function entry(row: ApprovalRow, actor: Actor, action: string, detail?: JsonValue, reason?: string): AuditEntry {
  return {
    tenant: row.tenant,
    action,
    actor: { kind: actor.channel === "runtime" ? "runtime" : actor.kind, id: actor.user },
    onBehalfOf: row.request.user,
    channel: actor.channel,
    run: row.run,
    approval: row.id,
    ...(reason !== undefined && { reason }),
    ...(detail !== undefined && { detail }),
  };
}
