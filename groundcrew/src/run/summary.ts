/** Where a run is, why, and what happens next and when: the one sentence, or two, that an operator reads first. */
import { span } from "../clock.ts";
import type { Failure } from "../failure.ts";
import type { RunState, StepState } from "../persistence/fold.ts";
import type { RunRow } from "../persistence/store.ts";
import { withoutText } from "../stream/plain-words.ts";
import { openOf } from "../supervision/aside.ts";

/** What there is to tell from. */
export interface Standing {
  row: RunRow;
  state: RunState;
  /** Steps that are not over. */
  open: readonly StepState[];
  /** When it goes on by itself; null when only somebody else can move it. */
  dueAt: number | null;
  /** Failed attempts that are allowed to whoever tried the step last; undefined where nobody here knows. */
  attemptsOf: (step: StepState) => number | undefined;
  /** Whether the worker that holds the run is there. */
  isAlive: boolean;
  now: number;
}

export function summaryOf(standing: Standing): string {
  const { row, state, isAlive } = standing;
  if (!isAlive) return INTERRUPTED;
  switch (row.status) {
    case "queued":
      return queuedSummary(standing);
    case "running":
      return runningSummary(standing);
    case "parked":
      return parkedSummary(standing);
    case "succeeded":
      return state.degraded.length > 0 ? `Done, ${withoutText(state.degraded)}.` : "Done.";
    case "failed":
      return `Failed: ${state.error?.message ?? "for an unknown reason"} \`retry\` continues it as a new run from where it broke.`;
    case "cancelled":
      return `Cancelled: ${state.cancel?.why ?? "no reason was given"}.`;
    case "expired":
      return `Ended because ${state.detail ?? "it passed its deadline"}. \`retry\` continues it as a new run.`;
  }
}

/** What a failure was taken for: `rate_limited 429`. */
export function verdictText({ reason, status }: Pick<Failure, "reason" | "status">): string {
  return status === undefined ? reason : `${reason} ${status}`;
}

const INTERRUPTED =
  "Interrupted: its worker is gone. It goes on by itself as soon as a worker runs that knows the agent: `groundcrew dev`, `groundcrew serve`, or `crew.work()`.";

function queuedSummary({ row, state, now }: Standing): string {
  if (state.cancel) return "It will be cancelled as soon as a worker takes it up.";
  if (row.dueAt === null) return "Waiting for its turn: an earlier turn of the session is still open.";
  if (row.dueAt > now) return `Starts in ${span(row.dueAt - now)}.`;
  return `Ready to ${state.head > 1 ? "go on" : "start"}; the next free worker that knows "${row.agent}" takes it up.`;
}

function runningSummary({ row, state, open, now }: Standing): string {
  const running = state.degraded.length > 0 ? `Running ${withoutText(state.degraded)}` : "Running";
  const atWork = open.filter((step) => step.status === "running" && step.effect !== undefined);
  const waiting = open.filter((step) => step.status === "abandoned" && step.retryAt !== undefined && step.retryAt > now);
  const what = [
    ...atWork.map((step) => workText(step, now)),
    ...waiting.map(({ name, retryAt = now }) => `${name} is tried again in ${span(retryAt - now)}`),
  ];
  if (what.length === 0) return `${running}.`;
  return `${running}: ${what.join(", ")}. If worker ${row.worker} dies, another takes over: at once on the same machine, elsewhere when its lease runs out.`;
}

/** `asking gpt-5.6-mini (fallback) for 3.0s (attempt 3, after overloaded 529)` */
function workText(step: StepState, now: number): string {
  const failure = step.faults.at(-1)?.failure;
  const fallback = step.candidate === undefined ? "" : " (fallback)";
  const after = failure ? `, after ${verdictText(failure)}` : "";
  const attempt = step.attempt > 1 ? ` (attempt ${step.attempt}${after})` : "";
  return `${step.kind === "model" ? "asking" : "in"} ${step.name}${fallback} for ${span(now - step.startedAt)}${attempt}`;
}

