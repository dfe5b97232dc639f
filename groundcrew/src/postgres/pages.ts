/**
 * The pages of all readers of this process. A change that is announced wakes many of them in the same moment: what they then ask
 * for is one statement, and those who stand at the same place share its rows.
 */
import { MAX_PAGES } from "../limits.ts";
import { shardOfRun } from "../persistence/id.ts";
import { mustHaveReached, noRun, pageOf } from "../persistence/page.ts";
import type { Cursor, Page, RunStatus } from "../persistence/store.ts";
import { escaped, type Sql } from "./row.ts";

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

interface Asked {
  run: string;
  after: Cursor;
  limit: number;
  rows: PromiseWithResolvers<PageRow[]>;
}

type Queries = Pick<Sql, "query" | "isDistributed">;

export class Pages {
  readonly #sql: Queries;
  /** Asked for in this turn of the event loop, and not yet of the server: whoever joins them sees all that he was woken for. */
  #asked = new Map<string, Asked>();

  constructor(sql: Queries) {
    this.#sql = sql;
  }

  /** @throws GroundcrewError `RUN_NOT_FOUND`, `CURSOR_INVALID`, `EVENT_UNREADABLE` */
  async read(run: string, after: Cursor, limit: number): Promise<Page> {
    const rows = await this.#rowsOf(run, after, limit);
    const found = rows.find(({ kind }) => kind === "run");
    if (!found) throw noRun(run);
    mustHaveReached(run, after, { status: found.data as RunStatus, head: found.at, chunk: found.chunk });
    const events = rows.flatMap(({ kind, at, data }) => (kind === "events" ? [{ last: at, data }] : []));
    const chunks = rows.flatMap(({ kind, at, data }) => (kind === "chunks" ? [{ after: at, data }] : []));
    return pageOf(run, after, limit, events, chunks);
  }

  #rowsOf(run: string, after: Cursor, limit: number): Promise<PageRow[]> {
    const place = JSON.stringify([run, after.seq, after.chunk, limit]);
    let asked = this.#asked.get(place);
    if (!asked) {
      asked = { run, after, limit, rows: Promise.withResolvers() };
      if (this.#asked.size === 0) setImmediate(() => this.#askAll());
      this.#asked.set(place, asked);
    }
    return asked.rows.promise;
  }

  #askAll(): void {
    const asked = [...this.#asked.values()];
    this.#asked = new Map();
    const most = this.#sql.isDistributed ? 1 : MAX_PAGES; // what one statement asks of many shards is no cheaper
    for (const alike of Map.groupBy(asked, ({ limit }) => limit).values()) {
      for (let from = 0; from < alike.length; from += most) void this.#ask(alike.slice(from, from + most));
    }
  }

  async #ask(asked: readonly Asked[]): Promise<void> {
    try {
      const found = await (asked.length === 1 ? one(this.#sql, asked) : many(this.#sql, asked));
      for (const [n, { rows }] of asked.entries()) rows.resolve(found.get(n) ?? []);
    } catch (error) {
      for (const { rows } of asked) rows.reject(error);
    }
  }
}

/**
 * As many rows as a page of so many items can show, and enough to see that there is more: events are numbered without a gap, so
 * the page ends in the row of the event behind its last at the latest; and a row of chunks holds one at least. Relies on the
 * primary keys.
 */
function page(of: { shard: string; run: string; seq: string; chunk: string; limit: string }): string {
  const { shard, run, seq, chunk, limit } = of;
  return `
  (select 'run' as kind, r.status as data,
     (select coalesce(max(last), 0) from groundcrew.events where shard = ${shard} and run = ${run}) as at,
     (select coalesce(max(last), 0) from groundcrew.chunks where shard = ${shard} and run = ${run} and after = ${seq}) as chunk
   from groundcrew.runs r where shard = ${shard} and id = ${run})
  union all
  (select 'events', data, last, 0 from groundcrew.events
   where shard = ${shard} and run = ${run} and last > ${seq} and last <= coalesce(
     (select min(last) from groundcrew.events where shard = ${shard} and run = ${run} and last > ${seq} + ${limit}), ${seq} + ${limit})
   order by last)
  union all
  (select 'chunks', data, after, last from groundcrew.chunks
   where shard = ${shard} and run = ${run} and (after, last) > (${seq}, ${chunk}) order by after, last limit ${limit} + 1)`;
}

const ONE = page({ shard: "$1", run: "$2", seq: "$3", chunk: "$4", limit: "$5" });

const MANY = `select a.n, p.* from unnest($1::int[], $2::smallint[], $3::text[], $4::int[], $5::int[]) as a (n, shard, run, seq, chunk)
  cross join lateral (${page({ shard: "a.shard", run: "a.run", seq: "a.seq", chunk: "a.chunk", limit: "$6" })}) p
  order by a.n, p.kind, p.at, p.chunk`;

type Found = Map<number, PageRow[]>;

async function one(sql: Queries, [asked]: readonly Asked[]): Promise<Found> {
  const { run = "", after = { seq: 0, chunk: 0 }, limit = 0 } = asked ?? {};
  return new Map([[0, await sql.query<PageRow>(ONE, [shardOfRun(run), escaped(run), after.seq, after.chunk, limit])]]);
}

async function many(sql: Queries, asked: readonly Asked[]): Promise<Found> {
  const rows = await sql.query<PageRow & { n: number }>(MANY, [
    asked.map((_, n) => n),
    asked.map(({ run }) => shardOfRun(run)),
    asked.map(({ run }) => escaped(run)),
    asked.map(({ after }) => after.seq),
    asked.map(({ after }) => after.chunk),
    asked[0]?.limit,
  ]);
  return Map.groupBy(rows, ({ n }) => n);
}
