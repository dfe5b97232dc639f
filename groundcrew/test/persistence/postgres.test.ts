import { afterAll, describe } from "vitest";
import { openPostgres, type PostgresOptions } from "../../src/postgres/open.ts";
import { createDatabase, dropDatabase, run } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { conformance } from "./conformance.ts";
import { FakeClock } from "./fake-clock.ts";

describePostgres("the PostgreSQL store", () => {
  const databases: string[] = [];
  const free: string[] = [];
  afterAll(() => Promise.all(databases.map(dropDatabase)));

  /** One that a test before has left behind, emptied: much faster than a new one. */
  const take = async () => {
    const found = free.pop();
    if (found) return found;
    const made = await createDatabase(await sharedPostgres());
    databases.push(made);
    return made;
  };

  const ground = (options: PostgresOptions) => async () => {
    const database = await take();
    const clock = new FakeClock();
    const open = () => openPostgres(database, { ...options, clock });
    return { clock, open, remove: () => empty(database).then(() => void free.push(database)) };
  };

  conformance("PostgreSQL", ground({}));
  describe("shard by shard, as where its tables are distributed", () => conformance("PostgreSQL", ground({ isDistributed: true })));
});

async function empty(database: string): Promise<void> {
  const tables = await run<{ name: string }>(
    database,
    "select tablename as name from pg_tables where schemaname = 'groundcrew' and tablename <> 'meta'",
  );
  await run(database, tables.map(({ name }) => `delete from groundcrew.${name}`).join("; "));
}
