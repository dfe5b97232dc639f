/**
 * A run as an AI SDK UI message stream, the one that `useChat` reads: a projection of the run's feed, always made from its
 * start, so that whoever comes later, or again, is told exactly what a reader who stayed was told.
 *
 * One assistant message per run, its id the run's. A model step opens a step of the message, its tools' results belong to
 * it, the next model step closes it: chunk for chunk what the SDK's own `toUIMessageStream` gives for the same conversation.
 * What the SDK does not know rides along: `reset-step` takes back the output of an attempt that was given up, the transient
 * `data-status` and `data-progress` say in plain words where the run is, and the message's metadata what it had to do without.
 */
import type { FinishReason, ModelMessage } from "ai";
import { userMessageOf } from "../errors.ts";
import type { EventOf, StepKind } from "../persistence/event.ts";
import { type AssistantPart, textOf, toolCallsOf } from "../persistence/model-step.ts";
import type { FeedItem } from "./feed.ts";
import { eachOnce, HANDED_BACK, type Missing, OTHER_MODEL, parkedText, TAKEN_OVER, TRYING_AGAIN, withoutText } from "./plain-words.ts";
import {
  type AnswerMetadata,
  fileUrl,
  lookOf,
  type ModelValue,
  partsOf,
  providerCall,
  type ShownCall,
  type StatusData,
  type ToolLook,
  toOurs,
  toolInput,
  type UiChunk,
  userParts,
} from "./ui-chunk.ts";

/** One try of a step. */
interface Attempt extends Shown {
  /** Names it in part ids, so that no part of one attempt is taken for another's. */
  origin: string;
  kind: StepKind;
  number: number;
  isLive: boolean;
}

/** What readers have seen of it. */
interface Shown {
  /** All text that was shown. */
  text: string;
  /** Text and reasoning parts by id, and the chunk type that ends them while they are open. */
  parts: Map<string, "text-end" | "reasoning-end" | "ended">;
  /** Tool calls whose input began to show, and as what: the rest of a call must look the same. */
  announced: Map<string, ToolLook>;
  /** Tool calls whose input was shown whole. */
  calls: Set<string>;
  hasShown: boolean;
  /** Some of its chunks are gone: what is shown cannot be relied on. */
  isTorn: boolean;
}

function nothingShown(): Shown {
  return { text: "", parts: new Map(), announced: new Map(), calls: new Set(), hasShown: false, isTorn: false };
}

/** A step of the message while it is open. Flows may have several model steps in one. */
interface OpenStep {
  members: Set<string>;
  shown: { origin: string; chunk: UiChunk }[];
}

/** The state machine behind the stream: what a run's next item means to a reader who has seen all before it. */
export class UiProjection {
  readonly #run: string;
  readonly #attempts = new Map<string, Attempt>();
  /** Calls that could not be understood: their error was told where the input would stand. */
  readonly #invalidCalls = new Set<string>();
  /** Requests that readers have been told of. */
  readonly #approvals = new Set<string>();
  #out: UiChunk[] = [];
  #step: OpenStep | undefined;
  #steering: UiChunk[] = [];
  #lastText = "";
  #finishReason: FinishReason = "stop";
  /** Which of the agent's models was asked last. */
  #model = 0;
  #missing: Missing[] = [];
  #isParked = false;
  #isStopping = false;

  constructor(run: string) {
    this.#run = run;
  }

  project(item: FeedItem): UiChunk[] {
    this.#out = [];
    this.#read(item);
    return this.#out;
  }

