/** Which model a step may go to: what tells models apart, and whether one can take the prompt at all. */
import type { LanguageModel, ModelMessage } from "ai";
import type { FailureReason } from "../failure.ts";
import type { CheckedFallback } from "../faults.ts";

/** What a model would be shown. */
export interface Prompt {
  messages: readonly ModelMessage[];
}

/** A person can mend these: with another key, another plan, another model's name. */
export const MENDABLE: ReadonlySet<FailureReason> = new Set(["auth", "quota", "forbidden", "not_found"]);

export function nameOf(model: LanguageModel): string {
  return typeof model === "string" ? model : model.modelId;
}

/** Whose limits its calls count against. A model that is only named goes through the AI SDK's gateway. */
export function providerOf(model: LanguageModel): string {
  return typeof model === "string" ? "gateway" : model.provider;
}

/** What is up or down together. */
export function breakerOf(model: LanguageModel): string {
  return `model:${providerOf(model)}/${nameOf(model)}`;
}

/** A little less than the four that English text comes to: a prompt that does not fit is worse than one that is passed by. */
const CHARS_PER_TOKEN = 3;

export function takes(fallback: CheckedFallback, { messages }: Prompt, hasTools: boolean): boolean {
  if (hasTools && !fallback.tools) return false;
  const text: string[] = [];
  let hasFiles = false;
  for (const { content } of messages) {
    for (const part of typeof content === "string" ? [{ type: "text", text: content }] : content) {
      if (part.type === "file" || part.type === "image") hasFiles = true;
      else text.push(JSON.stringify(part));
    }
  }
  if (hasFiles && !fallback.images) return false;
  return text.reduce((sum, { length }) => sum + length, 0) / CHARS_PER_TOKEN <= fallback.contextTokens;
}
