/**
 * One step: an effect in two halves. What began is in the journal before the effect may start (for effects that must not
 * repeat), what came of it is there before anybody acts on it. Everything G2 and G3 promise is decided here.
 */
import type { Effect, Reconciled } from "../agent.ts";
import { type Call, type StateChange, withCall } from "../call.ts";
import { coerceError, type ErrorCode, fromErrorRecord, GroundcrewError, isError, toErrorRecord } from "../errors.ts";
import { failpoint } from "../failpoint.ts";
import { backoff, isRetryable } from "../fault/retry.ts";
import { type Bounds, withDeadline } from "../fault/timeout.ts";
import { CANCEL_GRACE_MS, RECONCILE_TIMEOUT_MS } from "../limits.ts";
import type { Fact, StepKind } from "../persistence/event.ts";
import type { StepState } from "../persistence/fold.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import type { Execution } from "./execution.ts";

export interface StepSpec<T> {
  /** Its key in the journal: a resumed run finds it by this. */
  step: string;
  kind: StepKind;
  name: string;
  effect: Effect;
  timeoutMs: number;
  /** Tries before the step has failed; tries that a takeover cut short do not count. */
  attempts: number;
  /** Idempotency key. Default: one of the run and the step. */
  key?: string;
  /** For people, in the timeline. */
  input?: JsonValue | undefined;
  /** What the step depends on; a resumed run that comes with another is refused. */
  argsHash?: string | undefined;
  /** What a failure counts as when it is none of ours. */
  failure: ErrorCode;
  /** The effect. */
  run: (call: Call) => Promise<T> | T;
  /** What the journal keeps beside the value. */
  describe?: (
    value: T,
  ) =>
    | Promise<{ shown?: JsonValue | undefined; usage?: JsonValue | undefined }>
    | { shown?: JsonValue | undefined; usage?: JsonValue | undefined };
  reconcile?: ((call: { key: string; signal: AbortSignal }) => Promise<Reconciled<unknown>> | Reconciled<unknown>) | undefined;
}

/**
 * Brings the step to its outcome and returns its value: the recorded one when it has one, otherwise by running it.
 * @throws GroundcrewError with the recorded failure; never returns when the run has to stop or wait instead.
 */
export async function perform<T>(execution: Execution, spec: StepSpec<T>): Promise<T> {
  for (;;) {
    const before = execution.state.steps.get(spec.step);
    if (before) await refuseMismatch(execution, spec, before);
    if (before?.status === "succeeded") return (await execution.journal.decode(before.value)) as T;
    if (before?.status === "failed" && before.error) throw fromErrorRecord(before.error, execution.run.id);
    if (before?.status === "unknown") {
      await settleUnknown(execution, spec, before);
      continue;
    }
    if (before?.retryAt !== undefined) await waitForRetry(execution, before);
    const done = await attempt(execution, spec, before);
    if (done) return done.value;
  }
}

/** One try of a step. */
interface Try {
  number: number;
  key: string;
  /** What it wants to change in the session's state; frozen when it is over. */
  changes: StateChange[];
}

/** One try. Returns nothing when the step is not over: it will be tried again, or its outcome has to be found out. */
async function attempt<T>(execution: Execution, spec: StepSpec<T>, before: StepState | undefined): Promise<{ value: T } | undefined> {
  const { journal } = execution;
  await execution.enter();
  const key = before?.key ?? spec.key ?? defaultKey(execution, spec.step);
  const mine: Try = { number: (before?.attempt ?? 0) + 1, key, changes: [] };
  try {
    const began = started(spec, mine.number);
    if (spec.effect === "once" || spec.effect === "keyed") await journal.commit(began);
    else journal.note(began);
    if (execution.signal.aborted) return await settleUnbegun(execution, spec, mine);
    let value: T;
    try {
      value = await run(execution, spec, mine);
    } catch (thrown) {
      await settleFailure(execution, spec, mine, thrown);
      return undefined;
    }
    await settleSuccess(execution, spec, mine, value);
    return { value };
  } finally {
    Object.freeze(mine.changes);
    execution.leave();
  }
}

/** The run was stopped before the effect could start: certainly nothing happened. */
async function settleUnbegun<T>({ journal, signal }: Execution, spec: StepSpec<T>, { number }: Try): Promise<undefined> {
  if (isError(signal.reason, "SUPERSEDED")) throw signal.reason; // nothing we write would be taken
  await journal.commit({ type: "step.abandoned", step: spec.step, attempt: number, why: "the run was stopped before it began" });
}

