/** Durable messages to runs. Whoever lays one in, or moves the run, holds the run's row: neither misses the other. */
import { GroundcrewError, isError } from "../errors.ts";
import { MAX_INBOX } from "../limits.ts";
import type { AuditEntry } from "../persistence/audit.ts";
import type { Outcome } from "../persistence/group-commit.ts";
import { shardOfRun } from "../persistence/id.ts";
import { isTerminal, type RunStatus, type Signal, type SignalKind, signalValue } from "../persistence/store.ts";
import { appendAudit } from "./audit.ts";
import { among, column, escaped, key, type Sql, type Transaction, unescaped } from "./row.ts";

interface SignalRecord {
  id: string;
  run: string;
  kind: SignalKind;
  name: string;
  value: string | null;
  sender: string | null;
  at: number;
}

export type NewSignal = Omit<Signal, "at">;

/** A signal from outside, and what is on record of it. */
export interface Message {
  signal: NewSignal;
  audit: readonly AuditEntry[];
}

/** As many of them may come as somebody likes to send. The others come once per step, per child or per command, or are one. */
const BOUNDED_BY_ROOM: ReadonlySet<SignalKind> = new Set(["signal", "message", "handover"]);

/** While one waits, another says nothing new. */
const COALESCED: ReadonlySet<SignalKind> = new Set(["cancel", "retry"]);

/** What is known of a run's inbox before something is laid in. */
interface Inbox {
  isKnown: boolean;
  waiting: number;
}

/** Locks the run. */
export async function lock(tx: Transaction, run: string): Promise<RunStatus | undefined> {
  const [found] = await tx.query<{ status: RunStatus }>(
    "select status from groundcrew.runs where shard = $1 and id = $2 for no key update",
    [shardOfRun(run), escaped(run)],
  );
  return found?.status;
}

async function peek(tx: Transaction, { run, id, kind }: NewSignal): Promise<Inbox> {
  const [found] = await tx.query<{ known: boolean; waiting: number }>(
    `select
      exists (select from groundcrew.signals where shard = $1 and run = $2 and id = $3)
        or exists (select from groundcrew.signals where shard = $1 and run = $2 and not consumed and kind = $4) as known,
      (select count(*) from groundcrew.signals where shard = $1 and run = $2 and not consumed) as waiting`,
    [shardOfRun(run), escaped(run), key(id, "signal id"), COALESCED.has(kind) ? kind : null],
  );
  return { isKnown: found?.known ?? false, waiting: found?.waiting ?? 0 };
}

/** One for each of these runs. */
async function lay(tx: Transaction, signals: readonly NewSignal[]): Promise<void> {
  const rows = signals.map(({ run, id, kind, name, value, from }) => ({
    shard: shardOfRun(run),
    run: escaped(run),
    id: key(id, "signal id"),
    kind,
    name: key(name, "signal name"),
    value: value === undefined ? null : JSON.stringify(value),
    sender: from === undefined ? null : key(from, "sender"),
  }));
  const columns = (["shard", "run", "id", "kind", "name", "value", "sender"] as const).map((name) => column(rows, name));
  const cancelled = rows.filter(({ kind }) => kind === "cancel");
  await Promise.all([
    tx.query(
      `insert into groundcrew.signals (shard, run, id, kind, name, value, sender, at)
       select a.*, $8::bigint from unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) as a
       on conflict (shard, run, id) do nothing`,
      [...columns, tx.now],
    ),
    tx.query(
      `update groundcrew.runs set status = 'queued', reason = null, due_at = $3, timed = false, changed_at = $3
       where ${among(tx, "shard", "id")} and status = 'parked'`,
      [column(rows, "shard"), column(rows, "run"), tx.now],
    ),
    cancelled.length > 0 && // they need not wait for their time, for their turn to end, or for a place under their quotas
      tx.query(
        `update groundcrew.runs set end_by = least(end_by, $3), timed = timed and status <> 'queued',
           due_at = case when status = 'queued' and (due_at is null or timed) then $3 else due_at end
         where ${among(tx, "shard", "id")}`,
        [column(cancelled, "shard"), column(cancelled, "run"), tx.now],
      ),
  ]);
  for (const { run } of signals) tx.changed.add(run);
  tx.due = true;
}

