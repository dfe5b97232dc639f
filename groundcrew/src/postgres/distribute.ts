/**
 * Spreads the tables over the machines of a distributed PostgreSQL (Citus): the hot ones by their shard, all alike, so that
 * what belongs together stays on one machine. What is small and shared stays where it is.
 */
import { Client } from "pg";
import { GroundcrewError } from "../errors.ts";
import { mustBeIdle } from "./dump.ts";
import type { Sql } from "./row.ts";

/** Each begins with `shard`, in its keys too. The first is what the others are laid beside. */
export const HOT_TABLES = [
  "runs",
  "events",
  "chunks",
  "signals",
  "sessions",
  "starts",
  "blobs",
  "blob_refs",
  "approvals",
  "audit",
  "audit_heads",
  "deliveries",
] as const;

/** What turns `tables` into distributed ones. */
export function statements(tables: readonly string[]): string[] {
  return tables.map((table) => {
    const beside = table === HOT_TABLES[0] ? "" : `, colocate_with => 'groundcrew.${HOT_TABLES[0]}'`;
    return `select create_distributed_table('groundcrew.${table}', 'shard'${beside})`;
  });
}

/**
 * @returns the tables that were distributed now; none when all of them were before.
 * @param location the URL without its password.
 * @throws GroundcrewError `CONFIG_INVALID` where the extension is not there, `STORE_BUSY` while a worker lives: it would go on as on one machine
 */
export async function distribute(url: string, location: string): Promise<string[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const sql = {
      query: async <T extends object>(text: string, values?: readonly unknown[]) => (await client.query<T>(text, values as unknown[])).rows,
    };
    return await distributeOn(sql, location);
  } finally {
    await client.end();
  }
}

export async function distributeOn(sql: Pick<Sql, "query">, location: string): Promise<string[]> {
  await mustHaveCitus(sql);
  await mustBeIdle(sql, "extract(epoch from clock_timestamp()) * 1000", location);
  const done = await sql.query<{ name: string }>(
    `select c.relname as name from pg_dist_partition p join pg_class c on c.oid = p.logicalrelid
     where c.relnamespace = 'groundcrew'::regnamespace and p.partmethod = 'h'`,
  );
  const missing = HOT_TABLES.filter((table) => !done.some(({ name }) => name === table));
  // One by one: each is a transaction of its own, and what was interrupted goes on where it ended.
  for (const statement of statements(missing)) await sql.query(statement);
  return missing;
}

async function mustHaveCitus(sql: Pick<Sql, "query">): Promise<void> {
  const [found] = await sql.query<{ created: boolean; available: boolean }>(`select
    exists (select 1 from pg_extension where extname = 'citus') as created,
    exists (select 1 from pg_available_extensions where name = 'citus') as available`);
  if (found?.created) return;
  throw new GroundcrewError("CONFIG_INVALID", "This PostgreSQL is not distributed: it has no extension `citus`. Nothing was changed.", {
    fix: found?.available
      ? "Create it with `create extension citus`, add the workers, and try again."
      : "Stay on one server, or move to a PostgreSQL with Citus: `groundcrew store copy`.",
  });
}
