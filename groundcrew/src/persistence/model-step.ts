/** What a model step of an agent leaves in the journal. Everything that can be read off the messages is, not recorded twice. */
import type { FinishReason, ModelMessage } from "ai";

export interface ModelStep {
  /** What goes into the transcript: the assistant's message, and results of tools that the provider ran. */
  messages: ModelMessage[];
  finishReason: FinishReason;
  /** Calls of a tool that is not there, or with arguments that do not fit: what is wrong, for the model to read, by call id. */
  invalid?: Record<string, string>;
  /** Structured output, of an agent that asks for one and a step that ends the run. */
  output?: unknown;
}

export interface ToolCall {
  toolCallId: string;
  toolName: string;
  input: unknown;
  invalid?: string;
}

export type AssistantPart = Exclude<Extract<ModelMessage, { role: "assistant" }>["content"], string>[number];

/** The parts of what the assistant said, in order. */
export function contentOf({ messages }: Pick<ModelStep, "messages">): AssistantPart[] {
  return messages.flatMap((message): AssistantPart[] => {
    if (message.role !== "assistant") return [];
    return typeof message.content === "string" ? [{ type: "text", text: message.content }] : message.content;
  });
}

/** Calls that are the run's to make, in order; what the provider ran itself is none. */
export function toolCallsOf(step: ModelStep): ToolCall[] {
  return contentOf(step).flatMap((part): ToolCall[] => {
    if (part.type !== "tool-call" || part.providerExecuted) return [];
    const { toolCallId, toolName, input } = part;
    const invalid = problemOf(step, toolCallId);
    return [{ toolCallId, toolName, input, ...(invalid !== undefined && { invalid }) }];
  });
}

/** Own only: a model may give a call an id that every object inherits, such as `constructor`. */
export function problemOf({ invalid }: Pick<ModelStep, "invalid">, toolCallId: string): string | undefined {
  return invalid && Object.hasOwn(invalid, toolCallId) ? invalid[toolCallId] : undefined;
}

export function textOf(content: readonly AssistantPart[]): string {
  return content.map((part) => (part.type === "text" ? part.text : "")).join("");
}
