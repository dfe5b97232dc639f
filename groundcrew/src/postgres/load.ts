/** Where the store is filled from the pieces of another one: a statement per table and call. */
import { GroundcrewError } from "../errors.ts";
import type { ApprovalRow } from "../persistence/approval.ts";
import { endBy, type StoredBeside, type StoredBlob, type StoredRun, type StoredSession, type StoredUnit } from "../persistence/dump.ts";
import { shardOf, shardOfRun } from "../persistence/id.ts";
import { shardOfNews } from "./delivery.ts";
import { column, escaped, key, type Transaction } from "./row.ts";

/** What is there already stays as it is. @throws GroundcrewError `INPUT_INVALID` for a text that no table can hold, `INTERNAL` */
export async function loadAll(tx: Transaction, units: readonly StoredUnit[]): Promise<void> {
  await insert(
    tx,
    "sessions",
    SESSION,
    units.flatMap((unit) => (unit.kind === "session" ? sessionRecord(unit) : [])),
  );
  await insert(
    tx,
    "blobs",
    BLOB,
    units.flatMap((unit) => (unit.kind === "blob" ? blobRecord(unit) : [])),
  );
  const runs = units.filter((unit) => unit.kind === "run");
  const added = new Set(await insert(tx, "runs", RUN, runs.map(runRecord), "id"));
  const fresh = runs.map((run) => ({ ...run, shard: shardOfRun(run.id), run: key(run.id, "run id") })).filter(({ run }) => added.has(run));
  await insert(
    tx,
    "events",
    EVENT,
    fresh.flatMap(({ shard, run, events }) => events.map((row) => ({ shard, run, ...row }))),
  );
  await insert(
    tx,
    "chunks",
    CHUNK,
    fresh.flatMap(({ shard, run, chunks }) => chunks.map((row) => ({ shard, run, ...row }))),
  );
  await insert(tx, "signals", SIGNAL, fresh.flatMap(signalRecords));
  await insert(
    tx,
    "approvals",
    APPROVAL,
    fresh.flatMap(({ shard, run, approvals }) => (approvals ?? []).map((data) => approvalRecord(shard, run, data))),
  );
  await insert(tx, "starts", START, fresh.flatMap(startRecords));
  await insert(
    tx,
    "blob_refs",
    REF,
    fresh.flatMap(({ run, blobs }) => blobs.map((hash) => ({ shard: shardOf(hash), hash: key(hash, "hash"), run }))),
  );
  await loadBeside(tx, units);
  for (const { id } of fresh) tx.changed.add(id);
  if (fresh.length > 0) tx.due = true;
}

/** What is no run's. */
async function loadBeside(tx: Transaction, units: readonly StoredUnit[]): Promise<void> {
  const audit = units.filter((unit) => unit.kind === "audit").map(({ kind: _, ...record }) => ({ ...record, ...chainOf(record.tenant) }));
  const heads = units.filter((unit) => unit.kind === "head").map(({ kind: _, ...head }) => ({ ...head, ...chainOf(head.tenant) }));
  await insert(tx, "audit", { ...HEAD, record: "text" } as const, audit);
  await insert(tx, "audit_heads", HEAD, heads);
  await insert(tx, "deliveries", DELIVERY, units.filter((unit) => unit.kind === "delivery").map(deliveryRecord));
  await insert(tx, "stops", STOP, units.filter((unit) => unit.kind === "stop").map(stopRecord));
}

/** Rows of one table, in their order. @returns that column of those that were not there. */
async function insert<T extends object>(
  tx: Transaction,
  table: string,
  types: Readonly<Record<keyof T & string, string>>,
  records: readonly T[],
  returning?: keyof T & string,
): Promise<unknown[]> {
  if (records.length === 0) return [];
  const names = Object.keys(types) as (keyof T & string)[];
  const arrays = names.map((name, index) => `$${index + 1}::${types[name]}[]`);
  const inserted = await tx.query<Record<string, unknown>>(
    `insert into groundcrew.${table} (${names.join(", ")})
     select ${names.join(", ")} from unnest(${arrays.join(", ")}) with ordinality as a (${names.join(", ")}, place) order by place
     on conflict do nothing ${returning ? `returning ${returning}` : ""}`,
    names.map((name) => column(records, name)),
  );
  return returning ? inserted.map((row) => row[returning]) : [];
}

const SESSION = {
  shard: "smallint",
  tenant: "text",
  id: "text",
  agent: "text",
  owner: "text",
  roles: "text",
  state: "text",
  turns: "integer",
  created_at: "bigint",
  active_at: "bigint",
} as const;

function sessionRecord(session: StoredSession) {
  return {
    shard: shardOf(session.id),
    tenant: key(session.tenant, "tenant"),
    id: key(session.id, "session id"),
    agent: key(session.agent, "agent"),
    owner: key(session.user, "user"),
    roles: JSON.stringify(session.roles),
    state: session.state,
    turns: session.turns,
    created_at: session.createdAt,
    active_at: session.activeAt,
  };
}

