/**
 * | method | path | who | |
 * |---|---|---|---|
 * | GET | /runs/{id}/ui | owner, operator | any run as a UI message stream of the AI SDK |
 *
 * The stream that chats answer with (`chat.ts`), of one run. Each frame's `id` names the run and the place in it.
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import { UI_MESSAGE_STREAM_HEADERS } from "ai";
import type { Context } from "hono";
import { z } from "zod";
import { coerceError, describe, GroundcrewError } from "../errors.ts";
import { toJson } from "../json.ts";
import { isTerminal, type RunRow } from "../persistence/store.ts";
import type { Principal } from "../principal.ts";
import type { Run } from "../runtime.ts";
import { type FeedItem, parseCursor } from "../stream/feed.ts";
import type { Frame } from "../stream/sse.ts";
import type { UiChunk } from "../stream/ui-chunk.ts";
import { type UiFrame, uiFrames } from "../stream/ui-frame.ts";
import { eventsHeaders } from "../wire.ts";
import { withoutStaff } from "./audience.ts";
import type { ServerEnv } from "./authenticate.ts";
import { endpoint } from "./endpoint.ts";
import { failureOf, type Report } from "./failure.ts";
import type { Guard } from "./guard.ts";
import { type Streams, sseResponse } from "./sse.ts";

const route = {
  method: "get",
  path: "/runs/{id}/ui",
  summary: "Follow a run as a UI message stream",
  params: z.object({ id: z.string() }),
  headers: eventsHeaders,
  reply: "text/event-stream",
  also: { 204: "The run has ended and nothing stands behind `Last-Event-ID`" },
} as const;

export function uiRoutes(guard: Guard, streams: Streams): OpenAPIHono<ServerEnv> {
  const app = new OpenAPIHono<ServerEnv>();
  endpoint(app, route, async ({ c, params, headers }) => {
    const { run, row } = await guard.run(c, params.id);
    const place = headers["last-event-id"];
    if (place === undefined) return uiStream(c, run, streams);
    if (runOfPlace(place) !== run.id) throw noPlace(place, `is no place in run ${run.id}`);
    return uiStreamBehind(c, run, row, place, streams);
  });
  return app;
}

/** Whether whoever reads the stream is asked by the run: then it is their turn, and the stream ends until they have said. */
export type Asker = (run: string) => Promise<boolean>;

/** The run's whole stream, or what stands behind `after`. */
export function uiStream(
  c: Context<ServerEnv>,
  run: Run,
  streams: Streams,
  { after, asker }: { after?: string; asker?: Asker } = {},
): Response {
  const { closing, report } = streams;
  const left = new AbortController();
  const items = forChat(c.get("principal"), run.events({ signal: AbortSignal.any([left.signal, closing]) }));
  const turn: Turn = { isReaders: false };
  const frames = framesOf(run.id, uiFrames(asker ? untilAsked(items, run, { asker, after, turn }) : items, run.id, after), report, turn);
  const { "x-vercel-ai-ui-message-stream": version } = UI_MESSAGE_STREAM_HEADERS;
  return sseResponse(c, streams, frames, () => left.abort(), { "x-vercel-ai-ui-message-stream": version, location: `/v1/runs/${run.id}` });
}

/** What others have told the agent is no part of the chat. */
async function* forChat(principal: Principal, items: AsyncIterable<FeedItem>): AsyncGenerator<FeedItem> {
  for await (const item of items) yield withoutStaff(principal, item);
}

/** @param place of the last frame seen. @throws GroundcrewError `CURSOR_INVALID` */
export async function uiStreamBehind(c: Context<ServerEnv>, run: Run, row: RunRow, place: string, streams: Streams): Promise<Response> {
  const after = place.slice(run.id.length + 1);
  const { seq } = parseCursor(after.split("/", 1)[0]);
  const head = (await run.journal()).length;
  if (seq > head) throw noPlace(place, "has not come yet");
  const isRead = seq === head && isTerminal(row.status) && !after.includes("/");
  return isRead ? c.body(null, 204) : uiStream(c, run, streams, { after });
}

/** Whose turn it is when the stream ends: the reader's, or nobody's because the run is over. */
interface Turn {
  isReaders: boolean;
}

interface Asking {
  asker: Asker;
  /** Up to where the reader has answered. */
  after: string | undefined;
  turn: Turn;
}

/** Ends where the run is parked for an approval that the reader is asked for: now, and not at some earlier time that the stream comes by. */
async function* untilAsked(items: AsyncIterable<FeedItem>, run: Run, { asker, after, turn }: Asking): AsyncGenerator<FeedItem> {
  const { seq: answered } = parseCursor(after?.split("/", 1)[0]);
  for await (const item of items) {
    yield item;
    if (item.type !== "run.parked" || item.reason !== "approval" || item.seq <= answered || !(await asker(run.id))) continue;
    if ((await run.journal()).length > item.seq) continue;
    turn.isReaders = true;
    return;
  }
}

/** A frame's id is its run's and the place in it: `run_…:12.3`. */
export function runOfPlace(place: string): string {
  return /^(.+):[^:]*$/.exec(place)?.[1] ?? "";
}

function noPlace(place: string, why: string): GroundcrewError {
  return new GroundcrewError("CURSOR_INVALID", `${describe(place)} ${why}.`, { value: place });
}

/** A stream that does not come to the run's end breaks: a client must not take half an answer for the whole. */
async function* framesOf(run: string, frames: AsyncGenerator<UiFrame>, report: Report, turn: Turn): AsyncGenerator<Frame, undefined> {
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
  if (turn.isReaders) {
    for (const chunk of [{ type: "finish-step" }, { type: "finish", finishReason: "tool-calls" }] as const) yield { data: toJson(chunk) };
  } else if (last !== "finish" && last !== "abort") throw new GroundcrewError("CLOSED", "The server closes; the run goes on.", { run });
  yield { data: "[DONE]" };
}
