/**
 * The one loop. It looks at the state of the run, does the next thing, and looks again: open tool calls are run, an answer
 * without calls ends the run, anything else asks the model. A resumed run enters at the top like a new one.
 */
import type { ModelMessage, StopCondition, ToolSet } from "ai";
import type { Agent } from "../agent.ts";
import { fromErrorRecord, GroundcrewError } from "../errors.ts";
import { callModel } from "../model/model.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import { contentOf, type ModelStep, textOf, toolCallsOf } from "../persistence/model-step.ts";
import { hold } from "./approval-wait.ts";
import type { Execution } from "./execution.ts";
import { historyOf } from "./history.ts";
import { exhaustionOf, modelsOf } from "./models.ts";
import { perform, untilResumed } from "./step.ts";
import { runTools } from "./tools.ts";
import { modelStepKey, sdkStepsOf, type Transcript, toolStepKey, transcriptOf, withUniqueCallIds } from "./transcript.ts";

/** @returns the run's output. @throws GroundcrewError when the run has failed; never returns when it has to stop or wait */
export async function runAgent(execution: Execution, agent: Agent): Promise<unknown> {
  const { journal, deps, run, state } = execution;
  const decode = (json: JsonValue | undefined) => journal.decode(json);
  const history = await historyOf(deps.store, run, agent.historyTurns, decode);
  for (let isResumed = true; ; isResumed = false) {
    failWithWhatFailed(execution);
    await untilResumed(execution);
    await untilHandedBack(execution);
    const transcript = await transcriptOf(state, decode);
    const last = transcript.steps.at(-1);
    if (transcript.openCalls.length > 0) await runTools(execution, agent, transcript, history, isResumed);
    else if (last && !transcript.isUnseen && (await isOver(execution, agent, transcript.steps))) return outputOf(agent, last);
    else await askModel(execution, agent, transcript, history);
  }
}

/** While a person speaks in the agent's place, the agent waits; what is said meanwhile it reads when it is its turn again. */
async function untilHandedBack(execution: Execution): Promise<void> {
  const { handover } = execution.state;
  if (handover === undefined) return;
  const isOver = () => execution.state.handover === undefined;
  await hold(execution, { reason: "signal", detail: `${handover} has taken over the conversation`, isOver });
}

/** A tool that the run cannot do without has failed: now, or before a crash. */
function failWithWhatFailed({ state, run }: Execution): void {
  for (const { isFatal, error } of state.steps.values()) if (isFatal && error) throw fromErrorRecord(error, run.id);
}

function outputOf(agent: Agent, last: ModelStep): unknown {
  if (!agent.settings.output) return textOf(contentOf(last));
  if (last.output !== undefined) return last.output;
  throw new GroundcrewError("OUTPUT_INVALID", `Agent "${agent.name}" was stopped by \`stopWhen\` before it gave its output.`);
}

/** An answer without calls is the last one; so is one after which the author wants to stop. */
async function isOver({ state, journal }: Execution, agent: Agent, steps: ModelStep[]): Promise<boolean> {
  const last = steps.at(-1);
  if (last && toolCallsOf(last).length === 0) return true;
  const conditions = [agent.settings.stopWhen ?? []].flat() as StopCondition<ToolSet>[];
  if (conditions.length === 0) return false;
  const sdkSteps = await sdkStepsOf(state, steps, (json) => journal.decode(json));
  const answers = await Promise.all(conditions.map((condition) => condition({ steps: sdkSteps as never })));
  return answers.some(Boolean);
}

async function askModel(execution: Execution, agent: Agent, transcript: Transcript, history: readonly ModelMessage[]): Promise<void> {
  const { steps } = transcript;
  const cap = agent.steps + execution.state.extraSteps;
  if (steps.length >= cap) {
    throw new GroundcrewError("STEP_CAP_REACHED", `Agent "${agent.name}" has used its ${cap} model steps without an answer.`, {
      run: execution.run.id,
      fix: "If the task needs more, raise `steps`; if the agent goes in circles, look at its tools and instructions.",
    });
  }
  const step = modelStepKey(steps.length + 1);
  const { journal, state } = execution;
  const sdkSteps = agent.settings.prepareStep ? await sdkStepsOf(state, steps, (json) => journal.decode(json)) : [];
  const isTaken = (toolCallId: string) => state.steps.has(toolStepKey(toolCallId));
  let usage: JsonValue | undefined;
  const { faults } = agent;
  const candidates = modelsOf(agent, { messages: [...history, ...transcript.messages] }, async (model, { signal, attempt }) => {
    const onChunk = (chunk: unknown) => journal.chunk(step, attempt, chunk as JsonValue);
    const { messages } = await asHeardBy(execution, step, transcript);
    const shown = { agent, model, messages: [...history, ...messages], steps: sdkSteps };
    const answer = await callModel({ ...shown, signal, onChunk, timeouts: agent.timeouts, clock: execution.deps.clock });
    usage = journal.encode(answer.usage, "usage");
    return withUniqueCallIds(answer.step, isTaken);
  });
  await perform<ModelStep>(execution, {
    step,
    kind: "model",
    candidates,
    start: faults.sticky === "run" && state.modelCandidate < candidates.length ? state.modelCandidate : 0,
    failure: "MODEL_FAILED",
    classify: [faults.classify],
    patienceMs: faults.patienceMs,
    exhausted: (failure) => exhaustionOf(failure, faults.exhausted),
    describe: () => ({ usage }),
  });
}

/** What this attempt of a model step is to be shown: a message may have come since the run was last looked at. */
async function asHeardBy({ state, journal }: Execution, step: string, known: Transcript): Promise<Transcript> {
  if (state.messages.length === known.arrived) return known;
  return transcriptOf(state, (json) => journal.decode(json), state.steps.get(step)?.seq);
}
