/**
 * A run's feed over HTTP that does not break: a connection that ends before the run does is opened again from the cursor, so
 * the reader sees what a reader who stayed saw.
 */
import { createParser } from "eventsource-parser";
import { GroundcrewError } from "../errors.ts";
import { STREAM_SILENCE_MS } from "../limits.ts";
import type { FailureEvent, FeedItem } from "../wire.ts";
import { Patience, type Send, toError } from "./http.ts";

const ENDS: ReadonlySet<string> = new Set<FeedItem["type"]>(["run.succeeded", "run.failed", "run.cancelled", "run.expired"]);

export interface FollowOptions {
  /** The `cursor` of the last item seen. */
  after?: string;
  /** Ends the feed, without an error. */
  signal?: AbortSignal;
  /** Told before each new attempt to connect. @param failures how many came in a row; the first is only a connection that ended */
  onReconnect?: (failures: number) => void;
}

/** @throws GroundcrewError `RUN_NOT_FOUND`, `CURSOR_INVALID`, …; `UNREACHABLE` after some minutes without an answer */
export async function* follow(send: Send, path: string, { after, signal, onReconnect }: FollowOptions): AsyncGenerator<FeedItem> {
  const patience = new Patience();
  let cursor = after;
  let failures = 0;
  while (!signal?.aborted) {
    try {
      for await (const item of connection(send, path, cursor, signal)) {
        if (item === "nothing left") return;
        patience.reset();
        failures = 0;
        cursor = item.cursor;
        yield item;
        if (ENDS.has(item.type)) return;
      }
    } catch (error) {
      if (signal?.aborted) return;
      onReconnect?.(++failures);
      await patience.spend(error, signal);
    }
  }
}

/** What one connection brings. It never ends by itself: it breaks, or its reader stops reading. */
async function* connection(
  send: Send,
  path: string,
  cursor: string | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<FeedItem | "nothing left"> {
  const closing = new AbortController();
  const close = () => closing.abort();
  signal?.addEventListener("abort", close);
  let silence: ReturnType<typeof setTimeout> | undefined;
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(close, STREAM_SILENCE_MS); // a peer that is gone does not say so
  };
  try {
    listen();
    const response = await send(path, { headers: cursor === undefined ? {} : { "last-event-id": cursor }, signal: closing.signal });
    if (response.status === 204 || !response.body) yield "nothing left";
    else for await (const frames of read(response.body, listen)) yield* frames;
    throw broken();
  } catch (error) {
    throw error instanceof GroundcrewError ? error : broken(error);
  } finally {
    clearTimeout(silence);
    signal?.removeEventListener("abort", close);
    close();
  }
}

/** The items of each piece that arrives. */
async function* read(body: ReadableStream<Uint8Array>, listen: () => void): AsyncGenerator<FeedItem[]> {
  let items: FeedItem[] = [];
  const parser = createParser({
    onEvent: ({ event, data }) => {
      if (event === ("failure" satisfies FailureEvent)) throw toError(JSON.parse(data));
      items.push(JSON.parse(data));
    },
  });
  const decoder = new TextDecoder(); // a stream of its own for it costs more than everything else here
  const reader = body.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    listen();
    parser.feed(decoder.decode(next.value, { stream: true }));
    yield items;
    items = [];
  }
}

function broken(cause?: unknown): GroundcrewError {
  return new GroundcrewError("UNREACHABLE", "The stream broke off before the run's end.", { cause });
}