function parkedSummary(standing: Standing): string {
  const { row, state, dueAt, now } = standing;
  const why = state.detail ?? "its record could not be read";
  const time = dueAt === null ? undefined : span(dueAt - now);
  switch (row.reason) {
    case "timer":
      return `Asleep; goes on in ${time ?? "a moment"}.`;
    case "retry":
      return retrySummary(standing, why);
    case "unknown_outcome":
      return `Parked: ${why}. \`groundcrew resolve\` lets it go on.`;
    case "approval":
      return approvalSummary(standing, why);
    case "attention":
      return attentionSummary(standing, why);
    default: {
      const isBounded = time !== undefined && standing.state.handover === undefined; // a person takes the time they need
      return `Parked: ${why}${isBounded ? `, for ${time} at most` : ""}.`;
    }
  }
}

function retrySummary(standing: Standing, why: string): string {
  const { open, dueAt, now } = standing;
  if (dueAt === null) return `Parked: ${why}. The run's deadline comes before the next attempt; \`retry\` makes it now.`;
  const time = span(dueAt - now);
  const failed = open.filter((step) => step.status === "abandoned" && step.retryAt !== undefined && step.retryAt >= dueAt);
  if (failed.length === 0) return `Parked: ${why}. It is asked again in ${time}; \`retry\` looks at once.`;
  return `Parked: ${failed.map((step) => failedText(standing, step)).join("; ")}. The next attempt is in ${time}; \`retry\` makes it now.`;
}

/** `Waiting for role:finance to decide on "refund" since 3m 0s: over the limit. It expires in 3h 57m; …` */
function approvalSummary({ row, state, now }: Standing, why: string): string {
  const open = openOf(row, state);
  const [first] = open;
  if (!first) return `Parked: ${why}.`;
  const { name, why: reason, kind } = first.request;
  const what = kind === "question" ? `answer "${name}"` : `decide on "${name}"`;
  const more = open.length > 1 ? ` and ${open.length - 1} more` : "";
  const until = first.until === undefined ? "It does not expire" : `It expires in ${span(first.until - now)}`;
  const command = kind === "question" ? "answer" : "approve";
  return `Waiting ${span(now - first.requestedAt)} for ${first.to.join(" or ")} to ${what}${more}: ${reason}. ${until}; \`groundcrew ${command} ${first.approval}\`.`;
}

function attentionSummary(standing: Standing, why: string): string {
  const { state, open } = standing;
  if (state.code === "QUARANTINED") return `Quarantined: ${why} ${OTHERWISE}`;
  const exhausted = open.filter((step) => step.isExhausted);
  if (state.code !== "RETRIES_EXHAUSTED" || exhausted.length === 0) return `Parked: ${why}`;
  const doubtful = open.filter((step) => step.status === "unknown").map(({ name }) => `"${name}"`);
  const doubt = doubtful.length > 0 ? ` What became of ${doubtful.join(", ")} has to be said as well: \`groundcrew resolve\`.` : "";
  const failed = exhausted.map((step) => failedText(standing, step)).join("; ");
  return `Parked, with no attempt left: ${failed}. When that is mended, \`retry\` gives it all its attempts again. ${OTHERWISE}${doubt}`;
}

const OTHERWISE = "`fork` goes on from an earlier step, `cancel` ends the run.";

/** `"gpt-5.6" has failed 2 of 8 times, the last time with: … (overloaded 529)`. Not counted is what found it known to be down. */
function failedText({ attemptsOf }: Standing, step: StepState): string {
  const failures = step.faults.filter(({ candidate }) => candidate === (step.candidate ?? 0)).map(({ failure }) => failure);
  const last = failures.at(-1);
  const message = (step.error?.message ?? "a failure").replace(/\.$/, "");
  if (!last) return `"${step.name}" ${step.isExhausted ? "has failed with" : "is tried again after"}: ${message}`;
  const allowed = step.isExhausted ? undefined : attemptsOf(step);
  const times = allowed === undefined ? timesText(failures.length) : `${failures.length} of ${allowed} times`;
  return `"${step.name}" has failed ${times}, the last time with: ${message} (${verdictText(last)})`;
}

function timesText(count: number): string {
  return count === 1 ? "once" : `${count} times`;
}