/** Runs the effect within its bounds. When the run has to stop, an effect that may have happened gets a moment to say so. */
async function run<T>(execution: Execution, spec: StepSpec<T>, mine: Try): Promise<T> {
  const bounds = boundsOf(execution, spec.name, spec.timeoutMs, spec.effect === "read" ? 0 : CANCEL_GRACE_MS);
  return withDeadline(bounds, (signal) => {
    const call = callOf(execution, spec, mine, signal);
    const effect = withCall(call, async () => {
      failpoint("effect.before");
      const value = await spec.run(call);
      failpoint("effect.after");
      return value;
    });
    if (spec.effect === "once") keepUntilSettled(execution, spec.step, effect);
    return effect;
  });
}

/** Nobody may ask what became of an effect while it is still at work here, timed out or taken over as it may be. */
function keepUntilSettled<T>(execution: Execution, step: string, effect: Promise<T>): void {
  const { unsettled } = execution.deps;
  const id = effectId(execution, step);
  const settled = effect.then(
    () => {},
    () => {},
  );
  unsettled.set(id, settled);
  void settled.then(() => {
    if (unsettled.get(id) === settled) unsettled.delete(id);
  });
}

function boundsOf({ deps, signal }: Execution, name: string, timeoutMs: number, graceMs: number): Bounds {
  return { name, timeoutMs, clock: deps.clock, signal, graceMs };
}

function callOf<T>(execution: Execution, spec: StepSpec<T>, { number, key, changes }: Try, signal: AbortSignal): Call {
  const { run, sessionState, journal } = execution;
  return {
    run: run.id,
    agent: run.agent,
    session: run.session ?? undefined,
    principal: run.principal,
    step: spec.step,
    attempt: number,
    key,
    signal,
    progress: (fraction, what) => journal.progress(fraction, what, { step: spec.step, attempt: number }),
    state: {
      get: (name) => {
        const now = sessionState.with(changes);
        return Object.hasOwn(now, name) ? now[name] : undefined;
      },
      update: (name, change) => {
        if (Object.isFrozen(changes)) {
          throw new GroundcrewError("INTERNAL", `The session's state was changed after "${spec.name}" had ended.`, {
            run: run.id,
            fix: "Change it before the tool returns: the change is recorded with its result.",
          });
        }
        changes.push({ name, change });
      },
    },
  };
}

/** Derived, so that it need not be recorded: the same for every attempt, also of the run that tries this one again; and for no other step. */
function defaultKey({ run, state }: Execution, step: string): string {
  return `${state.created?.forked?.keysOf ?? run.id}/${step}`;
}

function started<T>(spec: StepSpec<T>, attempt: number): Fact {
  const fact: Fact = { type: "step.started", step: spec.step, kind: spec.kind, name: spec.name, attempt, effect: spec.effect };
  if (spec.key !== undefined) fact.key = spec.key;
  if (spec.argsHash !== undefined) fact.argsHash = spec.argsHash;
  if (spec.input !== undefined) fact.input = spec.input;
  return fact;
}

async function settleSuccess<T>(execution: Execution, spec: StepSpec<T>, { number: attempt, changes }: Try, value: T): Promise<void> {
  const { journal } = execution;
  const { describe } = spec;
  const facts: Fact[] = [];
  try {
    const json = spec.kind === "tool" ? journal.encodeApart(value, `step "${spec.name}"`) : journal.encode(value, `step "${spec.name}"`);
    const extra = describe && (await withDeadline(boundsOf(execution, spec.name, spec.timeoutMs, 0), async () => describe(value)));
    const fact: Fact = { type: "step.succeeded", step: spec.step, attempt };
    if (json !== undefined) fact.value = json;
    if (extra?.shown !== undefined) fact.shown = extra.shown;
    if (extra?.usage !== undefined) fact.usage = extra.usage;
    if (changes.length > 0) facts.push(changed(execution, changes));
    facts.push(fact);
  } catch (error) {
    // The effect took place, its value cannot be kept: that is the step's outcome, and it is said.
    const record = toErrorRecord(error, spec.failure);
    if (spec.effect !== "read") record.message = `"${spec.name}" took effect, but what it gave cannot be kept: ${record.message}`;
    await journal.commit({ type: "step.failed", step: spec.step, attempt, error: record, final: true });
    throw fromErrorRecord(record, execution.run.id);
  }
  await journal.commit(...facts);
}

/** No other step comes in between: what this one was given and what it leaves are one. */
function changed({ journal, sessionState }: Execution, changes: readonly StateChange[]): Fact {
  const next = sessionState.with(changes);
  const state = journal.encodeApart(next, "session state") ?? {};
  sessionState.replace(next);
  return { type: "session.updated", state };
}

