import type { DatabaseSync, StatementSync } from "node:sqlite";
import { noPlace } from "../persistence/page.ts";
import { isTerminal, type RunFilter, type RunRow, type SessionFilter, type SessionRow } from "../persistence/store.ts";
import { type RunRecord, row, rows, type SessionRecord, selectRun, toRunRow, toSessionRow } from "./row.ts";

type Bound = string | number | null;

/** Runs and sessions, one or many. */
export function openLists(db: DatabaseSync) {
  const run = db.prepare(`${selectRun} where r.id = ?`);
  const number = db.prepare("select n from runs where id = ?");
  const session = db.prepare("select * from sessions where tenant = ? and id = ?");
  const prepared = new Map<string, StatementSync>();

  /** As many statements as there are shapes of filters: few. */
  function prepare(sql: string): StatementSync {
    const statement = prepared.get(sql) ?? db.prepare(sql);
    prepared.set(sql, statement);
    return statement;
  }

  function numberOf(id: string): number {
    const found = row<{ n: number }>(number, id);
    if (!found) throw noPlace(id);
    return found.n;
  }

  return {
    run(id: string): RunRow | null {
      const found = row<RunRecord>(run, id);
      return found ? toRunRow(found) : null;
    },

    runs(filter: RunFilter): RunRow[] {
      const { sql, bound } = runsQuery(filter, filter.before === undefined ? undefined : numberOf(filter.before));
      return rows<RunRecord>(prepare(sql), ...bound).map(toRunRow);
    },

    session(tenant: string, id: string): SessionRow | null {
      const found = row<SessionRecord>(session, tenant, id);
      return found ? toSessionRow(found) : null;
    },

    sessions(filter: SessionFilter): SessionRow[] {
      const { sql, bound } = sessionsQuery(filter);
      return rows<SessionRecord>(prepare(sql), ...bound).map(toSessionRow);
    },
  };
}

export interface Query {
  sql: string;
  bound: Bound[];
}

/** @param below the row number of the run behind which the list goes on. */
export function runsQuery({ tenant, user, agent, session, parent, status, limit }: RunFilter, below: number | undefined): Query {
  // Open runs are few and finished ones many: their own index is the one to go by. A plus takes the others out of the choice.
  const onlyOpen = status !== undefined && !status.some(isTerminal);
  const plus = onlyOpen ? "+" : "";
  const order = onlyOpen && tenant === undefined && session === undefined && parent === undefined ? "+r.n" : "r.n";
  const where = conditions([
    ["r.tenant = ?", tenant],
    [`${plus}r.user = ?`, user],
    [`${plus}r.agent = ?`, agent],
    ["r.parent = ?", parent],
    ["r.status in (select value from json_each(?))", status && JSON.stringify(status)],
    ["r.n < ?", below],
  ]);
  if (onlyOpen) where.sql += " and r.finished_at is null";
  if (session !== undefined && tenant !== undefined) {
    where.sql += " and r.session = (select n from sessions where tenant = ? and id = ?)";
    where.bound.push(tenant, session);
  } else if (session !== undefined) {
    where.sql += " and r.session in (select n from sessions where id = ?)";
    where.bound.push(session);
  }
  return { sql: `${selectRun} where ${where.sql} order by ${order} desc limit ?`, bound: [...where.bound, limit] };
}

export function sessionsQuery({ tenant, user, agent, before, limit }: SessionFilter): Query {
  const where = conditions([
    ["tenant = ?", tenant],
    ["user = ?", user],
    ["agent = ?", agent],
  ]);
  if (before) {
    where.sql += " and (active_at, id, tenant) < (?, ?, ?)";
    where.bound.push(before.activeAt, before.id, before.tenant);
  }
  const sql = `select * from sessions where ${where.sql} order by active_at desc, id desc, tenant desc limit ?`;
  return { sql, bound: [...where.bound, limit] };
}

/** The conditions that were asked for, joined. */
function conditions(all: [sql: string, value: Bound | undefined][]): Query {
  const asked = all.filter((one): one is [string, Bound] => one[1] !== undefined);
  return { sql: ["true", ...asked.map(([sql]) => sql)].join(" and "), bound: asked.map(([, value]) => value) };
}
