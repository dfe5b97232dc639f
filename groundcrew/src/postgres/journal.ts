/** Journals and blobs: each read is one statement, which is one snapshot. */
import type { GroundcrewError } from "../errors.ts";
import type { Event } from "../persistence/event.ts";
import { readEvents } from "../persistence/event-row.ts";
import { shardOf, shardOfRun } from "../persistence/id.ts";
import { type EventRow, journalOf, missing, noRun } from "../persistence/page.ts";
import { escaped, type Sql } from "./row.ts";

type Queries = Pick<Sql, "query">;

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
