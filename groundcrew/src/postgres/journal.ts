/** Events, the chunks beside them, and blobs: each read is one statement, which is one snapshot. */
import type { GroundcrewError } from "../errors.ts";
import type { Event } from "../persistence/event.ts";
import { readEvents } from "../persistence/event-row.ts";
import { shardOf, shardOfRun } from "../persistence/id.ts";
import { type EventRow, journalOf, missing, mustHaveReached, noRun, pageOf } from "../persistence/page.ts";
import type { Cursor, Page, RunStatus } from "../persistence/store.ts";
import { escaped, type Sql } from "./row.ts";

type Queries = Pick<Sql, "query">;

/** One of three: how far the run has come, a row of events, a row of chunks. */
interface PageRow {
  kind: "run" | "events" | "chunks";
  /** The head; the last of the events; the event before the chunks. */
  at: number;
  /** The last chunk behind the event that the cursor names. */
  chunk: number;
  /** The run's status; the events; the chunks. */
  data: string;
}

/**
 * As many rows as a page of $5 items can show, and enough to see that there is more: events are numbered without a gap, so the
 * page ends in the row of event $3 + $5 + 1 at the latest; and a row of chunks holds one at least. Relies on the primary keys.
 */
const PAGE = `
  (select 'run' as kind, r.status as data,
     (select coalesce(max(last), 0) from groundcrew.events where shard = $1 and run = $2) as at,
     (select coalesce(max(last), 0) from groundcrew.chunks where shard = $1 and run = $2 and after = $3) as chunk
   from groundcrew.runs r where shard = $1 and id = $2)
  union all
  (select 'events', data, last, 0 from groundcrew.events
   where shard = $1 and run = $2 and last > $3 and last <= coalesce(
     (select min(last) from groundcrew.events where shard = $1 and run = $2 and last > $3 + $5), $3 + $5)
   order by last)
  union all
  (select 'chunks', data, after, last from groundcrew.chunks
   where shard = $1 and run = $2 and (after, last) > ($3, $4) order by after, last limit $5 + 1)`;

/** @throws GroundcrewError `RUN_NOT_FOUND`, `CURSOR_INVALID`, `EVENT_UNREADABLE` */
export async function readPage(sql: Queries, run: string, after: Cursor, limit: number): Promise<Page> {
  const rows = await sql.query<PageRow>(PAGE, [shardOfRun(run), escaped(run), after.seq, after.chunk, limit]);
  const found = rows.find(({ kind }) => kind === "run");
  if (!found) throw noRun(run);
  mustHaveReached(run, after, { status: found.data as RunStatus, head: found.at, chunk: found.chunk });
  const events = rows.flatMap(({ kind, at, data }) => (kind === "events" ? [{ last: at, data }] : []));
  const chunks = rows.flatMap(({ kind, at, data }) => (kind === "chunks" ? [{ after: at, data }] : []));
  return pageOf(run, after, limit, events, chunks);
}

/** @throws GroundcrewError `RUN_NOT_FOUND`, `EVENT_UNREADABLE` */
export async function readJournal(sql: Queries, run: string): Promise<Event[]> {
  const rows = await sql.query<EventRow>("select last, data from groundcrew.events where shard = $1 and run = $2 order by last", [
    shardOfRun(run),
    escaped(run),
  ]);
  if (rows.length === 0) throw await nothingOf(sql, run);
  return journalOf(run, rows);
}

/** @throws GroundcrewError `RUN_NOT_FOUND`, `EVENT_UNREADABLE` */
export async function readLast(sql: Queries, run: string): Promise<Event> {
  const [newest] = await sql.query<EventRow>(
    "select last, data from groundcrew.events where shard = $1 and run = $2 order by last desc limit 1",
    [shardOfRun(run), escaped(run)],
  );
  if (!newest) throw await nothingOf(sql, run);
  return readEvents(run, newest.last, newest.data).at(-1) as Event;
}

export async function readBlob(sql: Queries, hash: string): Promise<string | null> {
  const [found] = await sql.query<{ data: string }>("select data from groundcrew.blobs where shard = $1 and hash = $2", [
    shardOf(hash),
    escaped(hash),
  ]);
  return found?.data ?? null;
}

/** Why a run has no events: every run begins with one. */
async function nothingOf(sql: Queries, run: string): Promise<GroundcrewError> {
  const found = await sql.query("select 1 from groundcrew.runs where shard = $1 and id = $2", [shardOfRun(run), escaped(run)]);
  return found.length > 0 ? missing(run, 1) : noRun(run);
}
