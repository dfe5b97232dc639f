/**
 * The life of one stay: take the run up where its journal stands, let the loop or the flow work, and write down how the stay
 * ended. This is the only place that decides between done, failed, parked, handed back and lost.
 */
import { isDeepStrictEqual } from "node:util";
import type { Definition } from "../agent.ts";
import { GroundcrewError, isError, toErrorRecord } from "../errors.ts";
import { dangerOf } from "../fault/quarantine.ts";
import type { Fact } from "../persistence/event.ts";
import type { Claim, TerminalStatus, Transition } from "../persistence/store.ts";
import { Execution, type ExecutionDeps, type Halt } from "./execution.ts";
import { runFlow } from "./flow.ts";
import { runAgent } from "./loop.ts";
import { SessionState } from "./session-state.ts";
import { isStoreTrouble } from "./trouble.ts";

/** @throws GroundcrewError `EVENT_UNREADABLE`; what the store throws */
export async function takeUp(deps: ExecutionDeps, claim: Claim): Promise<Execution> {
  const execution = new Execution(deps, claim, claim.events ?? (await deps.store.journal(claim.run.id)));
  const claimed: Fact = { type: "run.claimed", worker: deps.worker, epoch: claim.epoch, takeover: claim.takeover };
  if (claim.takeover)
    await execution.journal.commit(claimed); // on record even if this process dies of the run as well
  else execution.journal.note(claimed);
  mustFit(claim, execution);
  recover(execution);
  await loadSessionState(execution);
  execution.receive(claim.signals);
  execution.heedCancel();
  heedTime(execution);
  quarantine(execution);
  return execution;
}

/** What a run may take: its whole life, its time in the queue, and the time that workers spend on it. */
function heedTime(execution: Execution): void {
  const { deps, run, state } = execution;
  const now = deps.clock.now();
  const startBy = state.created?.startBy;
  if (now >= run.deadline) execution.halt({ to: "expired" });
  if (startBy !== undefined && run.epoch === 1 && now > startBy)
    execution.halt({ to: "expired", why: "it could not begin in the time it was given" });
  const definition = deps.agents.get(run.agent);
  if (definition?.kind === "agent" && definition.timeouts.totalMs !== undefined) execution.limitWork(definition.timeouts.totalMs);
}

/** A run that kills its process is not given another. `retry` does. */
function quarantine(execution: Execution): void {
  const danger = dangerOf(execution.state);
  if (danger === undefined) return;
  const steps = [...execution.state.steps.values()].filter(({ status }) => status === "abandoned").map(({ name }) => `"${name}"`);
  const at = steps.length > 0 ? `, the last time in ${steps.join(", ")}` : "";
  const detail = `${danger}${at}. \`retry\` gives it another chance; a tool that does this belongs in a process of its own (\`isolate\`).`;
  execution.halt({ to: "parked", reason: "attention", code: "QUARANTINED", dueAt: execution.run.deadline, detail });
}

/**
 * The run's row, its inbox and its journal have to be about the same run. What somebody edited by hand is nothing to go on
 * with: least of all with other rights than the run was given.
 */
function mustFit({ run, signals }: Claim, { state: { created } }: Execution): void {
  const fix = "Put right what was edited in the store, or restore it from a backup; then `groundcrew retry` the run.";
  if (!created || !isDeepStrictEqual([created.agent, created.principal], [run.agent, run.principal])) {
    throw new GroundcrewError("EVENT_UNREADABLE", `Run ${run.id} is another in its row than in its journal.`, { run: run.id, fix });
  }
  const damaged = signals.find(({ isDamaged }) => isDamaged);
  if (damaged) throw new GroundcrewError("EVENT_UNREADABLE", `Signal ${damaged.id} of run ${run.id} cannot be read.`, { run: run.id, fix });
}

/**
 * Steps that the journal says are in flight were in the hands of a process that is gone. What may repeat will; what may not
 * has an unknown outcome. Waits are in nobody's hands and go on.
 */
