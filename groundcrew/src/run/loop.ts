/**
 * The one loop. It looks at the state of the run, does the next thing, and looks again: open tool calls are run, an answer
 * without calls ends the run, anything else asks the model. A resumed run enters at the top like a new one.
 */
import { asSchema, type ModelMessage, type StopCondition, type Tool, type ToolSet } from "ai";
import type { Agent, CheckedPolicy } from "../agent.ts";
import { coerceError, describe, GroundcrewError, isError } from "../errors.ts";
import { DEFAULT_MODEL_TIMEOUT_MS, DEFAULT_TOOL_TIMEOUT_MS, MAX_ATTEMPTS, MAX_PARALLEL_TOOLS } from "../limits.ts";
import { callModel } from "../model/model.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import { contentOf, type ModelStep, type ToolCall, textOf, toolCallsOf } from "../persistence/model-step.ts";
import { executeTool, toModelOutput } from "../tool/tool.ts";
import type { Execution } from "./execution.ts";
import { historyOf } from "./history.ts";
import { perform } from "./step.ts";
import { modelStepKey, sdkStepsOf, type Transcript, toolStepKey, transcriptOf, withUniqueCallIds } from "./transcript.ts";

/** @returns the run's output. @throws GroundcrewError when the run has failed; never returns when it has to stop or wait */
export async function runAgent(execution: Execution, agent: Agent): Promise<unknown> {
  const { journal, deps, run, state } = execution;
  const decode = (json: JsonValue | undefined) => journal.decode(json);
  const history = await historyOf(deps.store, run, agent.historyTurns, decode);
  for (let isResumed = true; ; isResumed = false) {
    const transcript = await transcriptOf(state, decode);
    const last = transcript.steps.at(-1);
    if (transcript.openCalls.length > 0) await runTools(execution, agent, transcript, history, isResumed);
    else if (last && !transcript.isUnseen && (await isOver(execution, agent, transcript.steps))) return outputOf(agent, last);
    else await askModel(execution, agent, transcript, history);
  }
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
  if (steps.length >= agent.steps) {
    throw new GroundcrewError("STEP_CAP_REACHED", `Agent "${agent.name}" has used its ${agent.steps} model steps without an answer.`, {
      run: execution.run.id,
      fix: "If the task needs more, raise `steps`; if the agent goes in circles, look at its tools and instructions.",
    });
  }
  const step = modelStepKey(steps.length + 1);
  const { journal, state } = execution;
  const sdkSteps = agent.settings.prepareStep ? await sdkStepsOf(state, steps, (json) => journal.decode(json)) : [];
  const isTaken = (toolCallId: string) => state.steps.has(toolStepKey(toolCallId));
  let usage: JsonValue | undefined;
  await perform<ModelStep>(execution, {
    step,
    kind: "model",
    name: modelName(agent),
    effect: "read",
    timeoutMs: DEFAULT_MODEL_TIMEOUT_MS,
    attempts: MAX_ATTEMPTS,
    failure: "MODEL_FAILED",
    run: async ({ signal, attempt }) => {
      const onChunk = (chunk: unknown) => journal.chunk(step, attempt, chunk as JsonValue);
      const { messages } = await asHeardBy(execution, step, transcript);
      const answer = await callModel({ agent, messages: [...history, ...messages], steps: sdkSteps, signal, onChunk });
      usage = journal.encode(answer.usage, "usage");
      return withUniqueCallIds(answer.step, isTaken);
    },
    describe: () => ({ usage }),
  });
}

/** What this attempt of a model step is to be shown: a message may have come since the run was last looked at. */
async function asHeardBy({ state, journal }: Execution, step: string, known: Transcript): Promise<Transcript> {
  if (state.messages.length === known.arrived) return known;
  return transcriptOf(state, (json) => journal.decode(json), state.steps.get(step)?.seq);
}

function modelName(agent: Agent): string {
  const { model } = agent.settings;
  return typeof model === "string" ? model : model.modelId;
}

/**
 * Runs the open calls side by side. One that fails is an answer for the model; one in doubt makes the run wait once the others are done.
 * @param isResumed whether an earlier stay asked for them: the agent may have been another one then.
 */
async function runTools(
  execution: Execution,
  agent: Agent,
  { messages, openCalls }: Transcript,
  history: readonly ModelMessage[],
  isResumed: boolean,
): Promise<void> {
  const shown = [...history, ...messages];
  const queue = [...openCalls];
  const lane = async () => {
    for (let call = queue.shift(); call; call = queue.shift()) {
      if (isResumed) await meetNewTool(execution, agent, call);
      await runTool(execution, agent, call, shown);
    }
  };
  await Promise.all(Array.from({ length: Math.min(MAX_PARALLEL_TOOLS, openCalls.length) }, lane));
}

/**
 * The agent may have changed since its model asked for this call. One that has not begun, and does not fit its tool any more, is
 * refused like one that never fitted. One that had begun when its tool was taken away may have happened: that is not for a
 * tool that is gone to deny.
 */
