/** The tests' own tools for PostgreSQL. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Client } from "pg";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { run } from "./database.ts";
import { type Postgres, startPostgres } from "./postgres.ts";
import { TcpProxy } from "./proxy.ts";
import { describeOwnPostgres, describePostgres, sharedPostgres } from "./shared-postgres.ts";
import { until, within } from "./until.ts";

describeOwnPostgres("a PostgreSQL of the test's own", () => {
  let server: Postgres;
  let database: string;

  beforeAll(async () => {
    server = await startPostgres();
    database = await server.database();
    await run(database, "create table kept (n int)");
  });
  afterAll(() => server?.remove());

  const kept = async () => (await run<{ n: number }>(database, "select n from kept order by n")).map(({ n }) => n);
  /** A client with an open transaction, whose connection will break. */
  const busy = async () => {
    const client = new Client({ connectionString: database });
    const lost = new Promise<Error>((tell) => client.on("error", tell));
    await client.connect();
    await client.query("begin; insert into kept values (0)");
    return { lost };
  };

  test("it has the durability of any PostgreSQL, unless it is asked for less", async () => {
    expect(await run(server.url, "select current_setting('fsync') as fsync, current_setting('synchronous_commit') as wait")).toEqual([
      { fsync: "on", wait: "on" },
    ]);
  });

  test.each(["fast", "immediate"] as const)("what was committed is there after a restart (%s), and what was not is not", async (mode) => {
    await run(database, "truncate kept; insert into kept values (1)");
    const { lost } = await busy();
    const before = server.port;
    await server.restart(mode);
    expect(await within("the connection breaks", lost)).toBeInstanceOf(Error);
    expect(server.port).toBe(before);
    expect(await kept()).toEqual([1]);
  });

  test("it can be killed in the middle of a transaction and started again, without a process of before", async () => {
    await run(database, "truncate kept; insert into kept values (2)");
    const client = new Client({ connectionString: database });
    client.on("error", () => {});
    await client.connect();
    const [backend] =
      ((await client.query<{ pid: number }>("begin; select pg_backend_pid() as pid")) as unknown as { rows: { pid: number }[] }[]).at(-1)
        ?.rows ?? [];
    const sleeping = client.query("insert into kept values (3); select pg_sleep(1000)").catch((error: Error) => error);
    await until("the backend sleeps", async () => {
      const found = await run(server.url, `select 1 from pg_stat_activity where pid = ${backend?.pid} and wait_event = 'PgSleep'`);
      return found.length > 0;
    });
    await server.kill();
    expect(existsSync(`/proc/${backend?.pid}/exe`)).toBe(false);
    expect(await within("the connection breaks", sleeping)).toBeInstanceOf(Error);
    await server.start();
    expect(await kept()).toEqual([2]);
  });

  test("a server that is told nonsense says what it says", async () => {
    await expect(startPostgres({ settings: { wal_level: "nonsense" } })).rejects.toThrow(/invalid value for parameter "wal_level"/);
  });

  test("the server of a test process that is killed goes with it", async () => {
    const program = `const { startPostgres } = await import(${JSON.stringify(import.meta.resolve("./postgres.ts"))});
      const server = await startPostgres(); console.log(server.pid); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: ["ignore", "pipe", "inherit"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    const [line] = (await within("it tells its pid", once(createInterface(child.stdout), "line"))) as [string];
    const folder = /-D\0(.*)\/data\0/.exec(readFileSync(`/proc/${line}/cmdline`, "utf8"))?.[1] as string;
    expect(existsSync(folder)).toBe(true);
    child.kill("SIGKILL");
    await until("the server and its files are gone", () => !existsSync(`/proc/${line}/exe`) && !existsSync(folder));
  });
});

describePostgres("the PostgreSQL of the test run", () => {
  test("is the same for all who ask", async () => {
    const [one, other] = await Promise.all([sharedPostgres(), sharedPostgres()]);
    expect(one).toBe(other);
    expect(await run(one, "select 1 as one")).toEqual([{ one: 1 }]);
  });
});

describePostgres("the proxy", () => {
  const through = async () => {
    const direct = await sharedPostgres();
    const proxy = await TcpProxy.before(Number(new URL(direct).port));
    const client = new Client({ connectionString: proxy.url(direct) });
    const broken = new Promise<Error>((tell) => client.on("error", tell));
    await client.connect();
    onTestFinished(async () => {
      await proxy.close();
    });
    return { proxy, client, broken, direct };
  };

  test("lets everything through, in both directions", async () => {
    const { client } = await through();
    const { rows } = await client.query<{ text: string }>("select repeat('x', 3000000) || $1 as text", ["y".repeat(3_000_000)]);
    expect(rows[0]?.text.length).toBe(6_000_000);
    await client.end();
  });

  test("a cut breaks the connections there are, and no new one", async () => {
    const { proxy, broken, direct } = await through();
    proxy.cut();
    expect(await within("the connection breaks", broken)).toBeInstanceOf(Error);
    expect(await run(proxy.url(direct), "select 1 as one")).toEqual([{ one: 1 }]);
  });

  test("what it holds back arrives when it goes on", async () => {
    const { proxy, client } = await through();
    proxy.hold();
    let answer: unknown;
    const asked = client.query("select 1 as one").then(({ rows }) => {
      answer = rows;
    });
    await new Promise((later) => setTimeout(later, 100));
    expect(answer).toBeUndefined();
    proxy.resume();
    await within("the answer comes", asked);
    expect(answer).toEqual([{ one: 1 }]);
    await client.end();
  });

  test("whoever it refuses hears of it", async () => {
    const { proxy, client, direct } = await through();
    proxy.refuse();
    await expect(run(proxy.url(direct), "select 1")).rejects.toThrow();
    proxy.accept();
    expect(await run(proxy.url(direct), "select 1 as one")).toEqual([{ one: 1 }]);
    await client.end();
  });
});
