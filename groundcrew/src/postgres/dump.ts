/**
 * Where the store is emptied into pieces. A page is planned first, from keys and sizes, and read when it is known what it holds:
 * one blob or run that is larger than a page is all that ever exceeds it.
 */
import { DUMP_PAGE_BYTES } from "../limits.ts";
import {
  askedOf,
  atWork,
  type DumpPage,
  givenUp,
  type Place,
  readPlace,
  type StoredRun,
  type StoredSession,
  type StoredSignal,
  type StoredUnit,
} from "../persistence/dump.ts";
import { isGone, thisHost } from "../persistence/host.ts";
import { besidePage } from "./dump-beside.ts";
import { column, type RunRecord, type SessionRecord, type Sql, shardsOf, toRunRow, toSessionRow, unescaped } from "./row.ts";

/** A run of the plan, with the session that it is a turn of. A session without runs has one row without a run. */
interface Key {
  shard: number;
  session: string | null;
  tenant: string | null;
  active_at: number | null;
  turn: number | null;
  run: string | null;
  bytes: number;
}

interface BlobKey {
  shard: number;
  run: string;
  hash: string;
  bytes: number;
}

/** What will be one unit, and how far the dump has come with it. Texts are as the tables hold them. */
type Planned = { place: Place } & ({ session: Key } | { blob: BlobKey } | { run: Key });

/**
 * Whether no worker lives.
 * @param now an SQL expression.
 * @throws GroundcrewError `STORE_BUSY`
 */
export async function mustBeIdle(sql: Pick<Sql, "query">, now: string | number, location: string): Promise<void> {
  const leases = await sql.query<{ id: string; host: string; pid: number; started_at: string }>(
    `select id, host, pid, started_at from groundcrew.workers where lease_until > ${now}`,
  );
  const alive = leases.find(({ started_at, ...worker }) => !isGone({ ...worker, startedAt: started_at }, thisHost()));
  if (alive) throw atWork(alive.id, location);
}

export async function dumpPage(sql: Sql, after: string | null, limit: number, location: string): Promise<DumpPage> {
  const from = readPlace(after);
  const beside = from.beside && (await besidePage(sql, from.beside, limit, location));
  if (beside) return beside;
  const keys = from.session ? await turnsAfter(sql, from, from.session, limit) : await othersAfter(sql, from, limit);
  const { plan, isCut } = planOf(from, keys, await blobsOf(sql, keys), limit);
  const isLast = !isCut && keys.length < limit;
  const units = await readAll(sql, plan);
  if (!isLast) return { units, next: JSON.stringify(plan.at(-1)?.place ?? from) };
  return { units, next: from.session ? JSON.stringify(OUTSIDE) : null };
}

/** Where the sessions end and the runs outside of them begin. */
const OUTSIDE: Place = { session: null, turn: 0, run: "", blob: null };

const WEIGHT = `(select coalesce(sum(octet_length(e.data)), 0) from groundcrew.events e where e.shard = r.shard and e.run = r.id)
  + (select coalesce(sum(octet_length(c.data)), 0) from groundcrew.chunks c where c.shard = r.shard and c.run = r.id) as bytes`;

function turnsAfter(sql: Sql, { turn, blob }: Place, session: NonNullable<Place["session"]>, limit: number): Promise<Key[]> {
  const { activeAt, id, tenant } = session;
  return sql.query<Key>(
    `select s.shard, s.id as session, s.tenant, s.active_at, r.turn, r.id as run, ${WEIGHT}
     from groundcrew.sessions s left join groundcrew.runs r on r.shard = s.shard and r.session = s.id and r.tenant = s.tenant
     where (s.active_at, s.id, s.tenant) >= ($1, $2, $3) and ((s.active_at, s.id, s.tenant) > ($1, $2, $3) or r.turn >= $4)
     order by s.active_at, s.id, s.tenant, r.turn limit $5`,
    [activeAt, id, tenant, blob === null ? turn + 1 : turn, limit],
  );
}

