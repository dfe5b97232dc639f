/**
 * | method | path | who | |
 * |---|---|---|---|
 * | GET | /runs/{id}/events | owner, operator | the run's feed as server-sent events |
 *
 * Each frame has the item's cursor as `id`, its type as `event` and the item as `data`. The server closes after the run's last
 * item. A browser's `EventSource` then connects once more, from the cursor of that item, and is told 204, which ends it.
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import { z } from "zod";
import { systemClock } from "../clock.ts";
import { toJson } from "../json.ts";
import { FIRST_ITEM_MS } from "../limits.ts";
import { isTerminal } from "../persistence/store.ts";
import type { Principal } from "../principal.ts";
import type { FeedItem } from "../stream/feed.ts";
import type { Frame } from "../stream/sse.ts";
import { eventsHeaders, eventsQuery, type FailureEvent } from "../wire.ts";
import { itemFor } from "./audience.ts";
import type { ServerEnv } from "./authenticate.ts";
import { endpoint } from "./endpoint.ts";
import { failureOf, type Report } from "./failure.ts";
import type { Guard } from "./guard.ts";
import { type Streams, sseResponse } from "./sse.ts";

const route = {
  method: "get",
  path: "/runs/{id}/events",
  summary: "Follow a run",
  params: z.object({ id: z.string() }),
  query: eventsQuery,
  headers: eventsHeaders,
  reply: "text/event-stream",
  also: { 204: "The run has ended and nothing stands behind the cursor" },
} as const;

export function eventRoutes(guard: Guard, streams: Streams): OpenAPIHono<ServerEnv> {
  const app = new OpenAPIHono<ServerEnv>();
  endpoint(app, route, async ({ c, params, query, headers, principal }) => {
    const { run, row } = await guard.run(c, params.id);
    // The header first: a browser that reconnects sends it beside the address it began with.
    const after = headers["last-event-id"] ?? query.after;
    const left = new AbortController();
    const items = run.events({ after, signal: AbortSignal.any([left.signal, streams.closing]) })[Symbol.asyncIterator]();
    const opening = await firstOf(items);
    if (isTerminal(row.status) && (await opening.first).done) return c.body(null, 204);

    const frames = framesOf(opening, items, principal, streams.report);
    const onClose = () => {
      left.abort();
      void items.return?.(); // a stream that was never read from has not begun its frames either
    };
    return sseResponse(c, streams, frames, onClose);
  });
  return app;
}

type First = Promise<IteratorResult<FeedItem>>;

/**
 * Asks for the first item and waits a little, so that a cursor that is refused is an answer of its own. The feed of a run that
 * is parked may have nothing to say for hours: its stream begins meanwhile.
 */
async function firstOf(items: AsyncIterator<FeedItem>): Promise<{ first: First }> {
  const first = items.next();
  const patience = Promise.withResolvers<void>();
  const cancel = systemClock.after(FIRST_ITEM_MS, patience.resolve);
  await Promise.race([first, patience.promise]).finally(cancel);
  return { first };
}

/** A failure on the way is told in the stream: its status is long sent. The reader comes back from its cursor, or gives up. */
async function* framesOf(
  { first }: { first: First },
  items: AsyncIterator<FeedItem>,
  principal: Principal,
  report: Report,
): AsyncGenerator<Frame, undefined> {
  try {
    for (let next = await first; !next.done; next = await items.next()) {
      const item = itemFor(principal, next.value);
      yield { id: item.cursor, event: item.type, data: textOf(item) };
    }
  } catch (thrown) {
    yield { event: "failure" satisfies FailureEvent, data: toJson(failureOf(thrown, report).body) };
  } finally {
    await items.return?.();
  }
}

/** A chunk holds nothing that JSON lacks; and nearly all items of a busy stream are chunks. */
function textOf(item: FeedItem): string {
  return item.type === "chunk" ? JSON.stringify(item) : toJson(item);
}
