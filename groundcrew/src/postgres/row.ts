/** What the parts of the PostgreSQL store share: statements, one transaction's facts, and rows as the seam knows them. */
import { GroundcrewError } from "../errors.ts";
import type { ParkReason } from "../persistence/event.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import { type Priority, type RunRow, type RunStatus, rolesOf, type SessionRow } from "../persistence/store.ts";
import type { Principal } from "../principal.ts";

/** Runs one statement. A statement on a hot table names the shard, or the shards, that it touches. */
export interface Sql {
  /** Whether the tables are spread over several machines: then a statement that locks rows may touch one shard only. */
  readonly isDistributed: boolean;
  query<T extends object>(text: string, values?: readonly unknown[]): Promise<T[]>;
  /** Runs one that writes. @returns how many rows it wrote. */
  write(text: string, values?: readonly unknown[]): Promise<number>;
}

/** What holds for all statements of one transaction. */
export interface Transaction extends Sql {
  /** The store's clock when it began; known when `begun` is over. */
  readonly now: number;
  readonly begun: Promise<void>;
  /** The same clock, as an SQL expression. */
  readonly clock: string;
  /** Ids of the runs that changed, to be told after the commit. */
  readonly changed: Set<string>;
  /** Those of them that came to their end. */
  readonly ended: Set<string>;
  /** Whether a run may have become due. */
  due: boolean;
}

/** A write did not write what it was to: something is not as it was when it was sent. */
export class Unwritten extends Error {}

/** Of an error that `groundcrew.append_events` raises. */
const UNWRITTEN = "GC001";

export function isUnwritten(error: unknown): boolean {
  return error instanceof Unwritten || (error as { code?: unknown } | null)?.code === UNWRITTEN;
}

/** The items of one statement that locks rows: those of one shard where the tables are distributed, all of them where not. */
export function together<T extends { shard: number }>(sql: Sql, items: readonly T[]): T[][] {
  if (items.length === 0) return [];
  return sql.isDistributed ? [...Map.groupBy(items, (item) => item.shard).values()] : [[...items]];
}

/** As a condition: one of the keys whose shards are $1 and ids $2, pair by pair. */
export function among(sql: Pick<Sql, "isDistributed">, shard: string, id: string): string {
  return `exists (select from unnest($1::smallint[], $2::text[]) k (of_shard, of_id) where ${shard} = k.of_shard and ${id} = k.of_id)${within(sql, shard)}`;
}

/**
 * As one more condition, where the tables are distributed: the shards of $1 by themselves tell which tables are meant. One server
 * knows that without, and would sort the whole list for each row that it looks up: five times the work.
 */
export function within(sql: Pick<Sql, "isDistributed">, shard: string): string {
  return sql.isDistributed ? ` and ${shard} = any($1)` : "";
}

/**
 * Rows `a` in a FROM, given as a list for each of these columns, from $1 on. A list in FROM is first made a table of its own, which for nine
 * of them takes as long as to write a row; in a select all are taken apart side by side. Citus would have them in FROM.
 */
export function rowsOf(sql: Pick<Sql, "isDistributed">, types: Readonly<Record<string, string>>): string {
  const lists = Object.entries(types).map(([name, type], index) => ({ name, list: `$${index + 1}::${type}[]` }));
  if (sql.isDistributed) return `unnest(${lists.map(({ list }) => list).join(", ")}) as a (${Object.keys(types).join(", ")})`;
  return `(select ${lists.map(({ name, list }) => `unnest(${list}) as ${name}`).join(", ")}) a`;
}

/** One column of many rows, as a parameter. */
export function column<T, K extends keyof T>(items: readonly T[], name: K): T[K][] {
  return items.map((item) => item[name]);
}

/** The shards of many rows, each once. */
export function shardsOf(items: readonly { shard: number }[]): number[] {
  return [...new Set(items.map((item) => item.shard))];
}

export interface RunRecord {
  shard: number;
  id: string;
  agent: string;
  status: RunStatus;
  reason: ParkReason | null;
  due_at: number | null;
  start_at: number;
  priority: Priority;
  tenant: string;
  owner: string;
  roles: string;
  session: string | null;
  turn: number | null;
  parent: string | null;
  parent_step: string | null;
  key: string | null;
  worker: string | null;
  epoch: number;
  streamed: boolean;
  created_at: number;
  changed_at: number;
  finished_at: number | null;
  deadline: number;
}

export function toRunRow(record: RunRecord): RunRow {
  return {
    id: unescaped(record.id),
    agent: unescaped(record.agent),
    status: record.status,
    reason: record.reason,
    dueAt: record.due_at,
    principal: principal(record),
    session: record.session === null ? null : unescaped(record.session),
    turn: record.turn,
    parent: record.parent === null ? null : unescaped(record.parent),
    key: record.key === null ? null : unescaped(record.key),
    worker: record.worker,
    epoch: record.epoch,
    createdAt: record.created_at,
    changedAt: record.changed_at,
    deadline: record.deadline,
    priority: record.priority,
  };
}

export interface SessionRecord {
  shard: number;
  tenant: string;
  id: string;
  agent: string;
  owner: string;
  roles: string;
  state: string | null;
  turns: number;
  created_at: number;
  active_at: number;
}

export function toSessionRow(record: SessionRecord): SessionRow {
  return {
    id: unescaped(record.id),
    agent: unescaped(record.agent),
    principal: principal(record),
    state: record.state === null ? null : (JSON.parse(record.state) as JsonValue),
    turns: record.turns,
    createdAt: record.created_at,
    activeAt: record.active_at,
  };
}

function principal(record: { tenant: string; owner: string; roles: string }): Principal {
  return { tenant: unescaped(record.tenant), user: unescaped(record.owner), roles: rolesOf(record.roles) };
}

/**
 * A text that becomes a key. PostgreSQL refuses NUL in a text and a lone surrogate in any encoding: the one is written as an
 * escape, the other refused.
 * @throws GroundcrewError `INPUT_INVALID`
 */
export function key(value: string, what: string): string {
  if (value.isWellFormed()) return escaped(value);
  throw new GroundcrewError("INPUT_INVALID", `The ${what} ${JSON.stringify(value)} is no well-formed Unicode text.`, { value });
}

/** A text as the tables hold it, for one that was `key` before or is only looked for. */
export function escaped(value: string): string {
  return /[\\\0]/.test(value) ? value.replaceAll("\\", "\\\\").replaceAll("\0", "\\0") : value;
}

export function unescaped(value: string): string {
  return value.includes("\\") ? value.replace(/\\(.)/g, (_, next: string) => (next === "0" ? "\0" : next)) : value;
}
