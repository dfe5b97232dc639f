/**
 * Waits: steps that only time, a signal or a child run can end. A wait is recorded like any step, so a resumed run waits for
 * the same moment, and one that is over is over.
 */
import type { Approved, Definition } from "../agent.ts";
import { fromErrorRecord, GroundcrewError, toErrorRecord } from "../errors.ts";
import { MAX_CHILD_DEPTH } from "../limits.ts";
import type { EventOf } from "../persistence/event.ts";
import type { ReceivedSignal, StepState } from "../persistence/fold.ts";
import { hashValue } from "../persistence/hash.ts";
import { newRunId } from "../persistence/id.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import { type Agreed, type Ask, agree, agreedOn, withdraw } from "./approval.ts";
import type { Execution } from "./execution.ts";
import { childSignal } from "./signal.ts";
import { haltedBy, mismatch, untilResumed } from "./step.ts";
import { isStoreTrouble } from "./trouble.ts";

export async function sleep(execution: Execution, step: string, ms: number): Promise<void> {
  const { clock } = execution.deps;
  const wait = begin(execution, step, () => ({ kind: "sleep", name: "sleep", until: clock.now() + ms }));
  if (wait.status === "succeeded") return;
  const until = wait.until ?? 0;
  const block = { reason: "timer", dueAt: until, detail: "asleep", take: () => clock.now() >= until || undefined } as const;
  await execution.block(block, () => execution.journal.commit({ type: "step.succeeded", step, attempt: 1 }));
}

/** @returns the signal's value, or undefined when `withinMs` has passed. */
export async function waitForSignal(execution: Execution, step: string, name: string, withinMs: number | undefined): Promise<unknown> {
  const { deps, journal } = execution;
  const wait = begin(execution, step, () => ({
    kind: "signal",
    name,
    ...(withinMs !== undefined && { until: deps.clock.now() + withinMs }),
  }));
  if (wait.status !== "succeeded") {
    const take = () =>
      takeSignal(execution, step, name) ??
      (wait.until !== undefined && deps.clock.now() >= wait.until ? giveUp(execution, step) : undefined);
    const block = { reason: "signal", dueAt: wait.until ?? null, detail: `waiting for the signal "${name}"`, take } as const;
    await execution.block<unknown, void>(block, () => journal.commit());
  }
  return journal.decode(execution.state.steps.get(step)?.value);
}

/** Ends the wait with the oldest signal of the name. At once, so that two waits for one name never take the same signal. */
function takeSignal(execution: Execution, step: string, name: string): ReceivedSignal | undefined {
  const signal = execution.state.signals.get(name)?.[0];
  if (!signal) return undefined;
  execution.journal.note({ type: "step.succeeded", step, attempt: 1, ...(signal.value !== undefined && { value: signal.value }) });
  return signal;
}

function giveUp(execution: Execution, step: string): true {
  execution.journal.note({ type: "step.succeeded", step, attempt: 1 });
  return true;
}

/** @throws GroundcrewError `APPROVAL_DENIED`, `APPROVAL_EXPIRED` */
export async function waitForApproval(
  execution: Execution,
  step: string,
  asked: Pick<Ask, "name" | "why" | "input" | "rules">,
): Promise<Approved> {
  const { state } = execution;
  const wait = begin(execution, step, () => ({ kind: "approval", name: asked.name }));
  if (wait.status === "running") await settleApproval(execution, { ...asked, kind: "checkpoint", step, tool: "", context: [] });
  const ended = state.steps.get(step);
  if (ended?.status === "failed" && ended.error) throw fromErrorRecord(ended.error, execution.run.id);
  return approvedOf(execution, step);
}

/** Who agreed stands in the approval alone: the step's value is read by others than the flow. In shadow mode it was nobody. */
function approvedOf({ state }: Execution, step: string): Approved {
  const approvals = [...state.approvals.values()].filter(({ request, voided }) => request.step === step && voided === undefined);
  const { by = [], reason } = approvals.findLast(({ verdict }) => verdict?.outcome === "approved")?.verdict ?? {};
  return { by: [...by], ...(reason !== undefined && { reason }) };
}

async function settleApproval(execution: Execution, ask: Ask): Promise<void> {
  const { step } = ask;
  let agreed: Agreed | undefined;
  while (!agreed) {
    if (execution.deps.supervision.isShadow && !agreedOn(execution, step)) return await skipApproval(execution, ask);
    agreed = await agree(execution, ask);
  }
  const { verdict } = agreed;
  const { by, reason } = verdict;
  await execution.enter();
  try {
    if (verdict.outcome === "approved") return await execution.journal.commit({ type: "step.succeeded", step, attempt: 1 });
    const error =
      verdict.outcome === "denied"
        ? new GroundcrewError("APPROVAL_DENIED", `${by.join(" and ")} did not allow "${ask.name}": ${reason ?? "no reason was given"}`)
        : new GroundcrewError("APPROVAL_EXPIRED", `Nobody has decided on "${ask.name}" in time. That is not a refusal.`);
    await execution.journal.commit({ type: "step.failed", step, attempt: 1, error: toErrorRecord(error, error.code), final: true });
  } finally {
    execution.leave();
  }
}

/** In shadow mode nobody is asked; what somebody has said before counts. */
async function skipApproval(execution: Execution, { step, name, why }: Ask): Promise<void> {
  const { journal } = execution;
  await withdraw(execution, step);
  await execution.enter();
  try {
    journal.note({ type: "approval.skipped", step, name, why });
    await journal.commit({ type: "step.succeeded", step, attempt: 1 });
  } finally {
    execution.leave();
  }
}

