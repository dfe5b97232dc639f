/** Where a run is, in one object: the same for the API, the command line and the stream. */
import type { Definition } from "../agent.ts";
import type { FailureReason } from "../failure.ts";
import type { ApprovalKind } from "../persistence/approval.ts";
import type { RunState, StepState } from "../persistence/fold.ts";
import type { RunRow, RunStatus } from "../persistence/store.ts";
import type { Principal } from "../principal.ts";
import { eachOnce } from "../stream/plain-words.ts";
import { openOf } from "../supervision/aside.ts";
import { summaryOf } from "./summary.ts";

export interface RunView {
  id: string;
  agent: string;
  status: RunStatus;
  /** One sentence: where the run is, why, and what happens next. */
  summary: string;
  reason: RunRow["reason"];
  /** Of a run that waits for somebody to look at it: what it is about, as an error code. */
  code: string | null;
  /** Since when it has this status; wall-clock milliseconds. */
  since: number;
  /** When it goes on by itself; null when only somebody else can move it. */
  dueAt: number | null;
  createdAt: number;
  deadline: number;
  principal: Principal;
  session: string | null;
  turn: number | null;
  parent: string | null;
  forkedFrom: string | null;
  worker: string | null;
  takeovers: number;
  /** Steps that are open now. */
  current: { step: string; kind: string; name: string; attempt: number; since: number; status: string }[];
  /** Steps that ended. */
  stepsDone: number;
  progress: { fraction: number; what: string } | null;
  /** What it had to go on without so far, each once. */
  degraded: { name: string; reason: FailureReason; instead?: string }[];
  /** What people are asked, and have not decided. */
  approvals: WaitingApproval[];
  /** Who holds it, and why. */
  paused: { by: string | null; why: string } | null;
  /** Who speaks to the user in the agent's place. */
  handover: string | null;
  /** Of a run that succeeded. */
  output?: unknown;
  error?: { code: string; message: string };
}

export interface WaitingApproval {
  id: string;
  kind: ApprovalKind;
  name: string;
  why: string;
  /** Who may decide. */
  to: readonly string[];
  since: number;
  /** When it expires; null: never by itself. */
  until: number | null;
}

const OPEN: ReadonlySet<StepState["status"]> = new Set(["running", "abandoned", "unknown"]);

/** What stands beside the run's row and journal. */
export interface Beside {
  /** The decoded output of a run that succeeded. */
  output: unknown;
  /** Whether the worker that holds the run is there, as far as can be told. */
  isAlive: boolean;
  /** Of the run's agent, where this process knows it. */
  definition: Definition | undefined;
  now: number;
}

export function viewOf(row: RunRow, state: RunState, { output, isAlive, definition, now }: Beside): RunView {
  const steps = [...state.steps.values()];
  const open = steps.filter((step) => OPEN.has(step.status));
  const dueAt = wakesAt(row);
  const attemptsOf = (step: StepState) => allowedTo(step, definition);
  return {
    id: row.id,
    agent: row.agent,
    status: row.status,
    summary: summaryOf({ row, state, open, dueAt, attemptsOf, isAlive, now }),
    reason: row.reason,
    code: row.status === "parked" ? (state.code ?? null) : null,
    since: row.changedAt,
    dueAt,
    createdAt: row.createdAt,
    deadline: row.deadline,
    principal: row.principal,
    session: row.session,
    turn: row.turn,
    parent: row.parent,
    forkedFrom: state.created?.forked?.run ?? null,
    worker: row.worker,
    takeovers: state.takeovers,
    current: open.map(({ step, kind, name, attempt, startedAt, status }) => ({ step, kind, name, attempt, since: startedAt, status })),
    stepsDone: steps.length - open.length,
    progress: state.progress ?? null,
    degraded: eachOnce(state.degraded).map(({ step: _step, ...missing }) => missing),
    approvals: openOf(row, state).map(({ approval, request: { kind, name, why }, to, requestedAt, until }) => ({
      id: approval,
      kind,
      name,
      why,
      to,
      since: requestedAt,
      until: until ?? null,
    })),
    paused: state.paused ? { by: state.paused.from ?? null, why: state.paused.why } : null,
    handover: state.handover ?? null,
    ...(row.status === "succeeded" && { output }),
    ...(state.error && { error: { code: state.error.code, message: state.error.message } }),
  };
}

/** A parked run is looked at again at its deadline, to be ended: that is not what it waits for. */
function wakesAt({ status, dueAt, deadline }: RunRow): number | null {
  return status === "parked" && dueAt === deadline ? null : dueAt;
}

/** Failed attempts that are allowed to whoever tried the step last, as far as that can be known here. */
function allowedTo({ kind, name }: StepState, definition: Definition | undefined): number | undefined {
  if (definition?.kind !== "agent") return undefined;
  return kind === "model" ? definition.faults.attempts : definition.policy.get(name)?.attempts;
}