function othersAfter(sql: Sql, { run, blob }: Place, limit: number): Promise<Key[]> {
  return sql.query<Key>(
    `select r.shard, null as session, null as tenant, null as active_at, null as turn, r.id as run, ${WEIGHT}
     from groundcrew.runs r where r.session is null and r.id ${blob === null ? ">" : ">="} $1 order by r.id limit $2`,
    [run, limit],
  );
}

async function blobsOf(sql: Sql, keys: readonly Key[]): Promise<Map<string, BlobKey[]>> {
  const found = await sql.query<BlobKey>(
    `select b.shard, b.run, b.hash, octet_length(d.data) as bytes
     from groundcrew.blob_refs b join groundcrew.blobs d on d.shard = b.shard and d.hash = b.hash
     where b.run = any($1) order by b.run, b.hash`,
    [keys.flatMap(({ run }) => run ?? [])],
  );
  return Map.groupBy(found, ({ run }) => run);
}

/** As many units as a page may hold, and one at least. */
function planOf(from: Place, keys: readonly Key[], blobs: ReadonlyMap<string, BlobKey[]>, limit: number) {
  const plan: Planned[] = [];
  let bytes = 0;
  for (const unit of unitsOf(from, keys, blobs)) {
    if (plan.length >= limit || bytes >= DUMP_PAGE_BYTES) return { plan, isCut: true };
    plan.push(unit);
    bytes += "run" in unit ? Number(unit.run.bytes) : "blob" in unit ? unit.blob.bytes : 0;
  }
  return { plan, isCut: false };
}

function* unitsOf(from: Place, keys: readonly Key[], blobs: ReadonlyMap<string, BlobKey[]>): Generator<Planned> {
  let at = from;
  for (const key of keys) {
    const place = placeOf(key);
    if (place.session && (place.session.id !== at.session?.id || place.session.tenant !== at.session.tenant)) {
      yield { place: { ...place, turn: 0 }, session: key };
    }
    at = place;
    if (key.run === null) continue;
    const seen = from.blob !== null && isSame(from, place) ? from.blob : "";
    for (const blob of blobs.get(key.run) ?? []) if (blob.hash > seen) yield { place: { ...place, blob: blob.hash }, blob };
    yield { place, run: key };
  }
}

function placeOf({ session, tenant, active_at, turn, run }: Key): Place {
  if (session === null) return { session: null, turn: 0, run: run ?? "", blob: null };
  return { session: { activeAt: active_at ?? 0, id: session, tenant: tenant ?? "" }, turn: turn ?? 0, run: "", blob: null };
}

/** Whether both are places in one run. */
function isSame(a: Place, b: Place): boolean {
  return a.run === b.run && a.turn === b.turn && a.session?.id === b.session?.id && a.session?.tenant === b.session?.tenant;
}

/** The planned units, with a statement per table. */
async function readAll(sql: Sql, plan: readonly Planned[]): Promise<StoredUnit[]> {
  const runs = plan.flatMap((unit) => ("run" in unit && unit.run.run !== null ? { shard: unit.run.shard, id: unit.run.run } : []));
  const [sessionOf, dataOf, runOf] = await Promise.all([
    readSessions(
      sql,
      plan.flatMap((unit) => ("session" in unit ? unit.session : [])),
    ),
    readBlobs(
      sql,
      plan.flatMap((unit) => ("blob" in unit ? unit.blob : [])),
    ),
    readRuns(sql, runs),
  ]);
  return plan.map((unit) => {
    if ("session" in unit) return sessionOf.get(JSON.stringify([unit.session.tenant, unit.session.session])) as StoredSession;
    if ("run" in unit) return runOf.get(unit.run.run ?? "") as StoredRun;
    const { run, hash } = unit.blob;
    return { kind: "blob", run: unescaped(run), hash: unescaped(hash), data: dataOf.get(hash) as string };
  });
}

