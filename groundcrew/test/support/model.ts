/** A model that says what the test wants, through the AI SDK's own test double, and remembers what it was sent. */
import { APICallError } from "ai";
import { MockLanguageModelV4, simulateReadableStream } from "ai/test";

type StreamResult = Awaited<ReturnType<MockLanguageModelV4["doStream"]>>;
type Part = StreamResult["stream"] extends ReadableStream<infer PART> ? PART : never;
export type Prompt = MockLanguageModelV4["doStreamCalls"][number]["prompt"];

export interface SaidCall {
  id: string;
  name: string;
  /** The arguments; a text stands for itself, as a model may write anything. */
  input: unknown;
}

/** One answer. An Error is a provider that refuses; `breaks` is a stream that fails after what was said. */
export type Answer =
  | string
  | Error
  | { text?: string | string[]; calls?: SaidCall[]; breaks?: Error; gate?: Promise<unknown>; finish?: "stop" | "length" };

export interface Asked {
  /** From 1. */
  n: number;
  prompt: Prompt;
  signal: AbortSignal | undefined;
}

/** Says these answers in turn, or what a function makes of what it is asked. */
export function scripted(script: readonly Answer[] | ((asked: Asked) => Answer | Promise<Answer>)): MockLanguageModelV4 {
  let n = 0;
  return new MockLanguageModelV4({
    doStream: async ({ prompt, abortSignal }) => {
      n++;
      const answer = typeof script === "function" ? await script({ n, prompt, signal: abortSignal }) : script[n - 1];
      if (answer === undefined) throw new Error(`The script has no answer number ${n}.`);
      if (answer instanceof Error) throw answer;
      return { stream: streamOf(typeof answer === "string" ? { text: answer } : answer) };
    },
  });
}

const usage = { inputTokens: { total: 10, noCache: 10, cacheRead: 0, cacheWrite: 0 }, outputTokens: { total: 5, text: 5, reasoning: 0 } };

function streamOf({ text = [], calls = [], breaks, gate, finish }: Exclude<Answer, string | Error>): ReadableStream<Part> {
  const deltas = [text].flat();
  const said: Part[] = [{ type: "stream-start", warnings: [] }];
  if (deltas.length > 0)
    said.push({ type: "text-start", id: "t" }, ...deltas.map((delta): Part => ({ type: "text-delta", id: "t", delta })));
  const rest: Part[] = [];
  if (breaks) rest.push({ type: "error", error: breaks });
  else {
    if (deltas.length > 0) rest.push({ type: "text-end", id: "t" });
    for (const { id, name, input } of calls)
      rest.push({ type: "tool-call", toolCallId: id, toolName: name, input: typeof input === "string" ? input : JSON.stringify(input) });
    const unified = finish ?? (calls.length > 0 ? "tool-calls" : "stop");
    rest.push({ type: "finish", finishReason: { unified, raw: unified }, usage });
  }
  if (!gate) return simulateReadableStream({ chunks: [...said, ...rest], initialDelayInMs: null, chunkDelayInMs: null });
  return new ReadableStream({
    async start(controller) {
      for (const part of said) controller.enqueue(part);
      await gate;
      for (const part of rest) controller.enqueue(part);
      controller.close();
    },
  });
}

/** A call of a tool. */
export function call(name: string, input: unknown, id = `call-${name}`): SaidCall {
  return { id, name, input };
}

/** A provider's refusal, as the AI SDK's providers throw it. */
export function refusal(statusCode: number, headers: Record<string, string> = {}): APICallError {
  return new APICallError({
    message: `refused with ${statusCode}`,
    url: "http://model",
    requestBodyValues: {},
    statusCode,
    responseHeaders: headers,
  });
}

/** What the model was sent, as plain text per message: `role: text`. */
export function shown(prompt: Prompt): string[] {
  return prompt.map(({ role, content }) => `${role}: ${typeof content === "string" ? content : content.map(partText).join(" ")}`);
}

function partText(part: object): string {
  const { type, text, toolName, input, output } = part as {
    type: string;
    text?: string;
    toolName?: string;
    input?: unknown;
    output?: unknown;
  };
  if (type === "tool-call") return `${toolName}(${JSON.stringify(input)})`;
  if (type === "tool-result") return `${toolName} -> ${JSON.stringify(output)}`;
  return text ?? type;
}

/** The results of tools that the model was shown in its last prompt, by call id. */
export function results(prompt: Prompt): Record<string, { type: string; value: unknown }> {
  const parts = prompt.flatMap((message) => (message.role === "tool" ? message.content : []));
  return Object.fromEntries(parts.flatMap((part) => (part.type === "tool-result" ? [[part.toolCallId, part.output]] : []))) as never;
}