async function settleFailure<T>(execution: Execution, spec: StepSpec<T>, { number: attempt }: Try, thrown: unknown): Promise<void> {
  const { journal, deps } = execution;
  const error = coerceError(thrown);
  const stopped = execution.signal.aborted;
  if (stopped && isError(execution.signal.reason, "SUPERSEDED")) throw error; // nothing we write would be taken
  if (spec.effect === "once" && (isError(error, "STEP_TIMEOUT") || stopped)) {
    const why = stopped ? "the run was stopped while it was in flight" : error.message;
    await journal.commit({ type: "step.unknown", step: spec.step, attempt, why });
    return;
  }
  if (stopped) {
    await journal.commit({ type: "step.abandoned", step: spec.step, attempt, why: "the run was stopped" });
    return;
  }
  const failures = (execution.state.steps.get(spec.step)?.failures ?? 0) + 1;
  const record = toErrorRecord(error, spec.failure);
  const mayRepeat = spec.effect !== "once" && failures < spec.attempts && isRetryable(error);
  if (!mayRepeat) {
    await journal.commit({ type: "step.failed", step: spec.step, attempt, error: record, final: true });
    return;
  }
  const retryAt = deps.clock.now() + backoff(failures, error, deps.random(), deps.clock.now());
  await journal.commit({ type: "step.failed", step: spec.step, attempt, error: record, final: false, retryAt });
}

async function waitForRetry(execution: Execution, step: StepState): Promise<void> {
  const { clock } = execution.deps;
  const isDue = () => (execution.state.steps.get(step.step)?.retryAt ?? 0) <= clock.now() || undefined;
  if (isDue()) return;
  const detail = `"${step.name}" is tried again after: ${step.error?.message ?? "a failure"}`;
  await execution.block({ reason: "retry", dueAt: step.retryAt ?? null, detail, take: isDue }, async () => {});
}

/** Nobody saw the outcome of a `once` step: its `reconcile` hook answers, or the run waits for a person. */
async function settleUnknown<T>(execution: Execution, spec: StepSpec<T>, step: StepState): Promise<void> {
  const { state } = execution;
  const isKnown = () => state.steps.get(spec.step)?.status !== "unknown" || undefined;
  const why = spec.reconcile ? await reconcile(execution, spec, step) : "it has no reconcile hook";
  if (isKnown()) return; // the hook's answer is recorded, or a person was faster
  const detail = `nobody saw the outcome of "${spec.name}" (${spec.step}), and ${why}; say whether it happened`;
  await execution.block({ reason: "unknown_outcome", dueAt: null, detail, take: isKnown }, async () => {});
}

/** Asks the hook and records what it found out; only what is clearly an answer is one. @returns why it is still unknown */
async function reconcile<T>(execution: Execution, spec: StepSpec<T>, step: StepState): Promise<string> {
  await execution.enter();
  try {
    const answer = await askHook(execution, spec, step);
    if (typeof answer === "string") return answer;
    if (execution.state.steps.get(spec.step)?.status === "unknown") await execution.journal.commit(answer);
    return "";
  } finally {
    execution.leave();
  }
}

async function askHook<T>(execution: Execution, spec: StepSpec<T>, step: StepState): Promise<Fact | string> {
  const bounds = boundsOf(execution, `reconcile ${spec.name}`, RECONCILE_TIMEOUT_MS, 0);
  const key = step.key ?? defaultKey(execution, spec.step);
  try {
    const answer: unknown = await withDeadline(bounds, async (signal) => {
      await untilSettled(execution, spec.step);
      failpoint("reconcile.before");
      const found = await spec.reconcile?.({ key, signal });
      failpoint("reconcile.after");
      return found;
    });
    const { happened, result } = Object(answer) as { happened?: unknown; result?: unknown };
    if (typeof happened !== "boolean") return "its reconcile hook does not know";
    if (!happened && execution.deps.unsettled.has(effectId(execution, spec.step)))
      return "it is still at work in this process: it may yet happen";
    const value = happened ? execution.journal.encodeApart(result, `reconcile of "${spec.name}"`) : undefined;
    const resolution = happened ? "happened" : "did_not_happen";
    return { type: "step.resolved", step: spec.step, resolution, by: "reconcile", ...(value !== undefined && { value }) };
  } catch (thrown) {
    return `its reconcile hook failed (${coerceError(thrown).message})`; // the question is left to a person
  }
}

/** An effect that timed out, or was taken over, may still be at work in this very process: it gets a moment to end. */
async function untilSettled(execution: Execution, step: string): Promise<void> {
  const { unsettled, clock } = execution.deps;
  const grace = new Promise<void>((resolve) => clock.after(CANCEL_GRACE_MS, resolve));
  const effect = unsettled.get(effectId(execution, step));
  if (effect) await Promise.race([effect, grace]);
}

function effectId({ run }: Execution, step: string): string {
  return `${run.id}/${step}`;
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
