import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { ErrorCode } from "../../src/errors.ts";
import { MAX_PASSED_BY, MAX_WAL_BYTES, STORE_PATIENCE_MS } from "../../src/limits.ts";
import type { ApprovalFilter, ApprovalRow } from "../../src/persistence/approval.ts";
import { thisWorker } from "../../src/persistence/host.ts";
import { newRunId } from "../../src/persistence/id.ts";
import type { Claim, Store } from "../../src/persistence/store.ts";
import { approvalsQuery } from "../../src/sqlite/approval.ts";
import { runsQuery, sessionsQuery } from "../../src/sqlite/list.ts";
import { migrate } from "../../src/sqlite/migrate.ts";
import { openSqlite } from "../../src/sqlite/open.ts";
import { migrations } from "../../src/sqlite/schema.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { conformance } from "./conformance.ts";
import { entryOf } from "./people-hands.ts";

const makeDirectory = () => mkdtempSync(join(tmpdir(), "groundcrew-"));

conformance("SQLite", async () => {
  const directory = makeDirectory();
  const clock = new FakeClock();
  return {
    clock,
    open: (options) => openSqlite(join(directory, "store.db"), { clock, ...options }),
    remove: async () => rmSync(directory, { recursive: true }),
  };
});

let directory: string;
let file: string;
const opened: Store[] = [];

beforeEach(() => {
  directory = makeDirectory();
  file = join(directory, "store.db");
});

afterEach(async () => {
  vi.useRealTimers();
  await Promise.all(opened.splice(0).map((store) => store.close()));
  rmSync(directory, { recursive: true, force: true });
});

async function open(path = file): Promise<Store> {
  const store = await openSqlite(path);
  opened.push(store);
  return store;
}

const principal = { tenant: "t", user: "u", roles: [] };
const LEASE = 600_000;

async function begin(store: Store, id = "r1"): Promise<Claim> {
  const created = { type: "run.created", agent: "a", principal, deadline: 9e12, seq: 1, at: 0 } as const;
  await store.create({ id, agent: "a", principal, deadline: 9e12, dueAt: Date.now(), events: [created], blobs: [] });
  const worker = thisWorker(`worker of ${id}`);
  await store.join(worker, LEASE);
  const [claim] = await store.claim(worker.id, ["a"], 1);
  if (!claim) throw new Error("nothing to claim");
  return claim;
}

function append(store: Store, { run, epoch }: Claim, seq: number, bytes = 10): Promise<unknown> {
  const event = { type: "run.released", why: "x".repeat(bytes), seq, at: 0 } as const;
  return store.append({ run: run.id, worker: run.worker ?? "", epoch, events: [event], chunks: [], blobs: [], consumed: [] });
}

function integrity(path = file): unknown {
  const db = new DatabaseSync(path);
  const result = db.prepare("pragma integrity_check").get()?.["integrity_check"];
  db.close();
  return result;
}

const failsToOpen = (path: string, code: ErrorCode) => expect(openSqlite(path)).rejects.toMatchObject({ code });

/** Starts `child.ts`, as somebody without rights when the test itself runs as root. */
function child(args: string[], options: { unprivileged?: boolean } = {}) {
  const root = process.getuid?.() === 0;
  const nobody = options.unprivileged && root ? { uid: 65534, gid: 65534 } : {};
  return spawn(process.execPath, [join(import.meta.dirname, "child.ts"), ...args], { stdio: ["ignore", "pipe", "inherit"], ...nobody });
}

async function output(process: ReturnType<typeof child>): Promise<string> {
  let text = "";
  for await (const part of process.stdout) text += part;
  return text;
}

/** Moves only the timers of waiting writes on, so that nobody waits for the store's patience. */
async function outlast<T>(promise: Promise<T>): Promise<PromiseSettledResult<T>> {
  let result: PromiseSettledResult<T> | undefined;
  promise.then(
    (value) => (result = { status: "fulfilled", value }),
    (reason) => (result = { status: "rejected", reason }),
  );
  while (!result) {
    await vi.advanceTimersByTimeAsync(20);
    await turn();
  }
  return result;
}

