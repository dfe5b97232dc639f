/** The calls of a model's answer: each a step of its own, of which the model is told what became. */
import { asSchema, type ModelMessage, type Tool } from "ai";
import type { Agent } from "../agent.ts";
import { coerceError, describe, GroundcrewError, isError } from "../errors.ts";
import type { Exhausted } from "../faults.ts";
import { MAX_NAME_CHARS, MAX_PARALLEL_TOOLS } from "../limits.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import type { ToolCall } from "../persistence/model-step.ts";
import { type CheckedPolicy, UNDECLARED } from "../policy.ts";
import { executeTool, toModelOutput } from "../tool/tool.ts";
import type { Execution } from "./execution.ts";
import { perform } from "./step.ts";
import type { Candidate, Exhaustion } from "./step-spec.ts";
import { type Transcript, toolStepKey } from "./transcript.ts";

/**
 * Runs the open calls side by side. One that fails is an answer for the model; one in doubt makes the run wait once the others are done.
 * @param isResumed whether an earlier stay asked for them: the agent may have been another one then.
 */
export async function runTools(
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

async function runTool(execution: Execution, agent: Agent, call: ToolCall, messages: Transcript["messages"]): Promise<void> {
  const { journal } = execution;
  const step = toolStepKey(call.toolCallId);
  const policy = agent.policy.get(call.toolName) ?? UNDECLARED;
  const tool = toolNamed(agent, call.toolName);
  const { key, refused } = call.invalid === undefined && tool ? keyOf(execution, agent, policy, call) : { refused: call.invalid };
  const candidates = refused === undefined && tool ? toolsOf(execution, agent, call, messages, key) : ([refusing(call, refused)] as const);
  try {
    await perform<unknown>(execution, {
      step,
      kind: "tool",
      candidates,
      input: journal.encode(call.input, `input of tool "${call.toolName}"`),
      failure: "TOOL_FAILED",
      classify: [policy.classify, agent.faults.classify],
      patienceMs: agent.faults.patienceMs,
      exhausted: () => (refused === undefined && tool ? exhaustionOfTool(policy.optional, agent.faults.exhausted) : "tell"),
      describe: async (output) => (tool?.toModelOutput ? { shown: await shownTo(execution, tool, call, output) } : {}),
    });
  } catch (thrown) {
    const error = coerceError(thrown);
    if (execution.state.steps.get(step)?.status !== "failed" || isError(error, "SUPERSEDED")) throw error;
    // Recorded as failed: the model is told, or the loop fails the run.
  }
}

/** What it means to the run when the tool has failed for good. */
function exhaustionOfTool(optional: boolean | undefined, required: Exhausted): Exhaustion {
  if (optional === undefined) return "tell";
  return optional ? "degrade" : required;
}

function toolNamed(agent: Agent, name: string): Tool | undefined {
  return Object.hasOwn(agent.tools, name) ? agent.tools[name] : undefined;
}

/** The tool that was asked for, and what stands in for it. */
function toolsOf(
  execution: Execution,
  agent: Agent,
  call: ToolCall,
  messages: Transcript["messages"],
  key: string | undefined,
): [Candidate<unknown>, ...Candidate<unknown>[]] {
  const { fallback } = agent.policy.get(call.toolName) ?? UNDECLARED;
  const first = toolCandidate(execution, agent, call, messages, call.toolName);
  if (key !== undefined) first.key = key;
  if (fallback === undefined) return [first];
  const standsFor = typeof fallback === "string" ? fallback : "a stand-in";
  if (typeof fallback === "string") return [first, { ...toolCandidate(execution, agent, call, messages, fallback), standsFor }];
  const run = () => fallback(structuredClone(call.input));
  return [first, { ...first, name: `${call.toolName} (stand-in)`, attempts: 1, breaker: undefined, run, standsFor }];
}

function toolCandidate(
  execution: Execution,
  agent: Agent,
  call: ToolCall,
  messages: Transcript["messages"],
  name: string,
): Candidate<unknown> {
  const policy = agent.policy.get(name) ?? UNDECLARED;
  const tool = toolNamed(agent, name);
  return {
    name,
    effect: policy.effect,
    attempts: policy.attempts,
    timeoutMs: policy.timeoutMs ?? agent.timeouts.tools.get(name) ?? agent.timeouts.toolMs,
    breaker: breakerOf(agent, name, call.input),
    reconcile: policy.reconcile && ((context) => policy.reconcile?.(structuredClone(call.input), context) ?? "unknown"),
    run: ({ step, signal, attempt }) => {
      if (!tool?.execute) throw new GroundcrewError("TOOL_FAILED", `There is no tool "${name}" any more.`);
      const onPreliminary = (output: unknown) => {
        const part = preliminary(execution, call, output);
        if (part !== undefined) execution.journal.chunk(step, attempt, part);
      };
      // The tool gets its own copy: what it does to its input must not reach the transcript.
      return executeTool(tool, structuredClone(call.input), {
        toolCallId: call.toolCallId,
        messages,
        signal,
        context: (agent.settings.toolsContext as Record<string, unknown> | undefined)?.[name],
        onPreliminary,
      });
    },
  };
}

/** One whose key cannot be told has none: the call itself will show what is wrong with its input. */
function breakerOf(agent: Agent, name: string, input: unknown): string | undefined {
  const { breaker } = agent.policy.get(name) ?? UNDECLARED;
  const whole = `tool:${agent.name}/${name}`;
  if (breaker === undefined) return whole;
  if (breaker === false) return undefined;
  try {
    const part: unknown = breaker(structuredClone(input));
    return typeof part === "string" ? `${whole}/${part.toWellFormed().slice(0, MAX_NAME_CHARS)}` : undefined;
  } catch {
    return undefined;
  }
}

/** A call that cannot be made is an answer for the model. */
function refusing({ toolName }: ToolCall, why = `There is no tool "${toolName}" any more.`): Candidate<never> {
  const run = () => {
    throw new GroundcrewError("TOOL_FAILED", why);
  };
  return { name: toolName, effect: "read", attempts: 1, timeoutMs: 1_000, run };
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