/** Runs `definition` as a child run and waits for its end. @throws GroundcrewError `CHILD_FAILED`, `AGENT_NOT_FOUND`, `LIMIT_EXCEEDED` */
export async function callChild(execution: Execution, step: string, definition: Definition, input: unknown): Promise<unknown> {
  const { journal, state } = execution;
  if (!state.steps.has(step)) checkChild(execution, definition);
  const json = journal.encode(input, `input of "${definition.name}"`);
  const wait = begin(execution, step, () => ({
    kind: "child",
    name: definition.name,
    child: newRunId(execution.deps.clock.now()),
    ...(json !== undefined && { input: json }),
  }));
  if (hashValue(wait.input) !== hashValue(json)) await mismatch(execution, `"${step}" was recorded with another input`);
  if (wait.status === "running") {
    await startChild(execution, wait, definition, json);
    const isOver = () => state.signals.get(childSignal(step))?.[0];
    const block = { reason: "child", dueAt: null, detail: `waiting for the child run ${wait.child}`, take: isOver } as const;
    await execution.block(block, () => takeResult(execution, wait));
  }
  const ended = state.steps.get(step);
  if (ended?.status === "failed" && ended.error) throw fromErrorRecord(ended.error, execution.run.id);
  return journal.decode(ended?.value);
}

function checkChild(execution: Execution, definition: Definition): void {
  const { run, deps } = execution;
  if (!deps.agents.has(definition.name)) {
    throw new GroundcrewError("AGENT_NOT_FOUND", `Run ${run.id} calls "${definition.name}", which this crew does not know.`, {
      run: run.id,
      fix: "Name it in the crew's `agents`.",
    });
  }
  if (depthOf(execution) > MAX_CHILD_DEPTH) {
    const fix = "A run that calls itself needs an end.";
    throw new GroundcrewError("LIMIT_EXCEEDED", `A child of run ${run.id} would be on the ${depthOf(execution)}th level of child runs.`, {
      run: run.id,
      fix,
    });
  }
}

function depthOf({ state }: Execution): number {
  return (state.created?.parent?.depth ?? 0) + 1;
}

/** A step in flight: a run that is cancelled meanwhile ends after it, and finds the child to cancel. */
async function startChild(execution: Execution, wait: StepState, definition: Definition, input: JsonValue | undefined): Promise<void> {
  await untilResumed(execution);
  const { deps, run } = execution;
  const stopped = await deps.stops.of(run.agent);
  if (stopped) execution.handBack(haltedBy(stopped));
  await execution.enter();
  try {
    await execution.journal.commit(); // the child's id has to be known before there is a child
    if (!execution.signal.aborted) await createChild(execution, wait, definition, input);
  } finally {
    execution.leave();
  }
}

async function createChild(execution: Execution, wait: StepState, definition: Definition, input: JsonValue | undefined): Promise<void> {
  const { run, deps } = execution;
  const id = wait.child ?? "";
  const now = deps.clock.now();
  const deadline = Math.min(run.deadline, now + definition.deadlineMs);
  const parent = { run: run.id, step: wait.step };
  const { blob } = deps.codec.encode(await execution.journal.decode(input), "input");
  const child = {
    id,
    agent: definition.name,
    principal: run.principal,
    deadline,
    dueAt: now,
    priority: run.priority,
    start: { key: `child:${run.id}/${wait.step}`, hash: id },
    parent: { ...parent, worker: deps.worker, epoch: run.epoch },
    events: [
      {
        type: "run.created" as const,
        seq: 1,
        at: now,
        agent: definition.name,
        principal: run.principal,
        deadline,
        parent: { ...parent, depth: depthOf(execution) },
        ...(input !== undefined && { input }),
      },
    ],
    blobs: blob ? [blob] : [],
  };
  try {
    await deps.store.create(child);
  } catch (error) {
    // Whether there is a child now is not known here: nobody may go on as if there were none.
    if (isStoreTrouble(error)) execution.halt({ to: "lost", error });
    throw error;
  }
}

async function takeResult(execution: Execution, wait: StepState): Promise<void> {
  const { journal, deps } = execution;
  const end = (await deps.store.last(wait.child ?? "")) as EventOf<"run.succeeded" | "run.failed" | "run.cancelled" | "run.expired">;
  if (end.type === "run.succeeded") {
    const value = journal.encode(await journal.decode(end.output), `output of "${wait.name}"`);
    await journal.commit({ type: "step.succeeded", step: wait.step, attempt: 1, ...(value !== undefined && { value }) });
    return;
  }
  const why = end.type === "run.failed" ? `: ${end.error.message}` : ` (${end.type.slice("run.".length)})`;
  const error = new GroundcrewError("CHILD_FAILED", `The child run ${wait.child} of "${wait.name}" did not succeed${why}.`, {
    run: execution.run.id,
  });
  await journal.commit({ type: "step.failed", step: wait.step, attempt: 1, error: toErrorRecord(error, "CHILD_FAILED"), final: true });
}

type WaitFacts = Pick<StepState, "kind" | "name" | "until" | "child" | "input">;

/** The recorded wait, or a new one. */
function begin(execution: Execution, step: string, facts: () => WaitFacts): StepState {
  const before = execution.state.steps.get(step);
  if (before) return before;
  execution.journal.note({ type: "step.started", step, attempt: 1, ...facts() });
  return execution.state.steps.get(step) as StepState;
}
