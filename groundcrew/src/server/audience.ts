/**
 * What an owner who is no operator is told of the own run: everything but what was written for operators, which may carry a
 * provider's raw answer or the name of a machine, and but who of the staff did what to it, and why.
 */
import { type ErrorRecord, userMessageOf } from "../errors.ts";
import type { ApprovalRequest, Verdict } from "../persistence/approval.ts";
import type { Principal } from "../principal.ts";
import type { RunView } from "../runtime.ts";
import type { FeedItem } from "../stream/feed.ts";
import { parkedText, withoutText } from "../stream/plain-words.ts";
import { isOperator } from "./authenticate.ts";

const HIDDEN = "";
/** Of the staff: which of them is nobody's business. */
const SOMEBODY = "a person";
/** Why it is missing is told to operators. */
const WHATEVER = "unavailable";

/** The item as `principal` may read it. Its place and type are the same for everybody. */
export function itemFor(principal: Principal, item: FeedItem): FeedItem {
  return isOperator(principal) ? item : withoutStaff(principal, withoutDetail(item));
}

/** Names and reasons of others than the owner. What a person says to the user in the agent's place is for the user. */
export function withoutStaff({ user }: Principal, item: FeedItem): FeedItem {
  switch (item.type) {
    case "message.received": // guidance that somebody gave the agent
      return item.from === undefined || item.from === user ? item : { ...nameless(item), message: null };
    case "cancel.requested":
    case "run.paused":
      return item.from === user ? item : { ...nameless(item), why: HIDDEN };
    case "run.cancelled": {
      const { by, ...rest } = item;
      return by === user ? item : { ...rest, why: HIDDEN };
    }
    case "run.resumed":
    case "retry.requested":
    case "limit.raised":
    case "signal.received":
      return item.from === user ? item : nameless(item);
    case "handover.began":
    case "handover.said":
    case "handover.ended":
      return { ...item, from: HIDDEN };
    case "step.resolved":
      return { ...item, by: item.by === user ? user : HIDDEN };
    case "run.created": {
      if (!item.forked || item.forked.by === user) return item;
      const { by: _by, ...forked } = item.forked;
      return { ...item, forked };
    }
    default:
      return item;
  }
}

/** What is asked, without why and by which rule; and without the talk, where guidance of others stands among what was said. */
export function withoutReasons(request: ApprovalRequest): ApprovalRequest {
  return { ...request, why: HIDDEN, rules: HIDDEN, context: [] };
}

/** How it ended, without who has decided it and what they said. */
export function withoutPeople({ reason: _reason, answer: _answer, similar: _similar, ...verdict }: Verdict): Verdict {
  return { ...verdict, by: [] };
}

function nameless<T extends { from?: string }>(item: T): T {
  const { from: _from, ...rest } = item;
  return rest as T;
}

function withoutDetail(item: FeedItem): FeedItem {
  switch (item.type) {
    case "step.failed": {
      const { failure: _failure, ...rest } = item; // that a key was refused, or an account is empty, is nobody else's business
      return { ...rest, error: plain(item.error) };
    }
    case "run.failed":
      return { ...item, error: plain(item.error) };
    case "step.late":
      return item.error ? { ...item, error: plain(item.error) } : item;
    case "step.degraded":
      return { ...item, reason: WHATEVER };
    case "loop.blocked":
      return { ...item, steps: [] }; // some of them are other people's
    case "run.expired":
      return item.why === undefined ? item : { ...item, why: HIDDEN };
    case "step.abandoned":
    case "step.unknown":
    case "run.released":
      return { ...item, why: HIDDEN };
    case "run.parked":
      return { ...item, detail: HIDDEN };
    case "approval.requested":
      return { ...item, to: [], request: withoutReasons(item.request) };
    case "approval.escalated":
      return { ...item, to: [] };
    case "approval.ended": {
      return { ...item, verdict: withoutPeople(item.verdict) };
    }
    case "approval.voided":
    case "approval.skipped":
      return { ...item, why: HIDDEN };
    case "run.claimed":
      return { ...item, worker: HIDDEN };
    default:
      return item;
  }
}

function plain(error: ErrorRecord): ErrorRecord {
  return { ...error, message: error.user };
}

/** Where the run is, as `principal` may read it. */
export function viewFor(principal: Principal, view: RunView): RunView {
  if (isOperator(principal)) return view;
  const told: RunView = {
    ...view,
    worker: null,
    degraded: view.degraded.map((missing) => ({ ...missing, reason: WHATEVER })),
    approvals: view.approvals.map((one) => ({ ...one, why: HIDDEN, to: [] })),
    paused: view.paused && { by: null, why: HIDDEN },
    handover: view.handover && SOMEBODY,
  };
  if (view.error) told.error = { code: view.error.code, message: userMessageOf(view.error.code) };
  told.summary = summaryOf(told);
  return told;
}

function summaryOf({ status, reason, code, dueAt, error, degraded }: RunView): string {
  const without = degraded.length > 0 ? withoutText(degraded) : undefined;
  switch (status) {
    case "queued":
      return "Waiting for its turn.";
    case "running":
      return without === undefined ? "Running." : `Running ${without}.`;
    case "parked":
      if (code !== null || reason === "retry" || reason === "approval") return parkedText(reason ?? "attention", code ?? undefined);
      return dueAt === null ? "Waiting for somebody." : "Waiting; it goes on by itself.";
    case "succeeded":
      return without === undefined ? "Done." : `Done, ${without}.`;
    case "failed":
      return error?.message ?? "Failed.";
    case "cancelled":
      return "Cancelled.";
    case "expired":
      return "Ended: it took longer than it may.";
  }
}
