import type { DatabaseSync } from "node:sqlite";
import { DUMP_PAGE_BYTES } from "../limits.ts";
import type { ApprovalRow } from "../persistence/approval.ts";
import {
  askedOf,
  atWork,
  type DumpPage,
  endBy,
  givenUp,
  type Place,
  readPlace,
  type StoredRun,
  type StoredSession,
  type StoredUnit,
  unitBytes,
} from "../persistence/dump.ts";
import { isGone, thisHost } from "../persistence/host.ts";
import { openBeside } from "./dump-beside.ts";
import { type RunRecord, row, rows, type SessionRecord, selectRun, type Transaction, toRunRow, toSessionRow } from "./row.ts";

interface DumpRecord extends RunRecord {
  timed: number;
  start_at: number;
  finished_at: number | null;
}

interface SignalRecord extends Record<string, string | number | null> {
  id: string;
  kind: string;
  name: string;
  value: string | null;
  from: string | null;
  at: number;
  consumed: number;
}

/** Where the store is emptied into pieces, and filled from them. */
export function openDump(db: DatabaseSync) {
  const leases = db.prepare("select id, host, pid, started_at from workers where lease_until > ?");
  const sessions = db.prepare("select * from sessions where (active_at, id, tenant) >= (?, ?, ?) order by active_at, id, tenant");
  const turns = db.prepare(`${selectRun} where r.session = ? and r.turn >= ? order by r.turn`);
  const alone = db.prepare(`${selectRun} where r.session is null and r.id >= ? order by r.id`);
  const blobs = db.prepare("select hash, data from blob_refs join blobs using (hash) where run = ? and hash > ? order by hash");
  const events = db.prepare("select last, data from events where run = ? order by last");
  const chunks = db.prepare("select after, first, last, data from chunks where run = ? order by after, last");
  const signals = db.prepare(`select id, kind, name, value, sender as "from", at, consumed from signals where run = ? order by n`);
  const refs = db.prepare("select hash from blob_refs where run = ? order by hash");
  const starts = db.prepare("select key, hash from starts where run = ? order by key");
  const approvals = db.prepare("select data from approvals where run = ? order by requested_at, id");
  const beside = openBeside(db);

  function mustBeIdle(now: number): void {
    const workers = rows<{ id: string; host: string; pid: number; started_at: string }>(leases, now);
    const alive = workers.find(({ started_at, ...worker }) => !isGone({ ...worker, startedAt: started_at }, thisHost()));
    if (alive) throw atWork(alive.id, db.location() ?? "the store");
  }

  /** One after the other as they are asked for, each with its place: a page costs no more memory than it holds. */
  function* unitsAfter(after: Place): Generator<[StoredUnit, Place]> {
    if (after.beside) yield* beside.after(after.beside);
    if (after.session) yield* sessionsAfter(after, after.session);
    const place = { session: null, turn: 0, run: after.run };
    for (const record of alone.iterate(after.run) as Iterable<DumpRecord>) {
      const isSeen = record.id === after.run;
      if (!isSeen || after.blob !== null) yield* withBlobs(record, { ...place, run: record.id, blob: isSeen ? after.blob : null });
    }
  }

  function* sessionsAfter(after: Place, from: NonNullable<Place["session"]>): Generator<[StoredUnit, Place]> {
    for (const record of sessions.iterate(from.activeAt, from.id, from.tenant) as Iterable<SessionRecord>) {
      const session = { activeAt: record.active_at, id: record.id, tenant: record.tenant };
      const isSeen = record.id === from.id && record.tenant === from.tenant;
      const place = { session, turn: 0, run: "", blob: null };
      if (!isSeen) yield [storedSession(record), place];
      for (const turn of turns.iterate(record.n, isSeen ? after.turn : 0) as Iterable<DumpRecord & { turn: number }>) {
        const isHalf = isSeen && turn.turn === after.turn;
        if (!isHalf || after.blob !== null) yield* withBlobs(turn, { ...place, turn: turn.turn, blob: isHalf ? after.blob : null });
      }
    }
  }

  function* withBlobs(record: DumpRecord, place: Place): Generator<[StoredUnit, Place]> {
    for (const { hash, data } of blobs.iterate(record.n, place.blob ?? "") as Iterable<{ hash: string; data: string }>) {
      yield [
        { kind: "blob", run: record.id, hash, data },
        { ...place, blob: hash },
      ];
    }
    yield [storedRun(record), { ...place, blob: null }];
  }

  function storedRun(record: DumpRecord): StoredRun {
    const { principal, ...run } = toRunRow(record);
    const { n, timed, start_at, parent_step, finished_at } = record;
    return givenUp({
      kind: "run" as const,
      ...run,
      ...principal,
      timed: timed === 1,
      startAt: start_at,
      parentStep: parent_step,
      finishedAt: finished_at,
      events: rows<{ last: number; data: string }>(events, n),
      chunks: rows<{ after: number; first: number; last: number; data: string }>(chunks, n),
      signals: rows<SignalRecord>(signals, n).map((signal) => ({ ...signal, consumed: signal.consumed === 1 })),
      ...askedOf(rows<{ data: string }>(approvals, n)),
      starts: rows<{ key: string; hash: string }>(starts, n),
      blobs: rows<{ hash: string }>(refs, n).map(({ hash }) => hash),
    });
  }

  const insertSession = db.prepare(`insert or ignore into sessions (id, tenant, agent, user, roles, state, turns, created_at, active_at)
    values (?, ?, ?, ?, ?, ?, ?, ?, ?)`);
  const exists = db.prepare("select 1 from runs where id = ?");
  const insertRun =
    db.prepare(`insert into runs (id, agent, status, reason, due_at, timed, start_at, priority, tenant, user, roles, session, turn,
      parent, parent_step, key, worker, epoch, streamed, created_at, changed_at, finished_at, deadline, end_by)
    values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (select n from sessions where id = ? and tenant = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) returning n`);
  const insertEvent = db.prepare("insert into events (run, last, data) values (?, ?, ?)");
  const insertChunk = db.prepare("insert into chunks (run, after, first, last, data) values (?, ?, ?, ?, ?)");
  const insertSignal = db.prepare("insert into signals (run, id, kind, name, value, sender, at, consumed) values (?, ?, ?, ?, ?, ?, ?, ?)");
  const insertApproval = db.prepare("insert into approvals (id, run, tenant, status, requested_at, data) values (?, ?, ?, ?, ?, ?)");
  const insertStart = db.prepare("insert into starts (tenant, agent, key, hash, run) values (?, ?, ?, ?, ?)");
  const insertBlob = db.prepare("insert or ignore into blobs (hash, data) values (?, ?)");
  const refer = db.prepare("insert into blob_refs (run, hash) values (?, ?)");

  function loadSession({ id, tenant, agent, user, roles, state, turns, createdAt, activeAt }: StoredSession): void {
    insertSession.run(id, tenant, agent, user, JSON.stringify(roles), state, turns, createdAt, activeAt);
  }

  function loadRun(tx: Transaction, run: StoredRun): void {
    if (exists.get(run.id)) return;
    const inserted = row<{ n: number }>(
      insertRun,
      ...[run.id, run.agent, run.status, run.reason, run.dueAt, Number(run.timed), run.startAt, run.priority],
      ...[run.tenant, run.user, JSON.stringify(run.roles), run.session, run.tenant, run.turn],
      ...[run.parent, run.parentStep, run.key, run.worker, run.epoch, Number(run.chunks.length > 0)],
      ...[run.createdAt, run.changedAt, run.finishedAt, run.deadline, endBy(run)],
    );
    const { n } = inserted as { n: number };
    for (const { last, data } of run.events) insertEvent.run(n, last, data);
    for (const { after, first, last, data } of run.chunks) insertChunk.run(n, after, first, last, data);
    for (const { id, kind, name, value, from, at, consumed } of run.signals) {
      insertSignal.run(n, id, kind, name, value, from, at, Number(consumed));
    }
    for (const data of run.approvals ?? []) insertApproval.run(...approvalRecord(n, data));
    for (const { key, hash } of run.starts) insertStart.run(run.tenant, run.agent, key, hash, n);
    for (const hash of run.blobs) refer.run(n, hash);
    tx.changed.add(run.id);
  }

  return {
    page(after: string | null, limit: number, now: number): DumpPage {
      mustBeIdle(now);
      const page: DumpPage = { units: [], next: null };
      let bytes = 0;
      for (const [unit, place] of unitsAfter(readPlace(after))) {
        page.units.push(unit);
        bytes += unitBytes(unit);
        if (page.units.length < limit && bytes < DUMP_PAGE_BYTES) continue;
        page.next = JSON.stringify(place);
        break;
      }
      return page;
    },

    load(tx: Transaction, units: readonly StoredUnit[]): void {
      mustBeIdle(tx.now);
      for (const unit of units) {
        if (unit.kind === "session") loadSession(unit);
        else if (unit.kind === "blob") insertBlob.run(unit.hash, unit.data);
        else if (unit.kind === "run") loadRun(tx, unit);
        else beside.load(unit);
      }
    },
  };
}

function approvalRecord(run: number, data: string): [string, number, string, string, number, string] {
  const { id, tenant, status, requestedAt } = JSON.parse(data) as ApprovalRow;
  return [id, run, tenant, status, requestedAt, data];
}

function storedSession(record: SessionRecord): StoredSession {
  const { id, agent, principal, turns, createdAt, activeAt } = toSessionRow(record);
  return { kind: "session", id, agent, ...principal, state: record.state, turns, createdAt, activeAt };
}
