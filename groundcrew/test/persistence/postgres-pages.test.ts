/** What many readers of one process ask in the same moment. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { newRunId } from "../../src/persistence/id.ts";
import type { NewRun, Store } from "../../src/persistence/store.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { createDatabase, dropDatabase } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";

describePostgres("pages that are asked for at once", () => {
  let database: string;
  let store: Store;
  const runs: string[] = [];
  let statements = 0;
  const start = { seq: 0, chunk: 0 };

  beforeAll(async () => {
    database = await createDatabase(await sharedPostgres());
    const onQuery = (text: string) => {
      if (!text.includes("pg_notify")) statements++; // announcements of what was written before come when they come
    };
    store = await openPostgres(database, { onQuery });
    for (let n = 0; n < 5; n++) runs.push((await store.create(newRun())).run.id);
  });
  afterAll(async () => {
    await store?.close();
    if (database) await dropDatabase(database);
  });

  const newRun = (): NewRun => {
    const principal = { tenant: "t", user: "u", roles: [] };
    const created = { type: "run.created", agent: "a", principal, deadline: 1, seq: 1, at: 0 } as const;
    return { id: newRunId(Date.now()), agent: "a", principal, deadline: 1, dueAt: 0, events: [created], blobs: [] };
  };

  test("are one statement, whoever asks for how many runs, and each gets its own", async () => {
    statements = 0;
    const pages = await Promise.all(Array.from({ length: 100 }, (_, n) => store.read(runs[n % 5] as string, start, 10)));
    expect(statements).toBe(1);
    expect(pages.every(({ items }) => items.length === 1)).toBe(true);
    (pages[0]?.items[0] as { agent?: string }).agent = "changed by whoever got it";
    expect(pages[5]?.items[0]).toMatchObject({ agent: "a" });
  });

  test("fail alone: for a run that is not there, or a place that it has not reached", async () => {
    const asked = [
      store.read(runs[0] as string, start, 10),
      store.read(newRunId(1), start, 10),
      store.read(runs[1] as string, { seq: 9, chunk: 0 }, 10),
    ];
    const [found, missing, ahead] = await Promise.allSettled(asked);
    expect(found).toMatchObject({ status: "fulfilled", value: { items: [{ seq: 1 }], more: false } });
    expect(missing).toMatchObject({ status: "rejected", reason: { code: "RUN_NOT_FOUND" } });
    expect(ahead).toMatchObject({ status: "rejected", reason: { code: "CURSOR_INVALID" } });
  });
});
