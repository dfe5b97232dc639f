/**
 * One step, brought to its outcome: the recorded one, or what its attempts come to. Which candidate goes next, when, and when
 * there is no use in going on is decided here, from what the journal holds: a restart neither resets nor repeats an attempt.
 */
import { fromErrorRecord, GroundcrewError } from "../errors.ts";
import type { Failure } from "../failure.ts";
import { candidateFor } from "../fault/candidate.ts";
import type { StepState } from "../persistence/fold.ts";
import type { Stop } from "../persistence/store.ts";
import { hold } from "./approval-wait.ts";
import { begun, giveUp, tryOnce } from "./attempt.ts";
import { settleUnknown } from "./doubt.ts";
import type { Execution } from "./execution.ts";
import { type Outcome, pass, type Refused } from "./gates.ts";
import { Lapsed, type StepSpec } from "./step-spec.ts";

/**
 * Brings the step to its outcome and returns its value: the recorded one when it has one, otherwise by running it.
 * @throws GroundcrewError with the recorded failure; `Lapsed`. Never returns when the run has to stop or wait instead.
 */
export async function perform<T>(execution: Execution, spec: StepSpec<T>): Promise<T> {
  for (;;) {
    const before = execution.state.steps.get(spec.step);
    if (before) await refuseMismatch(execution, spec, before);
    if (before?.status === "succeeded") return (await execution.journal.decode(before.value)) as T;
    if (before?.status === "failed" && before.error) throw fromErrorRecord(before.error, execution.run.id);
    if (before?.status === "unknown") {
      await settleUnknown(execution, { step: spec.step, reconcile: spec.candidates[before.candidate ?? 0]?.reconcile }, before);
      continue;
    }
    if (spec.refused) {
      await refuse(execution, spec, spec.refused, before);
      continue;
    }
    await untilResumed(execution);
    if (before?.isExhausted) await untilMended(execution, before);
    if (before?.retryAt !== undefined) await untilRetry(execution, before);
    if (spec.holds && !(await spec.holds())) throw new Lapsed();
    const found = await attempt(execution, spec, before);
    if ("value" in found) return found.value;
    if ("refused" in found) await untilUp(execution, spec, found.refused);
  }
}

type Found<T> = { value: T } | { refused: Refused } | { again: true };

/** Asks the candidates in their turn until one begins; those that a gate refuses are passed by. */
async function attempt<T>(execution: Execution, spec: StepSpec<T>, before: StepState | undefined): Promise<Found<T>> {
  const { deps } = execution;
  const refusals = new Map<number, Refused>();
  await execution.enter();
  try {
    for (;;) {
      const isDown = (candidate: number) => refusals.get(candidate)?.failure;
      const number = candidateFor(spec.candidates, before?.faults ?? [], spec.start ?? 0, deps.clock.now(), isDown);
      const candidate = number === undefined ? undefined : spec.candidates[number];
      if (number === undefined || !candidate) return await giveWay(execution, spec, before, [...refusals.values()]);
      const { breaker, provider } = candidate;
      const passage = {
        agent: execution.run.agent,
        breaker,
        provider,
        signal: execution.signal,
        isPressed: execution.state.isPressed,
        isProbe: false,
      };
      const begin = async (): Promise<Outcome<T>> =>
        (await mayBegin(execution, spec)) ? tryOnce(execution, spec, { candidate, number, passage }) : {};
      const outcome = await pass(deps, passage, begin);
      if (outcome.value) return { value: outcome.value.of };
      if (outcome.stopped) execution.handBack(haltedBy(outcome.stopped));
      if (!outcome.refused) return { again: true };
      refusals.set(number, outcome.refused);
    }
  } finally {
    execution.leave();
  }
}

/** Why a run goes back to the queue whose agent was stopped. */
export function haltedBy({ by, why }: Stop): string {
  return `${by} has stopped it: ${why}`;
}

/** A moment ago it might; meanwhile it has waited for its turn. */
async function mayBegin<T>({ state }: Execution, { holds }: StepSpec<T>): Promise<boolean> {
  return state.paused === undefined && (!holds || (await holds()));
}

/** Ends it without an attempt: begun and failed in one write, so that no crash can leave it begun. */
async function refuse<T>(execution: Execution, spec: StepSpec<T>, error: Error, before: StepState | undefined): Promise<void> {
  await execution.enter();
  try {
    if (!before) execution.journal.note(begun(spec, spec.candidates[0], 0, 1));
    await giveUp(execution, spec, { attempt: before?.attempt ?? 1, failure: { chance: "never", reason: "error" }, error });
  } finally {
    execution.leave();
  }
}

