/** How a run begins, alone or as a turn of a session. */
import { GroundcrewError } from "../errors.ts";
import { MAX_QUEUED_TURNS } from "../limits.ts";
import { readEvents } from "../persistence/event-row.ts";
import type { Outcome } from "../persistence/group-commit.ts";
import { shardOf, shardOfRun } from "../persistence/id.ts";
import { firstRows, millis } from "../persistence/prepare.ts";
import { type Created, DEFAULT_PRIORITY, type NewRun, type RunRow } from "../persistence/store.ts";
import { writeBlobs } from "./append.ts";
import { appendAudit } from "./audit.ts";
import { mustHaveRoom, put } from "./inbox.ts";
import { withoutParent } from "./parent.ts";
import { column, escaped, key, type RunRecord, rowsOf, type SessionRecord, type Transaction, toRunRow, unescaped } from "./row.ts";

type SessionTurn = NonNullable<NewRun["session"]>;

/** A run that is to begin, and the worker that takes it up at once; null: whoever claims it. */
export interface Start {
  run: NewRun;
  worker: string | null;
}

/** A start key with the run that it started, as `groundcrew.starts` holds it. */
interface StartKey {
  shard: number;
  tenant: string;
  agent: string;
  key: string;
  hash: string;
  run: string;
}

/** Refuses what the tables would not hold as it was given. @throws GroundcrewError `INPUT_INVALID`, `INTERNAL` */
export function checkStart(run: NewRun): void {
  key(run.id, "run id");
  key(run.principal.tenant, "tenant");
  key(run.principal.user, "user");
  if (run.session) key(run.session.id, "session id");
  if (run.start) key(run.start.key, "start key");
  millis(run.dueAt, "dueAt");
  millis(run.deadline, "deadline");
  if (run.session && shardOf(run.session.id) !== shardOfRun(run.id)) {
    throw new GroundcrewError("INTERNAL", `The id of run ${run.id} names another shard than its session ${run.session.id}.`, {
      run: run.id,
    });
  }
}

/** Many runs outside of sessions. One that is refused does not touch the others. */
export async function createAll(tx: Transaction, batch: readonly Start[], auditKey: string | undefined): Promise<Outcome[]> {
  const refused = await withoutParent(tx, column(batch, "run"));
  const left = refused.size === 0 ? batch : batch.filter(({ run }) => !refused.has(run));
  const created = (await createEach(tx, left, auditKey)).values();
  return batch.map(({ run }): Outcome => {
    const error = refused.get(run);
    return error ? { error } : (created.next().value as Outcome);
  });
}

/** A statement per table. */
async function createEach(tx: Transaction, batch: readonly Start[], auditKey: string | undefined): Promise<Outcome[]> {
  const started = await claimKeys(tx, column(batch, "run"));
  const fresh: Fresh[] = [];
  const records: NewRecord[] = [];
  const pending = batch.map(({ run, worker }): (() => Outcome) => {
    const start = run.start && started.get(keyOf(run));
    if (start && !start.isNew(run)) {
      if (start.hash !== run.start?.hash) return () => ({ error: conflict(run) });
      return () => existing(run, rows.get(start.run));
    }
    const one = freshOf(run);
    fresh.push(one);
    records.push(recordOf(run, null, false, worker));
    return () => ({ value: begun(one, rows.get(escaped(run.id)) as RunRow) });
  });
  const inserted = await insert(tx, records, fresh);
  const others = [...started.values()].map(({ run }) => run).filter((id) => !inserted.has(unescaped(id)));
  const rows = new Map([...inserted, ...(await find(tx, others.map(unescaped)))].map(([id, run]) => [escaped(id), run]));
  await appendAudit(
    tx,
    fresh.flatMap(({ run }) => run.audit ?? []),
    auditKey,
  );
  return pending.map((outcome) => outcome());
}

/** A run as it is written. */
interface Fresh {
  run: NewRun;
  /** Its journal, as the table holds it. */
  journal: ReturnType<typeof firstRows>;
}

function freshOf(run: NewRun): Fresh {
  return { run, journal: firstRows(run.events) };
}

/** A new run, and its claim when it is somebody's already: with what was written, for what was given is the caller's, who may change it. */
function begun({ journal }: Fresh, run: RunRow): Created {
  if (run.worker === null) return { outcome: "created", run };
  const events = journal.flatMap(({ last, data }) => readEvents(run.id, last, data));
  return { outcome: "created", run, claim: { run, epoch: run.epoch, takeover: false, signals: [], events } };
}

function existing(run: NewRun, there: RunRow | undefined): Outcome {
  if (there) return { value: { outcome: "existing", run: there } };
  const why = `The run that the key ${JSON.stringify(run.start?.key)} has started is being swept away.`;
  return { error: new GroundcrewError("STORE_BUSY", why, { retryAfterMs: 1_000 }) };
}

