/**
 * A model provider on 127.0.0.1 that speaks the chat completions protocol of OpenAI over real HTTP, says what the test wants, and
 * fails as real ones do: at any byte, in any way.
 */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { createOpenAI } from "@ai-sdk/openai";
import type { LanguageModel } from "ai";
import type { SaidCall } from "./model.ts";

/** One answer. A text is said word by word; an object says what else is done. */
export type Reply = string | Stream | Plain | Elsewhere;

/** Where in an answer: before its first token, half way through its text, after its last token and before it says so. */
export type Where = "before" | "middle" | "after";

/** Byte of the body, from its start, or a place in what is said. */
type Point = number | Where;

/** An answer that is streamed, and what goes wrong with it. */
export interface Stream {
  /** Its pieces; a text is split into words. */
  text?: string | string[];
  calls?: SaidCall[];
  finish?: string;
  /** False: it does not say what it cost. */
  usage?: boolean;
  headers?: Record<string, string>;
  /** The body ends here, and HTTP says that it is whole. */
  endAt?: Point;
  /** The connection is reset here. */
  resetAt?: Point;
  /** Nothing more comes after this, and nobody hangs up. */
  hangAt?: Point;
  /** An error stands in the stream here, and nothing after it. */
  error?: { at: Where; frame: unknown };
  /** Goes on saying its last word for ever. */
  isEndless?: boolean;
  /** Waited for before the headers go out. */
  wait?: () => Promise<unknown>;
  /** Waited for before each frame. */
  between?: () => Promise<unknown>;
}

/** An answer that is no stream. */
export interface Plain {
  status: number;
  headers?: Record<string, string>;
  /** An object is sent as JSON. */
  body?: string | object;
}

/** No answer: the request goes to a port on which nobody listens, or to a name that there is not. */
export interface Elsewhere {
  goesTo: "closed port" | "unknown name";
}

export interface ProviderRequest {
  /** From 1. */
  n: number;
  at: number;
  headers: IncomingHttpHeaders;
  /** As it was sent: `messages`, `tools`, `model` … */
  body: Record<string, unknown>;
  /** The connection was gone before the answer was over. */
  isLeft: boolean;
}

export type Script = readonly Reply[] | ((request: ProviderRequest) => Reply | Promise<Reply>);

export interface Provider {
  /** Base URL, for callers that are not in this process; these cannot be sent elsewhere. */
  url: string;
  /** All requests so far, also those that were sent elsewhere. */
  requests: readonly ProviderRequest[];
  /** What is said from now on, in turn. A request beyond it is refused with 400, which nobody tries again. */
  script(script: Script): void;
  model(id: string): Exclude<LanguageModel, string>;
  close(): Promise<void>;
}

