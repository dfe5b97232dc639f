import type { DatabaseSync, StatementSync } from "node:sqlite";
import { row, rows } from "./sqlite-row.ts";
import type { SweepPolicy, SweepReport } from "./store.ts";

interface Weight extends Record<string, number> {
  n: number;
  events: number;
  chunks: number;
  event_rows: number;
  chunk_rows: number;
}

/** What one pass takes away: chosen and counted first, so that a dry run and the real thing cannot differ. */
interface Selection {
  runs: number[];
  streams: number[];
  sessions: number[];
  report: SweepReport;
}

/** Deletes what has outlived its purpose. A run goes whole or not at all, so one pass may exceed its limit by one run. */
export function openSweep(db: DatabaseSync) {
  const weigh = `r.n,
    (select coalesce(max(last), 0) from events where run = r.n) as events,
    (select coalesce(sum(last - first + 1), 0) from chunks where run = r.n) as chunks,
    (select count(*) from events where run = r.n) as event_rows,
    (select count(*) from chunks where run = r.n) as chunk_rows`;
  const finishedRuns = db.prepare(`select ${weigh} from runs r where r.session is null and r.finished_at < ? order by r.finished_at`);
  const idleSessions = db.prepare(`select n from sessions s where active_at < ?
    and not exists (select 1 from runs where session = s.n and finished_at is null) order by active_at limit ?`);
  const runsOfSession = db.prepare(`select ${weigh} from runs r where r.session = ? order by r.turn`);
  const streams = db.prepare(`select ${weigh} from runs r where r.streamed = 1 and r.finished_at < ? order by r.finished_at`);
  const lastRefs = db.prepare(`select count(*) as n from (
    select hash from blob_refs b where run in (select value from json_each(?1)) group by hash
    having count(*) = (select count(*) from blob_refs where hash = b.hash))`);

  const deleteRun = [
    "delete from events where run = ?",
    "delete from chunks where run = ?",
    "delete from signals where run = ?",
    "delete from starts where run = ?",
    "delete from runs where n = ?",
  ].map((sql) => db.prepare(sql));
  const deleteBlobs = db.prepare(`delete from blobs where hash in (select hash from blob_refs where run = ?1)
    and not exists (select 1 from blob_refs where hash = blobs.hash and run <> ?1)`);
  const deleteRefs = db.prepare("delete from blob_refs where run = ?");
  const deleteChunks = db.prepare("delete from chunks where run = ?");
  const unmark = db.prepare("update runs set streamed = 0 where n = ?");
  const deleteSession = db.prepare("delete from sessions where n = ?");

  function select(policy: SweepPolicy): Selection {
    const chosen: Selection = {
      runs: [],
      streams: [],
      sessions: [],
      report: { runs: 0, sessions: 0, events: 0, chunks: 0, blobs: 0, more: false },
    };
    const { report } = chosen;
    let left = policy.limit;

    const takeRun = (run: Weight) => {
      left -= 1 + run.event_rows + run.chunk_rows;
      report.runs++;
      report.events += run.events;
      report.chunks += run.chunks;
      chosen.runs.push(run.n);
    };
    /** @returns whether all of them fitted. */
    const take = <T extends Record<string, number>>(candidates: StatementSync, bound: number, one: (candidate: T) => void): boolean => {
      for (const candidate of candidates.iterate(bound) as Iterable<T>) {
        if (left <= 0) return false;
        one(candidate);
      }
      return true;
    };

    const whole =
      take(finishedRuns, policy.runsBefore, takeRun) &&
      rows<{ n: number }>(idleSessions, policy.sessionsBefore, policy.limit + 1).every(({ n }) => {
        if (!take(runsOfSession, n, takeRun)) return false; // the oldest turns go first, the session itself with the last
        if (left <= 0) return false;
        left--;
        report.sessions++;
        chosen.sessions.push(n);
        return true;
      }) &&
      take<Weight>(streams, policy.chunksBefore, (run) => {
        if (chosen.runs.includes(run.n)) return;
        left -= run.chunk_rows;
        report.chunks += run.chunks;
        chosen.streams.push(run.n);
      });

    report.blobs = row<{ n: number }>(lastRefs, JSON.stringify(chosen.runs))?.n ?? 0;
    report.more = !whole;
    return chosen;
  }

  return (policy: SweepPolicy): SweepReport => {
    const chosen = select(policy);
    if (policy.dryRun) return chosen.report;
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
    return chosen.report;
  };
}
