/** Notifications are a hint: whoever may connect can send any, and nobody depends on one. */
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Change, Store } from "../../src/persistence/store.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { createDatabase, dropDatabase, nameOf, run } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { until } from "../support/until.ts";

describePostgres("notifications", () => {
  let url: string;
  let store: Store;

  beforeAll(async () => {
    url = await createDatabase(await sharedPostgres());
    store = await openPostgres(url);
  });
  afterAll(async () => {
    await store?.close();
    if (url) await dropDatabase(url);
  });

  const listening = async () => {
    const query = `select count(*)::int as n from pg_stat_activity where datname = '${nameOf(url)}' and query like 'listen%'`;
    return (await run<{ n: number }>(url, query))[0]?.n ?? 0;
  };

  test("of any kind harm nobody: one that cannot be understood says that anything may have changed", async () => {
    const heard: Change[] = [];
    const stop = store.watch((change) => heard.push(change));
    await until("it listens", async () => (await listening()) === 1);
    const client = new Client({ connectionString: url });
    await client.connect();
    for (const payload of ["", "hello", "null", "{}", "[1]", '{"from":"x","runs":5,"ended":[]}', '{"from":"x","runs":[1],"ended":[]}']) {
      heard.length = 0;
      await client.query("select pg_notify('groundcrew', $1)", [payload]);
      await until(`${payload} is heard`, () => heard.some(({ runs }) => runs === null));
    }
    await client.end();
    stop();
  });

  test("tell of what is about no run, such as a stop: without them it would be seen at the next look only", async () => {
    const [speaker, hearer] = [await openPostgres(url), await openPostgres(url, { pollMs: 3_600_000 })];
    const heard: Change[] = [];
    hearer.watch((change) => heard.push(change));
    for (const act of [() => speaker.stop({ agent: "*", why: "w", by: "b" }, []), () => speaker.lift("*", [])]) {
      await act();
      await until("it is heard", async () => {
        if (heard.splice(0).some(({ runs }) => runs === null)) return true;
        await speaker.stop({ agent: "a", why: "w", by: "b" }, []); // it may not have listened yet
        return false;
      });
    }
    await Promise.all([speaker.close(), hearer.close()]);
  });

  test("cost one connection, however often watchers come and go, and none when the store is closed", async () => {
    for (let i = 0; i < 50; i++) {
      const stops = [store.watch(() => {}), store.watch(() => {})];
      await Promise.resolve();
      for (const stop of stops) stop();
    }
    const stop = store.watch(() => {});
    await until("it listens", async () => (await listening()) > 0);
    expect(await listening()).toBe(1);
    stop();
    await store.close();
    await until("it has let go", async () => (await listening()) === 0);
  });
});
