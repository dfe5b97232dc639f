/**
 * What an agent's run looks like to its model, read off the run's state, and what is to be done next. Nothing here acts, so
 * the first execution and every resume decide the same from the same state.
 */
import type { AssistantModelMessage, ModelMessage, ToolResultPart } from "ai";
import type { FailureReason } from "../failure.ts";
import type { RunState, StepState } from "../persistence/fold.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import { contentOf, type ModelStep, problemOf, type ToolCall, textOf, toolCallsOf } from "../persistence/model-step.ts";
import { toModelOutput } from "../tool/tool.ts";

/** How values come out of the journal; some stand in blobs beside it. */
export type Decode = (json: JsonValue | undefined) => Promise<unknown>;

/** A run's input, as `start` records it. */
export interface AgentInput {
  messages: ModelMessage[];
}

export interface Transcript {
  /** What the next model call is shown of this run: input, answers, tool results, messages that came meanwhile. */
  messages: ModelMessage[];
  /** Finished model steps, oldest first. */
  steps: ModelStep[];
  /** Calls of the last model step without an outcome. */
  openCalls: ToolCall[];
  /** Whether a message came that no model step has seen. */
  isUnseen: boolean;
  /** How many messages had come when this was read. */
  arrived: number;
}

export function modelStepKey(number: number): string {
  return `model:${number}`;
}

export function toolStepKey(toolCallId: string): string {
  return `tool:${toolCallId}`;
}

/** @param until messages that came behind this event are left out. */
export async function transcriptOf(state: RunState, decode: Decode, until = Number.POSITIVE_INFINITY): Promise<Transcript> {
  const arrived = [...state.messages];
  const input = (await decode(state.created?.input)) as AgentInput | undefined;
  const transcript: Transcript = {
    messages: [...(input?.messages ?? [])],
    steps: [],
    openCalls: [],
    isUnseen: false,
    arrived: arrived.length,
  };
  for (let number = 1; ; number++) {
    const step = state.steps.get(modelStepKey(number));
    // An answer has seen what had come when the attempt that gave it began; without one, everything is still to be shown.
    const seen = step?.status === "succeeded" ? step.seq : until;
    while (arrived[0] && arrived[0].seq < seen) {
      const { message, from } = arrived.shift() ?? {};
      transcript.messages.push((await decode(message)) as ModelMessage);
      transcript.isUnseen = from !== "person"; // who speaks for the agent has answered
    }
    if (step?.status !== "succeeded") return transcript;
    const answer = (await decode(step.value)) as ModelStep;
    const calls = toolCallsOf(answer);
    const results = await resultsOf(state, calls, decode);
    transcript.steps.push(answer);
    transcript.openCalls = calls.filter((call) => !isClosed(state, call));
    transcript.isUnseen = false;
    transcript.messages.push(...answer.messages);
    if (results.length > 0) transcript.messages.push({ role: "tool", content: results });
  }
}

/** The same, of a run that is over: what never came to an end is closed, because models refuse a call without a result. */
export async function closedTranscript(state: RunState, decode: Decode): Promise<ModelMessage[]> {
  const { messages, openCalls } = await transcriptOf(state, decode);
  if (openCalls.length === 0) return messages;
  const open = openCalls.map((call) => textResult(call, "error-text", "This call was not finished."));
  const asked = messages.findLastIndex(
    (message) => message.role === "assistant" && toolCallIdsOf(message).has(openCalls[0]?.toolCallId ?? ""),
  );
  const next = messages[asked + 1]; // results stand directly behind the calls, whatever people said meanwhile
  if (next?.role === "tool") return messages.with(asked + 1, { ...next, content: [...next.content, ...open] });
  return messages.toSpliced(asked + 1, 0, { role: "tool", content: open });
}

function toolCallIdsOf({ content }: AssistantModelMessage): Set<string> {
  return new Set(typeof content === "string" ? [] : content.flatMap((part) => (part.type === "tool-call" ? part.toolCallId : [])));
}

