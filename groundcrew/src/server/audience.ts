/**
 * What an owner who is no operator is told of the own run: everything but what was written for operators, which may carry a
 * provider's raw answer or the name of a machine.
 */
import type { Principal } from "../principal.ts";
import type { RunView } from "../runtime.ts";
import type { FeedItem } from "../stream/feed.ts";
import { isOperator } from "./access.ts";

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
    case "run.claimed":
      return { ...item, worker: HIDDEN };
    default:
      return item;
  }
}

export function viewFor(principal: Principal, view: RunView): RunView {
  return isOperator(principal) ? view : { ...view, worker: null };
}
