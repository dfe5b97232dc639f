/** What a model's answer leaves in the journal; and an answer that is none, told as the failure that it is. */
import { type FinishReason, InvalidResponseDataError, type LanguageModelUsage, type ModelMessage } from "ai";
import { coerceError, GroundcrewError } from "../errors.ts";
import type { ModelStep } from "../persistence/model-step.ts";

/** A model step, and what it cost. */
export interface ModelAnswer {
  step: ModelStep;
  usage: LanguageModelUsage;
}

/** What the AI SDK makes of one answer. */
export interface SdkStep {
  content: readonly { type: string; text?: string }[];
  response: { messages: unknown[]; headers?: Record<string, string> | undefined };
  toolCalls: readonly { toolCallId: string; invalid?: boolean; error?: unknown; providerExecuted?: boolean }[];
  finishReason: FinishReason;
  rawFinishReason: string | undefined;
  usage: LanguageModelUsage;
}

/**
 * @param output asked only after a step that ends the run: before, there is none, and asking would reject.
 * @throws GroundcrewError `MODEL_FAILED` for an answer that is none; `OUTPUT_INVALID`
 */
export async function toAnswer(step: SdkStep, output: (() => PromiseLike<unknown>) | undefined): Promise<ModelAnswer> {
  refuseNone(step);
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

/**
 * The SDK takes a stream that was cut, a page of HTML and a filtered text for success. An answer that its length cut short is
 * one, and so is one that says nothing and ends well: models do that after a tool has said it all.
 */
function refuseNone(step: SdkStep): void {
  if (step.finishReason === "content-filter") throw none(step, "The provider's filter ended the model's answer.");
  const type = step.response.headers?.["content-type"] ?? "an unknown content type";
  if (isCut(step)) throw none(step, `The model's answer ended without saying that it was over (${type}).`);
  if (step.finishReason === "error") throw none(step, "The provider ended the model's answer because of an error.");
  if (step.finishReason === "other" && !hasContent(step)) throw none(step, `The model's answer is empty (${step.rawFinishReason}).`);
}

/** Whoever came to the end has a reason for it. Providers that do not know `interrupted` yet leave it at `other`. */
function isCut({ finishReason, rawFinishReason }: SdkStep): boolean {
  return finishReason === "interrupted" || (finishReason === "other" && rawFinishReason === undefined);
}

function hasContent({ content }: SdkStep): boolean {
  return content.some(({ type, text }) => type !== "text" || text !== "");
}

function none({ finishReason }: SdkStep, message: string): GroundcrewError {
  const cause = new InvalidResponseDataError({ data: finishReason, message });
  return new GroundcrewError("MODEL_FAILED", message, { cause: Object.assign(cause, { finishReason }) }); // told apart by it
}

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
