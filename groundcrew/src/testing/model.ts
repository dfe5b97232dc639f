/** A model that says what a test wants, and fails as providers do. */
import { APICallError, type LanguageModel } from "ai";
import { type Clock, systemClock } from "../clock.ts";

type Model = Extract<Exclude<LanguageModel, string>, { specificationVersion: "v4" }>;
type Part = Awaited<ReturnType<Model["doStream"]>>["stream"] extends ReadableStream<infer PART> ? PART : never;

/** A call of a tool. */
export interface ScriptedCall {
  tool: string;
  input: unknown;
  /** Default: one that no other call of the run has, also when another process has made it. */
  id?: string;
}

/** What a provider does instead of answering. */
export type ModelFault =
  | { fault: "status"; status: number; headers: Record<string, string> }
  | { fault: "reset"; after: string }
  | { fault: "cut"; after: string }
  | { fault: "hang"; after: string }
  | { fault: "trickle"; text: string; everyMs: number };

/** A text, calls of tools (after a text, if there is one), or a fault. */
export type ScriptedAnswer = string | { text?: string; calls: readonly ScriptedCall[] } | ModelFault;

/** Faults of a provider. */
export const fault = {
  /** It refuses. `retryAfter` in seconds, or as a date. */
  status: (status: number, { retryAfter }: { retryAfter?: string } = {}): ModelFault => ({
    fault: "status",
    status,
    headers: retryAfter === undefined ? {} : { "retry-after": retryAfter },
  }),
  /** The connection is reset: before anything was said, or behind this text. */
  reset: (after = ""): ModelFault => ({ fault: "reset", after }),
  /** The stream ends in the middle, behind this text. */
  cut: (after = ""): ModelFault => ({ fault: "cut", after }),
  /** Nothing more comes behind this text, until the call is given up. */
  hang: (after = ""): ModelFault => ({ fault: "hang", after }),
  /** It says the text whole, one word every so many milliseconds. */
  trickle: (text: string, everyMs: number): ModelFault => ({ fault: "trickle", text, everyMs }),
};

/** What one call of the model asks for, as the AI SDK hands it over. */
export type ModelRequest = Parameters<Model["doStream"]>[0];

/** What `scriptedModel` gives: a model, and what it was asked so far. */
export type ScriptedModel = Model & { readonly calls: readonly ModelRequest[] };

export interface ScriptOptions {
  /** Times a trickle: the crew's, so that it takes no real time. Default: the machine's. */
  clock?: Clock;
}

/**
 * Answers in turn; when the script is used up it refuses with 400, which nobody tries again. Or what a function makes of what it is
 * asked, and of how often it was asked: that one also fits where a run goes on in another process, or several run side by side.
 *
 * ```ts
 * const model = scriptedModel([fault.status(429, { retryAfter: "2" }), { calls: [{ tool: "lookup", input: { id: 7 } }] }, "It is on its way."]);
 * ```
 */
export function scriptedModel(
  script: readonly ScriptedAnswer[] | ((asked: ModelRequest, n: number) => ScriptedAnswer),
  { clock = systemClock }: ScriptOptions = {},
): ScriptedModel {
  const calls: ModelRequest[] = [];
  const doStream: Model["doStream"] = async (asked) => {
    const n = calls.push(asked);
    const answer = typeof script === "function" ? script(asked, n) : script[n - 1];
    if (answer === undefined) throw refusal(400, {}, `The script has no answer number ${n}.`);
    return { stream: streamOf(answer, asked, clock) };
  };
  const doGenerate: Model["doGenerate"] = async () => {
    throw new Error("A scripted model only streams, as the runtime asks it to.");
  };
  return { specificationVersion: "v4", provider: "scripted", modelId: "scripted", supportedUrls: {}, doStream, doGenerate, calls };
}

