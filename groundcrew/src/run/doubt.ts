/** Steps whose outcome nobody saw (G3): a hook finds out what became of them, or a person says so. Nothing is guessed. */

import { coerceError } from "../errors.ts";
import { failpoint } from "../failpoint.ts";
import { withDeadline } from "../fault/timeout.ts";
import { CANCEL_GRACE_MS, RECONCILE_TIMEOUT_MS } from "../limits.ts";
import type { Fact } from "../persistence/event.ts";
import type { StepState } from "../persistence/fold.ts";
import type { Reconciled } from "../policy.ts";
import type { Execution } from "./execution.ts";

/** What of a step is needed to find out. */
export interface Doubtful {
  step: string;
  reconcile?: ((call: { key: string; signal: AbortSignal }) => Promise<Reconciled<unknown>> | Reconciled<unknown>) | undefined;
}

/** Nobody saw the outcome of a `once` step: its `reconcile` hook answers, or the run waits for a person. */
export async function settleUnknown(execution: Execution, spec: Doubtful, step: StepState): Promise<void> {
  const { state } = execution;
  const isKnown = () => state.steps.get(spec.step)?.status !== "unknown" || undefined;
  const why = spec.reconcile ? await reconcile(execution, spec, step) : "it has no reconcile hook";
  if (isKnown()) return; // the hook's answer is recorded, or a person was faster
  const detail = `nobody saw the outcome of "${step.name}" (${spec.step}), and ${why}; say whether it happened`;
  await execution.block({ reason: "unknown_outcome", dueAt: null, detail, take: isKnown }, async () => {});
}

/** Asks the hook and records what it found out; only what is clearly an answer is one. @returns why it is still unknown */
async function reconcile(execution: Execution, spec: Doubtful, step: StepState): Promise<string> {
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

async function askHook(execution: Execution, spec: Doubtful, step: StepState): Promise<Fact | string> {
  const bounds = execution.bounds(`reconcile ${step.name}`, RECONCILE_TIMEOUT_MS, 0);
  const key = step.key ?? execution.keyOf(spec.step);
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
    const value = happened ? execution.journal.encodeApart(result, `reconcile of "${step.name}"`) : undefined;
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

/** Nobody may ask what became of an effect while it is still at work here, timed out or taken over as it may be. */
export function keepUntilSettled<T>(execution: Execution, step: string, effect: Promise<T>): void {
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
