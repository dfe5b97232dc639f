/**
 * The fenced write: one transaction for the appends of many runs. It holds the row of its worker, and who takes a worker's runs
 * away deletes that row first: while it is held no run can change hands. So what this process has written last is where a run
 * stands, and need not be asked for; each insert still names epoch and worker, and one that finds another writes nothing.
 */
import { GroundcrewError } from "../errors.ts";
import type { Outcome } from "../persistence/group-commit.ts";
import { shardOf, shardOfRun } from "../persistence/id.ts";
import { outOfOrder, type PreparedAppend } from "../persistence/prepare.ts";
import { type Claim, isTerminal, type RunStatus, type SignalKind, type Transition } from "../persistence/store.ts";
import { writeAsides } from "./approval.ts";
import type { Committed, Connection } from "./connection.ts";
import { mayPass } from "./error.ts";
import { holdLeases } from "./lease.ts";
import { type Accepted, type Held, move, settleEnds, stopsOf } from "./move.ts";
import {
  among,
  column,
  escaped,
  isUnwritten,
  key,
  rowsOf,
  type Sql,
  shardsOf,
  type Transaction,
  together,
  Unwritten,
  unescaped,
} from "./row.ts";

interface Waiting {
  run: string;
  id: string;
  kind: SignalKind;
}

/** What a process remembers costs some hundred bytes a run; more than any worker holds. */
const MAX_REMEMBERED = 10_000;

export class Appender {
  readonly #connection: Connection;
  readonly #auditKey: string | undefined;
  /** Where the runs stand that this process has written to. */
  readonly #remembered = new Map<string, Held>();
  /** What was sent, and of which nobody knows whether it was written. */
  readonly #unsure = new WeakSet<PreparedAppend>();

  /** @param auditKey makes the audit log an HMAC chain */
  constructor(connection: Connection, auditKey: string | undefined) {
    this.#connection = connection;
    this.#auditKey = auditKey;
  }

