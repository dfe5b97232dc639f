/**
 * One model call through the AI SDK: tools go along without their `execute`, so the SDK takes exactly one step, parses and
 * checks the tool calls, and leaves running them to the loop. Retries are the loop's too: the SDK's own are off.
 */
import {
  type FinishReason,
  isStepCount,
  type LanguageModelUsage,
  type ModelMessage,
  streamText,
  type ToolSet,
  toUIMessageStream,
  type UIMessageChunk,
} from "ai";
import { type Agent, WHOLE_CALL } from "../agent.ts";
import { coerceError, GroundcrewError } from "../errors.ts";
import type { ModelStep } from "../persistence/model-step.ts";

/** A model step, and what it cost. */
export interface ModelAnswer {
  step: ModelStep;
  usage: LanguageModelUsage;
}

export interface ModelCall {
  agent: Pick<Agent, "settings" | "tools">;
  messages: ModelMessage[];
  /** Steps so far, as `prepareStep` of the AI SDK looks at them. */
  steps: readonly unknown[];
  signal: AbortSignal;
  onChunk: (chunk: UIMessageChunk) => void;
}

/** @throws what the provider or the SDK throws, unwrapped; the signal's reason when it fires. */
export async function callModel(call: ModelCall): Promise<ModelAnswer> {
  const { prepareStep, prepareCall, callOptionsSchema: _schema, stopWhen: _stop, id: _id, ...settings } = call.agent.settings;
  for (const field of WHOLE_CALL) delete settings[field]; // they would fire for each step
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
  const stream = toUIMessageStream({
    stream: result.stream,
    tools: call.agent.tools,
    sendStart: false,
    sendFinish: false,
    sendReasoning: true,
    sendSources: true,
  });
  try {
    for await (const chunk of stream) if (LIVE.has(chunk.type)) call.onChunk(chunk);
  } catch (error) {
    failure ??= { error };
  }
  call.signal.throwIfAborted();
  if (failure) throw coerceError(failure.error);
  return toAnswer(await result.finalStep, call.agent.settings.output && (() => result.output));
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

function withoutExecute(tools: ToolSet): ToolSet {
  return Object.fromEntries(Object.entries(tools).map(([name, tool]) => [name, { ...tool, execute: undefined }])) as ToolSet;
}

interface SdkStep {
  response: { messages: unknown[] };
  toolCalls: readonly { toolCallId: string; invalid?: boolean; error?: unknown; providerExecuted?: boolean }[];
  finishReason: FinishReason;
  usage: LanguageModelUsage;
}

/** @param output asked only after a step that ends the run: before, there is none, and asking would reject. */
async function toAnswer(step: SdkStep, output: (() => PromiseLike<unknown>) | undefined): Promise<ModelAnswer> {
  const ours = step.toolCalls.filter((call) => !call.providerExecuted);
  const invalid = Object.fromEntries(ours.flatMap((call) => (call.invalid ? [[call.toolCallId, coerceError(call.error).message]] : [])));
  const { raw: _raw, ...usage } = step.usage;
  return {
    step: {
      messages: withoutResults(step.response.messages as ModelMessage[], new Set(ours.map((call) => call.toolCallId))),
      finishReason: step.finishReason,
      ...(Object.keys(invalid).length > 0 && { invalid }),
      ...(output && ours.length === 0 && { output: await parsed(output) }),
    },
    usage: usage as LanguageModelUsage,
  };
}

/** @throws GroundcrewError `OUTPUT_INVALID` */
async function parsed(output: () => PromiseLike<unknown>): Promise<unknown> {
  try {
    return await output();
  } catch (cause) {
    throw new GroundcrewError(
      "OUTPUT_INVALID",
      `The answer does not have the form that \`output\` asks for: ${coerceError(cause).message}`,
      { cause },
    );
  }
}

/** The SDK answers invalid calls itself with a tool message; here the loop answers every call, so those go. */
function withoutResults(messages: ModelMessage[], ours: ReadonlySet<string>): ModelMessage[] {
  return messages.flatMap((message): ModelMessage[] => {
    if (message.role !== "tool") return [message];
    const content = message.content.filter((part) => part.type !== "tool-result" || !ours.has(part.toolCallId));
    return content.length > 0 ? [{ ...message, content }] : [];
  });
}
