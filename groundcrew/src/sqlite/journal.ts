import type { DatabaseSync, StatementSync } from "node:sqlite";
import { GroundcrewError } from "../errors.ts";
import type { Chunk, Event } from "../persistence/event.ts";
import { readEvents, writeEvents } from "../persistence/event-row.ts";
import type { Blob } from "../persistence/json-value.ts";
import { type Cursor, isTerminal, type Page, type RunStatus } from "../persistence/store.ts";
import { row } from "./row.ts";

/** A fork begins with the events it takes over: they are cut into rows that a reader can take in one bite. */
const EVENTS_PER_ROW = 100;

interface Stored extends Record<string, string | number> {
  last: number;
  data: string;
}

/** The chunks `first` to `last` behind event `after`. */
export interface ChunkRow extends Stored {
  after: number;
  first: number;
}

interface Head extends Record<string, string | number> {
  n: number;
  status: RunStatus;
  head: number;
}

export type Journal = ReturnType<typeof openJournal>;

/** Events, the chunks beside them, and the blobs they point to. */
export function openJournal(db: DatabaseSync) {
  const insertEvents = db.prepare("insert into events (run, last, data) values (?, ?, ?)");
  const insertChunks = db.prepare("insert into chunks (run, after, first, last, data) values (?, ?, ?, ?, ?)");
  const insertBlob = db.prepare("insert or ignore into blobs (hash, data) values (?, ?)");
  const refer = db.prepare("insert or ignore into blob_refs (run, hash) values (?, ?)");
  const streamed = db.prepare("update runs set streamed = 1 where n = ? and streamed = 0");
  const lastChunk = db.prepare("select max(last) as last from chunks where run = ? and after = ?");
  const head = db.prepare("select n, status, (select coalesce(max(last), 0) from events where run = n) as head from runs where id = ?");
  const all = db.prepare("select last, data from events where run = ? order by last");
  const eventsBehind = db.prepare("select last, data from events where run = ? and last > ? order by last");
  const chunksBehind = db.prepare(
    "select after, first, last, data from chunks where run = ? and (after, last) > (?, ?) order by after, last",
  );
  const newest = db.prepare("select last, data from events where run = (select n from runs where id = ?) order by last desc limit 1");
  const blob = db.prepare("select data from blobs where hash = ?");

  function mustFind(run: string): Head {
    const found = row<Head>(head, run);
    if (!found) throw new GroundcrewError("RUN_NOT_FOUND", `There is no run ${run}.`, { run });
    return found;
  }

  function mustHaveReached(run: string, found: Head, { seq, chunk }: Cursor): void {
    // Chunks of a finished run are swept away before its events; a reader that had seen them goes on behind them.
    const chunks = chunk > 0 && !isTerminal(found.status) ? (row<{ last: number | null }>(lastChunk, found.n, seq)?.last ?? 0) : chunk;
    if (seq >= 0 && chunk >= 0 && seq <= found.head && chunk <= chunks) return;
    throw new GroundcrewError("CURSOR_INVALID", `Run ${run} has not reached ${seq}.${chunk}; its last event is ${found.head}.`, { run });
  }

  return {
    begin(run: number, events: readonly Event[]): void {
      for (let i = 0; i < events.length; i += EVENTS_PER_ROW) {
        const part = events.slice(i, i + EVENTS_PER_ROW);
        insertEvents.run(run, i + part.length, writeEvents(part));
      }
    },

    events(run: number, last: number, data: string): void {
      insertEvents.run(run, last, data);
    },

    chunks(run: number, { after, first, last, data }: ChunkRow): void {
      insertChunks.run(run, after, first, last, data);
      streamed.run(run);
    },

    lastChunk: (run: number, after: number) => row<{ last: number | null }>(lastChunk, run, after)?.last ?? 0,

    blobs(run: number, blobs: readonly Blob[]): void {
      for (const { hash, data } of blobs) {
        insertBlob.run(hash, data);
        refer.run(run, hash);
      }
    },

    blob: (hash: string) => row<{ data: string }>(blob, hash)?.data ?? null,

    journal(run: string): Event[] {
      const { n } = mustFind(run);
      const events: Event[] = [];
      for (const { last, data } of all.iterate(n) as Iterable<Stored>) {
        for (const event of readEvents(run, last, data)) {
          if (event.seq !== events.length + 1) throw missing(run, events.length + 1);
          events.push(event);
        }
      }
      return events;
    },

    last(run: string): Event {
      const found = row<Stored>(newest, run);
      if (!found) throw missing(run, mustFind(run).head + 1);
      return readEvents(run, found.last, found.data).at(-1) as Event;
    },

    read(run: string, after: Cursor, limit: number): Page {
      const found = mustFind(run);
      mustHaveReached(run, found, after);
      const events = eventsAfter(eventsBehind, run, found.n, after);
      const chunks = chunksAfter(chunksBehind, found.n, after);
      try {
        return merge(events, chunks, limit);
      } finally {
        events.return(undefined);
        chunks.return(undefined);
      }
    },
  };
}

function missing(run: string, seq: number): GroundcrewError {
  return new GroundcrewError("EVENT_UNREADABLE", `Event ${seq} of run ${run} is missing from the store.`, {
    run,
    fix: "Restore the store from a backup.",
  });
}

/** Row by row, as far as they are asked for: a page reads no more of a long journal than it shows. */
function* eventsAfter(statement: StatementSync, run: string, n: number, { seq }: Cursor): Generator<Event, undefined> {
  for (const { last, data } of statement.iterate(n, seq) as Iterable<Stored>) {
    for (const event of readEvents(run, last, data)) if (event.seq > seq) yield event;
  }
}

function* chunksAfter(statement: StatementSync, n: number, { seq, chunk }: Cursor): Generator<Chunk, undefined> {
  for (const { after, data } of statement.iterate(n, seq, chunk) as Iterable<ChunkRow>) {
    for (const item of JSON.parse(data) as Chunk[]) if (after > seq || item.index > chunk) yield item;
  }
}

/** The one order of every reader: an event, then the chunks that followed it, then the next event. */
function merge(events: Generator<Event, undefined>, chunks: Generator<Chunk, undefined>, limit: number): Page {
  const items: (Event | Chunk)[] = [];
  let event = events.next().value;
  let chunk = chunks.next().value;
  while ((event || chunk) && items.length < limit) {
    if (chunk && (!event || chunk.after < event.seq)) {
      items.push(chunk);
      chunk = chunks.next().value;
    } else if (event) {
      items.push(event);
      event = events.next().value;
    }
  }
  return { items, more: event !== undefined || chunk !== undefined };
}
