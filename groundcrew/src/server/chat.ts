/**
 * What `useChat` of the AI SDK speaks, unchanged: `new DefaultChatTransport({ api: `${url}/v1/chat/support` })`.
 *
 * | method | path | who | |
 * |---|---|---|---|
 * | POST | /chat/{agent} | anyone known | the next turn of the chat; answers its stream |
 * | GET | /chat/{agent}/{id}/stream | owner, operator | the open turn from its start; 204 when there is none |
 * | POST | /chat/{agent}/{id}/stop | owner, operator | ends the open turns: a client that leaves ends nothing |
 * | GET | /chat/{agent}/{id}/messages | owner, operator | the chat so far, to begin with after a reload |
 *
 * A chat is a session, its id the session's; an answer is a run, its message's id the run's. Of what the client sends only the
 * last user message is taken: the history is ours.
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import {
  convertToModelMessages,
  type ModelMessage,
  readUIMessageStream,
  safeValidateUIMessages,
  UI_MESSAGE_STREAM_HEADERS,
  type UIMessage,
} from "ai";
import type { Context } from "hono";
import { z } from "zod";
import { coerceError, describe, GroundcrewError, isError } from "../errors.ts";
import { DEFAULT_HISTORY_TURNS, MAX_NAME_CHARS } from "../limits.ts";
import { isTerminal, type RunRow } from "../persistence/store.ts";
import type { Principal } from "../principal.ts";
import type { Crew, Run, Session } from "../runtime.ts";
import { parseCursor } from "../stream/feed.ts";
import { type Frame, sseHeaders, sseStream } from "../stream/sse.ts";
import { type UiChunk, userParts } from "../stream/ui-chunk.ts";
import { type UiFrame, UiProjection, uiFrames } from "../stream/ui-message.ts";
import { startRequest } from "../wire.ts";
import type { Guard, ServerEnv } from "./access.ts";
import { endpoint, json } from "./endpoint.ts";
import { disconnect } from "./events.ts";
import { failureOf, type Report } from "./failure.ts";
import { toJson } from "./json.ts";

const id = z.string().min(1).max(MAX_NAME_CHARS);
const ofAgent = z.object({ agent: z.string() });
const ofChat = z.object({ agent: z.string(), id: z.string() });

/** As `DefaultChatTransport` sends it; what an application adds to the body is not ours to refuse. */
const chatRequest = z
  .looseObject({
    id: id.describe("The chat: a session of the agent, created at first use."),
    messages: z.array(z.unknown()).min(1).describe("UI messages. Only the last one of role `user` is read."),
    trigger: z.enum(["submit-message", "regenerate-message"]).optional(),
    messageId: z.string().optional().describe("For `regenerate-message`: the last answer, or the message it answered."),
    whenBusy: startRequest.shape.whenBusy,
  })
  .meta({ id: "ChatRequest" });

const streamHeaders = z.object({ "last-event-id": z.string().max(MAX_NAME_CHARS).optional() });
const stopped = z.object({ stopped: z.array(z.string()).describe("The runs that were told to end.") }).meta({ id: "Stopped" });
const chatMessages = z.object({ messages: z.array(z.unknown()).describe("UI messages of the AI SDK.") }).meta({ id: "ChatMessages" });

type ChatRequest = z.output<typeof chatRequest>;

export function chatRoutes(crew: Crew, guard: Guard, report: Report): OpenAPIHono<ServerEnv> {
  const app = new OpenAPIHono<ServerEnv>();

  const send = {
    method: "post",
    path: "/{agent}",
    summary: "Say something",
    params: ofAgent,
    body: chatRequest,
    reply: "text/event-stream",
  } as const;
  endpoint(app, send, async ({ c, params, body, principal }) => {
    const started =
      body.trigger === "regenerate-message"
        ? await regenerate(crew, guard, c, params.agent, body)
        : await say(crew, params.agent, body, principal);
    const { run } = await guard.run(c, started.id); // a key that somebody else has used is somebody else's run
    return streamOf(c, run, guard, report);
  });

  const resume = {
    method: "get",
    path: "/{agent}/{id}/stream",
    summary: "Follow the open turn of a chat",
    params: ofChat,
    headers: streamHeaders,
    reply: "text/event-stream",
    also: { 204: "No turn is open" },
  } as const;
  endpoint(app, resume, async ({ c, params, headers }) => {
    const session = await findChat(guard, c, params);
    if (!session) return c.body(null, 204); // a chat that nothing was said in: nothing to resume
    const seen = headers["last-event-id"];
    if (seen !== undefined) return continueBehind(seen, session, guard, report, c);
    const open = session.open[0];
    return open ? streamOf(c, await crew.run(open.id), guard, report) : c.body(null, 204);
  });

  const stop = {
    method: "post",
    path: "/{agent}/{id}/stop",
    summary: "Stop answering",
    params: ofChat,
    status: 202,
    reply: stopped,
  } as const;
  endpoint(app, stop, async ({ c, params, principal }) => {
    const session = await findChat(guard, c, params);
    return { stopped: session ? await stopAll(crew, session.open, principal) : [] };
  });

  const messages = {
    method: "get",
    path: "/{agent}/{id}/messages",
    summary: "The chat so far",
    params: ofChat,
    reply: chatMessages,
  } as const;
  endpoint(app, messages, async ({ c, params }) => {
    const session = await findChat(guard, c, params);
    return json(c, { messages: session ? await messagesOf(crew, session) : [] }, 200);
  });

  return app;
}

