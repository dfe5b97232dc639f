/** Durable messages to runs. Whoever lays one in, or moves the run, holds the run's row: neither misses the other. */
import { GroundcrewError, isError } from "../errors.ts";
import { MAX_INBOX } from "../limits.ts";
import type { Outcome } from "../persistence/group-commit.ts";
import { shardOfRun } from "../persistence/id.ts";
import { isTerminal, type RunStatus, type Signal, type SignalKind, signalValue } from "../persistence/store.ts";
import { among, escaped, key, type Sql, type Transaction, unescaped } from "./row.ts";

interface SignalRecord {
  id: string;
  run: string;
  kind: SignalKind;
  name: string;
  value: string | null;
  sender: string | null;
  at: number;
}

type NewSignal = Omit<Signal, "at">;

/** As many of them may come as somebody likes to send. The others come once per step, per child, or are one. */
const BOUNDED_BY_ROOM: ReadonlySet<SignalKind> = new Set(["signal", "message"]);

/** While one waits, another says nothing new. */
const COALESCED: ReadonlySet<SignalKind> = new Set(["cancel", "retry"]);

/** What is known of a run's inbox before something is laid in. */
interface Inbox {
  isKnown: boolean;
  waiting: number;
}

/** Locks the run. */
async function lock(tx: Transaction, run: string): Promise<RunStatus | undefined> {
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

async function lay(tx: Transaction, { run, id, kind, name, value, from }: NewSignal): Promise<void> {
  const [shard, at] = [shardOfRun(run), escaped(run)];
  const text = value === undefined ? null : JSON.stringify(value);
  await Promise.all([
    tx.query(`insert into groundcrew.signals (shard, run, id, kind, name, value, sender, at) values ($1, $2, $3, $4, $5, $6, $7, $8)`, [
      shard,
      at,
      key(id, "signal id"),
      kind,
      key(name, "signal name"),
      text,
      from === undefined ? null : key(from, "sender"),
      tx.now,
    ]),
    tx.query(
      `update groundcrew.runs set status = 'queued', reason = null, due_at = $3, timed = false, changed_at = $3
       where shard = $1 and id = $2 and status = 'parked'`,
      [shard, at, tx.now],
    ),
    kind === "cancel" && // it need not wait for its time or its turn to end
      tx.query(
        `update groundcrew.runs set due_at = $3, timed = false
         where shard = $1 and id = $2 and status = 'queued' and (due_at is null or timed)`,
        [shard, at, tx.now],
      ),
  ]);
  tx.changed.add(run);
  tx.due = true;
}

/** Lays it in the inbox of an open run and wakes the run. @returns false when it was there before. */
export async function put(tx: Transaction, signal: NewSignal): Promise<boolean> {
  await lock(tx, signal.run);
  if ((await peek(tx, signal)).isKnown) return false;
  await lay(tx, signal);
  return true;
}

/** Many of them, a run after the other in the order of their keys: two processes do not wait for each other. */
export async function signalAll(tx: Transaction, batch: readonly NewSignal[]): Promise<Outcome[]> {
  const outcomes = new Map<NewSignal, Outcome>();
  for (const one of batch.toSorted((a, b) => shardOfRun(a.run) - shardOfRun(b.run) || (a.run < b.run ? -1 : a.run > b.run ? 1 : 0))) {
    try {
      outcomes.set(one, { value: await signal(tx, one) });
    } catch (error) {
      if (!isError(error)) throw error;
      outcomes.set(one, { error }); // it was refused before it changed anything
    }
  }
  return batch.map((one) => outcomes.get(one) as Outcome);
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
  await lay(tx, signal);
  return true;
}

/** Tells a run that is still open and known; a parent may be neither. */
export async function tell(tx: Transaction, signal: NewSignal): Promise<void> {
  const status = await lock(tx, signal.run);
  if (!status || isTerminal(status) || (await peek(tx, signal)).isKnown) return;
  await lay(tx, signal);
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
    `select ${columns} from groundcrew.signals s where ${among("s.shard", "s.run")} and not s.consumed order by s.n`,
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
