/** When an open request is to be looked at again, and what is to be done then. Pure: a parked run wakes for it, no timer waits. */
import type { CheckedApprovers } from "../approval.ts";
import { MAX_REMINDERS } from "../limits.ts";
import type { ApprovalState } from "../persistence/fold.ts";

export type Action =
  | { do: "expire"; at: number }
  | { do: "escalate"; at: number; to: readonly string[]; level: number }
  | { do: "remind"; at: number; times: number };

/** What comes next, if anything ever does by itself. Expiry goes first: who is told about something that is over? */
export function nextAction(asked: ApprovalState, rules: CheckedApprovers): Action | undefined {
  const actions = [expiring(asked), escalating(asked, rules), reminding(asked, rules)].filter((action) => action !== undefined);
  return actions.reduce<Action | undefined>((first, action) => (first === undefined || action.at < first.at ? action : first), undefined);
}

function expiring({ until }: ApprovalState): Action | undefined {
  return until === undefined ? undefined : { do: "expire", at: until };
}

function escalating({ level, escalatedAt, to }: ApprovalState, { escalate }: CheckedApprovers): Action | undefined {
  const chain = escalate.flatMap((step) => Array.from({ length: step.times }, () => step));
  const next = chain[level];
  if (!next) return undefined;
  return { do: "escalate", at: escalatedAt + next.afterMs, to: [...new Set([...to, ...next.to])], level: level + 1 };
}

function reminding({ reminders, remindedAt }: ApprovalState, { remindMs }: CheckedApprovers): Action | undefined {
  if (remindMs === null || reminders >= MAX_REMINDERS) return undefined;
  return { do: "remind", at: remindedAt + remindMs, times: reminders + 1 };
}
