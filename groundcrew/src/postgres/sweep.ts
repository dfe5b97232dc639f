/**
 * Deletes what has outlived its purpose. A child is kept as long as its parent is open, as one that has ended only now: so no
 * pass goes through all that are kept. A run outside sessions, or a session with all its runs, goes whole or not at all: what
 * is left is never half a conversation. So a pass may exceed its limit by one run, or be one session that alone exceeds it.
 *
 * Candidates are looked for without locks, over all shards; what is to go is then locked, and looked at again. What somebody
 * else holds (a new turn, another sweep) is left for the next pass: a sweep waits for nobody but the writers of a blob. Relies on
 * `runs_finished`, `runs_streamed`, `sessions_active`, `runs_waiting`, `runs_turns`.
 */
import { MAX_BATCH_ROWS } from "../limits.ts";
import { shardOfRun } from "../persistence/id.ts";
import type { SweepPolicy, SweepReport } from "../persistence/store.ts";
import { countBlobs, deleteChunks, deleteOldNews, deleteRuns, deleteSessions, type RunKey, type SessionKey } from "./delete.ts";
import { among, column, shardsOf, type Transaction, together, unescaped } from "./row.ts";

/** Looked at in one statement: enough to make round trips rare, few enough to lock little that the pass does not reach. */
const BATCH = 32;

interface Finished extends RunKey {
  finished_at: number;
  parent: string | null;
}

interface Weight extends RunKey {
  events: number;
  chunks: number;
  event_rows: number;
  chunk_rows: number;
}

type Ended = Weight & Pick<Finished, "parent">;

/** What one pass takes away: chosen and counted first, so that a dry run and the real thing cannot differ. */
interface Chosen {
  runs: Map<string, Weight>;
  /** Children that have to stay for their parents. */
  kept: RunKey[];
  streams: Weight[];
  sessions: SessionKey[];
}

export async function sweep(tx: Transaction, policy: SweepPolicy): Promise<SweepReport> {
  const chosen: Chosen = { runs: new Map(), kept: [], streams: [], sessions: [] };
  const left = await choose(tx, policy, chosen);
  const { sessions, streams } = chosen;
  const runs = [...chosen.runs.values()];
  const report = {
    runs: runs.length,
    sessions: sessions.length,
    events: runs.reduce((sum, run) => sum + run.events, 0),
    chunks: [...runs, ...streams].reduce((sum, run) => sum + run.chunks, 0),
    more: left === null,
  };
  if (policy.dryRun) return { ...report, blobs: await countBlobs(tx, runs) };
  await putOff(tx, chosen.kept);
  const blobs = await deleteRuns(tx, runs);
  await deleteChunks(tx, streams);
  await deleteSessions(tx, sessions);
  await deleteOldNews(tx, policy.runsBefore, Math.min(left ?? 0, MAX_BATCH_ROWS));
  return { ...report, blobs };
}

/** How many rows its deletion takes away. */
const rowsOf = (run: Weight) => 1 + run.event_rows + run.chunk_rows;

/** @returns how many rows more the pass may delete; null when not everything that is due fitted. */
async function choose(tx: Transaction, policy: SweepPolicy, chosen: Chosen): Promise<number | null> {
  let left = policy.limit;
  const takeRun = (run: Weight) => {
    left -= rowsOf(run);
    chosen.runs.set(run.id, run);
  };
  /** The parent may still have to read how it ended. */
  const keep = (run: Weight) => {
    left--;
    chosen.kept.push(run);
  };
  for await (const batch of finished(tx, "session is null", policy.runsBefore, policy.dryRun)) {
    const open = await openParents(tx, batch);
    for (const run of batch) {
      if (left <= 0) return null;
      if (run.parent === null || !open.has(run.parent)) takeRun(run);
      else keep(run);
    }
  }
  for await (const { session, runs } of idle(tx, policy.sessionsBefore, policy.dryRun)) {
    const rows = 1 + runs.reduce((sum, run) => sum + rowsOf(run), 0);
    if (left <= 0 || (rows > left && left < policy.limit)) return null; // it waits for a pass of its own
    runs.forEach(takeRun);
    left--;
    chosen.sessions.push(session);
  }
  for await (const batch of finished(tx, "streamed", policy.chunksBefore, policy.dryRun)) {
    for (const run of batch) {
      if (chosen.runs.has(run.id)) continue;
      if (left <= 0) return null;
      left -= run.chunk_rows;
      chosen.streams.push(run);
    }
  }
  return Math.max(0, left);
}

/** Runs that ended before `bound`, in the order in which they did. */
async function* finished(tx: Transaction, condition: string, bound: number, dryRun: boolean): AsyncGenerator<Ended[]> {
  let after: [number, number, string] | undefined = [-1, -1, ""];
  while (after) {
    const found: Finished[] = await tx.query(
      `select shard, id, finished_at, parent from groundcrew.runs
       where finished_at is not null and ${condition} and finished_at < $1 and (finished_at, shard, id) > ($2, $3, $4)
       order by finished_at, shard, id limit $5`,
      [bound, ...after, BATCH],
    );
    const weighed = await weigh(tx, dryRun ? found : await holdRuns(tx, found, condition));
    const byId = new Map(weighed.map((run) => [run.id, run]));
    yield found.flatMap(({ id, parent }) => {
      const run = byId.get(id);
      return run ? { ...run, parent } : [];
    });
    const last = found[BATCH - 1];
    after = last && [last.finished_at, last.shard, last.id];
  }
}

