/** What the PostgreSQL store says of an address or a server that it cannot use. The password is in none of it. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { type ErrorCode, GroundcrewError } from "../../src/errors.ts";
import type { Store } from "../../src/persistence/store.ts";
import { storeError } from "../../src/postgres/error.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { groundcrew } from "../../src/runtime.ts";
import { createApp } from "../../src/server/app.ts";
import { nameOf, run } from "../support/database.ts";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { describePostgres } from "../support/shared-postgres.ts";
import { until } from "../support/until.ts";

const CANARY = "c4naryS3cret";

/** Who may come in, and how; the first line that fits counts. */
const HBA = `
  host    all guarded   127.0.0.1/32 scram-sha-256
  hostssl all encrypted 127.0.0.1/32 trust
  host    all encrypted 127.0.0.1/32 reject
  host    all all       127.0.0.1/32 trust`;

const folder = mkdtempSync(join(tmpdir(), "groundcrew-faults-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What is thrown, and everything that could be printed of it. */
async function failure(opening: Promise<unknown>): Promise<{ error: GroundcrewError; printed: string }> {
  const error = await opening.then(
    () => expect.unreachable("it went through"),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(GroundcrewError);
  const chain: Error[] = [];
  for (let next: unknown = error; next instanceof Error; next = next.cause) chain.push(next);
  const printed = [...chain.map((one) => inspect(one, { depth: 12 })), ...chain.map(({ message, stack }) => `${message} ${stack}`)];
  return { error: error as GroundcrewError, printed: printed.join("\n") };
}

/** Opening `url` fails with this code, says this, and never the password. */
async function refuses(url: string, code: ErrorCode, ...says: (string | RegExp)[]): Promise<GroundcrewError> {
  const { error, printed } = await failure(openPostgres(url));
  expect(error.code, error.message).toBe(code);
  for (const words of says) expect(error.message).toMatch(words);
  expect(error.fix, "what to do").toMatch(/\w{3,}/);
  expect(printed).not.toContain(CANARY);
  expect(printed).not.toContain(CANARY.slice(0, 6));
  return error;
}

function as(url: string, user: string, options = "", password = CANARY): string {
  const changed = new URL(url);
  changed.username = user;
  changed.password = password;
  return `${changed.href}${options}`;
}

test.each([
  ["text", `crew:${CANARY}@db`],
  ["a password with a slash", `postgres://crew:${CANARY}/x@db.example/crew`],
  ["a password with a #", `postgres://crew:${CANARY}#x@db.example/crew`],
  ["a port that is none", `postgres://crew:${CANARY}@db.example:70000/crew`],
  ["no host", `postgres://?password=${CANARY}`],
  ["a certificate that is not there", `postgres://crew:${CANARY}@127.0.0.1:1/crew?sslrootcert=/nowhere/ca.pem`],
])("an address that is %s is refused as such", async (_, url) => {
  await refuses(url, "CONFIG_INVALID", /address of the PostgreSQL store/, /postgres:\/\/user:password@host/);
});

test("a host that does not exist is named", async () => {
  await refuses(`postgres://crew:${CANARY}@nowhere.invalid/crew`, "STORE_UNAVAILABLE", "crew@nowhere.invalid/crew", "DATABASE_URL");
});

test("where nobody listens it is tried for a while, and said that nobody does", async () => {
  const port = await closedPort();
  const error = await refuses(
    `postgres://crew:${CANARY}@127.0.0.1:${port}/crew`,
    "STORE_UNAVAILABLE",
    `crew@127.0.0.1:${port}/crew`,
    "cannot be reached",
    "ECONNREFUSED",
  );
  expect(error.retryAfterMs).toBeGreaterThan(0);
});

test("a server that takes a connection and never answers is given up", async () => {
  const silent = createServer(() => {});
  onTestFinished(() => void silent.close());
  await new Promise<void>((listening) => silent.listen(0, "127.0.0.1", listening));
  const { port } = silent.address() as { port: number };
  const startedAt = performance.now();
  await refuses(`postgres://crew:${CANARY}@127.0.0.1:${port}/crew`, "STORE_UNAVAILABLE", "cannot be reached");
  expect(performance.now() - startedAt).toBeLessThan(7_000);
});

test("a host with several addresses, none of which answers, has a reason", () => {
  const refused = Object.assign(
    new AggregateError([new Error("connect ECONNREFUSED ::1:5432"), new Error("connect ECONNREFUSED 127.0.0.1:5432")], ""),
    {
      code: "ECONNREFUSED",
    },
  );
  expect(storeError(refused, "postgres://localhost/crew").message).toContain(
    "(connect ECONNREFUSED ::1:5432; connect ECONNREFUSED 127.0.0.1:5432)",
  );
});

test.each<[string, Error, ErrorCode, RegExp]>([
  [
    "a certificate of nobody known",
    tls("SELF_SIGNED_CERT_IN_CHAIN", "self-signed certificate in certificate chain"),
    "STORE_UNAVAILABLE",
    /sslrootcert/,
  ],
  [
    "a certificate of another host",
    tls("ERR_TLS_CERT_ALTNAME_INVALID", "Hostname/IP does not match certificate's altnames"),
    "STORE_UNAVAILABLE",
    /sslrootcert/,
  ],
  ["a full disk", sqlState("53100", "could not extend file"), "STORE_FULL", /Free some space/],
  ["a damaged page", sqlState("XX001", "invalid page in block 3"), "STORE_CORRUPT", /backup/],
  ["a lock that does not come", sqlState("55P03", "lock timeout"), "STORE_BUSY", /pg_stat_activity/],
  ["a pool in use", new Error("timeout exceeded when trying to connect"), "STORE_BUSY", /pg_stat_activity/],
])("%s has its own words", (_, thrown, code, fix) => {
  const error = storeError(thrown, "postgres://crew@db/crew");
  expect(error).toMatchObject({ code, fix: expect.stringMatching(fix) });
  expect(error.message).toContain("postgres://crew@db/crew");
});

describePostgres("a server that cannot be used", () => {
  let server: Postgres;
  let url: string;

  beforeAll(async () => {
    const hba = join(folder, "pg_hba.conf");
    writeFileSync(hba, HBA, { mode: 0o644 });
    chmodSync(folder, 0o755); // the server's user reads it
    server = await startPostgres({ settings: { hba_file: hba, fsync: "off" } });
    url = await server.database();
    await run(url, `create role guarded login password 'another'`);
    for (const role of ["encrypted", "poor", "narrow"]) await run(url, `create role ${role} login`);
    await run(url, "alter role narrow connection limit 0");
  });
  afterAll(() => server?.remove());

  async function open(given = url): Promise<Store> {
    const store = await openPostgres(given);
    onTestFinished(() => store.close());
    return store;
  }

  test("that refuses the password says so at once", async () => {
    const startedAt = performance.now();
    await refuses(as(url, "guarded"), "STORE_UNAVAILABLE", "guarded@127.0.0.1", "refused the password", "DATABASE_URL");
    expect(performance.now() - startedAt).toBeLessThan(3_000);
  });

  test("that wants a password where there is none says the same", async () => {
    await refuses(as(url, "guarded", "", ""), "STORE_UNAVAILABLE", "refused the password");
  });

  test("without the database names it", async () => {
    const elsewhere = new URL(as(url, "postgres"));
    elsewhere.pathname = "/nothing_here";
    await refuses(elsewhere.href, "STORE_UNAVAILABLE", "/nothing_here", "has no such database", "Create it");
  });

  test("where the user may not make the tables says who could", async () => {
    await refuses(as(url, "poor"), "STORE_UNAVAILABLE", "lacks a right", "create schema groundcrew authorization");
  });

  test("that lets in over TLS only says how to use it", async () => {
    await refuses(as(url, "encrypted"), "STORE_UNAVAILABLE", "encrypted@127.0.0.1", "sslmode=require");
  });

  test("that offers no TLS is not spoken to without it", async () => {
    await refuses(as(url, "postgres", "?sslmode=require"), "STORE_UNAVAILABLE", "does not offer TLS", "sslmode");
  });

  test("without a connection left says how many a process takes", async () => {
    const error = await refuses(as(url, "narrow"), "STORE_BUSY", "no connection left", "at most eleven");
    expect(error.retryAfterMs).toBeGreaterThan(0);
  });

  test("that is read-only says so, whether the store is opened then or has been before", async () => {
    const own = await server.database();
    const store = await open(own);
    await run(own, `alter database ${nameOf(own)} set default_transaction_read_only = on`);
    await refuses(as(own, "postgres"), "STORE_UNAVAILABLE", "is read-only", "primary");
    await run(own, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()");
    const { error } = await failure(store.join({ id: "w", host: "h", pid: 1, startedAt: "" }, 1_000));
    expect(error).toMatchObject({ code: "STORE_UNAVAILABLE", message: expect.stringContaining("is read-only") });
    expect(await store.runs({ limit: 1 })).toEqual([]); // reading goes on
  });

  test("a store whose server became read-only for a moment writes when it is over", async () => {
    const own = await server.database();
    const store = await open(own);
    const terminate =
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    await run(own, `alter database ${nameOf(own)} set default_transaction_read_only = on`);
    await run(own, terminate);
    const joining = store.join({ id: "w", host: "h", pid: process.pid, startedAt: "" }, 60_000);
    await until("it has met the read-only server", async () => {
      const [found] = await run<{ n: number }>(
        own,
        `select count(*)::int as n from pg_stat_activity where datname = current_database() and application_name = 'groundcrew'`,
      );
      return (found?.n ?? 0) > 0;
    });
    await run(url, `alter database ${nameOf(own)} reset default_transaction_read_only`);
    await joining;
    expect(await store.renew("w", 60_000)).toBe(true);
  });

  test("with another program's schema of our name leaves it alone", async () => {
    const own = await server.database();
    await run(own, "create schema groundcrew create table groundcrew.planes (id int)");
    await refuses(as(own, "postgres"), "STORE_CORRUPT", "not a store of Groundcrew");
    expect(await run(own, "select tablename from pg_tables where schemaname = 'groundcrew'")).toEqual([{ tablename: "planes" }]);
  });

  test("with a newer schema says which release can read it", async () => {
    const own = await server.database();
    await (await openPostgres(own)).close();
    await run(own, "update groundcrew.meta set version = 999, works_for = 999");
    await refuses(as(own, "postgres"), "STORE_TOO_NEW", "999", "newer");
  });

  test("health, readiness and answers name the store without its password", async () => {
    const own = await server.database();
    const reports: string[] = [];
    const crew = groundcrew({ agents: [], store: as(own, "postgres"), worker: false });
    const app = createApp(crew, { apiKeys: ["a-key-of-the-operator"], report: (error) => reports.push(inspect(error, { depth: 12 })) });
    onTestFinished(() => crew.close());
    const ready = () => app.request("/readyz", { headers: { authorization: "Bearer a-key-of-the-operator" } });
    expect(await (await ready()).json()).toMatchObject({ ready: true, store: expect.stringContaining(nameOf(own)) });

    await run(url, `alter database ${nameOf(own)} allow_connections false`);
    await run(url, `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${nameOf(own)}'`);
    const answer = await ready();
    expect(answer.status).toBe(503);
    const told = [await answer.text(), inspect(await crew.health(), { depth: 12 }), inspect(crew, { depth: 12 })];
    expect(told[0]).toContain(nameOf(own));
    const listed = await app.request("/v1/runs", { headers: { authorization: "Bearer a-key-of-the-operator" } });
    expect(listed.status).toBe(503);
    expect([...told, await listed.text(), ...reports].join("\n")).not.toContain(CANARY);
    expect(reports.length).toBeGreaterThan(0);
  });

  test("a hot standby is refused, and does as soon as it is promoted", async () => {
    const own = await server.database();
    await (await openPostgres(own)).close();
    const [data] = await run<{ data_directory: string }>(url, "show data_directory");
    await server.stop();
    writeFileSync(join(data?.data_directory ?? "", "standby.signal"), "", { mode: 0o644 });
    await server.start();
    await refuses(as(own, "postgres"), "STORE_UNAVAILABLE", "is read-only", "not a replica");
    await run(url, "select pg_promote()");
    expect(await (await open(own)).runs({ limit: 1 })).toEqual([]);
  });
});

function tls(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

function sqlState(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as { port: number };
  await new Promise((closed) => server.close(closed));
  return port;
}