/** Asks runs to end whose rows are held. What is over, or has been asked before, stays as it is. */
export async function stopAll(tx: Transaction, cancels: readonly NewSignal[]): Promise<void> {
  if (cancels.length === 0) return;
  const found = await tx.query<{ id: string }>(
    `select r.id from groundcrew.runs r where ${among(tx, "r.shard", "r.id")} and r.finished_at is null and not exists (
       select from groundcrew.signals s where s.shard = r.shard and s.run = r.id and not s.consumed and s.kind = 'cancel')`,
    [cancels.map(({ run }) => shardOfRun(run)), cancels.map(({ run }) => escaped(run))],
  );
  const open = new Set(found.map(({ id }) => unescaped(id)));
  const fresh = cancels.filter(({ run }) => open.has(run));
  if (fresh.length > 0) await lay(tx, fresh);
}

/** Lays it in the inbox of an open run and wakes the run. @returns false when it was there before. */
export async function put(tx: Transaction, signal: NewSignal): Promise<boolean> {
  await lock(tx, signal.run);
  if ((await peek(tx, signal)).isKnown) return false;
  await lay(tx, [signal]);
  return true;
}

/** Many of them, a run after the other in the order of their keys: two processes do not wait for each other. */
export async function signalAll(tx: Transaction, batch: readonly Message[], auditKey: string | undefined): Promise<Outcome[]> {
  const outcomes = new Map<Message, Outcome>();
  const audit: AuditEntry[] = [];
  for (const one of batch.toSorted((a, b) => inOrder(a.signal, b.signal))) {
    try {
      const isNew = await signal(tx, one.signal);
      outcomes.set(one, { value: isNew });
      if (isNew) audit.push(...one.audit);
    } catch (error) {
      if (!isError(error)) throw error;
      outcomes.set(one, { error }); // it was refused before it changed anything
    }
  }
  await appendAudit(tx, audit, auditKey);
  return batch.map((one) => outcomes.get(one) as Outcome);
}

function inOrder(a: NewSignal, b: NewSignal): number {
  return shardOfRun(a.run) - shardOfRun(b.run) || (a.run < b.run ? -1 : a.run > b.run ? 1 : 0);
}

/** As `put`, from outside: whether there is such a run, and room. */
async function signal(tx: Transaction, signal: NewSignal): Promise<boolean> {
  const status = await lock(tx, signal.run);
  if (!status) throw new GroundcrewError("RUN_NOT_FOUND", `There is no run ${signal.run}.`, { run: signal.run });
  if (isTerminal(status)) {
    throw new GroundcrewError("RUN_FINISHED", `Run ${signal.run} has ended (${status}); it takes no more signals.`, { run: signal.run });
  }
  const { isKnown, waiting } = await peek(tx, signal);
  if (isKnown) return false;
  if (BOUNDED_BY_ROOM.has(signal.kind) && waiting >= MAX_INBOX) throw full(signal.run);
  await lay(tx, [signal]);
  return true;
}

/** Tells a run that is still open and known; a parent may be neither. */
export async function tell(tx: Transaction, signal: NewSignal): Promise<void> {
  const status = await lock(tx, signal.run);
  if (!status || isTerminal(status) || (await peek(tx, signal)).isKnown) return;
  await lay(tx, [signal]);
}

/** @throws GroundcrewError `INBOX_FULL` */
export async function mustHaveRoom(tx: Transaction, run: string): Promise<void> {
  const { waiting } = await peek(tx, { run, id: "", kind: "signal", name: "" });
  if (waiting >= MAX_INBOX) throw full(run);
}

function full(run: string): GroundcrewError {
  return new GroundcrewError("INBOX_FULL", `${MAX_INBOX} signals are waiting for run ${run}.`, { run, retryAfterMs: 1_000 });
}

const columns = "s.id, s.run, s.kind, s.name, s.value, s.sender, s.at";

/** What was not consumed yet, of these runs. */
export async function ofRuns(sql: Sql, shards: readonly number[], runs: readonly string[]): Promise<Signal[]> {
  const found = await sql.query<SignalRecord>(
    `select ${columns} from groundcrew.signals s where ${among(sql, "s.shard", "s.run")} and not s.consumed order by s.n`,
    [shards, runs],
  );
  return found.map(toSignal);
}

export async function ofWorker(sql: Sql, worker: string): Promise<Signal[]> {
  const found = await sql.query<SignalRecord>(
    `select ${columns} from groundcrew.runs r cross join lateral (
       select * from groundcrew.signals where shard = r.shard and run = r.id and not consumed order by n
     ) s where r.worker = $1 order by s.n`,
    [worker],
  );
  return found.map(toSignal);
}

function toSignal(record: SignalRecord): Signal {
  return {
    id: unescaped(record.id),
    run: unescaped(record.run),
    kind: record.kind,
    name: unescaped(record.name),
    ...signalValue(record.value),
    ...(record.sender === null ? {} : { from: unescaped(record.sender) }),
    at: record.at,
  };
}
