import type { DatabaseSync, StatementSync } from "node:sqlite";
import { MAX_BATCH_ROWS } from "../limits.ts";
import type { SweepPolicy, SweepReport } from "../persistence/store.ts";
import { row, rows } from "./row.ts";

interface Weight extends Record<string, number> {
  n: number;
  events: number;
  chunks: number;
  event_rows: number;
  chunk_rows: number;
}

/** What one pass takes away: chosen and counted first, so that a dry run and the real thing cannot differ. */
interface Selection {
  runs: Set<number>;
  /** Children that have to stay for their parents. */
  kept: number[];
  streams: number[];
  sessions: number[];
  /** Rows that the pass may still delete. */
  left: number;
  report: SweepReport;
}

/** How many rows its deletion takes away. */
const rowsOf = (run: Weight) => 1 + run.event_rows + run.chunk_rows;

/**
 * Deletes what has outlived its purpose. A child is kept as long as its parent is open, as one that has ended only now: so no
 * pass goes through all that are kept. A run outside sessions, or a session with all its runs, goes whole or not at all: what
 * is left is never half a conversation. So a pass may exceed its limit by one run, or be one session that alone exceeds it.
 */
export function openSweep(db: DatabaseSync) {
  const weigh = `r.n,
    (select coalesce(max(last), 0) from events where run = r.n) as events,
    (select coalesce(sum(last - first + 1), 0) from chunks where run = r.n) as chunks,
    (select count(*) from events where run = r.n) as event_rows,
    (select count(*) from chunks where run = r.n) as chunk_rows`;
  const finishedRuns = db.prepare(`select ${weigh},
      exists (select 1 from runs p where p.id = r.parent and p.finished_at is null) as awaited
    from runs r where r.session is null and r.finished_at < ? order by r.finished_at`);
  const putOff = db.prepare("update runs set finished_at = ? where n = ?");
  const idleSessions = db.prepare(`select n from sessions s where active_at < ?
    and not exists (select 1 from runs where session = s.n and finished_at is null) order by active_at`);
  const runsOfSession = db.prepare(`select ${weigh} from runs r where r.session = ? order by r.n`);
  const streams = db.prepare(`select ${weigh} from runs r where r.streamed = 1 and r.finished_at < ? order by r.finished_at`);
  const lastRefs = db.prepare(`select count(*) as n from (
    select hash from blob_refs b where run in (select value from json_each(?1)) group by hash
    having count(*) = (select count(*) from blob_refs where hash = b.hash))`);

  const deleteRun = [
    "delete from events where run = ?",
    "delete from chunks where run = ?",
    "delete from signals where run = ?",
    "delete from starts where run = ?",
    "delete from approvals where run = ?",
    "delete from deliveries where run = (select id from runs where n = ?) and due_at is null",
    "update deliveries set run = null where run = (select id from runs where n = ?)", // still to be told
    "delete from runs where n = ?",
  ].map((sql) => db.prepare(sql));
  const deleteBlobs = db.prepare(`delete from blobs where hash in (select hash from blob_refs where run = ?1)
    and not exists (select 1 from blob_refs where hash = blobs.hash and run <> ?1)`);
  const deleteRefs = db.prepare("delete from blob_refs where run = ?");
  const deleteChunks = db.prepare("delete from chunks where run = ?");
  const unmark = db.prepare("update runs set streamed = 0 where n = ?");
  const deleteNews = db.prepare(
    `delete from deliveries where rowid in (
       select rowid from deliveries where ended_at < ? and ended_at is not null and run is null order by ended_at limit ?)`,
  );
  const deleteSession = db.prepare("delete from sessions where n = ?");

  function select(policy: SweepPolicy): Selection {
    const chosen: Selection = {
      runs: new Set(),
      kept: [],
      streams: [],
      sessions: [],
      left: 0,
      report: { runs: 0, sessions: 0, events: 0, chunks: 0, blobs: 0, more: false },
    };
    const { report } = chosen;
    let left = policy.limit;

    const takeRun = (run: Weight) => {
      left -= rowsOf(run);
      report.runs++;
      report.events += run.events;
      report.chunks += run.chunks;
      chosen.runs.add(run.n);
    };
    /** The parent may still have to read how it ended. */
    const keep = ({ n }: Weight) => {
      left--;
      chosen.kept.push(n);
    };
    const takeSession = (session: number): boolean => {
      const runs = rows<Weight>(runsOfSession, session);
      const weight = 1 + runs.reduce((sum, run) => sum + rowsOf(run), 0);
      if (weight > left && left < policy.limit) return false; // it waits for a pass of its own
      runs.forEach(takeRun);
      left--;
      report.sessions++;
      chosen.sessions.push(session);
      return true;
    };
    const takeStream = (run: Weight) => {
      if (chosen.runs.has(run.n)) return;
      left -= run.chunk_rows;
      report.chunks += run.chunks;
      chosen.streams.push(run.n);
    };
    /** @returns whether all of them fitted. */
    const take = <T extends Record<string, number>>(from: StatementSync, bound: number, one: (candidate: T) => unknown): boolean => {
      for (const candidate of from.iterate(bound) as Iterable<T>) {
        if (left <= 0 || one(candidate) === false) return false;
      }
      return true;
    };

    const whole =
      take<Weight>(finishedRuns, policy.runsBefore, (run) => (run["awaited"] ? keep(run) : takeRun(run))) &&
      take<{ n: number }>(idleSessions, policy.sessionsBefore, ({ n }) => takeSession(n)) &&
      take(streams, policy.chunksBefore, takeStream);

    report.blobs = row<{ n: number }>(lastRefs, JSON.stringify([...chosen.runs]))?.n ?? 0;
    report.more = !whole;
    chosen.left = whole ? Math.max(0, left) : 0;
    return chosen;
  }

  return (policy: SweepPolicy, now: number): SweepReport => {
    const chosen = select(policy);
    if (policy.dryRun) return chosen.report;
    for (const n of chosen.kept) putOff.run(now, n); // to be looked at again when it has been kept for as long again
    for (const n of chosen.runs) {
      deleteBlobs.run(n);
      deleteRefs.run(n);
      for (const statement of deleteRun) statement.run(n);
    }
    for (const n of chosen.streams) {
      deleteChunks.run(n);
      unmark.run(n);
    }
    for (const n of chosen.sessions) deleteSession.run(n);
    deleteNews.run(policy.runsBefore, Math.min(chosen.left, MAX_BATCH_ROWS)); // of no run that is there
    return chosen.report;
  };
}
