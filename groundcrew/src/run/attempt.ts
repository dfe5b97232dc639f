/**
 * One attempt of a step: an effect in two halves. What began is in the journal before the effect may start (for effects that
 * must not repeat), what came of it is there before anybody acts on it. G2 and G3 are kept here.
 */
import { type Call, type StateChange, withCall } from "../call.ts";
import { coerceError, fromErrorRecord, GroundcrewError, isError, toErrorRecord } from "../errors.ts";
import { failpoint } from "../failpoint.ts";
import type { Failure } from "../failure.ts";
import { candidateFor } from "../fault/candidate.ts";
import { delay } from "../fault/retry.ts";
import { withDeadline } from "../fault/timeout.ts";
import { verdict } from "../fault/verdict.ts";
import { CANCEL_GRACE_MS } from "../limits.ts";
import type { Fact, StepStarted } from "../persistence/event.ts";
import { keepUntilSettled } from "./doubt.ts";
import type { Execution } from "./execution.ts";
import type { Outcome, Passage } from "./gates.ts";
import type { Candidate, StepSpec } from "./step-spec.ts";

/** Who tries. */
export interface Turn<T> {
  candidate: Candidate<T>;
  /** Its place among the candidates. */
  number: number;
  passage: Passage;
}

/** One try. */
interface Try<T> extends Turn<T> {
  attempt: number;
  key: string;
  /** What it wants to change in the session's state; frozen when it is over. */
  changes: StateChange[];
}

/** Without value and failure the step is not over: its attempt was given up, or its outcome has to be found out. */
export async function tryOnce<T>(execution: Execution, spec: StepSpec<T>, turn: Turn<T>): Promise<Outcome<T>> {
  const { journal, state } = execution;
  const { candidate } = turn;
  const before = state.steps.get(spec.step);
  const key = before?.key ?? candidate.key ?? execution.keyOf(spec.step);
  const mine: Try<T> = { ...turn, attempt: (before?.attempt ?? 0) + 1, key, changes: [] };
  try {
    const began = begun(spec, candidate, turn.number, mine.attempt);
    if (mustBeKnown(execution, spec, candidate)) await journal.commit(began);
    else journal.note(began);
    if (execution.signal.aborted) return await settleUnbegun(execution, spec, mine);
    let value: T;
    try {
      value = await run(execution, spec, mine);
    } catch (thrown) {
      return await settleFailure(execution, spec, mine, thrown);
    }
    await settleSuccess(execution, spec, mine, value);
    return { value: { of: value } };
  } finally {
    Object.freeze(mine.changes);
  }
}

/** Before it begins: what may not be repeated on a guess, and what may be the reason why the process before this one died. */
function mustBeKnown<T>({ state }: Execution, { kind }: StepSpec<T>, { effect }: Candidate<T>): boolean {
  return effect === "once" || effect === "keyed" || (state.barren > 0 && kind !== "model");
}

export function begun<T>(spec: StepSpec<T>, candidate: Candidate<T>, number: number, attempt: number): StepStarted {
  const { step, kind, argsHash, input } = spec;
  const fact: StepStarted = { type: "step.started", step, kind, name: candidate.name, attempt, effect: candidate.effect };
  if (number > 0) fact.candidate = number;
  if (candidate.key !== undefined) fact.key = candidate.key;
  if (argsHash !== undefined) fact.argsHash = argsHash;
  if (input !== undefined) fact.input = input;
  return fact;
}

/** The run was stopped before the effect could start: certainly nothing happened. */
async function settleUnbegun<T>({ journal, signal }: Execution, spec: StepSpec<T>, { attempt }: Try<T>): Promise<Outcome<T>> {
  if (isError(signal.reason, "SUPERSEDED")) throw signal.reason; // nothing we write would be taken
  await journal.commit({ type: "step.abandoned", step: spec.step, attempt, why: "the run was stopped before it began" });
  return {};
}