function recover({ journal, state }: Execution): void {
  for (const step of [...state.steps.values()]) {
    const isWait = step.effect === undefined;
    if (step.status !== "running" || isWait) continue;
    const why = "the worker that ran it is gone";
    const type = step.effect === "once" ? "step.unknown" : "step.abandoned";
    journal.note({ type, step: step.step, attempt: step.attempt, why });
  }
}

/** A turn sees the state its session was left in. Nobody else can change it while the turn is open. */
async function loadSessionState(execution: Execution): Promise<void> {
  const { run, deps, state } = execution;
  const isNew = run.session !== null && state.sessionState === undefined;
  const session = isNew ? await deps.store.session(run.principal.tenant, run.session ?? "") : null;
  execution.sessionState = await SessionState.load(deps.store, deps.codec, state.sessionState ?? session?.state ?? undefined);
}

type Outcome = { output: unknown } | { error: unknown } | { halt: Halt };

/**
 * Works on the run until it ends, parks, or is handed back. What the run's own code does wrong is an outcome of the run.
 * @throws what made the run somebody else's: `SUPERSEDED`, or what the store said when it did not take a write
 */
export async function drive(execution: Execution): Promise<void> {
  try {
    await untilGivenUp(execution);
  } finally {
    execution.end();
  }
}

async function untilGivenUp(execution: Execution): Promise<void> {
  const definition = execution.deps.agents.get(execution.run.agent) as Definition;
  for (;;) {
    const outcome = await outcomeOf(execution, definition);
    if ("halt" in outcome && outcome.halt.to === "lost") throw outcome.halt.error;
    if ("error" in outcome && isOfTheRuntime(execution, outcome.error)) throw outcome.error;
    if ("output" in outcome && definition.kind === "agent" && isUnheard(execution)) continue; // it came as the loop ended: nobody has looked at it
    if ((await finish(execution, outcome)) === "written") return;
    execution.receive(await execution.ownSignals()); // a message came as the run was about to end: it is answered first
  }
}

/** Whether somebody has said something that no answer has seen. */
function isUnheard({ state, isHalted }: Execution): boolean {
  const message = state.messages.at(-1);
  if (!message || message.from === "person" || isHalted) return false;
  return ![...state.steps.values()].some(({ kind, status, seq }) => kind === "model" && status === "succeeded" && seq > message.seq);
}

async function outcomeOf(execution: Execution, definition: Definition): Promise<Outcome> {
  const halted = execution.halted.then((halt): Outcome => ({ halt }));
  if (execution.isHalted) return halted;
  const body = definition.kind === "agent" ? runAgent(execution, definition) : runFlow(execution, definition);
  const ended = body.then(
    (output): Outcome => ({ output }),
    (error: unknown): Outcome => ({ error }),
  );
  const outcome = await Promise.race([halted, ended]);
  // Steps that the body did not wait for say what became of them before the run is over.
  while (execution.isBusy && !execution.isHalted) await Promise.race([halted, execution.settled()]);
  return execution.isHalted ? halted : outcome; // the body of a run that has to stop may end any way it likes
}

/**
 * What the store said to the runtime's own reads and writes is no failure of the run: who takes it up next goes on. A step that
 * has failed with such an error, as one may that works on another store, is the run's own.
 */
function isOfTheRuntime({ state }: Execution, error: unknown): boolean {
  return isStoreTrouble(error) && ![...state.steps.values()].some((step) => step.error?.code === error.code);
}

async function finish(execution: Execution, outcome: Outcome): Promise<"written" | "signalled"> {
  if ("halt" in outcome) return stop(execution, outcome.halt);
  if ("error" in outcome && isError(outcome.error, "EVENT_UNREADABLE")) return askForAttention(execution, outcome.error);
  const fact = endFact(execution, outcome);
  if (fact.type === "run.succeeded") return end(execution, "succeeded", fact);
  return end(execution, "failed", fact, "the parent run has failed");
}