describe("opening", () => {
  test("a missing directory is made, and nobody else may read what is in it", async () => {
    const path = join(directory, "a", "b", "store.db");
    const claim = await begin(await open(path));
    expect(claim.epoch).toBe(1);
    const modes = [join(directory, "a", "b"), path, `${path}-wal`, `${path}-shm`].map((one) => (statSync(one).mode & 0o777).toString(8));
    expect(modes).toEqual(["700", "600", "600", "600"]);
  });

  test("a file that is no database is refused and left as it is", async () => {
    const garbage = "no database ".repeat(1_000);
    writeFileSync(file, garbage);
    await failsToOpen(file, "STORE_CORRUPT");
    expect(readFileSync(file, "utf8")).toBe(garbage);
    expect(existsSync(`${file}-wal`)).toBe(false);
    writeFileSync(file, "short");
    await failsToOpen(file, "STORE_CORRUPT");
  });

  test("another program's database is refused and left as it is", async () => {
    const db = new DatabaseSync(file);
    db.exec("create table theirs (x); insert into theirs values (1)");
    db.close();
    const before = readFileSync(file);
    await failsToOpen(file, "STORE_CORRUPT");
    expect(readFileSync(file).equals(before)).toBe(true);
  });

  test("a store of an older release is brought up to date, with all that is in it", async () => {
    const db = new DatabaseSync(file);
    migrate(db, migrations.slice(0, 1), file);
    db.exec("insert into rates (scope, tokens, at) values ('agent:a', 1, 2)");
    db.close();
    const store = await open();
    expect(await store.breakers()).toEqual([]);
    const after = new DatabaseSync(file);
    expect(after.prepare("pragma user_version").get()).toEqual({ user_version: migrations.length });
    expect(after.prepare("select * from rates").all()).toEqual([{ scope: "agent:a", tokens: 1, at: 2 }]);
    after.close();
  });

  test("a store of a newer release is refused and keeps its version", async () => {
    await (await openSqlite(file)).close();
    const db = new DatabaseSync(file);
    db.exec("pragma user_version = 999");
    await failsToOpen(file, "STORE_TOO_NEW");
    expect(db.prepare("pragma user_version").get()).toEqual({ user_version: 999 });
    db.close();
  });

  test("a directory in the place of the file, and a file in the place of the directory, are said to be that", async () => {
    mkdirSync(file);
    await failsToOpen(file, "STORE_UNAVAILABLE");
    writeFileSync(join(directory, "plain"), "");
    await failsToOpen(join(directory, "plain", "store.db"), "STORE_UNAVAILABLE");
  });

  test("a file that may only be read, and a directory without rights, are said to be that", async () => {
    await (await openSqlite(file)).close();
    chmodSync(file, 0o444);
    chmodSync(directory, 0o555);
    expect(await output(child(["open", file], { unprivileged: true }))).toBe("STORE_UNAVAILABLE\n");
    expect(await output(child(["open", join(directory, "new.db")], { unprivileged: true }))).toBe("STORE_UNAVAILABLE\n");
    chmodSync(directory, 0o700);
  });

  test("processes that start together on a new file all open it", async () => {
    const children = Array.from({ length: 4 }, () => child(["open", file]));
    expect(await Promise.all(children.map(output))).toEqual(Array(4).fill("open\n"));
    expect(integrity()).toBe("ok");
  });

  test("a file that is locked for good is busy, not hanging; one that is freed in time opens", async () => {
    await (await openSqlite(file)).close();
    const db = new DatabaseSync(file);
    db.exec("pragma locking_mode = exclusive; begin immediate; pragma user_version = 1");
    vi.useFakeTimers({ toFake: ["setTimeout", "performance"] });
    expect(await outlast(openSqlite(file))).toMatchObject({ status: "rejected", reason: { code: "STORE_BUSY" } });
    const opening = openSqlite(file);
    db.exec("rollback");
    db.close();
    const result = await outlast(opening);
    expect(result.status).toBe("fulfilled");
    if (result.status === "fulfilled") opened.push(result.value);
  });
});