/** Runs the effect within its bounds. When the run has to stop, an effect that may have happened gets a moment to say so. */
async function run<T>(execution: Execution, spec: StepSpec<T>, mine: Try<T>): Promise<T> {
  const { candidate } = mine;
  const bounds = execution.bounds(candidate.name, candidate.timeoutMs, candidate.effect === "read" ? 0 : CANCEL_GRACE_MS);
  const effect = (signal: AbortSignal) => {
    const call = callOf(execution, spec, mine, signal);
    const work = async () => {
      failpoint("effect.before");
      const value = await candidate.run(call);
      failpoint("effect.after");
      return value;
    };
    const isOwnCode = spec.kind !== "model";
    const watched = { run: execution.run.id, step: spec.step, name: candidate.name };
    const running = withCall(call, () => (isOwnCode ? execution.deps.watch.timed(watched, work) : work()));
    if (candidate.effect === "once") keepUntilSettled(execution, spec.step, running);
    return running;
  };
  return withDeadline({ ...bounds, onLate: (late) => recordLate(execution, spec, mine, late) }, effect);
}

/** It came when nobody waited for it any more: it is on record, and changes nothing. */
function recordLate<T>(
  { journal, isHalted }: Execution,
  spec: StepSpec<T>,
  { attempt }: Try<T>,
  late: { value: T } | { error: unknown },
): void {
  if (isHalted) return; // the run is on its way to somebody else
  const { step } = spec;
  if ("error" in late) {
    journal.note({ type: "step.late", step, attempt, outcome: "failed", error: toErrorRecord(late.error, spec.failure) });
    return;
  }
  const value = journal.encodeApart(late.value, `late result of "${step}"`);
  journal.note({ type: "step.late", step, attempt, outcome: "succeeded", ...(value !== undefined && { value }) });
}

function callOf<T>(execution: Execution, spec: StepSpec<T>, { candidate, attempt, key, changes }: Try<T>, signal: AbortSignal): Call {
  const { run, sessionState, journal } = execution;
  return {
    run: run.id,
    agent: run.agent,
    session: run.session ?? undefined,
    principal: run.principal,
    step: spec.step,
    attempt,
    key,
    signal,
    progress: (fraction, what) => journal.progress(fraction, what, { step: spec.step, attempt }),
    state: {
      get: (name) => {
        const now = sessionState.with(changes);
        return Object.hasOwn(now, name) ? now[name] : undefined;
      },
      update: (name, change) => {
        if (Object.isFrozen(changes)) {
          throw new GroundcrewError("INTERNAL", `The session's state was changed after "${candidate.name}" had ended.`, {
            run: run.id,
            fix: "Change it before the tool returns: the change is recorded with its result.",
          });
        }
        changes.push({ name, change });
      },
    },
  };
}

