/** One execution of an AI SDK tool, and how its result looks to the model. */
import type { JSONValue, ModelMessage, Tool, ToolResultPart } from "ai";
import { toJson } from "../json.ts";

export type ToolOutput = ToolResultPart["output"];

export interface ToolExecution {
  toolCallId: string;
  /** What the model was shown before it asked. */
  messages: ModelMessage[];
  signal: AbortSignal;
  context: unknown;
  /** Told each result before the last of a tool that yields several. */
  onPreliminary: (output: unknown) => void;
}

/** Runs the tool to its last result. @throws what the tool throws */
export async function executeTool(tool: Tool, input: unknown, call: ToolExecution): Promise<unknown> {
  const result = tool.execute?.(input, {
    toolCallId: call.toolCallId,
    messages: call.messages,
    abortSignal: call.signal,
    context: call.context,
  });
  if (!isAsyncIterable(result)) return result;
  let last: unknown;
  for await (const output of result) {
    last = output;
    call.onPreliminary(output);
  }
  return last;
}

/** A tool's result as the model reads it. */
export async function toModelOutput(tool: Tool | undefined, toolCallId: string, input: unknown, output: unknown): Promise<ToolOutput> {
  if (tool?.toModelOutput) return tool.toModelOutput({ toolCallId, input, output });
  if (typeof output === "string") return { type: "text", value: output };
  return { type: "json", value: JSON.parse(toJson(output)) };
}

/** The result with what a person has changed about its call: the model must not take it for what it asked for. */
export function noted(output: ToolOutput, input: JSONValue): ToolOutput {
  const note = `Before it ran, a person changed the arguments of this call to ${JSON.stringify(input)}.`;
  switch (output.type) {
    case "text":
    case "error-text":
      return { ...output, value: `${note}\n${output.value}` };
    case "json":
    case "error-json":
      return { ...output, value: { note, result: output.value } };
    case "content":
      return { ...output, value: [{ type: "text", text: note }, ...output.value] };
    default:
      return output;
  }
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}