describe("a foreign writer", () => {
  test("that holds the lock for a while delays a write but neither the event loop nor the reads", async () => {
    const store = await open();
    const claim = await begin(store);
    const db = new DatabaseSync(file);
    db.exec("begin immediate");
    let written = false;
    const writing = append(store, claim, 2).then(() => (written = true));
    for (let i = 0; i < 20; i++) {
      const started = performance.now();
      await store.run("r1");
      await sleep(1);
      expect(performance.now() - started).toBeLessThan(200);
    }
    expect(written).toBe(false);
    db.exec("commit");
    db.close();
    await writing;
    expect(await store.journal("r1")).toHaveLength(2);
  });

  test("that never lets go makes writes fail as busy; afterwards the store goes on and nothing is half written", async () => {
    const store = await open();
    const claim = await begin(store);
    const db = new DatabaseSync(file);
    db.exec("begin immediate");
    vi.useFakeTimers({ toFake: ["setTimeout", "performance"] });
    const results = await Promise.all([outlast(append(store, claim, 2)), outlast(append(store, claim, 3))]);
    expect(results).toMatchObject(Array(2).fill({ status: "rejected", reason: { code: "STORE_BUSY" } }));
    db.exec("rollback");
    db.close();
    vi.useRealTimers();
    await append(store, claim, 2);
    expect(await store.journal("r1")).toHaveLength(2);
  });

  test("two processes that write at once both get on, and no append of either is lost", async () => {
    const writers = [child(["write", file, "4"]), child(["write", file, "4"])];
    const said = writers.map(() => "");
    const linesOf = (text: string) => text.split("\n").slice(0, -1);
    const reading = writers.map(async (writer, n) => {
      for await (const part of writer.stdout) {
        said[n] += part;
        if (said.every((text) => linesOf(text).length > 100)) for (const one of writers) one.kill("SIGKILL"); // neither had to wait for the other's end
      }
    });
    await Promise.all(reading);
    const acknowledged = said.map(linesOf);
    await expectNothingLost(acknowledged.flat());
  });
});

/** @param acknowledged lines "<run> <seq>" */
async function expectNothingLost(acknowledged: string[]): Promise<void> {
  const last = new Map<string, number>();
  for (const line of acknowledged) {
    const [run = "", seq] = line.split(" ");
    last.set(run, Math.max(last.get(run) ?? 0, Number(seq)));
  }
  const store = await openSqlite(file);
  for (const [run, seq] of last) {
    const seqs = (await store.journal(run)).map((event) => event.seq);
    expect(seqs.length).toBeGreaterThanOrEqual(seq);
    expect(seqs).toEqual(Array.from(seqs, (_, i) => i + 1));
  }
  await store.close();
  expect(integrity()).toBe("ok");
}

/** @returns what a process had acknowledged when it was killed, after about so many appends. */
async function writeUntilKilled(appends: number): Promise<string[]> {
  const writer = child(["write", file, "8"]);
  const dead = once(writer, "exit");
  let text = "";
  for await (const part of writer.stdout) {
    text += part;
    if (text.split("\n").length > 16 + appends) writer.kill("SIGKILL");
  }
  expect(await dead).toEqual([null, "SIGKILL"]);
  return text.split("\n").slice(0, -1);
}

describe("kill -9", () => {
  test("at any moment, twenty times, loses no append that was acknowledged", async () => {
    const acknowledged: string[] = [];
    for (let i = 0; i < 20; i += 4) {
      const rounds = await Promise.all(Array.from({ length: 4 }, () => writeUntilKilled(Math.floor(Math.random() * 400))));
      for (const lines of rounds) expect(lines.length).toBeGreaterThan(8);
      acknowledged.push(...rounds.flat());
    }
    await expectNothingLost(acknowledged);
  }, 60_000);
});

