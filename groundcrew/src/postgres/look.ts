/** What is there to take up, for whom: one cheap read over all shards, without a lock. */
import { MAX_LANES } from "../limits.ts";
import type { Candidate } from "../persistence/share.ts";
import { escaped, type Sql } from "./row.ts";

/** A run that was ready when it was looked at. Agent and tenant as the tables hold them. */
export interface Found extends Candidate {
  shard: number;
  id: string;
}

type Queries = Pick<Sql, "query" | "isDistributed">;

export const READY = "due_at is not null and not timed";

/** Of one tenant's runs with one agent, those that go first. */
const first = (agent: string, tenant: string) => `
  select shard, id, agent, tenant, priority, due_at as "dueAt", epoch = 0 as "isNew"
  from groundcrew.runs where agent = ${agent} and tenant = ${tenant} and ${READY} order by priority, due_at, id`;

/**
 * The first ready runs of up to $3 tenants, from tenant $2 on: each tenant costs one step in the index, however many of its
 * runs are waiting.
 */
const LOOK = `
  with recursive lane as (
    select a.agent, (select min(r.tenant) from groundcrew.runs r where r.agent = a.agent and ${READY} and r.tenant >= $2) as tenant
    from unnest($1::text[]) a (agent)
    union all
    select l.agent, (select min(r.tenant) from groundcrew.runs r where r.agent = l.agent and ${READY} and r.tenant > l.tenant)
    from lane l where l.tenant is not null
  ), lanes as materialized (
    select agent, tenant from lane where tenant is not null limit $3
  )
  select c.* from lanes l cross join lateral (
    ${first("l.agent", "l.tenant")} limit (select greatest(1, ceil($3::numeric / count(*)))::int from lanes)
  ) c`;

/** @param from the tenant to begin with. */
export function look(sql: Queries, agents: readonly string[], from: string, wanted: number): Promise<Found[]> {
  const names = agents.map(escaped);
  return sql.isDistributed ? lookOneByOne(sql, names, from, wanted) : sql.query<Found>(LOOK, [names, from, wanted]);
}

/** The same where the tables are distributed: Citus plans neither recursion nor a lateral join over shards. */
async function lookOneByOne(sql: Queries, agents: readonly string[], from: string, wanted: number): Promise<Found[]> {
  const lanes: { agent: string; tenant: string }[] = [];
  let open = agents.map((agent) => ({ agent, tenant: from, passed: false }));
  while (open.length > 0 && lanes.length < Math.min(wanted, MAX_LANES)) {
    const next = await Promise.all(open.map((lane) => nextTenant(sql, lane)));
    open = open.flatMap(({ agent }, index) => {
      const tenant = next[index];
      return tenant == null ? [] : { agent, tenant, passed: true };
    });
    lanes.push(...open);
  }
  const each = Math.ceil(wanted / Math.max(1, lanes.length));
  const found = await Promise.all(
    lanes.slice(0, wanted).map(({ agent, tenant }) => sql.query<Found>(`${first("$1", "$2")} limit $3`, [agent, tenant, each])),
  );
  return found.flat();
}

async function nextTenant(
  sql: Queries,
  { agent, tenant, passed }: { agent: string; tenant: string; passed: boolean },
): Promise<string | null> {
  const [found] = await sql.query<{ tenant: string | null }>(
    `select min(tenant) as tenant from groundcrew.runs where agent = $1 and ${READY} and tenant ${passed ? ">" : ">="} $2`,
    [agent, tenant],
  );
  return found?.tenant ?? null;
}