/** The time of requests. Give the clock of the test to read their delays. */
export async function startProvider({ now = Date.now } = {}): Promise<Provider> {
  const requests: ProviderRequest[] = [];
  let script: Script = [];
  let scripted = 0;

  async function record(headers: IncomingHttpHeaders, body: string): Promise<{ request: ProviderRequest; reply: Reply }> {
    const request = { n: requests.length + 1, at: now(), headers, body: body ? JSON.parse(body) : {}, isLeft: false };
    requests.push(request);
    const reply = typeof script === "function" ? await script(request) : script[scripted++];
    return { request, reply: reply ?? unscripted(request) };
  }

  const server = createServer(async (incoming, response) => {
    const { request, reply } = await record(incoming.headers, await textOf(incoming));
    response.on("close", () => {
      request.isLeft = !response.writableFinished;
    });
    await answer(response, reply);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  const closedPort = await portThatIsClosed();

  /** A list's next answer is known before the request leaves: then it can be sent elsewhere. */
  const sendElsewhere: typeof fetch = async (input, init) => {
    const next = typeof script === "function" ? undefined : script[scripted];
    if (typeof next !== "object" || !("goesTo" in next)) return fetch(input, init);
    await record(Object.fromEntries(new Headers(init?.headers)), String(init?.body));
    return fetch(next.goesTo === "closed port" ? `http://127.0.0.1:${closedPort}/v1` : "http://provider.invalid/v1", init);
  };

  return {
    url,
    requests,
    script(next) {
      script = next;
      scripted = 0;
    },
    model: (id) => createOpenAI({ baseURL: url, apiKey: "a key", fetch: sendElsewhere }).chat(id),
    async close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

function unscripted({ n }: ProviderRequest): Plain {
  return { status: 400, body: { error: { message: `The script has no answer for request ${n}.`, type: "no_answer" } } };
}

async function answer(response: ServerResponse, reply: Reply): Promise<void> {
  response.sendDate = false; // a test may have a clock of its own
  if (typeof reply === "object" && "goesTo" in reply) return void response.destroy();
  if (typeof reply === "object" && "status" in reply) return plain(response, reply);
  await stream(response, typeof reply === "string" ? { text: reply } : reply);
}

function plain(response: ServerResponse, { status, headers = {}, body = "" }: Plain): void {
  const [type, text] = typeof body === "string" ? ["text/html", body] : ["application/json", JSON.stringify(body)];
  response.writeHead(status, { "content-type": type, ...headers }).end(text);
}

async function stream(response: ServerResponse, said: Stream): Promise<void> {
  await said.wait?.();
  if (response.destroyed) return;
  response.writeHead(200, { "content-type": "text/event-stream", ...said.headers }).flushHeaders();
  const { frames, place } = compose(said);
  const point = said.endAt ?? said.resetAt ?? said.hangAt;
  const body = Buffer.from(frames.join(""));
  const stop = typeof point === "number" ? point : place(point);
  const cuts = frames.map((_, index) => Buffer.byteLength(frames.slice(0, index + 1).join("")));
  let sent = 0;
  for (const cut of cuts) {
    await said.between?.();
    if (response.destroyed || sent >= stop) break;
    await write(response, body.subarray(sent, Math.min(cut, stop)));
    sent = cut;
  }
  while (said.isEndless && !response.destroyed) {
    await said.between?.();
    await write(response, Buffer.from(delta({ content: "more " })));
  }
  if (said.resetAt !== undefined) response.socket?.resetAndDestroy();
  else if (said.hangAt === undefined) response.end();
}

/** Waits until it is on its way: a reset throws away what still lies in buffers. */
async function write(response: ServerResponse, bytes: Buffer): Promise<void> {
  if (bytes.length > 0 && !response.destroyed) await new Promise((resolve) => response.write(bytes, resolve));
  await new Promise((resolve) => setImmediate(resolve));
}

function compose({ text = [], calls = [], finish, usage = true, error, isEndless }: Stream) {
  const words = typeof text === "string" ? (text.match(/\S+\s*/g) ?? []) : text;
  const first = [delta({ role: "assistant", content: "" })];
  const middle = [
    ...words.map((content) => delta({ content })),
    ...calls.map(({ id, name, input }, index) =>
      delta({
        tool_calls: [
          { index, id, type: "function", function: { name, arguments: typeof input === "string" ? input : JSON.stringify(input) } },
        ],
      }),
    ),
  ];
  const last = [
    delta({}, finish ?? (calls.length > 0 ? "tool_calls" : "stop")),
    ...(usage ? [frame({ choices: [], usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 } })] : []),
    "data: [DONE]\n\n",
  ];
  const half = middle.slice(0, Math.ceil(middle.length / 2));
  const upTo = { before: first, middle: [...first, ...half], after: [...first, ...middle] };
  const whole = isEndless ? upTo.after : [...first, ...middle, ...last];
  return {
    frames: error ? [...upTo[error.at], `data: ${JSON.stringify(error.frame)}\n\n`] : whole,
    place: (where: Where | undefined) => (where ? Buffer.byteLength(upTo[where].join("")) : Number.POSITIVE_INFINITY),
  };
}

function delta(said: object, finish: string | null = null): string {
  return frame({ choices: [{ index: 0, delta: said, finish_reason: finish }] });
}

function frame(rest: object): string {
  return `data: ${JSON.stringify({ id: "answer", object: "chat.completion.chunk", created: 1, model: "m", ...rest })}\n\n`;
}

async function textOf(incoming: IncomingMessage): Promise<string> {
  return Buffer.concat(await incoming.toArray()).toString();
}

async function portThatIsClosed(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