describe("torn power", () => {
  test("a log that is cut at any byte opens, is sound, and holds a prefix of what was written", async () => {
    const store = await open();
    const claims = [await begin(store, "r0"), await begin(store, "r1")] as const;
    for (let i = 0; i < 60; i++) await append(store, claims[i % 2 === 0 ? 0 : 1], 2 + Math.floor(i / 2), 300);
    const size = statSync(`${file}-wal`).size;
    for (let i = 0; i < 25; i++) {
      const cut = Math.floor(Math.random() * size);
      const copy = join(directory, `copy-${cut}.db`);
      copyFileSync(file, copy);
      copyFileSync(`${file}-wal`, `${copy}-wal`);
      truncateSync(`${copy}-wal`, cut);

      const survivor = await openSqlite(copy);
      const found = await survivor.runs({ limit: 10 });
      const lengths = await Promise.all(
        ["r0", "r1"].map(async (id) => (found.some((run) => run.id === id) ? (await survivor.journal(id)).length : 0)),
      );
      const [a = 0, b = 0] = lengths; // they were written by turns
      expect([0, 1], `cut at ${cut} of ${size}`).toContain(b < 2 ? 0 : a - b);
      if (found.length > 0) await survivor.signal({ id: "s", run: found[0]?.id ?? "", kind: "signal", name: "still writable" });
      await survivor.close();
      expect(integrity(copy)).toBe("ok");
    }
  });
});

describe("a full disk", () => {
  const mounts = process.platform === "linux" && process.getuid?.() === 0 && canMount();

  test.skipIf(!mounts)(
    "(not run without the right to mount) writes wait, then fail as full; reads work; with space it goes on",
    async () => {
      const small = join(directory, "small");
      mkdirSync(small);
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", small]);
      try {
        const path = join(small, "store.db");
        const ballast = join(small, "ballast");
        const store = await openSqlite(path);
        const claim = await begin(store);
        writeFileSync(ballast, Buffer.alloc(1024 * 1024));

        vi.useFakeTimers({ toFake: ["setTimeout", "performance"] });
        let seq = 1;
        let result: PromiseSettledResult<unknown>;
        do result = await outlast(append(store, claim, ++seq, 50_000));
        while (result.status === "fulfilled");
        expect(result.reason).toMatchObject({ code: "STORE_FULL" });
        expect(seq).toBeGreaterThan(5);
        expect(await store.journal("r1")).toHaveLength(seq - 1);

        const waiting = append(store, claim, seq, 50_000);
        await vi.advanceTimersByTimeAsync(STORE_PATIENCE_MS / 10);
        rmSync(ballast);
        expect(await outlast(waiting)).toMatchObject({ status: "fulfilled" });
        expect(await store.journal("r1")).toHaveLength(seq);
        await store.close();
        expect(integrity(path)).toBe("ok");
      } finally {
        execFileSync("umount", ["-l", small]);
      }
    },
  );
});

function canMount(): boolean {
  const probe = makeDirectory();
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", probe], { stdio: "ignore" });
    execFileSync("umount", [probe]);
    return true;
  } catch {
    return false;
  } finally {
    rmSync(probe, { recursive: true, force: true });
  }
}

