/**
 * One model call through the AI SDK: tools go along without their `execute`, so the SDK takes exactly one step, parses and
 * checks the tool calls, and leaves running them to the loop. Retries are the loop's too: the SDK's own are off.
 */
import { type FinishReason, isStepCount, type LanguageModelUsage, type ModelMessage, streamText, type ToolSet, toUIMessageStream, type UIMessageChunk } from "ai";
import type { Agent } from "../agent.ts";
import { coerceError } from "../errors.ts";

export interface ToolCall {
  toolCallId: string;
  toolName: string;
  input: unknown;
  /** The model named a tool that is not there, or wrote arguments that do not fit: for the model to read. */
  invalid?: string;
}

/** What a model step leaves in the journal. */
export interface ModelStep {
  /** What goes into the transcript: the assistant's message, and results of tools that the provider ran. */
  messages: ModelMessage[];
  /** Calls that are ours to run, in order. */
  toolCalls: ToolCall[];
  text: string;
  finishReason: FinishReason;
  usage: LanguageModelUsage;
  /** Structured output, for an agent that asks for one and a step that ends the run. */
  output?: unknown;
}

export interface ModelCall {
  agent: Pick<Agent, "settings" | "tools">;
  messages: ModelMessage[];
  /** Steps so far, as `prepareStep` and `stopWhen` of the AI SDK want to see them. */
  steps: ModelStep[];
  signal: AbortSignal;
  onChunk: (chunk: UIMessageChunk) => void;
}

/** @throws what the provider or the SDK throws, unwrapped; the signal's reason when it fires. */
export async function callModel(call: ModelCall): Promise<ModelStep> {
  const { prepareStep, prepareCall, callOptionsSchema: _schema, stopWhen: _stop, id: _id, ...settings } = call.agent.settings;
  for (const field of WHOLE_CALL) delete settings[field];
  const base = { ...settings, tools: call.agent.tools, messages: call.messages };
  const prepared = prepareCall ? await prepareCall(base as never) : base;
  let failure: { error: unknown } | undefined;
  const result = streamText({
    ...(prepared as typeof base),
    ...(prepareStep && { prepareStep: (step) => prepareStep({ ...step, stepNumber: call.steps.length, steps: call.steps as never }) }),
    tools: withoutExecute(prepared.tools ?? {}),
    stopWhen: isStepCount(1),
    maxRetries: 0,
    abortSignal: call.signal,
    onError: ({ error }) => {
      failure ??= { error };
    },
  });
  const stream = toUIMessageStream({ stream: result.stream, sendStart: false, sendFinish: false, sendReasoning: true, sendSources: true });
  try {
    for await (const chunk of stream) if (LIVE.has(chunk.type)) call.onChunk(chunk);
  } catch (error) {
    failure ??= { error };
  }
  call.signal.throwIfAborted();
  if (failure) throw coerceError(failure.error);
  return toModelStep(await result.finalStep, call.agent.settings.output && result.output);
}

/** Chunks that say something before the step is over; the rest is told by the step's own events. */
const LIVE: ReadonlySet<string> = new Set([
  "text-start",
  "text-delta",
  "text-end",
  "reasoning-start",
  "reasoning-delta",
  "reasoning-end",
  "tool-input-start",
  "tool-input-delta",
  "source-url",
  "source-document",
  "file",
  "reasoning-file",
]);

/** Callbacks around a whole call of the SDK would fire for each step here. */
const WHOLE_CALL = ["onStart", "experimental_onStart", "onEnd", "onFinish", "onToolExecutionStart", "onToolExecutionEnd", "onError", "onAbort"] as const;

function withoutExecute(tools: ToolSet): ToolSet {
  return Object.fromEntries(Object.entries(tools).map(([name, tool]) => [name, { ...tool, execute: undefined }])) as ToolSet;
}

interface SdkStep {
  response: { messages: unknown[] };
  toolCalls: readonly { toolCallId: string; toolName: string; input: unknown; invalid?: boolean; error?: unknown; providerExecuted?: boolean }[];
  text: string;
  finishReason: FinishReason;
  usage: LanguageModelUsage;
}

async function toModelStep(step: SdkStep, output: PromiseLike<unknown> | undefined): Promise<ModelStep> {
  const toolCalls = step.toolCalls.filter((call) => !call.providerExecuted).map(toToolCall);
  const { raw: _raw, ...usage } = step.usage;
  return {
    messages: onlyAssistant(step.response.messages as ModelMessage[], toolCalls),
    toolCalls,
    text: step.text,
    finishReason: step.finishReason,
    usage: usage as LanguageModelUsage,
    ...(output && toolCalls.length === 0 && { output: await output }),
  };
}

function toToolCall(call: SdkStep["toolCalls"][number]): ToolCall {
  const base = { toolCallId: call.toolCallId, toolName: call.toolName, input: call.input };
  return call.invalid ? { ...base, invalid: coerceError(call.error).message } : base;
}

/** The SDK answers invalid calls itself with a tool message; here the loop answers every call, so those go. */
function onlyAssistant(messages: ModelMessage[], ours: ToolCall[]): ModelMessage[] {
  const ids = new Set(ours.map((call) => call.toolCallId));
  return messages.flatMap((message): ModelMessage[] => {
    if (message.role !== "tool") return [message];
    const content = message.content.filter((part) => part.type !== "tool-result" || !ids.has(part.toolCallId));
    return content.length > 0 ? [{ ...message, content }] : [];
  });
}