/** The chat, or nothing for one that is not there, is another's or belongs to another agent: a client makes chat ids up itself. */
async function findChat(guard: Guard, c: Context<ServerEnv>, { agent, id }: z.output<typeof ofChat>): Promise<Session | undefined> {
  try {
    const session = await guard.session(c, id);
    return session.row.agent === agent ? session : undefined;
  } catch (error) {
    if (isError(error, "SESSION_NOT_FOUND")) return undefined;
    throw error;
  }
}

// ——— Turns ———

/** Starts the turn. The message's id is its idempotency key: the same message, sent again, is the same run. */
async function say(crew: Crew, agent: string, body: ChatRequest, principal: Principal): Promise<Run> {
  const { messageId, message } = await lastUserMessage(body.messages);
  const { whenBusy } = body;
  const options = { session: body.id, key: turnKey(body.id, messageId), principal, ...(whenBusy && { whenBusy }) };
  return crew.start(agent, { ...options, messages: [message] });
}

/**
 * Asks the same once more: a new turn with the message of the last one, whose answer stays in what the model is shown, since
 * its tools have acted. A turn that is still open is not made again: its stream is the answer.
 */
async function regenerate(crew: Crew, guard: Guard, c: Context<ServerEnv>, agent: string, body: ChatRequest): Promise<Run> {
  const session = await findChat(guard, c, { agent, id: body.id });
  const [last] = session ? await crew.runs({ tenant: session.row.principal.tenant, session: body.id, limit: 1 }) : [];
  const asked = body.messageId;
  if (!last || (asked !== undefined && asked !== last.id && turnKey(body.id, asked) !== last.key)) {
    throw new GroundcrewError("INPUT_INVALID", `Message ${describe(asked)} is not the last of chat ${describe(body.id)}.`, {
      fix: "Only the last answer can be made again: what followed an earlier one depends on it.",
    });
  }
  const run = await crew.run(last.id);
  if (!isTerminal(last.status)) return run;
  const key = `${AGAIN}${last.id}`;
  return crew.start(agent, { messages: inputOf(await run.journal()), session: body.id, key, principal: last.principal });
}

const turnKey = (chat: string, messageId: string) => `chat:${chat}/${messageId}`;
const AGAIN = "chat-again:";

async function lastUserMessage(messages: readonly unknown[]): Promise<{ messageId: string; message: ModelMessage }> {
  const last = messages.findLast((message) => typeof message === "object" && message !== null && Reflect.get(message, "role") === "user");
  if (!last) throw new GroundcrewError("INPUT_INVALID", "Expected `body.messages` to have a message of role `user`.");
  const checked = await safeValidateUIMessages({ messages: [last] });
  const found = checked.success ? checked.data[0] : undefined;
  if (!found?.id)
    throw new GroundcrewError("INPUT_INVALID", `Expected the last user message to be a UI message of the AI SDK. ${whyNot(checked)}`);
  const parts = found.parts.flatMap(plainPart);
  if (parts.length === 0) throw new GroundcrewError("INPUT_INVALID", "Expected the last user message to have a text or a file.");
  const [message] = await convertToModelMessages([{ role: "user", parts }]);
  return { messageId: found.id, message: message as ModelMessage };
}

function whyNot(checked: { success: boolean; error?: Error }): string {
  return checked.error?.message.split("\n").slice(-3).join(" ") ?? "It has no id.";
}

/** Texts and files, without what a client may not decide: options for the provider, and files that somebody uploaded there. */
function plainPart(part: UIMessage["parts"][number]): UIMessage["parts"] {
  if (part.type === "text") return part.text === "" ? [] : [{ type: "text", text: part.text }];
  if (part.type !== "file") return [];
  const { mediaType, filename, url } = part;
  if (!URL.canParse(url) || !FILE_SCHEMES.has(new URL(url).protocol)) {
    throw new GroundcrewError("INPUT_INVALID", `Expected the file's \`url\` to be a data: or https: address, got ${describe(url)}.`);
  }
  return [{ type: "file", mediaType, url, ...(filename !== undefined && { filename }) }];
}

const FILE_SCHEMES: ReadonlySet<string> = new Set(["data:", "https:", "http:"]);

/** Newest first, so that no turn that waits begins meanwhile. */
async function stopAll(crew: Crew, open: readonly RunRow[], principal: Principal): Promise<string[]> {
  const told: string[] = [];
  for (const { id } of open.toReversed()) {
    try {
      await (await crew.run(id)).cancel("stopped by the user", principal.user);
      told.unshift(id);
    } catch (error) {
      if (!isError(error, "RUN_FINISHED")) throw error; // it came to its end by itself
    }
  }
  return told;
}

// ——— Streams ———

