/**
 * The chunks a UI message stream is made of, and how each is made from what a journal holds: nothing here remembers anything.
 */
import { type ModelMessage, toUIMessageChunk, type UIMessageChunk } from "ai";
import { userMessageOf } from "../errors.ts";
import type { ParkReason } from "../persistence/event.ts";
import { type AssistantPart, contentOf, type ModelStep, type ToolCall } from "../persistence/model-step.ts";
import type { Missing } from "./plain-words.ts";

/** Where the run is, for people: the data of `data-status`. */
export interface StatusData {
  status: "running" | "parked" | "unknown";
  text: string;
  /** Why it is parked. */
  reason?: ParkReason;
  /** When it goes on by itself, in wall-clock milliseconds. */
  until?: number;
}

/** How far the run is: the data of `data-progress`. */
export interface ProgressData {
  /** From 0 to 1. */
  fraction: number;
  what: string;
}

/** What stays with the answer: the metadata of its message. */
export interface AnswerMetadata {
  /** What the answer had to do without, and what stood in for it. Absent: nothing. */
  degraded?: Missing[];
}

/** What the stream is made of. Give the types to `useChat` to have its `onData` and `metadata` typed. */
export type UiChunk = UIMessageChunk<AnswerMetadata, { status: StatusData; progress: ProgressData }>;

const CALL_NOT_UNDERSTOOD = "The assistant's call of this tool could not be understood.";

/** Parts of a user's message as the UI has them: `text` and `file`. The SDK's own conversion. */
export function userParts(message: Extract<ModelMessage, { role: "user" }>): Extract<UiChunk, { type: "steering-message" }>["parts"] {
  const chunk = toUIMessageChunk({ type: "steering-message", id: "", message, stepNumber: 0 });
  return chunk?.type === "steering-message" ? chunk.parts : [];
}

/** What a model step leaves: of an agent, or of a flow's `generate`, which keeps only its text. */
export type ModelValue = ModelStep | { text: string };

/** A tool call as a client is shown it. */
export interface ShownCall extends ToolCall {
  providerExecuted?: boolean;
}

export function partsOf(value: ModelValue): AssistantPart[] {
  return "messages" in value ? contentOf(value) : [{ type: "text", text: value.text }];
}

/** A call that the provider has run itself. */
export function providerCall(part: AssistantPart): ShownCall[] {
  return part.type === "tool-call" && part.providerExecuted ? [{ ...part, providerExecuted: true }] : [];
}

/** How a client shows a tool call, beside its name and input. */
export type ToolLook = Pick<Extract<UiChunk, { type: "tool-input-start" }>, "dynamic" | "title" | "toolMetadata">;

export function lookOf({ dynamic, title, toolMetadata }: ToolLook): ToolLook {
  return { ...(dynamic && { dynamic }), ...(title !== undefined && { title }), ...(toolMetadata && { toolMetadata }) };
}

export function toolInput(call: ShownCall, look: ToolLook = {}): UiChunk {
  const { toolCallId, toolName, input, providerExecuted } = call;
  const facts = { toolCallId, toolName, input, ...(providerExecuted && { providerExecuted }), ...look };
  return call.invalid === undefined
    ? { type: "tool-input-available", ...facts }
    : { type: "tool-input-error", ...facts, errorText: CALL_NOT_UNDERSTOOD };
}

/** A recorded chunk as readers may have it, or undefined for what only the run itself may say. */
export function toOurs(chunk: UiChunk, origin: string): UiChunk | undefined {
  switch (chunk.type) {
    case "text-start":
    case "text-delta":
    case "text-end":
    case "reasoning-start":
    case "reasoning-delta":
    case "reasoning-end":
      return { ...chunk, id: `${origin}:${chunk.id}` };
    case "tool-input-error":
      return { ...chunk, errorText: CALL_NOT_UNDERSTOOD };
    case "tool-output-error":
      return { ...chunk, errorText: userMessageOf("TOOL_FAILED") };
    case "tool-input-start":
      return withoutFalse(chunk);
    case "tool-input-delta":
    case "tool-input-available":
    case "tool-output-available":
    case "file":
    case "reasoning-file":
    case "source-url":
    case "source-document":
    case "custom":
      return chunk;
    default:
      return undefined;
  }
}

/** `dynamic: false` says what its absence says. */
function withoutFalse(chunk: Extract<UiChunk, { type: "tool-input-start" }>): UiChunk {
  const { dynamic, ...rest } = chunk;
  return dynamic ? chunk : rest;
}

export function fileUrl(part: Extract<AssistantPart, { type: "file" | "reasoning-file" }>): string {
  const [file] = userParts({ role: "user", content: [{ ...part, type: "file" }] });
  return file?.type === "file" ? file.url : "";
}
