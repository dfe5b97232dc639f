/** What PostgreSQL is told for the sake of people, and what must not hold anybody up. */
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { thisWorker } from "../../src/persistence/host.ts";
import { newRunId } from "../../src/persistence/id.ts";
import type { Append, Aside, Store } from "../../src/persistence/store.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { createDatabase, dropDatabase, run } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { within } from "../support/until.ts";
import { unitsOf } from "./copy-claims.ts";
import { entryOf, news } from "./people-hands.ts";

const PEOPLE = /groundcrew\.(approvals|audit|audit_heads|deliveries|stops)\b/;

describePostgres("on PostgreSQL", () => {
  let database: string;
  let store: Store;
  const statements: string[] = [];
  const workers: string[] = [];

  beforeAll(async () => {
    database = await createDatabase(await sharedPostgres());
  });
  afterAll(() => dropDatabase(database));
  beforeEach(async () => {
    store = await openPostgres(database, { onQuery: (text) => statements.push(text) });
  });
  afterEach(async () => {
    await Promise.all(workers.splice(0).map((worker) => store.leave(worker)));
    await store.close();
    await run(database, "delete from groundcrew.deliveries; delete from groundcrew.audit; delete from groundcrew.audit_heads");
  });

  /** @returns what appends to a run that is held. */
  async function begin() {
    const at = Date.now();
    const principal = { tenant: "t", user: "u", roles: [] };
    const created = { type: "run.created", agent: "a", principal, deadline: at + 60_000, seq: 1, at } as const;
    const id = newRunId(at);
    await store.create({ id, agent: "a", principal, deadline: at + 60_000, dueAt: at, events: [created], blobs: [] });
    const worker = thisWorker(`worker ${id}`);
    await store.join(worker, 60_000);
    workers.push(worker.id);
    const claims = await store.claim(worker.id, ["a"], 100);
    const epoch = claims.find((claim) => claim.run.id === id)?.epoch ?? 0;
    let seq = 1;
    return (aside?: Partial<Aside>) => {
      const event = { type: "run.released", why: "x", seq: ++seq, at } as const;
      const write: Append = { run: id, worker: worker.id, epoch, events: [event], chunks: [], blobs: [], consumed: [] };
      const whole = { opens: [], closes: [], audit: [], deliveries: [], ...aside };
      return store.append(aside ? { ...write, aside: whole } : write);
    };
  }

  test("an append that is nobody else's business costs the one statement that it did before there were people", async () => {
    const append = await begin();
    await append();
    statements.length = 0;
    await append();
    const own = statements.filter((sql) => !sql.includes("pg_notify"));
    expect(own.filter((sql) => PEOPLE.test(sql))).toEqual([]);
    expect(own).toHaveLength(1);
  });

  test("an aside costs a statement per table, and two per chain, however much is in it", async () => {
    const append = await begin();
    await append();
    statements.length = 0;
    const audit = Array.from({ length: 20 }, (_, n) => entryOf(`${n}`));
    await append({ audit, deliveries: Array.from({ length: 20 }, (_, n) => news(`n${n}`)) });
    expect(statements.filter((sql) => PEOPLE.test(sql))).toHaveLength(4); // news; the chain's head held, its records, its new head
  });

  test("news that somebody else holds is passed by, and keeps nobody waiting", async () => {
    const append = await begin();
    await append({ deliveries: [news("a"), news("b"), news("c")] });
    const somebody = new Client({ connectionString: database });
    await somebody.connect();
    onTestFinished(() => somebody.end());
    await somebody.query("begin");
    await somebody.query("select from groundcrew.deliveries where id = 'b' for update");
    expect((await within("what is free is given", store.takeDeliveries(10, 10_000))).map(({ id }) => id)).toEqual(["a", "c"]);
    await somebody.query("rollback");
    expect((await store.takeDeliveries(10, 10_000)).map(({ id }) => id)).toEqual(["b"]);
  });

  test("records that have lost the end of their chain are not left behind by a dump without a word", async () => {
    await store.record([entryOf("one"), entryOf("two", { tenant: "other" })]);
    await run(database, "delete from groundcrew.audit_heads where tenant = 'other'");
    await expect(unitsOf(store)).rejects.toMatchObject({ code: "STORE_CORRUPT", message: expect.stringContaining('"other"') });
  });
});