/** Finished model steps as `prepareStep` and `stopWhen` of the AI SDK look at them. */
export async function sdkStepsOf(state: RunState, steps: readonly ModelStep[], decode: Decode): Promise<unknown[]> {
  const toSdkStep = async (step: ModelStep, stepNumber: number) => {
    const content = contentOf(step);
    const toolCalls = toolCallsOf(step);
    const done = toolCalls.filter(({ toolCallId }) => state.steps.get(toolStepKey(toolCallId))?.status === "succeeded");
    const toolResults = await Promise.all(
      done.map(async (call) => ({
        ...call,
        type: "tool-result",
        output: await decode(state.steps.get(toolStepKey(call.toolCallId))?.value),
      })),
    );
    const usage = await decode(state.steps.get(modelStepKey(stepNumber + 1))?.usage);
    const response = { messages: step.messages };
    return {
      stepNumber,
      content: [...content, ...toolResults],
      text: textOf(content),
      toolCalls,
      toolResults,
      finishReason: step.finishReason,
      usage,
      response,
    };
  };
  return Promise.all(steps.map(toSdkStep));
}

function isClosed(state: RunState, call: ToolCall): boolean {
  const status = state.steps.get(toolStepKey(call.toolCallId))?.status;
  return status === "succeeded" || status === "failed";
}

async function resultsOf(state: RunState, calls: ToolCall[], decode: Decode): Promise<ToolResultPart[]> {
  const results: ToolResultPart[] = [];
  for (const call of calls) {
    const step = state.steps.get(toolStepKey(call.toolCallId));
    if (step && isClosed(state, call)) results.push(await resultOf(call, step, decode));
  }
  return results;
}

async function resultOf(call: ToolCall, step: StepState, decode: Decode): Promise<ToolResultPart> {
  if (step.degraded && step.status === "failed") return unavailable(call, step, step.degraded.reason);
  if (step.status === "failed" && step.error?.code === "APPROVAL_DENIED") return denied(call, step.error.message);
  if (step.status === "failed") return textResult(call, "error-text", step.error?.message ?? "The tool failed.");
  if (step.resolution === "happened" && step.value === undefined) return textResult(call, "text", HAPPENED);
  const output =
    step.shown === undefined
      ? await toModelOutput(undefined, call.toolCallId, call.input, await decode(step.value))
      : ((await decode(step.shown)) as ToolResultPart["output"]);
  return { type: "tool-result", toolCallId: call.toolCallId, toolName: call.toolName, output };
}

/** An optional tool that is down: told as a fact to work around, and not as an error to talk about. */
function unavailable({ toolCallId, toolName }: ToolCall, { error }: StepState, reason: FailureReason): ToolResultPart {
  const value = { unavailable: true, tool: toolName, reason, message: error?.message ?? "The tool is not available." };
  return { type: "tool-result", toolCallId, toolName, output: { type: "json", value } };
}

function denied({ toolCallId, toolName }: ToolCall, reason: string): ToolResultPart {
  return { type: "tool-result", toolCallId, toolName, output: { type: "execution-denied", reason } };
}

/** For a call that took effect, as a person or a `reconcile` hook found out, and whose result nobody has. */
const HAPPENED = "The call took effect. Its result was not recorded; do not repeat it.";

function textResult(call: ToolCall, type: "text" | "error-text", value: string): ToolResultPart {
  return { type: "tool-result", toolCallId: call.toolCallId, toolName: call.toolName, output: { type, value } };
}

/**
 * A model may use a call id twice, in one answer or across answers. Ids name steps here, so a repeated one gets a new name.
 * What the SDK found invalid it found by the old id, which then counts for each call of that id.
 */
export function withUniqueCallIds(step: ModelStep, isTaken: (toolCallId: string) => boolean): ModelStep {
  const seen = new Set([UNSTORABLE]);
  const invalid = new Map<string, string>();
  const unique = (id: string): string => {
    let name = id;
    for (let n = 2; seen.has(name) || isTaken(name); n++) name = `${id}#${n}`;
    seen.add(name);
    const problem = problemOf(step, id);
    if (problem !== undefined) invalid.set(name, problem);
    return name;
  };
  const messages = step.messages.map((message): ModelMessage => {
    if (message.role !== "assistant" || typeof message.content === "string") return message;
    const content = message.content.map((part) =>
      part.type === "tool-call" && !part.providerExecuted ? { ...part, toolCallId: unique(part.toolCallId) } : part,
    );
    return { ...message, content };
  });
  return { ...step, messages, ...(step.invalid && { invalid: Object.fromEntries(invalid) }) };
}

/** The one id that is no key of a storable object. */
const UNSTORABLE = "__proto__";