  /** Where a run stands that was claimed as it was created, with so many events: a child is asked for, its parent's step is not known here. */
  remember({ run, epoch }: Claim, head: number): void {
    if (run.parent !== null || this.#remembered.size >= MAX_REMEMBERED) return;
    const { id, principal, session, worker } = run;
    const where = { shard: shardOfRun(id), id: escaped(id), tenant: escaped(principal.tenant), session: session && escaped(session) };
    this.#remembered.set(id, { ...where, epoch, worker, parent: null, parent_step: null, streamed: false, head, chunk: 0 });
  }

  /** Tells how each ended, in their order. */
  async flush(batch: readonly PreparedAppend[]): Promise<Committed<Outcome[]>> {
    const isPlain = batch.every((append) => this.#isPlain(append));
    try {
      if (isPlain) return await this.#atOnce(batch);
      return await this.#connection.once((tx) => this.#write(tx, batch, this.#remembered), true);
    } catch (error) {
      this.#remembered.clear();
      const isToBeAsked = isPlain ? !mayPass(error) : isOtherwise(error); // what may pass is sent again, and asked for then
      if (!isToBeAsked) throw error;
      return await this.#connection.once((tx) => this.#write(tx, batch, null), true);
    }
  }

  /** Events of a run that goes on: nothing is to be asked before, and they say themselves afterwards whether they were written. */
  #isPlain({ write, last, chunks }: PreparedAppend): boolean {
    const hasMore = write.next || write.aside || chunks.length > 0 || write.blobs.length > 0 || write.consumed.length > 0;
    return last > 0 && !hasMore && !this.#connection.isDistributed && this.#remembered.has(write.run);
  }

  /** Nearly all there is to write. */
  async #atOnce(batch: readonly PreparedAppend[]): Promise<Committed<Outcome[]>> {
    const runs = new Map(batch.map(({ write: { run } }) => [run, { ...(this.#remembered.get(run) as Held) }]));
    const accepted = batch.map((append) => remembering(() => accept(append, runs.get(append.write.run), []) as Accepted));
    const workers = new Set(batch.map(({ write }) => write.worker));
    const text = `groundcrew.append_events(${this.#connection.now}, $1, $2, $3, $4, $5, $6, $7, $8, $9)`;
    try {
      await this.#connection.atOnce(text, [[...workers], ...eventColumns(accepted)]);
    } catch (error) {
      for (const append of batch) this.#unsure.add(append); // whatever was said: a pooler speaks for itself
      throw error;
    }
    this.#keep(runs);
    const changed = new Set(batch.map(({ write }) => write.run));
    return { value: batch.map(() => ({ value: "written" })), changed, ended: new Set(), due: false };
  }

  /** @param remembered null to refuse what is to be refused, by what the tables say */
  async #write(tx: Transaction, batch: readonly PreparedAppend[], remembered: ReadonlyMap<string, Held> | null): Promise<Outcome[]> {
    const holding = holdLeases(
      tx,
      batch.map(({ write }) => write.worker),
    );
    holding.catch(() => {}); // awaited below, unless something else fails before
    const [leases, runs] = await Promise.all([remembered ? null : holding, findRuns(tx, batch, remembered)]);
    const waiting = await lockMoving(tx, batch, runs);
    const unsure = batch.filter((append) => this.#unsure.has(append));
    const written = await writtenBefore(tx, unsure, runs);
    const accepted: Accepted[] = [];
    const outcomes = batch.map((append): Outcome => {
      const { run, worker } = append.write;
      if (written.has(append)) {
        tx.changed.add(run);
        return { value: "written" };
      }
      try {
        if (leases?.has(worker) === false) throw superseded(`The lease of worker ${worker} has run out.`, run);
        const taken = accept(append, runs.get(run), waiting);
        if (!taken) return { value: "signalled" };
        accepted.push(taken);
        tx.changed.add(run);
        return { value: "written" };
      } catch (error) {
        if (remembered) throw new Unwritten();
        return { error };
      }
    });
    if (accepted.some(({ next, append }) => next || append.write.aside)) await tx.begun; // they are written with the time
    const writing = [...writeAll(tx, accepted)]; // before the move: behind it the fence is closed
    const [held, isMoved] = await Promise.all([holding, move(tx, accepted), ...writing]);
    if (!isMoved || batch.some(({ write }) => remembered && !held.has(write.worker))) throw new Unwritten();
    await settleEnds(tx, accepted);
    const asides = accepted.flatMap(({ append }) => append.write.aside ?? []);
    if (asides.length > 0) await writeAsides(tx, asides, this.#auditKey);
    this.#keep(runs);
    return outcomes;
  }

  #keep(runs: ReadonlyMap<string, Held>): void {
    if (this.#remembered.size > MAX_REMEMBERED) this.#remembered.clear();
    for (const [id, run] of runs) {
      if (run.worker === null) this.#remembered.delete(id);
      else this.#remembered.set(id, run);
    }
  }
}

/** Refused by what this process remembers: the tables are asked before anybody is told so. */
function remembering<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    throw new Unwritten("", { cause: error });
  }
}

/**
 * Whether something is not as this process remembers it. Nothing was written, unless by a write of ours whose answer was lost: its
 * events are in the way then.
 */
function isOtherwise(error: unknown): boolean {
  const { code, constraint } = Object(error) as { code?: unknown; constraint?: unknown };
  return isUnwritten(error) || (code === UNIQUE_VIOLATION && (constraint === "events_pkey" || constraint === "chunks_pkey"));
}

const UNIQUE_VIOLATION = "23505";

/**
 * Those of which the journal holds the very events: the commit whose answer was lost was done. Nobody else can have written them: what
 * another worker writes at their place begins with its claim.
 */
async function writtenBefore(
  tx: Transaction,
  unsure: readonly PreparedAppend[],
  runs: ReadonlyMap<string, Held>,
): Promise<ReadonlySet<PreparedAppend>> {
  const there = unsure.filter(({ write, last }) => last > 0 && last <= (runs.get(write.run)?.head ?? 0));
  if (there.length === 0) return new Set();
  const keys = there.map(({ write, last }) => ({ shard: shardOfRun(write.run), run: escaped(write.run), last }));
  const found = await tx.query<{ run: string; last: number; data: string }>(
    `select e.run, e.last, e.data from unnest($1::smallint[], $2::text[], $3::int[]) as a (shard, run, last)
     join groundcrew.events e on e.shard = a.shard and e.run = a.run and e.last = a.last`,
    columns(keys, ["shard", "run", "last"]),
  );
  const journal = new Map(found.map(({ run, last, data }) => [JSON.stringify([run, last]), data]));
  return new Set(there.filter(({ write, last, data }) => journal.get(JSON.stringify([escaped(write.run), last])) === data));
}

function superseded(why: string, run: string): GroundcrewError {
  return new GroundcrewError("SUPERSEDED", why, { run });
}

/** As this process remembers them, or as the tables say. */
async function findRuns(
  tx: Transaction,
  batch: readonly PreparedAppend[],
  remembered: ReadonlyMap<string, Held> | null,
): Promise<Map<string, Held>> {
  const runs = new Map<string, Held>();
  const ids = new Set(batch.map(({ write }) => write.run));
  for (const id of ids) {
    const run = remembered?.get(id);
    if (!run) continue;
    runs.set(id, { ...run });
    ids.delete(id);
  }
  if (ids.size === 0) return runs;
  const found = await tx.query<Held>(
    `select r.shard, r.id, r.epoch, r.worker, r.tenant, r.session, r.parent, r.parent_step, r.streamed, e.head,
       (select coalesce(max(c.last), 0) from groundcrew.chunks c where c.shard = r.shard and c.run = r.id and c.after = e.head) as chunk
     from unnest($1::smallint[], $2::text[]) as a (shard, id)
     join groundcrew.runs r on r.shard = a.shard and r.id = a.id
     cross join lateral
       (select coalesce(max(last), 0) as head from groundcrew.events where shard = r.shard and run = r.id) e`,
    [[...ids].map(shardOfRun), [...ids].map(escaped)],
  );
  for (const run of found) runs.set(unescaped(run.id), run);
  return runs;
}

/**
 * Locks what the runs that go somewhere touch, sessions first and then runs, each in order, so that two workers do not wait
 * for each other. Then tells what waits in the inboxes: nothing more can come in.
 */
async function lockMoving(tx: Transaction, batch: readonly PreparedAppend[], runs: ReadonlyMap<string, Held>): Promise<Waiting[]> {
  const moving = batch.flatMap(({ write }) => (write.next ? (runs.get(write.run) ?? []) : []));
  if (moving.length === 0) return [];
  const parents = moving.flatMap(({ parent }) => (parent === null ? [] : { shard: shardOfRun(parent), id: parent }));
  const children = batch.flatMap(({ write }) => stopsOf(write).map(({ run }) => ({ shard: shardOfRun(run), id: escaped(run) })));
  const sessions = moving.flatMap(({ shard, tenant, session }) => (session === null ? [] : { shard, tenant, id: session }));
  const locks = together(tx, sessions).map((some) =>
    tx.query(
      `select from groundcrew.sessions where shard = any($1) and (tenant, id) in (select * from unnest($2::text[], $3::text[]))
       order by shard, tenant, id for no key update`,
      [shardsOf(some), column(some, "tenant"), column(some, "id")],
    ),
  );
  for (const some of together(tx, [...moving, ...parents, ...children])) {
    const text = `select from groundcrew.runs where ${among(tx, "shard", "id")} order by shard, id for no key update`;
    locks.push(tx.query(text, [column(some, "shard"), column(some, "id")]));
  }
  const text = `select run, id, kind from groundcrew.signals where ${among(tx, "shard", "run")} and not consumed`;
  const [waiting] = await Promise.all([tx.query<Waiting>(text, [column(moving, "shard"), column(moving, "id")]), ...locks]);
  return waiting;
}

/**
 * Checks one append against what is there, and goes on from what it will leave.
 * @returns null when the run wanted to end while a message to it was waiting.
 * @throws GroundcrewError `SUPERSEDED`, `INTERNAL`
 */
function accept(append: PreparedAppend, run: Held | undefined, inboxes: readonly Waiting[]): Accepted | null {
  const { write, first, last, chunks } = append;
  if (run?.worker !== write.worker || run.epoch !== write.epoch) {
    throw superseded(`Run ${write.run} is no longer held by worker ${write.worker} at epoch ${write.epoch}.`, write.run);
  }
  if (last > 0 && first !== run.head + 1) throw outOfOrder(write.run, `events ${first} to ${last} do not follow event ${run.head}`);
  const head = Math.max(run.head, last);
  let chunk = last > 0 ? 0 : run.chunk;
  for (const { after, first: from, last: to } of chunks) {
    const before = after === run.head ? run.chunk : 0; // behind an event of this very write there is none
    // Chunks behind an older event, or with a gap, would be missed by a reader that is further on.
    if (after < run.head || after > head || from !== before + 1) {
      throw outOfOrder(write.run, `chunk ${after}.${from} does not follow ${after}.${before} below event ${head}`);
    }
    if (after === head) chunk = to;
  }
  const left = inboxes.filter(({ run: of, id }) => of === run.id && !isAnswered(write, id));
  const mustAnswer = write.next?.to === "succeeded" || write.next?.to === "failed";
  if (mustAnswer && left.some(({ kind }) => kind === "message")) return null;

  run.head = head;
  run.chunk = chunk;
  const accepted: Accepted = { run: { ...run }, append, next: write.next?.to === "parked" && left.length > 0 ? QUEUED : write.next };
  if (write.next) run.worker = null;
  if (chunks.length > 0) run.streamed = true;
  return accepted;
}

const QUEUED: Transition = { to: "queued" };

function isAnswered({ consumed, seen }: PreparedAppend["write"], signal: string): boolean {
  return consumed.some((id) => escaped(id) === signal) || (seen?.some((id) => escaped(id) === signal) ?? false);
}

/**
 * Of the rows `a` that are to be written `r` is their run, still held at the epoch that they name. An equality with the worker
 * would lead the planner to look through all runs of the worker for each row.
 */
const FENCE =
  "join groundcrew.runs r on r.shard = a.shard and r.id = a.run and r.epoch = a.epoch and r.worker is not distinct from a.worker";
const HELD = { shard: "smallint", run: "text", epoch: "int", worker: "text" };
const EVENT_ROW = { ...HELD, last: "int", start: "int", length: "int" };
const CHUNK_ROW = { ...HELD, after: "int", first: "int", last: "int", data: "text" };

/**
 * Those of `EVENT_ROW`, and behind them the data of all rows as one value: as a list of texts it would be quoted here and unquoted there.
 */
function eventColumns(accepted: readonly Accepted[]): unknown[] {
  const rows = accepted.filter(({ append }) => append.last > 0);
  const lengths = rows.map(({ append }) => Buffer.byteLength(append.data));
  let end = 1;
  const starts = lengths.map((length) => {
    end += length;
    return end - length;
  });
  return [
    numbers(rows.map(({ run }) => run.shard)),
    rows.map(({ run }) => run.id),
    numbers(rows.map(({ append }) => append.write.epoch)),
    rows.map(({ append }) => append.write.worker),
    numbers(rows.map(({ append }) => append.last)),
    numbers(starts),
    numbers(lengths),
    Buffer.from(rows.map(({ append }) => append.data).join("")),
  ];
}

/** A list as PostgreSQL reads it: `pg` would look in each for quotes. */
function numbers(list: readonly number[]): string {
  return `{${list.join(",")}}`;
}

/** @throws Unwritten */
async function mustWrite(tx: Sql, rows: number, text: string, values: readonly unknown[]): Promise<void> {
  if ((await tx.write(text, values)) !== rows) throw new Unwritten();
}

/** All rows of all appends, a statement per table. What is behind the fence fails when that has closed. */
function* writeAll(tx: Sql, accepted: readonly Accepted[]): Generator<Promise<unknown>> {
  const events = accepted.filter(({ append }) => append.last > 0).length;
  if (events > 0) {
    const text = `insert into groundcrew.events (shard, run, last, data)
      select a.shard, a.run, a.last, convert_from(substring($8::bytea from a.start for a.length), 'UTF8')
      from ${rowsOf(tx, EVENT_ROW)} ${FENCE}`;
    yield mustWrite(tx, events, text, eventColumns(accepted));
  }
  const chunks = accepted.flatMap(({ run, append: { write, chunks } }) =>
    chunks.map((row) => ({ ...row, shard: run.shard, run: run.id, epoch: write.epoch, worker: write.worker })),
  );
  if (chunks.length > 0) {
    const text = `insert into groundcrew.chunks (shard, run, after, first, last, data)
      select a.shard, a.run, a.after, a.first, a.last, a.data
      from ${rowsOf(tx, CHUNK_ROW)} ${FENCE}`;
    yield mustWrite(tx, chunks.length, text, columns(chunks, ["shard", "run", "epoch", "worker", "after", "first", "last", "data"]));
  }
  const begun = accepted.filter(({ run, append }) => append.chunks.length > 0 && !run.streamed).map(({ run }) => run);
  if (begun.length > 0) {
    const text = `update groundcrew.runs set streamed = true where ${among(tx, "shard", "id")}`;
    yield tx.write(text, [column(begun, "shard"), column(begun, "id")]);
  }
  const consumed = accepted.flatMap(({ run, append }) => append.write.consumed.map((id) => ({ shard: run.shard, run: run.id, id })));
  if (consumed.length > 0) {
    const text = `update groundcrew.signals s set consumed = true, value = null
      from ${rowsOf(tx, { shard: "smallint", run: "text", id: "text" })} where s.shard = a.shard and s.run = a.run and s.id = a.id`;
    yield tx.write(text, [column(consumed, "shard"), column(consumed, "run"), consumed.map(({ id }) => escaped(id))]);
  }
  const ended = accepted.filter(({ next }) => next && isTerminal(next.to as RunStatus)).map(({ run }) => run);
  if (ended.length > 0) {
    const text = `delete from groundcrew.signals where ${among(tx, "shard", "run")}`;
    yield tx.write(text, [column(ended, "shard"), column(ended, "id")]);
  }
  const blobs = accepted.flatMap(({ run, append }) => append.write.blobs.map((blob) => ({ ...blob, run: run.id })));
  yield* writeBlobs(tx, blobs);
}

function columns<T>(items: readonly T[], names: readonly (keyof T)[]): unknown[][] {
  return names.map((name) => column(items, name));
}

interface NewBlob {
  hash: string;
  data: string;
  run: string;
}

/**
 * Blobs, in the order of their keys, and who refers to them. One that is there already is locked by the update that changes
 * nothing: the sweep must not delete it before the reference is there.
 */
export function* writeBlobs(tx: Sql, blobs: readonly NewBlob[]): Generator<Promise<unknown>> {
  if (blobs.length === 0) return;
  const unique = new Map(blobs.map((blob) => [blob.hash, { shard: shardOf(blob.hash), hash: key(blob.hash, "hash"), data: blob.data }]));
  const sorted = [...unique.values()].sort((a, b) => a.shard - b.shard || (a.hash < b.hash ? -1 : 1));
  const data = sorted.map((blob) => Buffer.from(blob.data));
  const starts = data.map((_, index) => 1 + data.slice(0, index).reduce((sum, { length }) => sum + length, 0));
  yield tx.query(
    `insert into groundcrew.blobs (shard, hash, data)
     select a.shard, a.hash, convert_from(substring($5::bytea from a.from_byte for a.length), 'UTF8')
     from unnest($1::smallint[], $2::text[], $3::int[], $4::int[]) as a (shard, hash, from_byte, length)
     on conflict (shard, hash) do update set hash = excluded.hash`,
    [column(sorted, "shard"), column(sorted, "hash"), starts, column(data, "length"), Buffer.concat(data)],
  );
  yield tx.query(
    `insert into groundcrew.blob_refs (shard, hash, run) select * from unnest($1::smallint[], $2::text[], $3::text[])
     on conflict do nothing`,
    [blobs.map(({ hash }) => shardOf(hash)), blobs.map(({ hash }) => escaped(hash)), column(blobs, "run")],
  );
}
