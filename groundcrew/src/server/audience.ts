/**
 * What an owner who is no operator is told of the own run: everything but what was written for operators, which may carry a
 * provider's raw answer or the name of a machine.
 */
import { userMessageOf } from "../errors.ts";
import type { Principal } from "../principal.ts";
import type { RunView } from "../runtime.ts";
import type { FeedItem } from "../stream/feed.ts";
import { isOperator } from "./authenticate.ts";

const HIDDEN = "";

/** The item as `principal` may read it. Its place and type are the same for everybody. */
export function itemFor(principal: Principal, item: FeedItem): FeedItem {
  if (isOperator(principal)) return item;
  switch (item.type) {
    case "step.failed":
    case "run.failed":
      return { ...item, error: { ...item.error, message: item.error.user } };
    case "step.abandoned":
    case "step.unknown":
    case "run.released":
      return { ...item, why: HIDDEN };
    case "run.parked":
      return { ...item, detail: HIDDEN };
    case "run.claimed":
      return { ...item, worker: HIDDEN };
    default:
      return item;
  }
}

/** Where the run is, as `principal` may read it. */
export function viewFor(principal: Principal, view: RunView): RunView {
  if (isOperator(principal)) return view;
  const told: RunView = { ...view, worker: null };
  if (view.error) told.error = { code: view.error.code, message: userMessageOf(view.error.code) };
  told.summary = summaryOf(told);
  return told;
}

function summaryOf({ status, dueAt, error }: RunView): string {
  switch (status) {
    case "queued":
      return "Waiting for its turn.";
    case "running":
      return "Running.";
    case "parked":
      return dueAt === null ? "Waiting for somebody." : "Waiting; it goes on by itself.";
    case "succeeded":
      return "Done.";
    case "failed":
      return error?.message ?? "Failed.";
    case "cancelled":
      return "Cancelled.";
    case "expired":
      return "Ended: it took longer than it may.";
  }
}
