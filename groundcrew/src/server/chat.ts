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
import type { Context } from "hono";
import { z } from "zod";
import { GroundcrewError, isError } from "../errors.ts";
import { MAX_LIST_PAGE } from "../limits.ts";
import { approvalNotFound } from "../persistence/approval.ts";
import type { RunRow } from "../persistence/store.ts";
import type { Actor } from "../principal.ts";
import { type Crew, mayDecide, type Session } from "../runtime.ts";
import { eventsHeaders } from "../wire.ts";
import { decideFor } from "./approval-sight.ts";
import { requireScope, type ServerEnv } from "./authenticate.ts";
import { type Answered, answerAll, answersOf } from "./chat-approval.ts";
import { messagesOf } from "./chat-messages.ts";
import { chatRequest, regenerate, say } from "./chat-turn.ts";
import { endpoint, json } from "./endpoint.ts";
import type { Guard } from "./guard.ts";
import type { Streams } from "./sse.ts";
import { type Asker, runOfPlace, uiStream, uiStreamBehind } from "./ui-stream.ts";

const ofAgent = z.object({ agent: z.string() });
const ofChat = z.object({ agent: z.string(), id: z.string() });

const stopped = z.object({ stopped: z.array(z.string()).describe("The runs that were told to end.") }).meta({ id: "Stopped" });
const chatMessages = z.object({ messages: z.array(z.unknown()).describe("UI messages of the AI SDK.") }).meta({ id: "ChatMessages" });

export function chatRoutes(crew: Crew, guard: Guard, streams: Streams): OpenAPIHono<ServerEnv> {
  const app = new OpenAPIHono<ServerEnv>();

  const send = {
    method: "post",
    path: "/{agent}",
    summary: "Say something",
    params: ofAgent,
    body: chatRequest,
    reply: "text/event-stream",
  } as const;
  endpoint(app, send, async ({ c, params, body, principal, actor }) => {
    const { agent } = params;
    streams.admission.mustHaveRoom(); // or a turn would begin that its sender is told nothing of
    const answers = answersOf(body.messages);
    if (answers.length > 0) return answerTurn(c, answers, await findChat(guard, c, { agent, id: body.id }), crew, streams);
    const started =
      body.trigger === "regenerate-message"
        ? await regenerate(crew, await findChat(guard, c, { agent, id: body.id }), agent, body)
        : await say(crew, agent, body, principal);
    const { run } = await guard.run(c, started.id); // a key that somebody else has used is somebody else's run
    return uiStream(c, run, streams, { asker: askerOf(crew, actor) });
  });

  const resume = {
    method: "get",
    path: "/{agent}/{id}/stream",
    summary: "Follow the open turn of a chat",
    params: ofChat,
    headers: eventsHeaders,
    reply: "text/event-stream",
    also: { 204: "No turn is open" },
  } as const;
  endpoint(app, resume, async ({ c, params, headers, actor }) => {
    const session = await findChat(guard, c, params);
    if (!session) return c.body(null, 204); // a chat that nothing was said in: nothing to resume
    const place = headers["last-event-id"];
    if (place !== undefined) return continueBehind(place, session, guard, streams, c);
    const open = session.open[0];
    return open ? uiStream(c, await crew.run(open.id), streams, { asker: askerOf(crew, actor) }) : c.body(null, 204);
  });

  const stop = {
    method: "post",
    path: "/{agent}/{id}/stop",
    summary: "Stop answering",
    params: ofChat,
    status: 202,
    reply: stopped,
  } as const;
  endpoint(app, stop, async ({ c, params, actor }) => {
    const session = await findChat(guard, c, params);
    return { stopped: session ? await stopAll(crew, session.open, { ...actor, channel: "chat" }) : [] };
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

/** For readers that keep `Last-Event-ID`: goes on behind a frame of a turn of this chat, also of one that has ended since. */
async function continueBehind(place: string, session: Session, guard: Guard, streams: Streams, c: Context<ServerEnv>): Promise<Response> {
  const { run, row } = await guard.run(c, runOfPlace(place));
  if (row.session !== session.row.id)
    throw new GroundcrewError("CURSOR_INVALID", `Run ${run.id} is no turn of this chat.`, { value: place });
  return uiStreamBehind(c, run, row, place, streams);
}

/** What the chat's user says to what its turn has asked; the stream goes on behind it. */
async function answerTurn(
  c: Context<ServerEnv>,
  answers: readonly Answered[],
  session: Session | undefined,
  crew: Crew,
  streams: Streams,
): Promise<Response> {
  requireScope(c, "decide");
  const turn = session && (session.open[0] ?? (await lastTurn(crew, session)));
  c.set("actor", { ...c.get("actor"), channel: "chat" });
  const run = turn && (await crew.run(turn.id));
  const after = await answerAll(crew, run, answers, (id, decision, shown) => decideFor(c, crew, id, decision, shown));
  if (!run) throw approvalNotFound(answers[0]?.id ?? ""); // nothing was said in this chat, so it has asked nothing
  return uiStream(c, run, streams, { after, asker: askerOf(crew, c.get("actor")) });
}

async function lastTurn(crew: Crew, { row }: Session): Promise<RunRow | undefined> {
  const [last] = await crew.runs({ tenant: row.principal.tenant, session: row.id, limit: 1 });
  return last;
}

/** A chat whose user may decide is answered by that user: its stream ends where they are asked, as `useChat` expects. */
function askerOf(crew: Crew, actor: Actor): Asker {
  return async (run) =>
    (await crew.approvals({ run, status: "open", limit: MAX_LIST_PAGE })).some((row) => mayDecide(row, actor, crew.people));
}

/** Newest first, so that no turn that waits begins meanwhile. */
async function stopAll(crew: Crew, open: readonly RunRow[], actor: Actor): Promise<string[]> {
  const told: string[] = [];
  for (const { id } of open.toReversed()) {
    try {
      await (await crew.run(id)).cancel("stopped by the user", actor);
      told.unshift(id);
    } catch (error) {
      if (!isError(error, "RUN_FINISHED")) throw error; // it came to its end by itself
    }
  }
  return told;
}