async function meetNewTool({ state, journal }: Execution, agent: Agent, call: ToolCall): Promise<void> {
  const tool = Object.hasOwn(agent.tools, call.toolName) ? agent.tools[call.toolName] : undefined;
  const step = state.steps.get(toolStepKey(call.toolCallId));
  if (tool && !step) {
    call.invalid ??= await misfit(tool, call.input);
  } else if (!tool && step?.status === "abandoned" && step.effect !== "read" && step.resolution === undefined) {
    journal.note({ type: "step.unknown", step: step.step, attempt: step.attempt, why: "its tool was removed while it was in flight" });
  }
}

/** What is wrong with the input, if anything. */
async function misfit(tool: Tool, input: unknown): Promise<string | undefined> {
  const checked = await asSchema(tool.inputSchema).validate?.(structuredClone(input));
  if (!checked || checked.success) return undefined;
  return `The call did not run: its input does not fit the tool any more, which has changed meanwhile (${checked.error.message}).`;
}

/** What a tool gets when its author says nothing about it. */
const UNDECLARED: CheckedPolicy = { effect: "once", timeoutMs: DEFAULT_TOOL_TIMEOUT_MS, key: undefined, reconcile: undefined };

async function runTool(execution: Execution, agent: Agent, call: ToolCall, messages: Transcript["messages"]): Promise<void> {
  const tool = Object.hasOwn(agent.tools, call.toolName) ? agent.tools[call.toolName] : undefined;
  const policy = agent.policy.get(call.toolName) ?? UNDECLARED;
  const step = toolStepKey(call.toolCallId);
  const { journal } = execution;
  const { key, refused } = call.invalid === undefined && tool ? keyOf(execution, agent, policy, call) : { refused: call.invalid };
  try {
    await perform<unknown>(execution, {
      step,
      kind: "tool",
      name: call.toolName,
      effect: refused === undefined && tool ? policy.effect : "read",
      timeoutMs: policy.timeoutMs,
      attempts: 1, // a failure is told to the model, which decides whether to try again
      ...(key !== undefined && { key }),
      input: journal.encode(call.input, `input of tool "${call.toolName}"`),
      failure: "TOOL_FAILED",
      run: ({ signal, attempt }) => {
        if (refused !== undefined) throw new GroundcrewError("TOOL_FAILED", refused);
        if (!tool?.execute) throw new GroundcrewError("TOOL_FAILED", `There is no tool "${call.toolName}" any more.`);
        const onPreliminary = (output: unknown) => {
          const part = preliminary(execution, call, output);
          if (part !== undefined) journal.chunk(step, attempt, part);
        };
        // The tool gets its own copy: what it does to its input must not reach the transcript.
        return executeTool(tool, structuredClone(call.input), {
          toolCallId: call.toolCallId,
          messages,
          signal,
          context: (agent.settings.toolsContext as Record<string, unknown> | undefined)?.[call.toolName],
          onPreliminary,
        });
      },
      describe: async (output) => (tool?.toModelOutput ? { shown: await shownTo(execution, tool, call, output) } : {}),
      reconcile: policy.reconcile && ((context) => policy.reconcile?.(structuredClone(call.input), context) ?? "unknown"),
    });
  } catch (thrown) {
    const error = coerceError(thrown);
    if (execution.state.steps.get(step)?.status !== "failed" || isError(error, "SUPERSEDED")) throw error;
    // Recorded as failed: the model is told.
  }
}

/** What the tool itself wants the model to read; without such a wish the result is read off the recorded value. */
async function shownTo(execution: Execution, tool: Tool, call: ToolCall, output: unknown): Promise<JsonValue | undefined> {
  return execution.journal.encode(
    await toModelOutput(tool, call.toolCallId, call.input, output),
    `model output of tool "${call.toolName}"`,
  );
}

/** What makes two calls of a `keyed` tool the same action. Without a key of which that can be said, the call is refused. */
function keyOf({ run }: Execution, agent: Agent, policy: CheckedPolicy, call: ToolCall): { key?: string; refused?: string } {
  if (!policy.key) return {};
  try {
    const key: unknown = policy.key(structuredClone(call.input));
    if ((typeof key === "string" && key !== "") || typeof key === "number") {
      return { key: `${run.principal.tenant}/${agent.name}/${call.toolName}/${key}` };
    }
    return { refused: `The call did not run: \`policy.${call.toolName}.key\` gave ${describe(key)} for it, which is no key.` };
  } catch (thrown) {
    return { refused: `The call did not run: \`policy.${call.toolName}.key\` failed: ${coerceError(thrown).message}` };
  }
}

/** A result before the last, for readers only. One that is too large to stand in the stream is not shown. */
function preliminary(execution: Execution, call: ToolCall, output: unknown): JsonValue | undefined {
  const { json, blob } = execution.deps.codec.encode(output, `preliminary result of tool "${call.toolName}"`);
  if (blob || json === undefined) return undefined;
  return { type: "tool-output-available", toolCallId: call.toolCallId, preliminary: true, output: json };
}