async function readSessions(sql: Sql, keys: readonly Key[]): Promise<Map<string, StoredSession>> {
  const found = await sql.query<SessionRecord>(
    `select * from groundcrew.sessions where shard = any($1) and (tenant, id) in (select * from unnest($2::text[], $3::text[]))`,
    [shardsOf(keys), column(keys, "tenant"), column(keys, "session")],
  );
  return new Map(found.map((record) => [JSON.stringify([record.tenant, record.id]), storedSession(record)]));
}

function storedSession(record: SessionRecord): StoredSession {
  const { id, agent, principal, turns, createdAt, activeAt } = toSessionRow(record);
  return { kind: "session", id, agent, ...principal, state: record.state, turns, createdAt, activeAt };
}

async function readBlobs(sql: Sql, keys: readonly BlobKey[]): Promise<Map<string, string>> {
  const found = await sql.query<{ hash: string; data: string }>(
    "select hash, data from groundcrew.blobs where shard = any($1) and hash = any($2)",
    [shardsOf(keys), column(keys, "hash")],
  );
  return new Map(found.map(({ hash, data }) => [hash, data]));
}

type OfRun<T> = T & { run: string };

async function readRuns(sql: Sql, keys: readonly { shard: number; id: string }[]): Promise<Map<string, StoredRun>> {
  const bound = [shardsOf(keys), column(keys, "id")];
  const of = async <T extends object>(columns: string, table: string, order: string) => {
    const where = "shard = any($1) and run = any($2)";
    const found = await sql.query<OfRun<T>>(`select run, ${columns} from groundcrew.${table} where ${where} order by run, ${order}`, bound);
    return ofEachRun<T>(found);
  };
  const [records, events, chunks, signals, approvals, starts, blobs] = await Promise.all([
    sql.query<RunRecord & { timed: boolean }>("select * from groundcrew.runs where shard = any($1) and id = any($2)", bound),
    of<StoredRun["events"][0]>("last, data", "events", "last"),
    of<StoredRun["chunks"][0]>("after, first, last, data", "chunks", "after, last"),
    of<StoredSignal>(`id, kind, name, value, sender as "from", at, consumed`, "signals", "n"),
    of<{ data: string }>("data", "approvals", "requested_at, id"),
    // These stand in shards of their own, which only their keys tell: one look by the run, over all of them.
    sql.query<OfRun<{ key: string; hash: string }>>("select run, key, hash from groundcrew.starts where run = any($1) order by key", [
      bound[1],
    ]),
    sql.query<OfRun<{ hash: string }>>("select run, hash from groundcrew.blob_refs where run = any($1) order by hash", [bound[1]]),
  ]);
  const [startsOf, blobsOf] = [ofEachRun<{ key: string; hash: string }>(starts), ofEachRun<{ hash: string }>(blobs)];
  return new Map(
    records.map((record) => {
      const { id } = record;
      const stored = {
        ...plainRun(record),
        events: events(id),
        chunks: chunks(id),
        signals: signals(id).map(plainSignal),
        ...askedOf(approvals(id)),
        starts: startsOf(id).map(({ key, hash }) => ({ key: unescaped(key), hash })),
        blobs: blobsOf(id).map(({ hash }) => unescaped(hash)),
      };
      return [id, givenUp(stored)];
    }),
  );
}

function ofEachRun<T extends object>(found: readonly OfRun<T>[]): (run: string) => T[] {
  const byRun = Map.groupBy(found, ({ run }) => run);
  return (run) => (byRun.get(run) ?? []).map(({ run: _, ...row }) => row as unknown as T);
}

function plainRun(record: RunRecord & { timed: boolean }) {
  const { principal, ...run } = toRunRow(record);
  return {
    kind: "run" as const,
    ...run,
    ...principal,
    timed: record.timed,
    startAt: record.start_at,
    parentStep: record.parent_step === null ? null : unescaped(record.parent_step),
    finishedAt: record.finished_at,
  };
}

function plainSignal({ id, name, from, ...signal }: StoredSignal): StoredSignal {
  return { id: unescaped(id), name: unescaped(name), from: from === null ? null : unescaped(from), ...signal };
}
