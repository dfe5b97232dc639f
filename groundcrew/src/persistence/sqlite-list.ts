import type { DatabaseSync, StatementSync } from "node:sqlite";
import { GroundcrewError } from "../errors.ts";
import { type RunRecord, row, rows, type SessionRecord, selectRun, toRunRow, toSessionRow } from "./sqlite-row.ts";
import { isTerminal, type RunFilter, type RunRow, type SessionFilter, type SessionRow } from "./store.ts";

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
    if (!found) throw new GroundcrewError("CURSOR_INVALID", `The list cannot go on behind run ${id}: there is no such run.`, { run: id });
    return found.n;
  }

  return {
    run(id: string): RunRow | null {
      const found = row<RunRecord>(run, id);
      return found ? toRunRow(found) : null;
    },

    runs(filter: RunFilter): RunRow[] {
      const { status } = filter;
      const where = conditions([
        ["r.tenant = ?", filter.tenant],
        ["r.user = ?", filter.user],
        ["r.agent = ?", filter.agent],
        ["s.id = ?", filter.session],
        ["r.parent = ?", filter.parent],
        ["r.status in (select value from json_each(?))", status && JSON.stringify(status)],
        ["r.n < ?", filter.before === undefined ? undefined : numberOf(filter.before)],
      ]);
      // Said so that the index over open runs is used: they are few, and finished ones are many.
      if (status && !status.some(isTerminal)) where.sql += " and r.finished_at is null";
      const sql = `${selectRun} where ${where.sql} order by r.n desc limit ?`;
      return rows<RunRecord>(prepare(sql), ...where.bound, filter.limit).map(toRunRow);
    },

    session(tenant: string, id: string): SessionRow | null {
      const found = row<SessionRecord>(session, tenant, id);
      return found ? toSessionRow(found) : null;
    },

    sessions(filter: SessionFilter): SessionRow[] {
      const where = conditions([
        ["tenant = ?", filter.tenant],
        ["user = ?", filter.user],
        ["agent = ?", filter.agent],
        ["active_at < ?", filter.before],
      ]);
      const sql = `select * from sessions where ${where.sql} order by active_at desc, n desc limit ?`;
      return rows<SessionRecord>(prepare(sql), ...where.bound, filter.limit).map(toSessionRow);
    },
  };
}

/** The conditions that were asked for, joined. */
function conditions(all: [sql: string, value: Bound | undefined][]): { sql: string; bound: Bound[] } {
  const asked = all.filter((one): one is [string, Bound] => one[1] !== undefined);
  return { sql: ["true", ...asked.map(([sql]) => sql)].join(" and "), bound: asked.map(([, value]) => value) };
}