const BLOB = { shard: "smallint", hash: "text", data: "text" } as const;

function blobRecord({ hash, data }: StoredBlob) {
  return { shard: shardOf(hash), hash: key(hash, "hash"), data };
}

const REF = { shard: "smallint", hash: "text", run: "text" } as const;

const RUN = {
  shard: "smallint",
  id: "text",
  agent: "text",
  status: "text",
  reason: "text",
  due_at: "bigint",
  timed: "boolean",
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
  worker: "text",
  epoch: "integer",
  streamed: "boolean",
  created_at: "bigint",
  changed_at: "bigint",
  finished_at: "bigint",
  deadline: "bigint",
  end_by: "bigint",
} as const;

function runRecord(run: StoredRun) {
  const text = (value: string | null, what: string) => (value === null ? null : key(value, what));
  if (run.session !== null && shardOf(run.session) !== shardOfRun(run.id)) {
    throw new GroundcrewError("INTERNAL", `The id of run ${run.id} names another shard than its session ${run.session}.`, { run: run.id });
  }
  return {
    shard: shardOfRun(run.id),
    id: key(run.id, "run id"),
    agent: key(run.agent, "agent"),
    status: run.status,
    reason: run.reason,
    due_at: run.dueAt,
    timed: run.timed,
    start_at: run.startAt,
    priority: run.priority,
    tenant: key(run.tenant, "tenant"),
    owner: key(run.user, "user"),
    roles: JSON.stringify(run.roles),
    session: text(run.session, "session id"),
    turn: run.turn,
    parent: text(run.parent, "parent"),
    parent_step: text(run.parentStep, "step"),
    key: text(run.key, "start key"),
    worker: run.worker,
    epoch: run.epoch,
    streamed: run.chunks.length > 0,
    created_at: run.createdAt,
    changed_at: run.changedAt,
    finished_at: run.finishedAt,
    deadline: run.deadline,
    end_by: endBy(run),
  };
}

const EVENT = { shard: "smallint", run: "text", last: "integer", data: "text" } as const;
const CHUNK = { shard: "smallint", run: "text", after: "integer", first: "integer", last: "integer", data: "text" } as const;

const SIGNAL = {
  shard: "smallint",
  run: "text",
  id: "text",
  kind: "text",
  name: "text",
  value: "text",
  sender: "text",
  at: "bigint",
  consumed: "boolean",
} as const;

/** A run with its key in the tables. */
type Fresh = StoredRun & { shard: number; run: string };

function signalRecords({ shard, run, signals }: Fresh) {
  return signals.map(({ id, name, from, ...signal }) => ({
    shard,
    run,
    id: key(id, "signal id"),
    name: key(name, "signal name"),
    sender: from === null ? null : key(from, "sender"),
    ...signal,
  }));
}

const APPROVAL = {
  shard: "smallint",
  id: "text",
  run: "text",
  tenant: "text",
  status: "text",
  requested_at: "bigint",
  data: "text",
} as const;

function approvalRecord(shard: number, run: string, data: string) {
  const { id, tenant, status, requestedAt } = JSON.parse(data) as ApprovalRow;
  return { shard, id: key(id, "approval id"), run, tenant: key(tenant, "tenant"), status, requested_at: requestedAt, data };
}

const START = { shard: "smallint", tenant: "text", agent: "text", key: "text", hash: "text", run: "text" } as const;

function startRecords({ run, tenant, agent, starts }: Fresh) {
  return starts.map((start) => ({
    shard: shardOf([tenant, agent, start.key].join("\0")),
    tenant: key(tenant, "tenant"),
    agent: key(agent, "agent"),
    key: key(start.key, "start key"),
    hash: start.hash,
    run,
  }));
}

const HEAD = { shard: "smallint", tenant: "text", seq: "bigint", hash: "text" } as const;

function chainOf(tenant: string) {
  return { shard: shardOf(tenant), tenant: key(tenant, "tenant") };
}

const DELIVERY = {
  shard: "smallint",
  id: "text",
  run: "text",
  data: "text",
  created_at: "bigint",
  due_at: "bigint",
  failures: "integer",
  state: "text",
  why: "text",
  ended_at: "bigint",
} as const;

function deliveryRecord(delivery: Extract<StoredBeside, { kind: "delivery" }>) {
  const { id, run, data, createdAt, dueAt, failures, state, why, endedAt } = delivery;
  return {
    shard: shardOfNews(JSON.parse(data)),
    id,
    run: run === null ? null : key(run, "run id"),
    data,
    created_at: createdAt,
    due_at: dueAt,
    failures,
    state,
    why: why === null ? null : escaped(why),
    ended_at: endedAt,
  };
}

const STOP = { agent: "text", why: "text", by: "text", at: "bigint" } as const;

function stopRecord({ agent, why, by, at }: Extract<StoredBeside, { kind: "stop" }>) {
  return { agent: key(agent, "agent"), why: escaped(why), by: escaped(by), at };
}
