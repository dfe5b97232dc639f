/** The schema in PostgreSQL: who makes it, who waits, who is refused, and two releases on one database. */
import { Client } from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { thisWorker } from "../../src/persistence/host.ts";
import { newRunId } from "../../src/persistence/id.ts";
import type { NewRun, Store } from "../../src/persistence/store.ts";
import { migrate } from "../../src/postgres/migrate.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { type Migration, migrations } from "../../src/postgres/schema.ts";
import { createDatabase, dropDatabase, run } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";

/** The schema version of today. */
const TODAY = migrations.length;
const expand: Migration = { worksFor: 1, sql: "alter table groundcrew.runs add column note text" };
const contract: Migration = { worksFor: TODAY + 1, sql: "alter table groundcrew.runs drop column reason" };

describePostgres("migrations", () => {
  let url: string;
  const clients: Client[] = [];

  beforeEach(async () => {
    url = await createDatabase(await sharedPostgres());
  });

  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.end()));
    await dropDatabase(url);
  });

  /** A connection, and what was asked on it. */
  async function connect(as = url) {
    const client = new Client({ connectionString: as });
    client.on("error", () => {});
    await client.connect();
    clients.push(client);
    const asked: string[] = [];
    return {
      asked,
      async query<T extends object>(text: string, values?: readonly unknown[]): Promise<T[]> {
        asked.push(text);
        return (await client.query<T>(text, values as unknown[])).rows;
      },
    };
  }

  const up = async (to: readonly Migration[], as = url) => migrate(await connect(as), to, "here");
  const version = () => run(url, "select version, works_for from groundcrew.meta");
  const refused = (promise: Promise<unknown>, code: string, message: RegExp) =>
    expect(promise).rejects.toMatchObject({ code, message: expect.stringMatching(message) });

  const newRun = (): NewRun => {
    const principal = { tenant: "t", user: "u", roles: [] };
    const created = { type: "run.created", agent: "a", principal, deadline: 1, seq: 1, at: 0 } as const;
    return { id: newRunId(Date.now()), agent: "a", principal, deadline: 1, dueAt: 0, events: [created], blobs: [] };
  };

  /** A run's whole life on that store. */
  async function fly(store: Store): Promise<string> {
    const { run } = await store.create(newRun());
    const worker = thisWorker();
    await store.join(worker, 10_000);
    const [claim] = await store.claim(worker.id, ["a"], 1);
    const write = { run: run.id, worker: worker.id, epoch: claim?.epoch ?? 0, chunks: [], blobs: [], consumed: [] };
    await store.append({ ...write, events: [{ type: "run.succeeded", seq: 2, at: 0 }], next: { to: "succeeded" } });
    await store.leave(worker.id);
    return run.id;
  }

  test("processes that start together on an empty database all find it whole, made once", async () => {
    let made = 0;
    const counting: Migration = { worksFor: 1, sql: "select pg_sleep(0.05)" };
    const steps = [...migrations, counting];
    const starts = Array.from({ length: 6 }, async () => {
      const sql = await connect();
      await migrate(sql, steps, "here");
      made += sql.asked.filter((text) => text === counting.sql).length;
    });
    await Promise.all(starts);
    expect(made).toBe(1);
    expect(await version()).toEqual([{ version: TODAY + 1, works_for: 1 }]);
  });

  test("nothing to do is one statement, without a lock", async () => {
    await up(migrations);
    const sql = await connect();
    await migrate(sql, migrations, "here");
    expect(sql.asked).toEqual(["select version, works_for from groundcrew.meta"]);
  });

  test("one that fails leaves nothing of itself, and the one before it stays", async () => {
    const broken: Migration = { worksFor: 1, sql: "create table groundcrew.half (n int); select 1 / 0" };
    await expect(up([...migrations, expand, broken])).rejects.toThrow(/division by zero/);
    expect(await version()).toEqual([{ version: TODAY + 1, works_for: 1 }]);
    expect(await run(url, "select to_regclass('groundcrew.half') as half")).toEqual([{ half: null }]);
    await up([...migrations, expand]);
  });

  test("an old release goes on while the schema is expanded under it, and starts on the expanded one", async () => {
    const running = await openPostgres(url);
    await fly(running);
    await up([...migrations, expand]);
    await fly(running);
    await running.close();
    const restarted = await openPostgres(url);
    await fly(restarted);
    await restarted.close();
    expect(await version()).toEqual([{ version: TODAY + 1, works_for: 1 }]);
  });

  test("a release that the contracted schema is no longer for is refused, and changes nothing", async () => {
    await up([...migrations, expand, contract]);
    expect(await version()).toEqual([{ version: TODAY + 2, works_for: TODAY + 1 }]);
    await refused(
      openPostgres(url),
      "STORE_TOO_NEW",
      new RegExp(`schema version ${TODAY + 2}, for releases that know version ${TODAY + 1}`),
    );
    await refused(up(migrations), "STORE_TOO_NEW", new RegExp(`this one knows versions up to ${TODAY}`));
    await up([...migrations, expand]); // the release in between, which wrote both forms
    expect(await version()).toEqual([{ version: TODAY + 2, works_for: TODAY + 1 }]);
  });

  test("an old process that waits for the lock while a newer one contracts is refused behind it", async () => {
    const blocker = await connect();
    await blocker.query("begin");
    await blocker.query("select pg_advisory_xact_lock($1)", [0x47435257]);
    const old = up(migrations);
    const settled = expect(old).rejects.toMatchObject({ code: "STORE_TOO_NEW" });
    await expect.poll(() => run(url, "select 1 from pg_locks where locktype = 'advisory' and not granted")).toHaveLength(1);
    await blocker.query("create schema groundcrew");
    await blocker.query("create table groundcrew.meta (version int, works_for int)");
    await blocker.query("insert into groundcrew.meta values (9, 8)");
    await blocker.query("commit");
    await settled;
  });

  test("a schema of that name that is not ours is refused and left as it is", async () => {
    await run(url, "create schema groundcrew; create table groundcrew.theirs (n int)");
    await refused(openPostgres(url), "STORE_CORRUPT", /a schema `groundcrew` that is not a store of Groundcrew/);
    await run(url, "create table groundcrew.meta (something text)");
    await refused(openPostgres(url), "STORE_CORRUPT", /that is not a store/);
    const tables = await run(url, "select relname from pg_class where relnamespace = 'groundcrew'::regnamespace order by 1");
    expect(tables).toEqual([{ relname: "meta" }, { relname: "theirs" }]);
  });

  test("a user without the right to make a schema is told what an administrator has to run, and then needs no more", async () => {
    const role = `groundcrew_test_${Date.now()}`;
    await run(url, `create role ${role} login`);
    const as = url.replace("//postgres@", `//${role}@`);
    try {
      await refused(openPostgres(as), "STORE_UNAVAILABLE", /lacks a right on postgres:.*create schema groundcrew authorization/);
      await run(url, `create schema groundcrew authorization ${role}`);
      const store = await openPostgres(as);
      await fly(store);
      await store.close();
    } finally {
      await Promise.all(clients.splice(0).map((client) => client.end()));
      await run(url, `drop owned by ${role} cascade; drop role ${role}`);
    }
  });

  test("a table in use is waited for in short turns, in which the others get on, and then migrated", async () => {
    await up(migrations);
    const reader = await connect();
    await reader.query("begin");
    await reader.query("select 1 from groundcrew.runs"); // a lock that altering the table has to wait for
    const migrating = up([...migrations, expand]);
    await expect
      .poll(() => run(url, "select 1 from pg_locks where relation = 'groundcrew.runs'::regclass and not granted"))
      .toHaveLength(1);
    const store = await openPostgres(url);
    const began = performance.now();
    await store.create(newRun()); // behind the migration in the queue, until that gives up its place
    expect(performance.now() - began).toBeLessThan(5_000);
    await store.close();
    await reader.query("commit");
    await migrating;
    expect(await version()).toEqual([{ version: TODAY + 1, works_for: 1 }]);
  });
});