function streamOf(c: Context<ServerEnv>, run: Run, guard: Guard, report: Report, after?: string): Response {
  const left = new AbortController();
  const items = run.events({ signal: AbortSignal.any([left.signal, guard.closing]) });
  const frames = framesOf(run.id, uiFrames(items, run.id, after), report);
  const body = sseStream(frames, { onClose: () => left.abort(), cut: () => disconnect(c) });
  const { "x-vercel-ai-ui-message-stream": version } = UI_MESSAGE_STREAM_HEADERS;
  return c.body(body, 200, { ...sseHeaders, "x-vercel-ai-ui-message-stream": version, location: `/v1/runs/${run.id}` });
}

/** A stream that does not come to the run's end breaks: a client must not take half an answer for the whole. */
async function* framesOf(run: string, frames: AsyncGenerator<UiFrame>, report: Report): AsyncGenerator<Frame, undefined> {
  let last: UiChunk["type"] | undefined;
  try {
    for await (const { id, chunk } of frames) {
      last = chunk.type;
      yield { id: `${run}:${id}`, data: toJson(chunk) };
    }
  } catch (thrown) {
    failureOf(thrown, report);
    throw coerceError(thrown);
  }
  if (last !== "finish" && last !== "abort") throw new GroundcrewError("CLOSED", "The server closes; the run goes on.", { run });
  yield { data: "[DONE]" };
}

/** For readers that keep `Last-Event-ID`: goes on behind a frame of a turn of this chat, also of one that has ended since. */
async function continueBehind(seen: string, session: Session, guard: Guard, report: Report, c: Context<ServerEnv>): Promise<Response> {
  const [, id = "", after = ""] = /^(.+?):([^:]*)$/.exec(seen) ?? [];
  const { run, row } = await guard.run(c, id);
  if (row.session !== session.row.id) throw new GroundcrewError("CURSOR_INVALID", `Run ${id} is no turn of this chat.`, { value: seen });
  const { seq } = parseCursor(after.split("/", 1)[0]);
  const head = (await run.journal()).length;
  if (seq > head) throw new GroundcrewError("CURSOR_INVALID", `Run ${id} has not come to ${describe(after)} yet.`, { value: seen });
  const isRead = seq === head && isTerminal(row.status) && !after.includes("/");
  return isRead ? c.body(null, 204) : streamOf(c, run, guard, report, after);
}

// ——— What was said ———

type Events = Awaited<ReturnType<Run["journal"]>>;

/** Each turn as its stream left it. The open turn is there with its question only: its answer comes with the stream. */
async function messagesOf(crew: Crew, { row }: Session): Promise<UIMessage[]> {
  const turns = await crew.runs({ tenant: row.principal.tenant, session: row.id, limit: DEFAULT_HISTORY_TURNS });
  const byId = new Map(turns.map((turn) => [turn.id, turn]));
  const madeAgain = new Set(turns.flatMap((turn) => madeAgainBy(turn) ?? []));
  const messages: UIMessage[] = [];
  for (const turn of turns.toReversed().filter(({ id }) => !madeAgain.has(id))) {
    const events = await (await crew.run(turn.id)).journal();
    messages.push(...questions(events, messageIdOf(row.id, turn, byId)));
    const answer = isTerminal(turn.status) ? await answerOf(turn.id, events) : undefined;
    if (answer) messages.push(answer);
  }
  return messages;
}

/** The turn whose question this one asked again. */
function madeAgainBy({ key }: RunRow): string | undefined {
  return key?.startsWith(AGAIN) ? key.slice(AGAIN.length) : undefined;
}

/** The id that the client gave the question; one of our own for a turn that no chat client began. */
function messageIdOf(chat: string, turn: RunRow, turns: ReadonlyMap<string, RunRow>): string {
  const first = madeAgainBy(turn);
  const before = first === undefined ? undefined : turns.get(first);
  if (before) return messageIdOf(chat, before, turns);
  const prefix = turnKey(chat, "");
  return turn.key?.startsWith(prefix) ? turn.key.slice(prefix.length) : `${turn.id}:question`;
}

function questions(events: Events, id: string): UIMessage[] {
  const asked = inputOf(events).filter((message) => message.role === "user");
  return asked.map((message, index) => ({
    id: index === asked.length - 1 ? id : `${id}:${index}`,
    role: "user",
    parts: userParts(message),
  }));
}

async function answerOf(run: string, events: Events): Promise<UIMessage | undefined> {
  const projection = new UiProjection(run);
  const chunks = events.flatMap((event) => projection.project({ ...event, cursor: String(event.seq) }));
  let answer: UIMessage | undefined;
  const onError = () => {}; // how the run failed was told by its stream, and is no part of the message
  for await (const message of readUIMessageStream({ stream: ReadableStream.from(chunks), onError })) answer = message;
  return answer && answer.parts.length > 0 ? answer : undefined;
}

function inputOf(events: Events): ModelMessage[] {
  const [created] = events;
  const input = created?.type === "run.created" ? (created.input as unknown as { messages?: ModelMessage[] } | undefined) : undefined;
  return input?.messages ?? [];
}
