/**
 * Runs and sessions, one or many. A single one is looked up by its shard; a list goes over all shards, down the index of its
 * filter: `runs_newest`, `runs_tenant`, `runs_owner`, `runs_agent`, `runs_turns`, `runs_children`, `runs_open`, and for sessions
 * `sessions_active`, `sessions_tenant`, `sessions_owner`.
 */
import { shardOf, shardOfRun } from "../persistence/id.ts";
import { noPlace } from "../persistence/page.ts";
import { isTerminal, type RunFilter, type RunRow, type SessionFilter, type SessionRow } from "../persistence/store.ts";
import { among, escaped, type RunRecord, type SessionRecord, type Sql, toRunRow, toSessionRow } from "./row.ts";

type Queries = Pick<Sql, "query" | "isDistributed">;

export async function findRun(sql: Queries, id: string): Promise<RunRow | null> {
  const [found] = await sql.query<RunRecord>("select * from groundcrew.runs where shard = $1 and id = $2", [shardOfRun(id), escaped(id)]);
  return found ? toRunRow(found) : null;
}

/** For each id its run, or null. */
export async function findRuns(sql: Queries, ids: readonly string[]): Promise<(RunRow | null)[]> {
  if (ids.length === 1) return [await findRun(sql, ids[0] as string)];
  const found = await sql.query<RunRecord>(`select r.* from groundcrew.runs r where ${among(sql, "r.shard", "r.id")}`, [
    ids.map(shardOfRun),
    ids.map(escaped),
  ]);
  const runs = new Map(found.map(toRunRow).map((run) => [run.id, run]));
  return ids.map((id) => runs.get(id) ?? null);
}

/** Newest first. @throws GroundcrewError `CURSOR_INVALID` */
export async function listRuns(sql: Queries, filter: RunFilter): Promise<RunRow[]> {
  const { before } = filter;
  const place = before === undefined ? null : await findRun(sql, before);
  if (before !== undefined && !place) throw noPlace(before);
  const { text, values } = runsQuery(filter, place);
  return (await sql.query<RunRecord>(text, values)).map(toRunRow);
}

export async function findSession(sql: Queries, tenant: string, id: string): Promise<SessionRow | null> {
  const [found] = await sql.query<SessionRecord>("select * from groundcrew.sessions where shard = $1 and tenant = $2 and id = $3", [
    shardOf(id),
    escaped(tenant),
    escaped(id),
  ]);
  return found ? toSessionRow(found) : null;
}

/** Last active first. */
export async function listSessions(sql: Queries, filter: SessionFilter): Promise<SessionRow[]> {
  const { text, values } = sessionsQuery(filter);
  return (await sql.query<SessionRecord>(text, values)).map(toSessionRow);
}

interface Query {
  text: string;
  values: unknown[];
}

function runsQuery({ tenant, user, agent, session, parent, status, limit }: RunFilter, before: RunRow | null): Query {
  const where = new Conditions();
  where.and("tenant =", tenant);
  where.and("owner =", user);
  where.and("agent =", agent);
  if (session !== undefined) where.and("shard =", shardOf(session));
  where.and("session =", session);
  where.and("parent =", parent);
  // Turns of one session have an order of their own; ids follow the clocks of the processes that made them.
  const inTurn = session !== undefined && tenant !== undefined && (before === null || before.session === session);
  where.and(inTurn ? "turn <" : "id <", inTurn ? (before?.turn ?? undefined) : before?.id);
  if (status) where.and("status = any", status);
  // Open runs are few and finished ones many: going down all runs for the few would be long. Only the empty text, which takes
  // the order out of the choice of the index, keeps the planner from it.
  const onlyOpen = status !== undefined && !status.some(isTerminal);
  if (onlyOpen) where.and("finished_at is null");
  if (inTurn) return where.query("select * from groundcrew.runs", "order by turn desc", limit);
  const order = onlyOpen && tenant === undefined && session === undefined && parent === undefined ? "id || ''" : "id";
  return where.query("select * from groundcrew.runs", `order by ${order} desc`, limit);
}

function sessionsQuery({ tenant, user, agent, before, limit }: SessionFilter): Query {
  const where = new Conditions();
  where.and("tenant =", tenant);
  where.and("owner =", user);
  where.and("agent =", agent);
  if (before) where.and("(active_at, id, tenant) <", before.activeAt, before.id, before.tenant);
  return where.query("select * from groundcrew.sessions", "order by active_at desc, id desc, tenant desc", limit);
}

type Value = string | number | readonly string[] | undefined;

/** What was asked for, joined; what is undefined was not. */
class Conditions {
  readonly #conditions: string[] = [];
  readonly #values: unknown[] = [];

  /** @param condition one that the values complete, or that is complete without. */
  and(condition: string, ...values: Value[]): void {
    if (values.some((value) => value === undefined)) return;
    const places = values.map((value) => `$${this.#values.push(typeof value === "string" ? escaped(value) : value)}`);
    this.#conditions.push(places.length === 0 ? condition : `${condition} (${places.join(", ")})`);
  }

  query(select: string, order: string, limit: number): Query {
    const where = this.#conditions.length > 0 ? ` where ${this.#conditions.join(" and ")}` : "";
    return { text: `${select}${where} ${order} limit $${this.#values.length + 1}`, values: [...this.#values, limit] };
  }
}
