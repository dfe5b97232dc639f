/**
 * What an owner who is no operator is told of the own run: everything but what was written for operators, which may carry a
 * provider's raw answer or the name of a machine.
 */
import { type ErrorRecord, userMessageOf } from "../errors.ts";
import type { Principal } from "../principal.ts";
import type { RunView } from "../runtime.ts";
import type { FeedItem } from "../stream/feed.ts";
import { parkedText, withoutText } from "../stream/plain-words.ts";
import { isOperator } from "./authenticate.ts";

const HIDDEN = "";
/** Why it is missing is told to operators. */
const WHATEVER = "unavailable";

/** The item as `principal` may read it. Its place and type are the same for everybody. */
export function itemFor(principal: Principal, item: FeedItem): FeedItem {
  if (isOperator(principal)) return item;
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
      return { ...item, to: [], request: { ...item.request, why: HIDDEN, rules: HIDDEN } };
    case "approval.escalated":
      return { ...item, to: [] };
    case "approval.ended": {
      const { reason: _reason, answer: _answer, similar: _similar, ...verdict } = item.verdict;
      return { ...item, verdict: { ...verdict, by: [] } };
    }
    case "approval.voided":
    case "approval.skipped":
      return { ...item, why: HIDDEN };
    case "run.paused":
    case "run.resumed":
    case "limit.raised":
      return withoutWhom(item);
    case "run.claimed":
      return { ...item, worker: HIDDEN };
    default:
      return item;
  }
}

/** Which operator it was, and what they thought of it. */
function withoutWhom(item: Extract<FeedItem, { type: "run.paused" | "run.resumed" | "limit.raised" }>): FeedItem {
  const { from: _from, ...rest } = item;
  return rest.type === "run.paused" ? { ...rest, why: HIDDEN } : rest;
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
