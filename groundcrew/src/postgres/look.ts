/** What is there to take up, for whom: cheap reads over all shards, without a lock. */
import { MAX_LANES } from "../limits.ts";
import type { Candidate } from "../persistence/share.ts";
import type { Sql } from "./row.ts";

/** A run that was ready when it was looked at. Agent and tenant as the tables hold them. */
export interface Found extends Candidate {
  shard: number;
  id: string;
}

/** For which agents: those of which new runs may begin, and those of which only runs may go on that have begun. */
export interface Wanted {
  fresh: readonly string[];
  spent: readonly string[];
}

/** What was seen: the first ready runs of each tenant, up to `each` of them. */
export interface Look {
  found: Found[];
  tenants: string[];
  each: number;
}

type Queries = Pick<Sql, "query" | "isDistributed">;

export const READY = "due_at is not null and not timed";
const RESUMED = `${READY} and epoch > 0`;

const COLUMNS = `shard, id, agent, tenant, priority, due_at as "dueAt", epoch = 0 as "isNew"`;
const ORDER = "order by priority, due_at, id";

/** Of one tenant's runs with one agent, those that go first. */
const first = (agent: string, tenant: string, which: string) =>
  `select ${COLUMNS}, due_at from groundcrew.runs where agent = ${agent} and tenant = ${tenant} and ${which} ${ORDER}`;

/** Of each agent the run that goes first, of one tenant after the other: a step in the index for each. */
const heads = (name: string, agents: string, which: string) => {
  const head = (than: string) =>
    `select r.tenant, r.priority, r.due_at, r.id from groundcrew.runs r where r.agent = a.agent and ${which} and r.tenant ${than}
     order by r.tenant, r.priority, r.due_at, r.id limit 1`;
  return `${name} as (
    select a.agent, 1 as n, h.* from unnest(${agents}::text[]) a (agent) cross join lateral (${head(">= $3")}) h
    union all
    select a.agent, a.n + 1, h.* from ${name} a cross join lateral (${head("> a.tenant")}) h where a.n < $4::int
  )`;
};

const EACH = "(select greatest(1, ceil($5::numeric / count(*)))::int from lanes)";

/** What stands behind the heads, for the tenants that were chosen. */
const behindHeads = (name: string, which: string) =>
  `select f.* from ${name} a cross join lateral (
    select ${COLUMNS} from groundcrew.runs
    where agent = a.agent and tenant = a.tenant and ${which} and (priority, due_at, id) >= (a.priority, a.due_at, a.id) ${ORDER} limit ${EACH}
  ) f where a.tenant <= (select max(tenant) from lanes)`;

/**
 * The first ready runs of up to $4 tenants, from tenant $3 on: what it costs does not depend on how many of their runs are waiting.
 * What was ready once and is not any more stands in the index, before all that came later, until the server vacuums. It is passed by
 * once: the second step goes on at the head that the first has found. Tenant by tenant, whatever the agent: that is the order of turns.
 */
const LOOK = `
  with recursive ${heads("fresh", "$1", READY)}, ${heads("spent", "$2", RESUMED)}, lanes as materialized (
    select tenant from fresh union select tenant from spent order by tenant limit $4::int
  )
  ${behindHeads("fresh", READY)} union all ${behindHeads("spent", RESUMED)}
  order by tenant, priority, "dueAt", id`;

/** @param from the tenant to begin with. @param runs how many are wanted, of all tenants together. */
export async function look(sql: Queries, wanted: Wanted, from: string, lanes: number, runs: number): Promise<Look> {
  if (sql.isDistributed) return lookOneByOne(sql, wanted, from, Math.min(lanes, MAX_LANES), runs);
  const found = await sql.query<Found>(LOOK, [wanted.fresh, wanted.spent, from, lanes, runs]);
  const tenants = [...new Set(found.map(({ tenant }) => tenant))].sort(byBytes);
  return { found, tenants, each: Math.ceil(runs / Math.max(1, tenants.length)) };
}

/** The same where the tables are distributed: Citus plans neither recursion nor a lateral join over shards. */
async function lookOneByOne(sql: Queries, { fresh, spent }: Wanted, from: string, lanes: number, runs: number): Promise<Look> {
  const sources = [...fresh.map((agent) => ({ agent, which: READY })), ...spent.map((agent) => ({ agent, which: RESUMED }))];
  const tenants: string[] = [];
  while (tenants.length < lanes) {
    const last = tenants.at(-1);
    const next = await Promise.all(
      sources.map(async ({ agent, which }) => {
        const text = `select min(tenant) as tenant from groundcrew.runs where agent = $1 and ${which} and tenant ${last === undefined ? ">=" : ">"} $2`;
        return (await sql.query<{ tenant: string | null }>(text, [agent, last ?? from]))[0]?.tenant ?? [];
      }),
    );
    const [tenant] = next.flat().sort(byBytes);
    if (tenant === undefined) break;
    tenants.push(tenant);
  }
  const each = Math.ceil(runs / Math.max(1, tenants.length));
  const found = await Promise.all(tenants.flatMap((tenant) => sources.map((source) => firstOf(sql, source, tenant, each))));
  return { found: found.flat(), tenants, each };
}

/** Of tenants whose rate is used up: what has begun already, which may stand behind any number of new runs. */
export async function lookForResumed(sql: Queries, agents: readonly string[], tenants: readonly string[], each: number): Promise<Found[]> {
  const found = await Promise.all(
    tenants.flatMap((tenant) => agents.map((agent) => firstOf(sql, { agent, which: RESUMED }, tenant, each))),
  );
  return found.flat();
}

/** Runs that a worker is only to end, the longest overdue first. */
export async function lookForLate(sql: Queries, agents: readonly string[], now: number, limit: number): Promise<Found[]> {
  const text = `select ${COLUMNS}, end_by from groundcrew.runs where agent = $1 and ${READY} and end_by > 0 and end_by <= $2 order by end_by limit $3`;
  const found = await Promise.all(agents.map((agent) => sql.query<Found & { end_by: number }>(text, [agent, now, limit])));
  return found
    .flat()
    .sort((a, b) => a.end_by - b.end_by)
    .slice(0, limit);
}

function firstOf(sql: Queries, { agent, which }: { agent: string; which: string }, tenant: string, limit: number): Promise<Found[]> {
  return sql.query<Found>(`${first("$1", "$2", which)} limit $3`, [agent, tenant, limit]);
}

/** As PostgreSQL orders text with the collation "C". */
function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
