/** What the parts of the SQLite store share: one transaction's facts, and rows as the seam knows them. */
import type { SQLOutputValue, StatementSync } from "node:sqlite";
import { GroundcrewError } from "../errors.ts";
import type { ParkReason } from "../persistence/event.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import { type Priority, type RunRow, type RunStatus, rolesOf, type SessionRow } from "../persistence/store.ts";
import type { Principal } from "../principal.ts";

/** What holds for all writes of one flush. */
export interface Transaction {
  /** The store's clock, read behind the write lock. */
  readonly now: number;
  /** Ids of the runs that changed, to be told after the commit. */
  readonly changed: Set<string>;
  /** Those of them that came to their end. */
  ended: Set<string>;
  /** Those of them that have become ready, and that no claim has taken since. */
  readonly due: Set<string>;
  /** Whether something else changed that other processes wait for: a stop, or news for people. */
  told: boolean;
  /** Workers whose lease was looked at, and whether it holds. */
  readonly leases: Map<string, boolean>;
}

type Row = Record<string, SQLOutputValue>;

/** The rows of a query, in the type that its columns have. */
export function rows<T extends Row>(statement: StatementSync, ...bound: (string | number | null)[]): T[] {
  return statement.all(...bound) as T[];
}

/** Its first row. */
export function row<T extends Row>(statement: StatementSync, ...bound: (string | number | null)[]): T | undefined {
  return statement.get(...bound) as T | undefined;
}

export interface RunRecord extends Row {
  n: number;
  id: string;
  agent: string;
  status: RunStatus;
  reason: ParkReason | null;
  due_at: number | null;
  priority: Priority;
  tenant: string;
  user: string;
  roles: string;
  session_id: string | null;
  session: number | null;
  turn: number | null;
  parent: string | null;
  parent_step: string | null;
  key: string | null;
  worker: string | null;
  epoch: number;
  streamed: number;
  created_at: number;
  changed_at: number;
  deadline: number;
}

/** Goes on with `where`. */
export const selectRun = "select r.*, s.id as session_id from runs r left join sessions s on s.n = r.session";

export function toRunRow(record: RunRecord): RunRow {
  return {
    id: record.id,
    agent: record.agent,
    status: record.status,
    reason: record.reason,
    dueAt: record.due_at,
    principal: principal(record),
    session: record.session_id,
    turn: record.turn,
    parent: record.parent,
    key: record.key,
    worker: record.worker,
    epoch: record.epoch,
    createdAt: record.created_at,
    changedAt: record.changed_at,
    deadline: record.deadline,
    priority: record.priority,
  };
}

export interface SessionRecord extends Row {
  n: number;
  id: string;
  agent: string;
  tenant: string;
  user: string;
  roles: string;
  state: string | null;
  turns: number;
  created_at: number;
  active_at: number;
}

export function toSessionRow(record: SessionRecord): SessionRow {
  return {
    id: record.id,
    agent: record.agent,
    principal: principal(record),
    state: record.state === null ? null : (JSON.parse(record.state) as JsonValue),
    turns: record.turns,
    createdAt: record.created_at,
    activeAt: record.active_at,
  };
}

function principal(record: { tenant: string; user: string; roles: string }): Principal {
  return { tenant: record.tenant, user: record.user, roles: rolesOf(record.roles) };
}

/**
 * A text that becomes a key. SQLite stores a lone surrogate as U+FFFD, which would make two different keys one.
 * @throws GroundcrewError `INPUT_INVALID`
 */
export function key(value: string, what: string): string {
  if (value.isWellFormed()) return value;
  throw new GroundcrewError("INPUT_INVALID", `The ${what} ${JSON.stringify(value)} is no well-formed Unicode text.`, { value });
}