async function settleSuccess<T>(execution: Execution, spec: StepSpec<T>, mine: Try<T>, value: T): Promise<void> {
  const { journal } = execution;
  const { describe, step } = spec;
  const { attempt, changes, candidate } = mine;
  const { name, timeoutMs, effect } = candidate;
  const facts: Fact[] = [];
  try {
    const json = spec.kind === "tool" ? journal.encodeApart(value, `step "${name}"`) : journal.encode(value, `step "${name}"`);
    const extra = describe && (await withDeadline(execution.bounds(name, timeoutMs, 0), async () => describe(value)));
    const fact: Fact = { type: "step.succeeded", step, attempt };
    if (json !== undefined) fact.value = json;
    if (extra?.shown !== undefined) fact.shown = extra.shown;
    if (extra?.usage !== undefined) fact.usage = extra.usage;
    if (changes.length > 0) facts.push(changed(execution, changes));
    facts.push(fact);
    if (candidate.standsFor !== undefined) facts.push(stoodIn(execution, spec, candidate.standsFor));
  } catch (error) {
    // The effect took place, its value cannot be kept: that is the step's outcome, and it is said.
    const record = toErrorRecord(error, spec.failure);
    if (effect !== "read") record.message = `"${name}" took effect, but what it gave cannot be kept: ${record.message}`;
    await journal.commit({ type: "step.failed", step, attempt, error: record, final: true });
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

/** What stood in has answered: the run goes on with less than it asked for, and says so. */
function stoodIn<T>({ state }: Execution, { step, candidates }: StepSpec<T>, instead: string): Fact {
  const reason = state.steps.get(step)?.faults.at(-1)?.failure.reason ?? "unavailable";
  return { type: "step.degraded", step, name: candidates[0].name, reason, instead };
}

async function settleFailure<T>(execution: Execution, spec: StepSpec<T>, mine: Try<T>, thrown: unknown): Promise<Outcome<T>> {
  const { journal, deps } = execution;
  const { attempt, candidate } = mine;
  const { step } = spec;
  const thrownError = coerceError(thrown);
  const stopped = execution.signal.aborted;
  if (stopped && isError(execution.signal.reason, "SUPERSEDED")) throw thrownError; // nothing we write would be taken
  if (candidate.effect === "once" && (stopped || saysUnknown(thrownError))) {
    const why = stopped ? "the run was stopped while it was in flight" : thrownError.message;
    await journal.commit({ type: "step.unknown", step, attempt, why });
    return {};
  }
  if (stopped) {
    await journal.commit({ type: "step.abandoned", step, attempt, why: "the run was stopped" });
    return {};
  }
  // Where a repeat does no harm, not to know is to have failed.
  const error = isError(thrownError, "STEP_UNKNOWN") ? new GroundcrewError(spec.failure, thrownError.message) : thrownError;
  const { failure, note } = verdict(thrown, deps.clock.now(), ...(spec.classify ?? []));
  if (note !== undefined) error.message += ` (${note})`;
  const retryAt = nextTry(execution, spec, mine, failure);
  if (retryAt === undefined) await giveUp(execution, spec, { attempt, failure, error, wasAsked: true });
  else {
    const isProbe = mine.passage.isProbe ? { isProbe: true as const } : {};
    await journal.commit({
      type: "step.failed",
      step,
      attempt,
      error: toErrorRecord(error, spec.failure),
      final: false,
      retryAt,
      failure,
      ...isProbe,
    });
  }
  return { failure };
}

/** What an attempt has come to that was the last. */
export interface LastFailure {
  attempt: number;
  failure: Failure;
  error: Error;
  /** Whether anything was called. Where nothing was, the attempt begins and ends in one write. */
  wasAsked?: boolean;
}

/** No attempt is left: the step fails, or waits for somebody who says `retry`. */
export async function giveUp<T>(
  execution: Execution,
  spec: StepSpec<T>,
  { attempt, failure, error, wasAsked }: LastFailure,
): Promise<void> {
  const { journal } = execution;
  const { step } = spec;
  const exhaustion = spec.exhausted(failure);
  const facts: Fact[] = [{ type: "step.failed", step, attempt, error: toErrorRecord(error, spec.failure), final: true, failure }];
  if (!wasAsked) Object.assign(facts[0] as Fact, { isUnasked: true });
  if (exhaustion === "park") Object.assign(facts[0] as Fact, { final: false, exhausted: true });
  if (exhaustion === "fail") Object.assign(facts[0] as Fact, { isFatal: true });
  if (exhaustion === "degrade") facts.push({ type: "step.degraded", step, name: spec.candidates[0].name, reason: failure.reason });
  await journal.commit(...facts);
}

/** Nobody waited for its end, or the tool itself says that it does not know: no proof that nothing has happened. */
function saysUnknown(error: Error): boolean {
  return isError(error, "STEP_TIMEOUT") || isError(error, "STEP_UNKNOWN");
}

/** When the step is tried again, by whomever; undefined when that is over. */
function nextTry<T>(
  { state, deps }: Execution,
  spec: StepSpec<T>,
  { number, passage, candidate }: Try<T>,
  failure: Failure,
): number | undefined {
  const now = deps.clock.now();
  const { faults = [], triedSince = now } = state.steps.get(spec.step) ?? {};
  const failed = passage.isProbe ? faults : [...faults, { candidate: number, failure }];
  const next = candidateFor(spec.candidates, failed, spec.start ?? 0, now);
  if (next === undefined || candidate.effect === "once") return undefined;
  const mine = failed.filter((one) => one.candidate === next);
  const last = mine.at(-1)?.failure;
  const retryAt =
    next === number || last
      ? now + delay(Math.max(1, mine.length), next === number ? failure : (last ?? failure), deps.random(), now)
      : now;
  return retryAt - triedSince > spec.patienceMs ? undefined : retryAt;
}
