/** Journals and blobs: each read is one statement, which is one snapshot. */
import type { GroundcrewError } from "../errors.ts";
import { MAX_JOURNALS } from "../limits.ts";
import type { Event } from "../persistence/event.ts";
import { readEvents } from "../persistence/event-row.ts";
import { shardOf, shardOfRun } from "../persistence/id.ts";
import { type EventRow, journalOf, missing, noRun } from "../persistence/page.ts";
import { Gathered } from "./gather.ts";
import { escaped, type Sql } from "./row.ts";

type Queries = Pick<Sql, "query" | "isDistributed">;

const ALL = "select last, data from groundcrew.events where shard = $1 and run = $2 order by last";
const NEWEST = `${ALL} desc limit 1`;

export class Journals {
  readonly #sql: Queries;
  readonly #all: Gathered<string, EventRow[]>;
  readonly #newest: Gathered<string, EventRow[]>;

  constructor(sql: Queries) {
    const most = sql.isDistributed ? 1 : MAX_JOURNALS;
    this.#sql = sql;
    this.#all = new Gathered(most, (runs) => ofEach(sql, ALL, runs));
    this.#newest = new Gathered(most, (runs) => ofEach(sql, NEWEST, runs));
  }

  /** @throws GroundcrewError `RUN_NOT_FOUND`, `EVENT_UNREADABLE` */
  async read(run: string): Promise<Event[]> {
    const rows = await this.#all.ask(run);
    if (rows.length === 0) throw await nothingOf(this.#sql, run);
    return journalOf(run, rows);
  }

  /** @throws GroundcrewError `RUN_NOT_FOUND`, `EVENT_UNREADABLE` */
  async last(run: string): Promise<Event> {
    const [newest] = await this.#newest.ask(run);
    if (!newest) throw await nothingOf(this.#sql, run);
    return readEvents(run, newest.last, newest.data).at(-1) as Event;
  }
}

/** What `text` finds for each run: a subquery with an order of its own is looked up by its keys, run by run. */
async function ofEach(sql: Queries, text: string, runs: readonly string[]): Promise<EventRow[][]> {
  const [shards, ids] = [runs.map(shardOfRun), runs.map(escaped)];
  if (runs.length === 1) return [await sql.query<EventRow>(text, [shards[0], ids[0]])];
  const found = await sql.query<EventRow & { n: number }>(
    `select a.n, e.* from unnest($1::smallint[], $2::text[]) with ordinality a (shard, run, n)
     cross join lateral (${text.replace("$1", "a.shard").replace("$2", "a.run")}) e order by a.n, e.last`,
    [shards, ids],
  );
  const rows = Map.groupBy(found, ({ n }) => n);
  return runs.map((_, index) => rows.get(index + 1) ?? []);
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