/** What a transaction failed with, told as what it means: an id that there is already. Nobody looks before, ids are as good as unique. */
export function refuseTakenId(batch: readonly Start[]): (failure: unknown) => never {
  return (failure) => {
    const { code, constraint } = Object(failure) as { code?: unknown; constraint?: unknown };
    const [start, ...others] = batch;
    if (start && others.length === 0 && code === UNIQUE_VIOLATION && constraint === "runs_pkey") throw idTaken(start.run);
    throw failure;
  };
}

const UNIQUE_VIOLATION = "23505";

function keyOf({ principal, agent, start }: NewRun): string {
  return JSON.stringify([principal.tenant, agent, start?.key]);
}

/** Who started first with a key, and whether this transaction has written that down, for which run. */
interface First extends StartKey {
  isNew(run: NewRun): boolean;
}

/** Writes down who started first with each key; whoever else is writing the same key now is waited for. */
async function claimKeys(tx: Transaction, runs: readonly NewRun[]): Promise<Map<string, First>> {
  const keyed = runs.filter(({ start }) => start !== undefined).map((run) => ({ of: keyOf(run), start: startOf(run) }));
  if (keyed.length === 0) return new Map();
  const unique = [...new Map(keyed.toReversed().map(({ of, start }) => [of, start])).values()];
  const sorted = unique.sort(
    (a, b) => a.shard - b.shard || compare(a.tenant, b.tenant) || compare(a.agent, b.agent) || compare(a.key, b.key),
  );
  const columns = [column(sorted, "shard"), column(sorted, "tenant"), column(sorted, "agent"), column(sorted, "key")];
  const made = await tx.query<StartKey>(
    `insert into groundcrew.starts (shard, tenant, agent, key, hash, run)
     select * from unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) on conflict do nothing
     returning tenant, agent, key`,
    [...columns, column(sorted, "hash"), column(sorted, "run")],
  );
  const isMade = new Set(made.map(textOf));
  const found = await tx.query<StartKey>(
    `select s.* from unnest($1::smallint[], $2::text[], $3::text[], $4::text[]) as a (shard, tenant, agent, key)
     join groundcrew.starts s on s.shard = a.shard and s.tenant = a.tenant and s.agent = a.agent and s.key = a.key`,
    columns,
  );
  const stored = new Map(found.map((start) => [textOf(start), start]));
  return new Map(
    keyed.flatMap(({ of, start }) => {
      const there = stored.get(textOf(start));
      const isNew = (run: NewRun) => isMade.has(textOf(start)) && there?.run === escaped(run.id);
      return there ? [[of, { ...there, isNew }] as const] : [];
    }),
  );
}