describe("group commit", () => {
  test("a write that breaks half-way is undone whole, and the writes beside it are done", async () => {
    const store = await open();
    const claim = await begin(store);
    const unwritable = { type: "run.created", agent: "a", principal, deadline: 9e12, input: 1n as never, seq: 1, at: 0 } as const;
    const [before, broken, after] = await Promise.allSettled([
      append(store, claim, 2),
      store.create({ id: "broken", agent: "a", principal, deadline: 9e12, dueAt: 0, events: [unwritable], blobs: [] }),
      append(store, claim, 3),
    ]);
    expect([before?.status, after?.status]).toEqual(["fulfilled", "fulfilled"]);
    expect(broken).toMatchObject({ status: "rejected", reason: { code: "INTERNAL" } });
    expect(await store.run("broken")).toBeNull();
    expect(await store.journal("r1")).toHaveLength(3);
  });

  test("the log stays short under steady load, and closing leaves one file", async () => {
    const store = await open();
    const claims = await Promise.all(Array.from({ length: 16 }, (_, i) => begin(store, `r${i}`)));
    let stop = false;
    let written = 0;
    const load = claims.map(async (claim) => {
      for (let seq = 2; !stop; seq++) {
        await append(store, claim, seq, 4_000);
        written++;
      }
    });
    await expect.poll(() => written * 4_000, { timeout: 20_000 }).toBeGreaterThan(8 * MAX_WAL_BYTES);
    stop = true;
    await Promise.all(load);
    expect(statSync(`${file}-wal`).size).toBeLessThan(4 * MAX_WAL_BYTES);
    await store.close();
    expect(existsSync(`${file}-wal`)).toBe(false);
    expect(integrity()).toBe("ok");
  });
});

describe("a claim", () => {
  test("steps from tenant to tenant in an index, and reads no queue", async () => {
    const prepare = vi.spyOn(DatabaseSync.prototype, "prepare");
    const store = await open();
    const ofClaims = /due_at is not null and timed|timed = 1 order by|'running' limit/;
    const statements = prepare.mock.calls.map(([sql]) => sql).filter((sql) => ofClaims.test(sql));
    prepare.mockRestore();
    const db = new DatabaseSync(file);
    const stepsOf = (sql: string) => db.prepare(`explain query plan ${sql}`).all() as { detail: string }[];
    const plans = statements.map((sql) => ({ sql, steps: stepsOf(sql).map(({ detail }) => detail) }));
    db.close();
    await store.close();
    expect(plans).toHaveLength(7);
    for (const { sql, steps } of plans) {
      const ofRuns = steps.filter((step) => /^(SEARCH|SCAN) (runs|r)\b/.test(step));
      expect(ofRuns.length, sql).toBeGreaterThan(0);
      for (const step of ofRuns) {
        expect(step, sql).toMatch(
          /^SEARCH .*(INTEGER PRIMARY KEY|runs_(ready|resumed) \(agent=\? AND tenant[=>]\?\)|runs_late \(agent=\? AND end_by<\?\)|runs_timed|runs_of_(agent|tenant))/,
        );
      }
    }
  });

  test("passes by only so many tenants without room, and the next one goes on behind them", async () => {
    const store = await open();
    const create = (tenant: string) => {
      const created = { type: "run.created", agent: "a", principal: { ...principal, tenant }, deadline: 9e12, seq: 1, at: 0 } as const;
      const run = { id: newRunId(Date.now()), agent: "a", principal: created.principal, deadline: 9e12, dueAt: Date.now() };
      return store.create({ ...run, events: [created], blobs: [] });
    };
    await Promise.all(Array.from({ length: MAX_PASSED_BY + 50 }, (_, i) => create(`full ${i}`)));
    await create("last");
    const worker = thisWorker("w");
    await store.join(worker, LEASE);
    const quotas = { agent: () => undefined, tenant: (tenant: string) => (tenant === "last" ? undefined : { concurrency: 0 }) };
    const first = await store.claim("w", ["a"], 1, quotas);
    const second = await store.claim("w", ["a"], 1, quotas);
    expect([first, second].map((claims) => claims.map(({ run }) => run.principal.tenant))).toEqual([[], ["last"]]);
  });
});

