/**
 * One model call through the AI SDK: tools go along without their `execute`, so the SDK takes exactly one step, parses and
 * checks the tool calls, and leaves running them to the loop. Retries and time-outs are the loop's too: the SDK's own are off.
 *
 * No provider documents that it takes two requests with one idempotency key for one, so none is sent. An author whose gateway
 * does sets the header in `prepareCall`, from `currentCall().key`.
 */
import {
  isStepCount,
  type LanguageModel,
  type ModelMessage,
  type StepResult,
  streamText,
  type ToolSet,
  toUIMessageStream,
  type UIMessageChunk,
} from "ai";
import { type Agent, WHOLE_CALL } from "../agent.ts";
import type { Clock } from "../clock.ts";
import { coerceError } from "../errors.ts";
import { type ModelAnswer, toAnswer } from "./answer.ts";
import { type Ear, listen, type Silence } from "./silence.ts";

export interface ModelCall {
  agent: Pick<Agent, "settings" | "tools">;
  /** Default: the agent's own. Another one is a fallback: it answers whatever `prepareStep` chooses. */
  model?: LanguageModel | undefined;
  messages: ModelMessage[];
  /** Steps so far, as `prepareStep` of the AI SDK looks at them. */
  steps: readonly unknown[];
  timeouts: Silence;
  clock: Clock;
  signal: AbortSignal;
  /** Not told any more once the call has ended. */
  onChunk: (chunk: UIMessageChunk) => void;
}

/**
 * @throws what the provider or the SDK throws, unwrapped; the signal's reason when it fires; GroundcrewError `STEP_TIMEOUT` for a
 * model that falls silent, `MODEL_FAILED` for an answer that is none, `OUTPUT_INVALID`
 */
export function callModel(call: ModelCall): Promise<ModelAnswer> {
  return listen(call.timeouts, call.clock, call.signal, (ear) => ask(call, ear));
}

async function ask(call: ModelCall, ear: Ear): Promise<ModelAnswer> {
  const { agent } = call;
  const fallback = call.model && call.model !== agent.settings.model ? { model: call.model } : {};
  const { prepareStep, prepareCall, callOptionsSchema: _schema, stopWhen: _stop, id: _id, ...settings } = agent.settings;
  for (const field of WHOLE_CALL) delete settings[field]; // they would fire for each step
  const base = { ...settings, tools: agent.tools, messages: call.messages };
  const prepared = { ...((prepareCall ? await prepareCall(base as never) : base) as typeof base) };
  for (const field of ["timeout", "streamRetries"]) Reflect.deleteProperty(prepared, field);
  let failure: { error: unknown } | undefined;
  let step: StepResult<ToolSet> | undefined;
  const { onStepEnd = prepared.onStepFinish } = prepared;
  const result = streamText({
    ...prepared,
    ...fallback,
    ...(prepareStep && {
      prepareStep: async (step) => {
        const chosen = await prepareStep({ ...step, stepNumber: call.steps.length, steps: call.steps as never });
        return { ...chosen, ...fallback };
      },
    }),
    tools: withoutExecute(prepared.tools ?? {}),
    stopWhen: isStepCount(1),
    maxRetries: 0,
    abortSignal: ear.signal,
    onError: ({ error }) => {
      failure ??= { error };
    },
    onStepEnd: (event) => {
      step = event;
      return onStepEnd?.(event);
    },
  });
  const stream = toUIMessageStream({
    stream: result.stream.pipeThrough(overheard(ear)),
    tools: agent.tools,
    sendStart: false,
    sendFinish: false,
    sendReasoning: true,
    sendSources: true,
  });
  try {
    for await (const chunk of stream) {
      if (ear.signal.aborted) break;
      if (LIVE.has(chunk.type)) call.onChunk(chunk);
    }
  } catch (error) {
    failure ??= { error };
  }
  ear.signal.throwIfAborted();
  if (failure) throw coerceError(failure.error);
  // To ask `result` for the step would read the whole answer once more, part by part: the SDK keeps it for a second reader.
  return toAnswer(step ?? (await result.finalStep), agent.settings.output && (() => result.output));
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

interface Part {
  type: string;
  text?: string;
  delta?: string;
}

/** Chunks that are content: those that the AI SDK's own time-outs count. */
const CONTENT: ReadonlySet<string> = new Set(["text-delta", "reasoning-delta", "tool-input-delta", "tool-call", "file", "reasoning-file"]);

/** An empty delta is a sign of life of the connection, not of the model. */
function isContent({ type, text, delta }: Part): boolean {
  return CONTENT.has(type) && (text ?? delta) !== "";
}

function overheard<PART extends Part>(ear: Ear): TransformStream<PART, PART> {
  return new TransformStream({
    transform(part, controller) {
      if (part.type === "finish-step") ear.over();
      else if (isContent(part)) ear.heard();
      controller.enqueue(part);
    },
  });
}

function withoutExecute(tools: ToolSet): ToolSet {
  return Object.fromEntries(Object.entries(tools).map(([name, tool]) => [name, { ...tool, execute: undefined }])) as ToolSet;
}
