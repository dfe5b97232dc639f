/** Through a pooler in transaction mode, and with announcements that nobody hears: nothing relies on a session of the server. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { flow } from "../../src/agent.ts";
import type { Change } from "../../src/persistence/store.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { type Crew, groundcrew } from "../../src/runtime.ts";
import { readAll } from "../support/crew.ts";
import { createDatabase, dropDatabase, run as sql } from "../support/database.ts";
import { Pooler } from "../support/pooler.ts";
import { TcpProxy } from "../support/proxy.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { until, within } from "../support/until.ts";

const work = flow("work", async (ctx, input: number) => {
  const first = await ctx.step("first", { effect: "read" }, () => input);
  await ctx.sleep(10);
  const said = await ctx.waitFor<number>("said");
  return ctx.step("last", () => first + (said ?? 0));
});

describePostgres("a pooler in transaction mode", () => {
  let direct: string;
  let pooler: Pooler;
  const crews: Crew[] = [];
  const crewOn = (store: string, worker?: false): Crew => {
    const crew = groundcrew({ agents: [work], store, ...(worker === false && { worker }) });
    crews.push(crew);
    return crew;
  };

  beforeEach(async () => {
    direct = await createDatabase(await sharedPostgres());
    pooler = await Pooler.before(direct, 3);
  });
  afterEach(async () => {
    await Promise.all(crews.splice(0).map((crew) => crew.close()));
    await pooler.close();
    await dropDatabase(direct);
  });

  test("carries two workers and an API process: every run ends, and is read as it was", async () => {
    const workers = [crewOn(pooler.url), crewOn(pooler.url)];
    await Promise.all(workers.map((crew) => crew.work()));
    const api = crewOn(pooler.url, false);
    const runs = await Promise.all(Array.from({ length: 30 }, (_, n) => api.start(work, { input: n })));
    const feeds = runs.map((run) => readAll(run));
    await Promise.all(runs.map((run, n) => run.signal("said", n)));
    const results = await Promise.all(runs.map((run) => within(`run ${run.id} ends`, run.result())));
    expect(results).toEqual(runs.map((_, n) => 2 * n));
    for (const [n, run] of runs.entries())
      expect((await feeds[n])?.map(({ cursor }) => cursor)).toEqual((await run.journal()).map(({ seq }) => String(seq)));
    expect(pooler.swaps, "connections that went to another client").toBeGreaterThan(30);
    const [found] = await sql<{ n: string }>(
      direct,
      "select count(*) as n from pg_stat_activity where application_name = 'pooler' and datname = current_database()",
    );
    expect(Number(found?.n)).toBeLessThanOrEqual(3);
  });
});

describePostgres("a prepared statement", () => {
  test("has a name that means the same in every process", async () => {
    const direct = await createDatabase(await sharedPostgres());
    const proxy = await TcpProxy.before(Number(new URL(direct).port));
    const named = new Map<string, Set<string>>();
    proxy.tap = (data, { from }) => {
      if (from === "server") return "pass";
      for (const [, name = "", text = ""] of data.toString("latin1").matchAll(/P.{4}(groundcrew_\w+)\0([^\0]*)\0/gs))
        named.set(name, (named.get(name) ?? new Set()).add(text));
      return "pass";
    };
    const [one, other] = [await openPostgres(proxy.url(direct)), await openPostgres(proxy.url(direct))];
    for (const store of [one, other]) await store.join({ id: "w", host: "h", pid: 1, startedAt: "" }, 1_000);
    await one.runs({ limit: 1 });
    await other.sessions({ limit: 1 });
    await other.runs({ limit: 1 });
    await one.sessions({ limit: 1 });
    expect(named.size).toBeGreaterThan(3);
    expect([...named.values()].map(({ size }) => size)).toEqual(Array.from(named, () => 1));
    await Promise.all([one.close(), other.close()]);
    await proxy.close();
    await dropDatabase(direct);
  });
});

describePostgres("a watcher that no announcement reaches", () => {
  let direct: string;
  let proxy: TcpProxy;

  beforeEach(async () => {
    direct = await createDatabase(await sharedPostgres());
    proxy = await TcpProxy.before(Number(new URL(direct).port));
    const deaf = new Set<number>();
    proxy.tap = (data, { from, connection }) => {
      if (data.includes("listen groundcrew")) deaf.add(connection);
      return from === "server" && deaf.has(connection) && data.includes("groundcrew\0{") ? "drop" : "pass";
    };
  });
  afterEach(async () => {
    await proxy.close();
    await dropDatabase(direct);
  });

  test("looks by itself, soon, again and again", async () => {
    const [deaf, other] = [await openPostgres(proxy.url(direct)), await openPostgres(direct)];
    const changes: Change[] = [];
    const stop = deaf.watch((change) => changes.push(change));
    for (let n = 0; n < 4; n++) {
      changes.length = 0;
      await other.join({ id: `w${n}`, host: "h", pid: 1, startedAt: "" }, 1_000);
      const toldAt = performance.now();
      await until("it looks", () => changes.some(({ runs }) => runs === null));
      expect(performance.now() - toldAt).toBeLessThan(1_500);
    }
    stop();
    await Promise.all([deaf.close(), other.close()]);
  });

  test("takes up what another process starts, and follows what another process does, all the same", async () => {
    const worker = groundcrew({ agents: [work], store: proxy.url(direct) });
    const api = groundcrew({ agents: [work], store: proxy.url(direct), worker: false });
    await worker.work();
    const startedAt = performance.now();
    const run = await api.start(work, { input: 1 });
    const reading = readAll(run);
    await run.signal("said", 1);
    expect(await within("the run ends", run.result())).toBe(2);
    expect((await within("the reader sees the end", reading)).at(-1)?.type).toBe("run.succeeded");
    expect(performance.now() - startedAt).toBeLessThan(5_000);
    await Promise.all([worker.close(), api.close()]);
  });
});
