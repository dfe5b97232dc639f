/**
 * What of a run's events is for others than the run: the people who are asked, the audit log, the channels. A projection, written in
 * the same transaction as the events, so neither is ever there without the other.
 */
import type { ApprovalRow } from "../persistence/approval.ts";
import type { AuditEntry } from "../persistence/audit.ts";
import type { NewDelivery } from "../persistence/delivery.ts";
import type { Event, EventOf } from "../persistence/event.ts";
import type { ApprovalState, RunState } from "../persistence/fold.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import type { Aside, RunRow } from "../persistence/store.ts";

type Whose = Pick<RunRow, "id" | "agent" | "principal">;

/** @param channels by which people are told. @returns undefined for events that are nobody else's business: nearly all. */
export function asideOf(run: Whose, events: readonly Event[], state: RunState, channels: readonly string[]): Aside | undefined {
  if (!events.some((event) => event.type.startsWith("approval.")) && state.approvals.size === 0) return undefined;
  const audit = events.flatMap((event) => auditOf(run, event, events, state));
  const asked = events.filter((event) => event.type === "approval.requested");
  const opens = asked.map((event) => rowOf(run, event, state.approvals.get(event.approval)));
  const closes = events.some(isEnd) ? openOf(run, state).map(({ approval }) => approval) : [];
  if (audit.length === 0 && opens.length === 0 && closes.length === 0) return undefined;
  return { opens, closes, audit, deliveries: requestsTold(run, opens, channels) };
}

function isEnd({ type }: Event): boolean {
  return type === "run.succeeded" || type === "run.failed" || type === "run.cancelled" || type === "run.expired";
}

/** Own ones: a fork carries those of the run that it comes from, which are not its to end. */
export function openOf(run: Pick<RunRow, "id">, { approvals }: RunState): ApprovalState[] {
  return [...approvals.values()].filter((one) => isOwn(run, one.approval) && !one.verdict && one.voided === undefined);
}

export function isOwn({ id }: Pick<RunRow, "id">, approval: string): boolean {
  return approval.startsWith(`${id}.`);
}

function rowOf({ id, principal }: Whose, event: EventOf<"approval.requested">, state: ApprovalState | undefined): ApprovalRow {
  const verdict = state?.verdict ?? null; // of one that an earlier verdict covers
  return {
    id: event.approval,
    run: id,
    tenant: principal.tenant,
    status: verdict?.outcome ?? "open",
    version: 1,
    level: 0,
    to: event.to,
    requestedAt: event.at,
    expiresAt: event.until ?? null,
    request: event.request,
    votes: [],
    verdict,
  };
}

/** What is asked for together, of the same people, is one piece of news. */
function requestsTold({ principal }: Whose, opens: readonly ApprovalRow[], channels: readonly string[]): NewDelivery[] {
  const open = opens.filter(({ status }) => status === "open");
  const together = Map.groupBy(open, ({ to }) => JSON.stringify(to));
  return [...together.values()].flatMap((rows) =>
    channels.map((channel) => ({
      id: `${channel}/requested/${rows[0]?.id}`,
      tenant: principal.tenant,
      channel,
      about: "requested" as const,
      approvals: rows.map(({ id }) => id),
      to: rows[0]?.to ?? [],
    })),
  );
}

function auditOf(run: Whose, event: Event, together: readonly Event[], state: RunState): AuditEntry[] {
  const by = (action: string, approval: string | undefined, detail?: JsonValue, reason?: string): AuditEntry[] => [
    {
      tenant: run.principal.tenant,
      action,
      actor: { kind: "agent", id: run.agent },
      onBehalfOf: run.principal.user,
      channel: "runtime",
      run: run.id,
      ...(approval !== undefined && { approval }),
      ...(reason !== undefined && { reason }),
      ...(detail !== undefined && { detail }),
    },
  ];
  switch (event.type) {
    case "approval.requested": {
      const { kind, name, hash, tool, rules, why, quorum } = event.request;
      const detail = {
        kind,
        name,
        hash,
        tool,
        rules,
        quorum,
        to: [...event.to],
        until: event.until ?? null,
        ...(event.like !== undefined && { like: event.like }),
      };
      return by(event.like === undefined ? "approval.requested" : "approval.covered", event.approval, detail, why);
    }
    case "approval.voided":
      return by("approval.voided", event.approval, undefined, event.why);
    case "approval.skipped":
      return by("approval.skipped", undefined, { name: event.name, step: event.step }, event.why);
    case "step.started":
    case "step.succeeded":
    case "step.failed":
    case "step.unknown": {
      const released = releaseOf(run, state, event.step);
      const action = executionOf(event, together);
      if (!released || !action) return [];
      const detail = { hash: released.verdict?.hash ?? "", attempt: event.attempt, ...standInOf(event) };
      return by(action, released.approval, detail, "isUnasked" in event ? event.error.message : undefined);
    }
    case "run.succeeded":
    case "run.failed":
    case "run.cancelled":
    case "run.expired":
      return openOf(run, state).flatMap(({ approval }) => by("approval.cancelled", approval, { run: event.type }));
    default:
      return [];
  }
}

type ExecutionEvent = EventOf<"step.started" | "step.succeeded" | "step.failed" | "step.unknown">;

/** What is on record of it. What nobody was asked for has not begun, although the journal has a beginning and an end of it, in one write. */
function executionOf(event: ExecutionEvent, together: readonly Event[]): string | undefined {
  const { type, step, attempt } = event;
  if (type === "step.failed" && event.isUnasked) return "approval.execution.refused";
  const isUnasked = (end: Event) => end.type === "step.failed" && end.isUnasked && end.step === step && end.attempt === attempt;
  return type === "step.started" && together.some(isUnasked) ? undefined : EXECUTED[type];
}

const EXECUTED = {
  "step.started": "approval.execution.begun",
  "step.succeeded": "approval.execution.succeeded",
  "step.failed": "approval.execution.failed",
  "step.unknown": "approval.execution.unknown",
} as const;

/** What ran in the place of what was approved. */
function standInOf(event: ExecutionEvent): { standIn?: string } {
  return event.type === "step.started" && event.candidate !== undefined ? { standIn: event.name } : {};
}

/** The approval under which a step runs. */
function releaseOf(run: Pick<RunRow, "id">, { approvals }: RunState, step: string): ApprovalState | undefined {
  const mine = [...approvals.values()].filter(({ approval, request }) => request.step === step && isOwn(run, approval));
  const last = mine.at(-1);
  return last?.voided === undefined && last?.verdict?.outcome === "approved" ? last : undefined;
}