const usage = { inputTokens: { total: 10, noCache: 10, cacheRead: 0, cacheWrite: 0 }, outputTokens: { total: 5, text: 5, reasoning: 0 } };
const begin: Part = { type: "stream-start", warnings: [] };

function streamOf(answer: ScriptedAnswer, asked: ModelRequest, clock: Clock): ReadableStream<Part> {
  if (typeof answer === "string") return whole([...said(answer), end("stop")]);
  if ("fault" in answer) return faulty(answer, asked.abortSignal, clock);
  const { text = "", calls } = answer;
  const parts = calls.map(({ tool, input, id }, i): Part => {
    const toolCallId = id ?? `call_${asked.prompt.length}_${i + 1}`; // the prompt grows with each step of a run
    return { type: "tool-call", toolCallId, toolName: tool, input: JSON.stringify(input) };
  });
  return whole([...said(text), ...parts, end(calls.length > 0 ? "tool-calls" : "stop")]);
}

function faulty(how: ModelFault, signal: AbortSignal | undefined, clock: Clock): ReadableStream<Part> {
  switch (how.fault) {
    case "status":
      throw refusal(how.status, how.headers, `The provider refused with ${how.status}.`);
    case "trickle":
      return ReadableStream.from(trickle(how.text, how.everyMs, signal, clock)) as ReadableStream<Part>;
    case "reset":
      if (how.after === "") throw lost("fetch failed", "ECONNRESET");
      return broken(how.after, (controller) => controller.error(lost("terminated", "UND_ERR_SOCKET")));
    case "cut":
      return broken(how.after, (controller) => controller.close());
    case "hang":
      return broken(how.after, (controller) => {
        signal?.addEventListener("abort", () => controller.error(signal.reason), { once: true });
      });
  }
}

/** What was said, and then what becomes of the connection: as soon as the reader wants more. */
function broken(after: string, then: (controller: ReadableStreamDefaultController<Part>) => void): ReadableStream<Part> {
  const parts = [begin, ...said(after).slice(0, -1)];
  return new ReadableStream<Part>(
    {
      pull(controller) {
        const part = parts.shift();
        if (part) controller.enqueue(part);
        else then(controller);
      },
    },
    { highWaterMark: 0 },
  );
}

async function* trickle(text: string, everyMs: number, signal: AbortSignal | undefined, clock: Clock): AsyncGenerator<Part> {
  yield begin;
  yield { type: "text-start", id: "0" };
  for (const delta of text.split(/(?<= )/)) {
    await pause(everyMs, signal, clock);
    yield { type: "text-delta", id: "0", delta };
  }
  yield { type: "text-end", id: "0" };
  yield end("stop");
}

function pause(ms: number, signal: AbortSignal | undefined, clock: Clock): Promise<void> {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const stop = () => {
      cancel();
      reject(signal?.reason);
    };
    const cancel = clock.after(ms, () => {
      signal?.removeEventListener("abort", stop); // one word after the other listens to the same signal
      resolve();
    });
    signal?.addEventListener("abort", stop, { once: true });
  });
}

function whole(parts: readonly Part[]): ReadableStream<Part> {
  return ReadableStream.from<Part>([begin, ...parts]) as ReadableStream<Part>;
}

function said(text: string): Part[] {
  if (text === "") return [];
  return [
    { type: "text-start", id: "0" },
    { type: "text-delta", id: "0", delta: text },
    { type: "text-end", id: "0" },
  ];
}

function end(unified: "stop" | "tool-calls"): Part {
  return { type: "finish", finishReason: { unified, raw: unified }, usage };
}

/** As `fetch` says it. */
function lost(message: string, code: string): TypeError {
  return new TypeError(message, { cause: Object.assign(new Error(`The connection is lost: ${code}`), { code }) });
}

function refusal(statusCode: number, responseHeaders: Record<string, string>, message: string): APICallError {
  return new APICallError({ message, url: "scripted:", requestBodyValues: {}, statusCode, responseHeaders });
}
