import { afterAll, describe, expect, test } from "vitest";
import { openPostgres, type PostgresOptions } from "../../src/postgres/open.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { createDatabase, dropDatabase, run } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { conformance, type Ground } from "./conformance.ts";
import { hotTables, lockingAcross, unsharded, writtenTables } from "./shards.ts";

describePostgres("the PostgreSQL store", () => {
  const databases: string[] = [];
  const free: string[] = [];
  const statements = new Set<string>();
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
    const onQuery = (text: string) => statements.add(text);
    const open: Ground["open"] = (more) => openPostgres(database, { ...options, ...more, clock, pollMs: 25, onQuery });
    return {
      clock,
      open,
      isDistributed: options.isDistributed === true,
      remove: () => run(database, EMPTY).then(() => void free.push(database)),
    };
  };

  conformance("PostgreSQL", ground({}));
  describe("shard by shard, as where its tables are distributed", () => conformance("PostgreSQL", ground({ isDistributed: true })));

  test("all that was said above to a hot table named the shard, and what did not locked no row", ({ skip }) => {
    skip(statements.size === 0, "not run: it is about the statements of the whole suite");
    expect(writtenTables(statements)).toEqual(hotTables);
    expect(unsharded(statements)).toEqual([]);
    expect(lockingAcross(statements)).toEqual([]);
  });
});

const EMPTY = `do $$ declare name text; begin
  for name in select tablename from pg_tables where schemaname = 'groundcrew' and tablename <> 'meta' loop
    execute format('delete from groundcrew.%I', name);
  end loop; end $$`;