/** Nobody can be asked now. A model that can be told is told; everything else waits, as long as it may, for the first that may be up again. */
async function giveWay<T>(
  execution: Execution,
  spec: StepSpec<T>,
  before: StepState | undefined,
  refusals: readonly Refused[],
): Promise<Found<T>> {
  const [first, ...rest] = refusals;
  const [main] = spec.candidates;
  if (!first) {
    // The candidates have changed since it was last tried, and none of today's has an attempt left.
    const error = new GroundcrewError(spec.failure, `Nothing is left to try "${main.name}" with.`);
    const failure: Failure = { chance: "never", reason: "unavailable" };
    await giveUp(execution, spec, { attempt: before?.attempt ?? 1, failure, error });
    return { again: true };
  }
  const refused = rest.reduce((soonest, one) => (one.until < soonest.until ? one : soonest), first);
  const exhaustion = spec.exhausted(refused.failure);
  const isOutOfTime = before !== undefined && refused.until - before.triedSince > spec.patienceMs;
  if (!isOutOfTime && exhaustion !== "tell" && exhaustion !== "degrade") return { refused };
  const number = (before?.attempt ?? 0) + 1;
  execution.journal.note(begun(spec, main, 0, number));
  const error = new GroundcrewError(spec.failure, `"${main.name}" was not asked: ${refused.why}.`);
  await giveUp(execution, spec, { attempt: number, failure: refused.failure, error });
  return { again: true };
}

/** Parks until the time of the next attempt has come, or somebody says `retry`. */
async function untilRetry(execution: Execution, step: StepState): Promise<void> {
  const { clock } = execution.deps;
  const isDue = () => (execution.state.steps.get(step.step)?.retryAt ?? 0) <= clock.now() || undefined;
  if (isDue()) return;
  const detail = `"${step.name}" is tried again after: ${lastError(step)}`;
  await execution.block({ reason: "retry", dueAt: step.retryAt ?? null, detail, take: isDue }, async () => {});
}

/** Parks until what was refused may be asked again. */
async function untilUp<T>(execution: Execution, spec: StepSpec<T>, { until, why }: Refused): Promise<void> {
  const { clock } = execution.deps;
  const isDue = () => until <= clock.now() || execution.state.isPressed || undefined;
  const detail = `"${spec.candidates[0].name}" is not asked: ${why}`;
  await execution.block({ reason: "retry", dueAt: until, detail, take: isDue }, async () => {});
}

/** Parks while a person holds the run. */
export async function untilResumed(execution: Execution): Promise<void> {
  const { paused } = execution.state;
  if (!paused) return;
  const detail = `${paused.from ?? "somebody"} has paused it: ${paused.why}. \`resume\` lets it go on`;
  await hold(execution, { code: "PAUSED", detail, isOver: () => execution.state.paused === undefined });
}

/** Parks until somebody says `retry`. */
async function untilMended(execution: Execution, step: StepState): Promise<void> {
  const isMended = () => !execution.state.steps.get(step.step)?.isExhausted || undefined;
  const detail = `"${step.name}" has no attempt left, the last failed with: ${lastError(step)}. \`retry\` tries it again.`;
  await execution.block({ reason: "attention", code: "RETRIES_EXHAUSTED", dueAt: null, detail, take: isMended }, async () => {});
}

function lastError({ error }: StepState): string {
  return (error?.message ?? "a failure").replace(/\.$/, ""); // it stands inside a sentence
}

/** The recorded step was another one: going on would give it the wrong value. The run waits for somebody to mend the code. */
async function refuseMismatch<T>(execution: Execution, spec: StepSpec<T>, before: StepState): Promise<void> {
  const was =
    before.kind !== spec.kind ? `a ${before.kind} step` : before.argsHash !== spec.argsHash ? "a step with other arguments" : undefined;
  if (was === undefined) return;
  const now = before.kind !== spec.kind ? `a ${spec.kind} step` : "these arguments";
  await mismatch(execution, `"${spec.step}" was recorded as ${was}, and the code now comes with ${now}`);
}

/** Parks the run until its code fits its journal again (`retry` looks once more). Never returns in this execution. */
export async function mismatch(execution: Execution, what: string): Promise<never> {
  const error = new GroundcrewError(
    "FLOW_MISMATCH",
    `The code of "${execution.run.agent}" does not fit what run ${execution.run.id} has recorded: ${what}.`,
    {
      run: execution.run.id,
      fix: "Bring the old code back, or give the changed step a new name; then `groundcrew retry` the run.",
    },
  );
  return execution.block<never, never>(
    { reason: "attention", dueAt: null, detail: error.message, take: () => undefined },
    async (none) => none,
  );
}
