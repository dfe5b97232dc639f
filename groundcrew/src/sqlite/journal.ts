import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { Event } from "../persistence/event.ts";
import { readEvents, writeEvents } from "../persistence/event-row.ts";
import type { Blob } from "../persistence/json-value.ts";
import { journalOf, missing, mustHaveReached, noRun, pageOf } from "../persistence/page.ts";
import type { Cursor, Page, RunStatus } from "../persistence/store.ts";
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
  const newestChunk = db.prepare("select max(last) as last from chunks where run = ? and after = ?");
  const head = db.prepare("select n, status, (select coalesce(max(last), 0) from events where run = n) as head from runs where id = ?");
  const all = db.prepare("select last, data from events where run = ? order by last");
  const eventsBehind = db.prepare("select last, data from events where run = ? and last > ? order by last");
  const chunksBehind = db.prepare(
    "select after, first, last, data from chunks where run = ? and (after, last) > (?, ?) order by after, last",
  );
  const newest = db.prepare("select last, data from events where run = (select n from runs where id = ?) order by last desc limit 1");
  const blob = db.prepare("select data from blobs where hash = ?");

  const lastChunk = (run: number, after: number) => row<{ last: number | null }>(newestChunk, run, after)?.last ?? 0;

  function mustFind(run: string): Head {
    const found = row<Head>(head, run);
    if (!found) throw noRun(run);
    return found;
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

    lastChunk,

    blobs(run: number, blobs: readonly Blob[]): void {
      for (const { hash, data } of blobs) {
        insertBlob.run(hash, data);
        refer.run(run, hash);
      }
    },

    blob: (hash: string) => row<{ data: string }>(blob, hash)?.data ?? null,

    journal(run: string): Event[] {
      return journalOf(run, rowsOf<Stored>(all, mustFind(run).n));
    },

    last(run: string): Event {
      const found = row<Stored>(newest, run);
      if (!found) throw missing(run, mustFind(run).head + 1);
      return readEvents(run, found.last, found.data).at(-1) as Event;
    },

    read(run: string, after: Cursor, limit: number): Page {
      const { n, status, head: reached } = mustFind(run);
      mustHaveReached(run, after, { status, head: reached, chunk: lastChunk(n, after.seq) });
      const events = rowsOf<Stored>(eventsBehind, n, after.seq);
      return pageOf(run, after, limit, events, rowsOf<ChunkRow>(chunksBehind, n, after.seq, after.chunk));
    },
  };
}

/** Row by row, as far as they are asked for: a page reads no more of a long journal than it shows. */
function rowsOf<T>(statement: StatementSync, ...bound: number[]): Iterable<T> {
  return statement.iterate(...bound) as Iterable<T>;
}
