/** A claim under quotas, in a database that others use as well. */
import { Client } from "pg";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { thisWorker } from "../../src/persistence/host.ts";
import { newRunId } from "../../src/persistence/id.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { createDatabase, dropDatabase } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { within } from "../support/until.ts";

describePostgres("a claim under quotas on PostgreSQL", () => {
  let database: string;
  beforeAll(async () => {
    database = await createDatabase(await sharedPostgres());
  });
  afterAll(() => dropDatabase(database));

  test("takes no advisory lock, whose number another program may use, and waits for nobody who reads", async () => {
    const statements: string[] = [];
    const store = await openPostgres(database, { onQuery: (text) => statements.push(text) });
    onTestFinished(() => store.close());
    const other = new Client({ connectionString: database });
    await other.connect();
    onTestFinished(() => other.end());

    const [now, principal] = [Date.now(), { tenant: "t", user: "u", roles: [] }];
    const created = { type: "run.created", agent: "a", principal, deadline: now + 60_000, seq: 1, at: now } as const;
    await store.create({ ...created, id: newRunId(now), dueAt: now, events: [created], blobs: [] });
    const worker = thisWorker();
    await store.join(worker, 60_000);
    await other.query("begin; select * from groundcrew.rates");
    statements.length = 0;
    const quota = { concurrency: 1, rate: { runs: 1, perMs: 60_000 } };
    const claims = await within("it has the run", store.claim(worker.id, ["a"], 1, { agent: () => quota, tenant: () => quota }));
    expect(claims).toHaveLength(1);
    expect(statements.filter((text) => /advisory/.test(text))).toEqual([]);
    expect(statements.filter((text) => /^lock table/.test(text))).toHaveLength(1);
  });
});