function textOf({ tenant, agent, key: given }: Pick<StartKey, "tenant" | "agent" | "key">): string {
  return JSON.stringify([tenant, agent, given]);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function startOf(run: NewRun): StartKey {
  const { tenant } = run.principal;
  const { key: given, hash } = run.start ?? { key: "", hash: "" };
  const shard = shardOf([tenant, run.agent, given].join("\0"));
  return { shard, tenant: escaped(tenant), agent: escaped(run.agent), key: escaped(given), hash, run: escaped(run.id) };
}

/** By id. */
async function find(tx: Transaction, ids: readonly string[]): Promise<Map<string, RunRow>> {
  if (ids.length === 0) return new Map();
  const found = await tx.query<RunRecord>(
    `select r.* from unnest($1::smallint[], $2::text[]) as a (shard, id) join groundcrew.runs r on r.shard = a.shard and r.id = a.id`,
    [ids.map(shardOfRun), ids.map(escaped)],
  );
  return new Map(found.map((record) => [toRunRow(record).id, toRunRow(record)]));
}

type NewRecord = ReturnType<typeof recordOf>;

function recordOf(run: NewRun, turn: number | null, waits: boolean, worker: string | null) {
  const dueAt = millis(run.dueAt, "dueAt");
  return {
    shard: shardOfRun(run.id),
    id: escaped(run.id),
    agent: escaped(run.agent),
    due_at: waits ? null : dueAt,
    start_at: dueAt,
    priority: run.priority ?? DEFAULT_PRIORITY,
    tenant: escaped(run.principal.tenant),
    owner: escaped(run.principal.user),
    roles: JSON.stringify(run.principal.roles),
    session: run.session ? escaped(run.session.id) : null,
    turn,
    parent: run.parent ? escaped(run.parent.run) : null,
    parent_step: run.parent ? escaped(run.parent.step) : null,
    key: run.start ? escaped(run.start.key) : null,
    deadline: millis(run.deadline, "deadline"),
    end_by: millis(run.deadline, "deadline"),
    worker: waits ? null : worker,
  };
}

const COLUMNS = {
  shard: "smallint",
  id: "text",
  agent: "text",
  due_at: "bigint",
  start_at: "bigint",
  priority: "smallint",
  tenant: "text",
  owner: "text",
  roles: "text",
  session: "text",
  turn: "integer",
  parent: "text",
  parent_step: "text",
  key: "text",
  deadline: "bigint",
  end_by: "bigint",
  worker: "text",
} as const satisfies Record<keyof NewRecord, string>;

const NAMES = Object.keys(COLUMNS) as (keyof NewRecord)[];
/** Those that a worker takes up at once are its own from the start, if its lease holds: its row is held, so that nobody gives it up meanwhile. */
const takerAt = (now: string) => `lateral (select id from groundcrew.workers where id = a.worker and lease_until > ${now} for key share)`;
const NOBODY = "(select null::text as id)";

const insertAt = (
  tx: Transaction,
  now = tx.clock,
) => `insert into groundcrew.runs (${NAMES.join(", ")}, timed, status, epoch, created_at, changed_at)
  select ${NAMES.map((name) => WRITTEN[name] ?? `a.${name}`).join(", ")}, w.id is null and a.due_at is not null and a.due_at > ${now},
    case when w.id is null then 'queued' else 'running' end, case when w.id is null then 0 else 1 end, ${now}, ${now}
  from ${rowsOf(tx, COLUMNS)}
  left join ${tx.isDistributed ? NOBODY : takerAt(now)} w on true
  returning *`;

const WRITTEN: Partial<Record<keyof NewRecord, string>> = { due_at: "case when w.id is null then a.due_at end", worker: "w.id" };

async function insert(tx: Transaction, records: readonly NewRecord[], fresh: readonly Fresh[]): Promise<Map<string, RunRow>> {
  if (fresh.length === 0) return new Map();
  const events = fresh.flatMap(({ run, journal }) => journal.map((row) => ({ ...row, shard: shardOfRun(run.id), run: escaped(run.id) })));
  const blobs = fresh.flatMap(({ run }) => run.blobs.map((blob) => ({ ...blob, run: escaped(run.id) })));
  const [inserted] = await Promise.all([
    tx.query<RunRecord & { timed: boolean }>(
      insertAt(tx),
      NAMES.map((name) => column(records, name)),
    ),
    tx.query(
      `insert into groundcrew.events (shard, run, last, data) select a.* from ${rowsOf(tx, { shard: "smallint", run: "text", last: "int", data: "text" })}`,
      [column(events, "shard"), column(events, "run"), column(events, "last"), column(events, "data")],
    ),
    ...writeBlobs(tx, blobs),
  ]);
  for (const { run } of fresh) tx.changed.add(run.id);
  if (inserted.some(({ due_at, timed }) => due_at !== null && !timed)) tx.due = true;
  return new Map(inserted.map((record) => [toRunRow(record).id, toRunRow(record)]));
}

/** One turn of a session. */
export async function createTurn(tx: Transaction, start: Start, turn: SessionTurn, auditKey: string | undefined): Promise<Created> {
  const created = await takeTurn(tx, start, turn);
  if (created.outcome === "created") await appendAudit(tx, start.run.audit ?? [], auditKey);
  return created;
}

async function takeTurn(tx: Transaction, { run, worker }: Start, turn: SessionTurn): Promise<Created> {
  const session = await holdSession(tx, run, turn.id);
  const refused = (await withoutParent(tx, [run])).get(run);
  if (refused) throw refused;
  const before = await startedBefore(tx, run);
  if (before) return before;
  if ((await find(tx, [run.id])).size > 0) throw idTaken(run);

  const open = await openTurns(tx, session);
  if (open.length > MAX_QUEUED_TURNS && turn.busy !== "steer") {
    throw new GroundcrewError("INBOX_FULL", `${MAX_QUEUED_TURNS} turns are waiting in session ${turn.id}.`, { retryAfterMs: 1_000 });
  }
  const steered = open[0] ? await meet(tx, run, turn, toRunRow(open[0])) : null;
  if (steered) return steered;

  await remember(tx, run, run.id);
  const number = session.turns + 1;
  const events = run.events.map((event) => (event.type === "run.created" ? { ...event, turn: number } : event));
  const numbered = freshOf({ ...run, events });
  const [inserted] = await Promise.all([
    insert(tx, [recordOf(run, number, open.length > 0, worker)], [numbered]),
    tx.query("update groundcrew.sessions set turns = $4, active_at = $5 where shard = $1 and tenant = $2 and id = $3", [
      session.shard,
      session.tenant,
      session.id,
      number,
      tx.now,
    ]),
  ]);
  return begun(numbered, inserted.get(run.id) as RunRow);
}

/**
 * The session's row, made where there is none, and held: turns are added, and pass, one at a time.
 * @throws GroundcrewError `SESSION_NOT_FOUND` for a session of another agent or person: it shall not even be known to exist.
 */
async function holdSession(tx: Transaction, run: NewRun, id: string): Promise<SessionRecord> {
  const { tenant, user, roles } = run.principal;
  const at = [shardOf(id), escaped(tenant), escaped(id)];
  // One statement: between two of them a sweep could take the session away.
  const [found] = await tx.query<SessionRecord>(
    `insert into groundcrew.sessions (shard, tenant, id, agent, owner, roles, turns, created_at, active_at)
     values ($1, $2, $3, $4, $5, $6, 0, $7, $7)
     on conflict (shard, tenant, id) do update set id = excluded.id returning *`,
    [...at, escaped(run.agent), escaped(user), JSON.stringify(roles), tx.now],
  );
  if (found?.agent !== escaped(run.agent) || found.owner !== escaped(user)) {
    throw new GroundcrewError("SESSION_NOT_FOUND", `There is no session ${JSON.stringify(id)} of this agent and user.`, { value: id });
  }
  return found;
}

async function startedBefore(tx: Transaction, run: NewRun): Promise<Created | null> {
  if (!run.start) return null;
  const { shard, tenant, agent, key: given } = startOf(run);
  const [before] = await tx.query<StartKey>(
    "select * from groundcrew.starts where shard = $1 and tenant = $2 and agent = $3 and key = $4",
    [shard, tenant, agent, given],
  );
  if (!before) return null;
  const started = before.hash === run.start.hash ? [...(await find(tx, [unescaped(before.run)])).values()][0] : undefined;
  if (!started) throw conflict(run);
  return { outcome: "existing", run: started };
}

/** @throws GroundcrewError `START_CONFLICT` when the same key has started a run of another session just now. */
async function remember(tx: Transaction, run: NewRun, started: string): Promise<void> {
  if (!run.start) return;
  const { shard, tenant, agent, key: given, hash } = startOf(run);
  const made = await tx.query(
    `insert into groundcrew.starts (shard, tenant, agent, key, hash, run) values ($1, $2, $3, $4, $5, $6)
     on conflict do nothing returning run`,
    [shard, tenant, agent, given, hash, escaped(started)],
  );
  if (made.length === 0) throw conflict(run);
}

function openTurns(tx: Transaction, { shard, tenant, id }: SessionRecord): Promise<RunRecord[]> {
  return tx.query<RunRecord>(
    "select * from groundcrew.runs where shard = $1 and tenant = $2 and session = $3 and finished_at is null order by turn",
    [shard, tenant, id],
  );
}

/** What a message does that comes while a turn is open. */
async function meet(tx: Transaction, run: NewRun, turn: SessionTurn, open: RunRow): Promise<Created | null> {
  if (turn.busy === "reject") {
    throw new GroundcrewError("SESSION_BUSY", `Run ${open.id} is still answering in session ${turn.id}.`, {
      run: open.id,
      retryAfterMs: 1_000,
    });
  }
  const from = run.principal.user;
  if (turn.busy === "interrupt") {
    await put(tx, { id: `interrupt:${run.id}`, run: open.id, kind: "cancel", name: "cancel", value: INTERRUPTED, from });
  }
  if (turn.busy !== "steer" || (await isCancelled(tx, open.id))) return null;
  const message = { id: run.id, run: open.id, kind: "message" as const, name: "message", value: turn.message, from };
  await mustHaveRoom(tx, open.id);
  await put(tx, message);
  await remember(tx, run, open.id);
  return { outcome: "steered", run: (await find(tx, [open.id])).get(open.id) ?? open };
}

/** Whether the run was asked to end; it will answer no more messages. */
async function isCancelled(tx: Transaction, run: string): Promise<boolean> {
  const found = await tx.query("select 1 from groundcrew.signals where shard = $1 and run = $2 and kind = 'cancel' limit 1", [
    shardOfRun(run),
    escaped(run),
  ]);
  return found.length > 0;
}

const INTERRUPTED = "interrupted by a newer message";

function idTaken(run: NewRun): GroundcrewError {
  return new GroundcrewError("START_CONFLICT", `There is a run ${run.id} already.`, { run: run.id });
}

function conflict(run: NewRun): GroundcrewError {
  const given = run.start?.key ?? "";
  return new GroundcrewError("START_CONFLICT", `The key ${JSON.stringify(given)} has started a run of ${run.agent} with another input.`, {
    value: given,
    fix: "Use a new key for a new request.",
  });
}