/** What the run needs to go on cannot be read: a class that is not registered any more, a damaged turn of its session. */
async function askForAttention({ journal }: Execution, error: GroundcrewError): Promise<"written" | "signalled"> {
  const fact: Fact = { type: "run.parked", reason: "attention", detail: `${error.message} \`groundcrew retry\` looks again.` };
  return journal.end({ to: "parked", reason: "attention", dueAt: null }, fact);
}

function endFact({ run, journal }: Execution, outcome: Exclude<Outcome, { halt: Halt }>): Fact & { type: "run.succeeded" | "run.failed" } {
  try {
    if ("error" in outcome) throw outcome.error;
    const output = journal.encode(outcome.output, `output of "${run.agent}"`);
    return output === undefined ? { type: "run.succeeded" } : { type: "run.succeeded", output };
  } catch (error) {
    return { type: "run.failed", error: toErrorRecord(error, "FLOW_FAILED") };
  }
}

async function stop(execution: Execution, halt: Halt): Promise<"written" | "signalled"> {
  const { journal, run } = execution;
  switch (halt.to) {
    case "parked": {
      const code = halt.code === undefined ? {} : { code: halt.code };
      const fact: Fact = { type: "run.parked", reason: halt.reason, until: halt.dueAt, detail: halt.detail, ...code };
      return journal.end({ to: "parked", reason: halt.reason, dueAt: halt.dueAt }, fact);
    }
    case "queued":
      return journal.end({ to: "queued" }, { type: "run.released", why: halt.why });
    case "lost":
      throw halt.error;
    case "cancelled":
      await execution.settled();
      execution.recordMessages(await execution.ownSignals());
      return end(execution, "cancelled", { type: "run.cancelled", why: halt.why, ...(halt.by !== undefined && { by: halt.by }) }, halt.why);
    case "expired":
      await execution.settled();
      execution.recordMessages(await execution.ownSignals());
      return end(
        execution,
        "expired",
        { type: "run.expired", deadline: run.deadline, ...(halt.why !== undefined && { why: halt.why }) },
        "the parent run has passed its deadline",
      );
  }
}

/** @param stopChildren why child runs that are still open end as well: told by the same write, since only the run's holder may say it. */
async function end({ journal, state }: Execution, to: TerminalStatus, fact: Fact, stopChildren?: string): Promise<"written" | "signalled"> {
  const children = [...state.steps.values()].flatMap(({ kind, status, child }) =>
    kind === "child" && status === "running" ? (child ?? []) : [],
  );
  const stops = stopChildren !== undefined && children.length > 0 ? { stops: { children, why: stopChildren } } : {};
  return journal.end({ to, ...stops, ...(state.sessionState !== undefined && { sessionState: state.sessionState }) }, fact);
}

/**
 * A run that cannot be taken up waits for somebody who can mend it, and its worker goes on with the others. Signals stay where
 * they are for the day it is mended; only a cancel works without reading what the run had done.
 * @param why says when it makes sense to look again, if it does: a newer release may be on its way.
 */
export async function setAside(deps: ExecutionDeps, { run, epoch, signals }: Claim, why: unknown): Promise<void> {
  const wait = isError(why, "EVENT_UNREADABLE") ? why.retryAfterMs : undefined;
  const dueAt = wait === undefined ? null : Math.min(deps.clock.now() + wait, run.deadline);
  const isCancelled = signals.some(({ kind }) => kind === "cancel") || deps.clock.now() >= run.deadline;
  const next: Transition = isCancelled ? { to: "cancelled" } : { to: "parked", reason: "attention", dueAt };
  const consumed = signals.filter(({ kind }) => kind === "retry").map(({ id }) => id);
  const seen = signals.map(({ id }) => id);
  await deps.store.append({ run: run.id, worker: deps.worker, epoch, events: [], chunks: [], blobs: [], consumed, seen, next });
}