/** Those of the runs' parents that have not ended. */
async function openParents(tx: Transaction, runs: readonly Ended[]): Promise<Set<string>> {
  const parents = [...new Set(runs.flatMap(({ parent }) => parent ?? []))];
  if (parents.length === 0) return new Set();
  const found = await tx.query<{ id: string }>(`select id from groundcrew.runs where ${among(tx, "shard", "id")} and finished_at is null`, [
    parents.map((id) => shardOfRun(unescaped(id))),
    parents,
  ]);
  return new Set(found.map(({ id }) => id));
}

/** To be looked at again when they have been kept for as long again. */
async function putOff(tx: Transaction, runs: readonly RunKey[]): Promise<void> {
  if (runs.length === 0) return;
  await tx.write(`update groundcrew.runs set finished_at = $3 where ${among(tx, "shard", "id")}`, [
    column(runs, "shard"),
    column(runs, "id"),
    tx.now,
  ]);
}

/** Sessions that have been silent since `bound`, the longest silent first, with all their runs. */
async function* idle(tx: Transaction, bound: number, dryRun: boolean): AsyncGenerator<{ session: SessionKey; runs: Weight[] }> {
  let after: [number, string, string] | undefined = [-1, "", ""];
  while (after) {
    const found: (SessionKey & { active_at: number })[] = await tx.query(
      `select shard, tenant, id, active_at from groundcrew.sessions s
       where active_at < $1 and (active_at, id, tenant) > ($2, $3, $4) and not exists (
         select from groundcrew.runs where shard = s.shard and tenant = s.tenant and session = s.id and finished_at is null)
       order by active_at, id, tenant limit $5`,
      [bound, ...after, BATCH],
    );
    const held = await turnsOf(tx, dryRun ? found : await holdSessions(tx, found, bound));
    const weighed = await weigh(
      tx,
      dryRun
        ? held.flatMap(({ turns }) => turns)
        : await holdRuns(
            tx,
            held.flatMap(({ turns }) => turns),
            "true",
          ),
    );
    const byId = new Map(weighed.map((run) => [run.id, run]));
    for (const { session, turns } of held) {
      const runs = turns.flatMap(({ id }) => byId.get(id) ?? []);
      if (runs.length === turns.length) yield { session, runs };
    }
    const last = found[BATCH - 1];
    after = last && [last.active_at, last.id, last.tenant];
  }
}

/** Those that nobody else holds and that are still what was looked for. */
async function holdRuns(tx: Transaction, runs: readonly RunKey[], condition: string): Promise<RunKey[]> {
  const held: RunKey[] = [];
  for (const some of together(tx, runs)) {
    const these = await tx.query<RunKey>(
      `select shard, id from groundcrew.runs
       where shard = any($1) and (shard, id) in (select * from unnest($2::smallint[], $3::text[]))
         and finished_at is not null and ${condition}
       for update skip locked`,
      [shardsOf(some), column(some, "shard"), column(some, "id")],
    );
    held.push(...these);
  }
  return held;
}

/** Likewise; from here on no turn is added to them. */
async function holdSessions(tx: Transaction, sessions: readonly SessionKey[], bound: number): Promise<SessionKey[]> {
  const held: SessionKey[] = [];
  for (const some of together(tx, sessions)) {
    const these = await tx.query<SessionKey>(
      `select shard, tenant, id from groundcrew.sessions
       where shard = any($1) and (shard, tenant, id) in (select * from unnest($2::smallint[], $3::text[], $4::text[])) and active_at < $5
       for update skip locked`,
      [shardsOf(some), column(some, "shard"), column(some, "tenant"), column(some, "id"), bound],
    );
    held.push(...these);
  }
  const keys = new Set(held.map(keyOf));
  return sessions.filter((session) => keys.has(keyOf(session)));
}

const keyOf = ({ tenant, id }: { tenant: string; id: string }) => JSON.stringify([tenant, id]);

async function turnsOf(tx: Transaction, sessions: readonly SessionKey[]): Promise<{ session: SessionKey; turns: RunKey[] }[]> {
  if (sessions.length === 0) return [];
  const found = await tx.query<RunKey & { tenant: string; session: string }>(
    `select r.shard, r.id, r.tenant, r.session from unnest($1::smallint[], $2::text[], $3::text[]) a (shard, tenant, id)
     join groundcrew.runs r on r.shard = a.shard and r.tenant = a.tenant and r.session = a.id order by r.id`,
    [column(sessions, "shard"), column(sessions, "tenant"), column(sessions, "id")],
  );
  const turns = Map.groupBy(found, ({ tenant, session }) => keyOf({ tenant, id: session }));
  return sessions.map((session) => ({ session, turns: turns.get(keyOf(session)) ?? [] }));
}

async function weigh(tx: Transaction, runs: readonly RunKey[]): Promise<Weight[]> {
  if (runs.length === 0) return [];
  return tx.query<Weight>(
    `select a.shard, a.id, e.events, e.event_rows, c.chunks, c.chunk_rows from unnest($1::smallint[], $2::text[]) a (shard, id)
     cross join lateral (select coalesce(max(last), 0) as events, count(*)::int as event_rows
       from groundcrew.events where shard = a.shard and run = a.id) e
     cross join lateral (select coalesce(sum(last - first + 1), 0)::int as chunks, count(*)::int as chunk_rows
       from groundcrew.chunks where shard = a.shard and run = a.id) c`,
    [column(runs, "shard"), column(runs, "id")],
  );
}