  #read(item: FeedItem): void {
    switch (item.type) {
      case "run.created":
        return this.#emit({ type: "start", messageId: this.#run });
      case "run.claimed":
        return this.#claimed(item.takeover);
      case "run.parked":
        return this.#parked(item);
      case "step.started":
        return this.#begin(item);
      case "chunk":
        return this.#chunk(item);
      case "step.succeeded":
        return this.#succeeded(item);
      case "step.failed":
        return this.#failed(item);
      case "step.abandoned":
        return this.#abandon(item.step);
      case "step.degraded":
        return this.#degraded(item);
      case "step.unknown":
        return this.#status({ status: "unknown", text: userMessageOf("STEP_UNKNOWN") });
      case "step.resolved":
        if (item.resolution === "happened") this.#toolOutput(item.step, item.value);
        return;
      case "message.received":
        return this.#steered(item);
      case "approval.requested":
        return this.#asked(item);
      case "approval.ended":
        return this.#decided(item);
      case "handover.began":
        return this.#status({ status: "running", text: TAKEN_OVER });
      case "handover.said":
        return this.#said(item);
      case "handover.ended":
        return this.#status({ status: "running", text: HANDED_BACK });
      case "progress":
        return this.#emit({ type: "data-progress", data: { fraction: item.fraction, what: item.what }, transient: true });
      case "cancel.requested":
        this.#isStopping = true;
        return;
      case "run.succeeded":
        return this.#finish(item.output);
      case "run.failed":
        return this.#fail(item.error.user);
      case "run.expired":
        return this.#fail(userMessageOf("RUN_EXPIRED"));
      case "run.cancelled":
        return this.#emit({ type: "abort", reason: userMessageOf("RUN_CANCELLED") });
      case "step.late":
      case "loop.blocked":
      case "run.released":
      case "retry.requested":
      case "signal.received":
      case "session.updated":
      case "run.paused":
      case "run.resumed":
      case "limit.raised":
      case "approval.escalated":
      case "approval.reminded":
      case "approval.voided":
      case "approval.skipped":
        return; // nothing a reader of the message would notice
    }
  }

  #claimed(takeover: boolean): void {
    const wasParked = this.#isParked;
    this.#isParked = false;
    if (takeover) this.#status({ status: "running", text: "Continued after an interruption." });
    else if (wasParked) this.#status({ status: "running", text: "Going on." });
  }

  #parked(item: EventOf<"run.parked">): void {
    this.#isParked = true;
    this.#status({
      status: "parked",
      text: parkedText(item.reason, item.code),
      reason: item.reason,
      ...(item.until !== undefined && { until: item.until }),
    });
  }

  #begin(item: EventOf<"step.started">): void {
    const before = this.#attempts.get(item.step);
    if (before) this.#retract(before); // its worker is gone without a word
    if (item.kind === "model") {
      this.#openStep(item.step);
      this.#chooseModel(item.candidate ?? 0);
    }
    if (item.kind === "code" || item.kind === "child") this.#status({ status: "running", text: item.name });
    const origin = `${item.step}#${item.attempt}`;
    this.#attempts.set(item.step, { origin, kind: item.kind, number: item.attempt, isLive: true, ...nothingShown() });
  }

  /** Another try goes on in the step of the try before, and a model call beside one that is running in the same. */
  #openStep(step: string): void {
    const isBeside = [...this.#attempts.values()].some((attempt) => attempt.kind === "model" && attempt.isLive);
    if (this.#step?.members.has(step)) return;
    if (!this.#step || !isBeside) {
      this.#closeStep();
      this.#emit({ type: "start-step" });
      this.#step = { members: new Set(), shown: [] };
    }
    this.#step.members.add(step);
  }

  /** What was said to the run meanwhile stands where the model reads it: between two steps. */
  #closeStep(): void {
    if (this.#step) this.#emit({ type: "finish-step" });
    this.#step = undefined;
    for (const message of this.#steering.splice(0)) this.#emit(message);
  }

  /** A fallback is told when it takes over, not each time it is asked. */
  #chooseModel(candidate: number): void {
    if (candidate > 0 && candidate !== this.#model) this.#status({ status: "running", text: OTHER_MODEL });
    this.#model = candidate;
  }

  #chunk(item: Extract<FeedItem, { type: "chunk" }>): void {
    const attempt = this.#attempts.get(item.step);
    if (!attempt?.isLive || attempt.number !== item.attempt) return; // of an attempt that is over already
    const chunk = toOurs(item.part as UiChunk, attempt.origin);
    if (chunk) this.#showPart(attempt, chunk);
  }

  #showPart(attempt: Attempt, chunk: UiChunk): void {
    switch (chunk.type) {
      case "text-start":
        attempt.parts.set(chunk.id, "text-end");
        break;
      case "reasoning-start":
        attempt.parts.set(chunk.id, "reasoning-end");
        break;
      case "text-delta":
      case "reasoning-delta":
        if (!isOpen(attempt, chunk.id)) return tear(attempt);
        if (chunk.type === "text-delta") attempt.text += chunk.delta;
        break;
      case "text-end":
      case "reasoning-end":
        if (!isOpen(attempt, chunk.id)) return tear(attempt);
        attempt.parts.set(chunk.id, "ended");
        break;
      case "tool-input-available":
      case "tool-input-error":
        attempt.calls.add(chunk.toolCallId);
        break;
      case "tool-input-start":
        attempt.announced.set(chunk.toolCallId, lookOf(chunk));
        break;
      case "tool-input-delta":
        if (!attempt.announced.has(chunk.toolCallId)) return tear(attempt);
    }
    this.#show(attempt, chunk);
  }

  #succeeded(item: EventOf<"step.succeeded">): void {
    const attempt = this.#attempts.get(item.step);
    if (!attempt) return;
    attempt.isLive = false;
    if (attempt.kind === "tool") this.#toolOutput(item.step, item.value);
    if (attempt.kind === "model") this.#modelOutput(attempt, (item.value ?? { text: "" }) as ModelValue);
  }

  /** The chunks were a preview, the step's value is what counts: what they did not show, because they are gone, is shown now. */
  #modelOutput(attempt: Attempt, value: ModelValue): void {
    const content = partsOf(value);
    const calls: ShownCall[] = [...content.flatMap(providerCall), ...("messages" in value ? toolCallsOf(value) : [])];
    if (!isTrue(attempt, content, calls)) {
      // Also where this reader has nothing to take back: one who left in the middle of the lost chunks comes back here.
      this.#takeBack(attempt);
      for (const [index, part] of content.entries()) this.#showWhole(attempt, part, `${attempt.origin}:${index}`);
    }
    for (const [id, end] of attempt.parts) if (end !== "ended") this.#showPart(attempt, { type: end, id });
    for (const call of calls) {
      if (call.invalid !== undefined) this.#invalidCalls.add(call.toolCallId);
      if (!attempt.calls.has(call.toolCallId)) this.#showPart(attempt, toolInput(call, attempt.announced.get(call.toolCallId)));
    }
    for (const part of content) if (part.type === "tool-result") this.#providerResult(attempt, part);
    this.#lastText = textOf(content);
    if ("finishReason" in value) this.#finishReason = value.finishReason;
  }

  #providerResult(attempt: Attempt, { toolCallId, output }: Extract<AssistantPart, { type: "tool-result" }>): void {
    const shown = "value" in output ? output.value : null;
    this.#showPart(attempt, { type: "tool-output-available", toolCallId, output: shown, providerExecuted: true });
  }

  #showWhole(attempt: Attempt, part: AssistantPart, id: string): void {
    const metadata = "providerOptions" in part && part.providerOptions ? { providerMetadata: part.providerOptions } : {};
    switch (part.type) {
      case "text":
      case "reasoning":
        this.#showPart(attempt, { type: `${part.type}-start`, id, ...metadata });
        if (part.text !== "") this.#showPart(attempt, { type: `${part.type}-delta`, id, delta: part.text });
        return this.#showPart(attempt, { type: `${part.type}-end`, id });
      case "file":
      case "reasoning-file":
        this.#showPart(attempt, { type: part.type, mediaType: part.mediaType, url: fileUrl(part), ...metadata });
    }
  }

  #failed(item: EventOf<"step.failed">): void {
    if (!item.final || this.#attempts.get(item.step)?.kind !== "tool") {
      this.#abandon(item.step);
      if (!item.final && !item.exhausted && !this.#isStopping) this.#tryingAgain(item.retryAt);
      return;
    }
    const toolCallId = toolCallOf(item.step);
    if (this.#invalidCalls.has(toolCallId)) return;
    const isDenied = item.error.code === "APPROVAL_DENIED";
    if (isDenied) return this.#show(this.#attempts.get(item.step), { type: "tool-output-denied", toolCallId });
    this.#show(this.#attempts.get(item.step), { type: "tool-output-error", toolCallId, errorText: item.error.user });
  }

  /** A client whose user may decide can answer by the id; anybody else sees that somebody is asked. */
  #asked({ approval, request, like }: EventOf<"approval.requested">): void {
    if (request.kind !== "tool" || like !== undefined || !approval.startsWith(`${this.#run}.`)) return;
    this.#approvals.add(approval);
    this.#beside(approval, { type: "tool-approval-request", approvalId: approval, toolCallId: toolCallOf(request.step) });
  }

  #decided({ approval, verdict: { outcome } }: EventOf<"approval.ended">): void {
    if (!this.#approvals.has(approval) || (outcome !== "approved" && outcome !== "denied")) return;
    this.#beside(approval, { type: "tool-approval-response", approvalId: approval, approved: outcome === "approved" });
  }

  /** Of the open step, and of none of its attempts: what takes one of them back leaves it. */
  #beside(origin: string, chunk: UiChunk): void {
    this.#step?.shown.push({ origin, chunk });
    this.#emit(chunk);
  }

  /** A person, in the agent's place. */
  #said({ id, message }: EventOf<"handover.said">): void {
    this.#closeStep();
    this.#answer(textOfMessage(message), id);
  }

  #tryingAgain(until: number | undefined): void {
    this.#status({ status: "running", text: TRYING_AGAIN, ...(until !== undefined && { until }) });
  }

  /** In the metadata at once: it is no part of a step, so nothing that is taken back takes it along. */
  #degraded({ name, instead }: EventOf<"step.degraded">): void {
    const missing: Missing = instead === undefined ? { name } : { name, instead };
    this.#status({ status: "running", text: `Going on ${withoutText([missing])}.` });
    this.#missing = eachOnce([...this.#missing, missing]);
    this.#emit({ type: "message-metadata", ...this.#metadata() });
  }

  #metadata(): { messageMetadata: AnswerMetadata } {
    return { messageMetadata: { degraded: this.#missing } };
  }

  /** A stopped answer keeps what it said, as with the SDK's own stop: no other attempt will say it again. */
  #abandon(step: string): void {
    const attempt = this.#attempts.get(step);
    if (!attempt) return;
    if (this.#isStopping) attempt.isLive = false;
    else this.#retract(attempt);
  }

  #retract(attempt: Attempt): void {
    const wasLive = attempt.isLive;
    attempt.isLive = false;
    if (wasLive && attempt.hasShown) this.#takeBack(attempt);
  }

  /** The SDK can only take back a whole step, so what others have shown in it is shown again. */
  #takeBack(attempt: Attempt): void {
    if (!this.#step) return;
    this.#step.shown = this.#step.shown.filter(({ origin }) => origin !== attempt.origin);
    this.#emit({ type: "reset-step" });
    for (const { chunk } of this.#step.shown) this.#emit(chunk);
    Object.assign(attempt, nothingShown());
  }

  #toolOutput(step: string, value: unknown): void {
    const attempt = this.#attempts.get(step);
    if (attempt?.kind !== "tool") return;
    attempt.isLive = false;
    this.#show(attempt, { type: "tool-output-available", toolCallId: toolCallOf(step), output: value ?? null });
  }

  #steered(item: EventOf<"message.received">): void {
    const message = item.message as unknown as ModelMessage;
    if (message?.role === "user") this.#steering.push({ type: "steering-message", id: item.id, parts: userParts(message) });
  }

  #finish(output: unknown): void {
    this.#closeStep();
    if (typeof output === "string" && output !== "" && output !== this.#lastText) this.#answer(output);
    this.#end(this.#finishReason);
  }

  /** A text that no model step has said. */
  #answer(text: string, id = "answer"): void {
    this.#emit({ type: "start-step" });
    this.#emit({ type: "text-start", id });
    this.#emit({ type: "text-delta", id, delta: text });
    this.#emit({ type: "text-end", id });
    this.#emit({ type: "finish-step" });
  }

  #fail(text: string): void {
    this.#emit({ type: "error", errorText: `${text} (Reference: ${this.#run})` });
    this.#closeStep();
    this.#end("error");
  }

  #end(finishReason: FinishReason): void {
    this.#emit({ type: "finish", finishReason, ...(this.#missing.length > 0 && this.#metadata()) });
  }

  #status(data: StatusData): void {
    this.#emit({ type: "data-status", data, transient: true });
  }

  #show(attempt: Attempt | undefined, chunk: UiChunk): void {
    if (!attempt) return;
    attempt.hasShown = true;
    this.#step?.shown.push({ origin: attempt.origin, chunk });
    this.#emit(chunk);
  }

  #emit(chunk: UiChunk): void {
    this.#out.push(chunk);
  }
}

/** Whether what was shown of the attempt is what came of it. */
function isTrue(attempt: Attempt, content: AssistantPart[], calls: ShownCall[]): boolean {
  if (attempt.isTorn || attempt.text !== textOf(content)) return false;
  if (!attempt.hasShown && content.some((part) => part.type !== "tool-call")) return false;
  return [...attempt.announced.keys()].every((id) => calls.some(({ toolCallId }) => toolCallId === id)); // a repeated id gets a new name
}

function isOpen(attempt: Attempt, part: string): boolean {
  const end = attempt.parts.get(part);
  return end !== undefined && end !== "ended";
}

function tear(attempt: Attempt): void {
  attempt.isTorn = true;
}

function textOfMessage(message: unknown): string {
  const content: unknown = Object(message).content;
  return typeof content === "string" ? content : "";
}

const TOOL_STEP = "tool:";

function toolCallOf(step: string): string {
  return step.startsWith(TOOL_STEP) ? step.slice(TOOL_STEP.length) : step;
}
