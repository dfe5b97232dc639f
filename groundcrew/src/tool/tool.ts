/** One execution of an AI SDK tool, and how its result looks to the model. */
import type { ModelMessage, Tool, ToolResultPart } from "ai";

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
  const result = tool.execute?.(input, { toolCallId: call.toolCallId, messages: call.messages, abortSignal: call.signal, context: call.context });
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
  return { type: "json", value: toJson(output) };
}

type Json = Extract<ToolOutput, { type: "json" }>["value"];

/** What JSON can say of a value: the model needs to read it, not to get it back. */
function toJson(value: unknown): Json {
  if (value === undefined) return null;
  /** From the root to what is being written: each object, and what it is written as. */
  const path: { source: unknown; written: unknown }[] = [];
  const text = JSON.stringify(value, function (this: unknown, _key, part: unknown) {
    while (path.length > 0 && path.at(-1)?.written !== this) path.pop();
    if (path.some(({ source }) => source === part && typeof part === "object" && part !== null)) return "(contains itself)";
    const written = readable(part);
    path.push({ source: part, written });
    return written;
  });
  return JSON.parse(text ?? "null");
}

function readable(part: unknown): unknown {
  if (typeof part === "bigint") return part.toString();
  if (part instanceof Map) return Object.fromEntries(part);
  if (part instanceof Set) return [...part];
  if (part instanceof Error) return { name: part.name, message: part.message };
  return part;
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}
