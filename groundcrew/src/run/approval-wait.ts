/** Waiting for people without holding anything: what is done when its time has come, and what the store's row makes of it. */
import type { CheckedApprovers } from "../approval.ts";
import { type ErrorCode, GroundcrewError } from "../errors.ts";
import type { Amendment, ApprovalRow } from "../persistence/approval.ts";
import type { ParkReason } from "../persistence/event.ts";
import type { ApprovalState } from "../persistence/fold.ts";
import { openOf } from "../supervision/aside.ts";
import { endByRuntime, entryOfRuntime, newsOf } from "../supervision/judge.ts";
import { type Action, nextAction } from "../supervision/schedule.ts";
import type { Execution } from "./execution.ts";

/** Why a run does not go on by itself: somebody holds it. */
export interface Hold {
  reason?: ParkReason;
  code?: ErrorCode;
  /** For people. */
  detail: string;
  isOver: () => boolean;
}

/** Holds the run. What people were asked goes on expiring; nobody is reminded of it, and it is not passed on. */
export async function hold(execution: Execution, { reason = "attention", code, detail, isOver }: Hold): Promise<void> {
  const { clock } = execution.deps;
  while (!isOver()) {
    const [next] = openOf(execution.run, execution.state).toSorted((a, b) => (a.until ?? Infinity) - (b.until ?? Infinity));
    const isDue = () => next?.until !== undefined && clock.now() >= next.until;
    const take = () => isOver() || isDue() || undefined;
    const block = { reason, dueAt: next?.until ?? null, detail, take, ...(code !== undefined && { code }) };
    await execution.block(block, async () => {});
    if (next && !isOver() && isDue()) await act(execution, next, { do: "expire", at: clock.now() });
  }
}

/** What was asked for is not what would run any more, or nobody has to decide it. */
export async function supersede(execution: Execution, asked: ApprovalState, why: string): Promise<void> {
  const { clock, supervision } = execution.deps;
  await change(execution, asked.approval, (row) => endByRuntime(row, "superseded", why, clock.now(), supervision.channels));
}

/** Until somebody has decided, or it is time to remind, to escalate, or to say that nobody has. */
export async function waitForVerdict(execution: Execution, asked: ApprovalState, rules: CheckedApprovers): Promise<void> {
  const { clock } = execution.deps;
  const action = nextAction(asked, rules);
  const { name, kind } = asked.request;
  const what = kind === "question" ? `an answer to "${name}"` : `an approval of "${name}"`;
  const found = await execution.block(
    {
      reason: "approval",
      dueAt: action?.at ?? null,
      detail: `waiting for ${what} (${asked.approval}) by ${asked.to.join(" or ")}`,
      take: () => (asked.verdict ? ("ended" as const) : action && clock.now() >= action.at ? ("due" as const) : undefined),
    },
    async (taken) => taken,
  );
  if (found === "due" && action) await act(execution, asked, action);
}

async function act(execution: Execution, asked: ApprovalState, action: Action): Promise<void> {
  const { clock, supervision } = execution.deps;
  await change(execution, asked.approval, (row) => {
    if (action.do === "expire") return endByRuntime(row, "expired", "nobody decided in time", clock.now(), supervision.channels);
    if (action.do === "remind") return remind(row, action, supervision.channels);
    return escalate(row, action, supervision.channels);
  });
}

function remind(row: ApprovalRow, { times }: Extract<Action, { do: "remind" }>, channels: readonly string[]): Amendment {
  const next = { ...row, version: row.version + 1 };
  return {
    next,
    signal: { id: `approval:${row.id}:reminded:${times}`, value: { type: "approval.reminded", times } },
    audit: [entryOfRuntime(next, "approval.reminded", { times })],
    deliveries: newsOf(next, "reminded", `${row.id}/${times}`, channels),
  };
}

function escalate(row: ApprovalRow, { level, to: more }: Extract<Action, { do: "escalate" }>, channels: readonly string[]): Amendment {
  const to = [...new Set([...row.to, ...more])];
  const next = { ...row, version: row.version + 1, level, to };
  return {
    next,
    signal: { id: `approval:${row.id}:escalated:${level}`, value: { type: "approval.escalated", level, to } },
    audit: [entryOfRuntime(next, "approval.escalated", { level, to })],
    deliveries: newsOf(next, "escalated", `${row.id}/${level}`, channels),
  };
}

/** Changes the row and hears of it. Who was faster has told the run as well. */
async function change(execution: Execution, approval: string, amend: (row: ApprovalRow) => Amendment): Promise<void> {
  const { store } = execution.deps;
  await execution.enter();
  try {
    for (;;) {
      const row = await store.approval(approval);
      if (!row) throw missing(execution.run.id, approval);
      if (row.status !== "open") break;
      if ((await store.amend(amend(row))).won) break;
    }
    execution.receive(await execution.ownSignals());
    await execution.journal.commit();
  } finally {
    execution.leave();
  }
}

function missing(run: string, approval: string): GroundcrewError {
  const fix = "Restore it from a backup, or cancel the run.";
  return new GroundcrewError("EVENT_UNREADABLE", `Approval ${approval} is in the journal of its run and not in the store.`, { run, fix });
}