describe("the lists", () => {
  /** How SQLite finds the runs of a list, or the sessions. */
  const planOf = ({ sql }: { sql: string }) => {
    const db = new DatabaseSync(file);
    const plan = db.prepare(`explain query plan ${sql}`).all() as { detail: string }[];
    db.close();
    return plan.map(({ detail }) => detail).filter((detail) => !/json_each|SUBQUERY|BLOOM|LEFT-JOIN/.test(detail));
  };
  const unended = { status: ["queued", "running", "parked"] } as const;

  test.each([
    ["tenant", { tenant: "t" }],
    ["user", { tenant: "t", user: "u" }],
    ["agent", { tenant: "t", agent: "a" }],
    ["session", { tenant: "t", session: "s" }],
    ["parent", { parent: "r" }],
    ["parent and tenant", { tenant: "t", parent: "r" }],
    ["tenant, open", { tenant: "t", ...unended }],
    ["user, open", { tenant: "t", user: "u", ...unended }],
    ["agent, open", { tenant: "t", agent: "a", ...unended }],
    ["session, open", { tenant: "t", session: "s", ...unended }],
  ])("of runs by %s reads one page of one index, on the first page and on any other", async (_, filter) => {
    await open();
    for (const below of [undefined, 5]) {
      const plan = planOf(runsQuery({ ...filter, limit: 1 }, below));
      const steps = plan.filter((detail) => !detail.startsWith("SEARCH sessions USING COVERING INDEX"));
      expect(steps).toEqual([expect.stringMatching(/^SEARCH r USING INDEX runs_\w+ \(/)]);
    }
  });

  test("of open runs of all tenants goes through open runs only", async () => {
    await open();
    expect(planOf(runsQuery({ ...unended, limit: 1 }, undefined))[0]).toBe("SCAN r USING INDEX runs_open");
  });

  test.each<[string, Omit<ApprovalFilter, "limit">, RegExp]>([
    ["inbox", { tenant: "t", status: "open" }, /approvals_inbox \(tenant=\? AND status=\?/],
    ["tenant", { tenant: "t" }, /approvals_tenant \(tenant=\?/],
    ["status", { status: "open" }, /approvals_status \(status=\?/],
    ["run", { run: "r", tenant: "t", status: "open" }, /approvals_run \(run=\?/],
    ["nothing", {}, /SCAN approvals USING INDEX approvals_all$/],
  ])("of approvals by %s reads one page of one index", async (_, filter, index) => {
    await open();
    const [first] = planOf(approvalsQuery({ ...filter, limit: 1 }, undefined));
    expect(first).toMatch(index);
    const last = { requestedAt: 1, id: "r.1" } as ApprovalRow;
    const steps = planOf(approvalsQuery({ ...filter, limit: 1 }, last));
    expect(steps[0]).toMatch(/USING INDEX approvals_\w+ \(.*\(requested_at,id\)</);
    expect(steps.join()).not.toContain("TEMP B-TREE");
  });

  test("of sessions by tenant or user reads no session of another", async () => {
    await open();
    const before = { activeAt: 1, tenant: "t", id: "s" };
    expect(planOf(sessionsQuery({ tenant: "t", limit: 1 }))[0]).toBe("SEARCH sessions USING INDEX sessions_tenant (tenant=?)");
    expect(planOf(sessionsQuery({ tenant: "t", before, limit: 1 }))[0]).toContain("sessions_tenant (tenant=? AND active_at<?)");
    expect(planOf(sessionsQuery({ tenant: "t", user: "u", before, limit: 1 }))[0]).toContain(
      "sessions_owner (tenant=? AND user=? AND active_at<?)",
    );
  });
});

test("records that have lost the end of their chain are not left behind by a dump without a word", async () => {
  const store = await open();
  await store.record([entryOf("one"), entryOf("two", { tenant: "other" })]);
  const db = new DatabaseSync(file);
  db.exec("delete from audit_heads where tenant = 'other'");
  db.close();
  await expect(store.dump(null, 10)).rejects.toMatchObject({ code: "STORE_CORRUPT", message: expect.stringContaining('"other"') });
});
