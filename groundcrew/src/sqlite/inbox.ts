import type { DatabaseSync } from "node:sqlite";
import { GroundcrewError } from "../errors.ts";
import { MAX_INBOX } from "../limits.ts";
import { isTerminal, type RunStatus, type Signal, type SignalKind, signalValue } from "../persistence/store.ts";
import { key, row, rows, type Transaction } from "./row.ts";

interface SignalRecord extends Record<string, string | number | null> {
  id: string;
  run: string;
  kind: SignalKind;
  name: string;
  value: string | null;
  sender: string | null;
  at: number;
}

/** As many of them may come as somebody likes to send. The others come once per step, per child or per command, or are one. */
const BOUNDED_BY_ROOM: ReadonlySet<SignalKind> = new Set(["signal", "message", "handover"]);

/** While one waits, another says nothing new. */
const COALESCED: ReadonlySet<SignalKind> = new Set(["cancel", "retry"]);

export type Inbox = ReturnType<typeof openInbox>;

/** Durable messages to runs. */
export function openInbox(db: DatabaseSync) {
  const find = db.prepare("select n, status from runs where id = ?");
  const known = db.prepare("select 1 from signals where run = ? and id = ?");
  const count = db.prepare("select count(*) as n from signals where run = ? and consumed = 0");
  const insert = db.prepare("insert into signals (run, id, kind, name, value, sender, at) values (?, ?, ?, ?, ?, ?, ?)");
  const wake = db.prepare(
    "update runs set status = 'queued', reason = null, due_at = ?2, timed = 0, changed_at = ?2 where n = ?1 and status = 'parked'",
  );
  const hasten = db.prepare(
    `update runs set end_by = min(end_by, ?2), timed = iif(status = 'queued', 0, timed),
       due_at = iif(status = 'queued' and (due_at is null or timed = 1), ?2, due_at)
     where n = ?1 returning status`,
  );
  const waiting = db.prepare("select id, kind from signals where run = ? and consumed = 0");
  const consume = db.prepare("update signals set consumed = 1, value = null where run = ? and id = ?");
  const drop = db.prepare("delete from signals where run = ?");
  const same = db.prepare("select 1 from signals where run = ? and kind = ? and consumed = 0");
  const cancel = db.prepare("select 1 from signals where run = ? and kind = 'cancel'");
  const columns = "s.id, r.id as run, s.kind, s.name, s.value, s.sender, s.at";
  const ofRun = db.prepare(
    `select ${columns} from runs r cross join signals s on s.run = r.n where r.n = ? and s.consumed = 0 order by s.n`,
  );
  const ofWorker = db.prepare(
    `select ${columns} from runs r cross join signals s on s.run = r.n where r.worker = ? and s.consumed = 0 order by s.n`,
  );

  /** Whether it says what was said before. */
  function isKnown(run: number, { id, kind }: Omit<Signal, "at">): boolean {
    return known.get(run, key(id, "signal id")) !== undefined || (COALESCED.has(kind) && same.get(run, kind) !== undefined);
  }

  /** Lays it in the inbox of an open run and wakes the run. */
  function put(tx: Transaction, run: number, signal: Omit<Signal, "at">): boolean {
    if (isKnown(run, signal)) return false;
    const value = signal.value === undefined ? null : JSON.stringify(signal.value);
    insert.run(run, signal.id, signal.kind, key(signal.name, "signal name"), value, signal.from ?? null, tx.now);
    const isWoken = wake.run(run, tx.now).changes > 0;
    // A cancel need not wait for the run's time, its turn to end, or a place under its quotas.
    const isHastened = signal.kind === "cancel" && row<{ status: RunStatus }>(hasten, run, tx.now)?.status === "queued";
    if (isWoken || isHastened) tx.due.add(signal.run);
    tx.changed.add(signal.run);
    return true;
  }

  function mustHaveRoom(run: number, id: string): void {
    if ((row<{ n: number }>(count, run)?.n ?? 0) < MAX_INBOX) return;
    throw new GroundcrewError("INBOX_FULL", `${MAX_INBOX} signals are waiting for run ${id}.`, { run: id, retryAfterMs: 1_000 });
  }

  return {
    put,
    mustHaveRoom,

    /** As `put`, from outside: whether there is such a run, and room. */
    signal(tx: Transaction, signal: Omit<Signal, "at">): boolean {
      const run = row<{ n: number; status: RunStatus }>(find, signal.run);
      if (!run) throw new GroundcrewError("RUN_NOT_FOUND", `There is no run ${signal.run}.`, { run: signal.run });
      if (isTerminal(run.status)) {
        throw new GroundcrewError("RUN_FINISHED", `Run ${signal.run} has ended (${run.status}); it takes no more signals.`, {
          run: signal.run,
        });
      }
      if (isKnown(run.n, signal)) return false;
      if (BOUNDED_BY_ROOM.has(signal.kind)) mustHaveRoom(run.n, signal.run);
      return put(tx, run.n, signal);
    },

    /** Tells a run that is still open and known; a parent may be neither. */
    tell(tx: Transaction, signal: Omit<Signal, "at">): void {
      const run = row<{ n: number; status: RunStatus }>(find, signal.run);
      if (run && !isTerminal(run.status)) put(tx, run.n, signal);
    },

    /** What was not consumed yet. */
    waiting: (run: number) => rows<{ id: string; kind: SignalKind }>(waiting, run),
    ofRun: (run: number) => rows<SignalRecord>(ofRun, run).map(toSignal),
    ofWorker: (worker: string) => rows<SignalRecord>(ofWorker, worker).map(toSignal),

    consume(run: number, ids: readonly string[]): void {
      for (const id of ids) consume.run(run, id);
    },

    /** Whether the run was asked to end; it will answer no more messages. */
    isCancelled: (run: number): boolean => cancel.get(run) !== undefined,

    drop(run: number): void {
      drop.run(run);
    },
  };
}

function toSignal(record: SignalRecord): Signal {
  return {
    id: record.id,
    run: record.run,
    kind: record.kind,
    name: record.name,
    ...signalValue(record.value),
    ...(record.sender === null ? {} : { from: record.sender }),
    at: record.at,
  };
}
