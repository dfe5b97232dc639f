/** What many ask for at the same moment about runs of their own. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { newRunId } from "../../src/persistence/id.ts";
import type { NewRun, Store } from "../../src/persistence/store.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { createDatabase, dropDatabase } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";

describePostgres("rows and journals that are asked for at once", () => {
  let database: string;
  let store: Store;
  let spread: Store;
  const runs: string[] = [];
  const statements: string[] = [];

  beforeAll(async () => {
    database = await createDatabase(await sharedPostgres());
    const onQuery = (text: string) => {
      if (!text.includes("pg_notify")) statements.push(text); // announcements of what was written before come when they come
    };
    store = await openPostgres(database, { onQuery });
    spread = await openPostgres(database, { isDistributed: true, onQuery });
    for (let n = 0; n < 5; n++) runs.push((await store.create(newRun(n))).run.id);
  });
  afterAll(async () => {
    await spread?.close();
    await store?.close();
    if (database) await dropDatabase(database);
  });

  /** Each with a journal of its own length. */
  const newRun = (n: number): NewRun => {
    const principal = { tenant: "t", user: "u", roles: [] };
    const created = { type: "run.created", agent: `a${n}`, principal, deadline: 1, seq: 1, at: 0 } as const;
    const more = Array.from({ length: 150 * n }, (_, i) => ({ type: "run.released", why: `${n}`, seq: i + 2, at: 1 }) as const);
    return { id: newRunId(Date.now()), agent: `a${n}`, principal, deadline: 1, dueAt: 0, events: [created, ...more], blobs: [] };
  };
  /** Some twice, and not in the order in which they were made. */
  const asked = [3, 0, 4, 0, 1, 2];
  const ask = <T>(read: (run: string) => Promise<T>) => Promise.all(asked.map((n) => read(runs[n] as string)));

  test.each(["one statement", "a statement each where the tables are distributed"])("are %s, and each gets its own", async (how) => {
    const [of, count] = how === "one statement" ? [store, 1] : [spread, asked.length];
    statements.length = 0;
    const rows = await ask((run) => of.run(run));
    expect(statements.length).toBe(count);
    expect(rows.map((row) => row?.agent)).toEqual(asked.map((n) => `a${n}`));

    statements.length = 0;
    const journals = await ask((run) => of.journal(run));
    expect(statements.length).toBe(count);
    expect(journals.map((events) => events.length)).toEqual(asked.map((n) => 1 + 150 * n));
    expect(journals.every((events) => events.every(({ seq }, i) => seq === i + 1))).toBe(true);

    statements.length = 0;
    const lasts = await ask((run) => of.last(run));
    expect(statements.length).toBe(count);
    expect(lasts.map(({ seq }) => seq)).toEqual(asked.map((n) => 1 + 150 * n));
  });

  test("fail alone for a run that is not there", async () => {
    const [there, nowhere] = [runs[0] as string, newRunId(1)];
    expect((await Promise.all([store.run(there), store.run(nowhere)])).map((row) => row?.id ?? null)).toEqual([there, null]);
    const reads: ((run: string) => Promise<unknown>)[] = [(run) => store.journal(run), (run) => store.last(run)];
    for (const read of reads) {
      const settled = await Promise.allSettled([nowhere, there].map((run) => read(run)));
      expect(settled).toMatchObject([{ status: "rejected", reason: { code: "RUN_NOT_FOUND" } }, { status: "fulfilled" }]);
    }
  });

  test("of one asker who changes what he got are another asker's as they were", async () => {
    const [mine, yours] = await Promise.all([store.journal(runs[0] as string), store.journal(runs[0] as string)]);
    (mine[0] as { agent?: string }).agent = "changed";
    expect(yours[0]).toMatchObject({ agent: "a0" });
  });
});
