/** Where a run is, in one object and one sentence: the same for the API, the command line and the stream. */
import { span } from "../clock.ts";
import type { RunState, StepState } from "../persistence/fold.ts";
import type { RunRow, RunStatus } from "../persistence/store.ts";
import type { Principal } from "../principal.ts";

export interface RunView {
  id: string;
  agent: string;
  status: RunStatus;
  /** One sentence: where the run is, why, and what happens next. */
  summary: string;
  reason: RunRow["reason"];
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
  /** Of a run that succeeded. */
  output?: unknown;
  error?: { code: string; message: string };
}

const OPEN: ReadonlySet<StepState["status"]> = new Set(["running", "abandoned", "unknown"]);

/** What stands beside the run's row and journal. */
export interface Beside {
  /** The decoded output of a run that succeeded. */
  output: unknown;
  /** Whether the worker that holds the run is there, as far as can be told. */
  isAlive: boolean;
  now: number;
}

export function viewOf(row: RunRow, state: RunState, { output, isAlive, now }: Beside): RunView {
  const steps = [...state.steps.values()];
  const open = steps.filter((step) => OPEN.has(step.status));
  return {
    id: row.id,
    agent: row.agent,
    status: row.status,
    summary: isAlive ? summaryOf(row, state, open, now) : INTERRUPTED,
    reason: row.reason,
    since: row.changedAt,
    dueAt: wakesAt(row),
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
    ...(row.status === "succeeded" && { output }),
    ...(state.error && { error: { code: state.error.code, message: state.error.message } }),
  };
}

/** A parked run is looked at again at its deadline, to be ended: that is not what it waits for. */
function wakesAt({ status, dueAt, deadline }: RunRow): number | null {
  return status === "parked" && dueAt === deadline ? null : dueAt;
}

function summaryOf(row: RunRow, state: RunState, open: StepState[], now: number): string {
  switch (row.status) {
    case "queued":
      return queuedSummary(row, state, now);
    case "running":
      return runningSummary(row, open, now);
    case "parked":
      return parkedSummary(row, state, now);
    case "succeeded":
      return "Done.";
    case "failed":
      return `Failed: ${state.error?.message ?? "for an unknown reason"} \`retry\` continues it as a new run from where it broke.`;
    case "cancelled":
      return `Cancelled: ${state.cancel?.why ?? "no reason was given"}.`;
    case "expired":
      return "Ended because it passed its deadline. `retry` continues it as a new run.";
  }
}

const INTERRUPTED =
  "Interrupted: its worker is gone. It goes on by itself as soon as a worker runs that knows the agent: `groundcrew dev`, `groundcrew serve`, or `crew.work()`.";

function queuedSummary(row: RunRow, state: RunState, now: number): string {
  if (state.cancel) return "It will be cancelled as soon as a worker takes it up.";
  if (row.dueAt === null) return "Waiting for its turn: an earlier turn of the session is still open.";
  if (row.dueAt > now) return `Starts in ${span(row.dueAt - now)}.`;
  return `Ready to ${state.head > 1 ? "go on" : "start"}; the next free worker that knows "${row.agent}" takes it up.`;
}

function runningSummary(row: RunRow, open: StepState[], now: number): string {
  const running = open.filter((step) => step.status === "running" && step.effect !== undefined);
  if (running.length === 0) return "Running.";
  const what = running.map((step) => `${step.kind === "model" ? "asking" : "in"} ${step.name} for ${span(now - step.startedAt)}`);
  return `Running: ${what.join(", ")}. If worker ${row.worker} dies, another takes over: at once on the same machine, elsewhere when its lease runs out.`;
}

function parkedSummary(row: RunRow, state: RunState, now: number): string {
  const why = state.detail ?? "its record could not be read";
  const dueAt = wakesAt(row);
  const time = dueAt === null ? undefined : span(dueAt - now);
  switch (row.reason) {
    case "timer":
      return `Asleep; goes on in ${time ?? "a moment"}.`;
    case "retry":
      return `Parked: ${why}. The next attempt is in ${time ?? "a moment"}; \`retry\` makes it now.`;
    case "unknown_outcome":
      return `Parked: ${why}. \`groundcrew resolve\` lets it go on.`;
    case "attention":
      return `Parked: ${why}`;
    default:
      return `Parked: ${why}${time === undefined ? "" : `, for ${time} at most`}.`;
  }
}
