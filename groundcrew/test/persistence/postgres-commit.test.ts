/** The connection breaks while a commit is on its way, or its answer is: what was asked for is done, and done once. */
import { Client } from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { systemClock } from "../../src/clock.ts";
import type { ApprovalRow } from "../../src/persistence/approval.ts";
import type { AuditEntry } from "../../src/persistence/audit.ts";
import { thisWorker } from "../../src/persistence/host.ts";
import { newRunId } from "../../src/persistence/id.ts";
import type { Append, NewRun, Store } from "../../src/persistence/store.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { createDatabase, dropDatabase, run } from "../support/database.ts";
import { startPostgres } from "../support/postgres.ts";
import { type Tap, TcpProxy } from "../support/proxy.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";

/** What becomes of a commit: told of all that goes through its connection, from it on. */
const FATES: Record<string, (from: "client" | "server", data: Buffer) => ReturnType<Tap>> = {
  "that never reached the server, which noticed": () => "cut",
  "that never reached the server, which did not notice": () => "desert",
  "that the server did, and could not say so": (from, data) => (from === "server" && isDone(data) ? "cut" : "pass"),
  "that the server did, and of which a pooler says that it failed": (from, data) =>
    from === "server" && isDone(data) ? failure("58000") : "pass",
};

/** How a commit is answered, and a statement that is a transaction by itself. */
function isDone(data: Buffer): boolean {
  return data.includes("COMMIT\0") || data.includes("SELECT 1\0");
}

/** What a pooler says that has lost its server, in its own words. */
function failure(code: string): Buffer {
  const fields = `SFATAL\0VFATAL\0C${code}\0Merror receiving data from server\0\0`;
  const length = Buffer.alloc(4);
  length.writeInt32BE(4 + fields.length);
  return Buffer.concat([Buffer.from("E"), length, Buffer.from(fields, "latin1")]);
}

describePostgres("a commit", () => {
  let direct: string;
  let proxy: TcpProxy;
  let store: Store;
  let worker: string;
  let wasStruck = false;

  beforeAll(async () => {
    direct = await createDatabase(await sharedPostgres());
    proxy = await TcpProxy.before(Number(new URL(direct).port));
    store = await openPostgres(proxy.url(direct), { clock: systemClock }); // with a clock of its own it sends the text each time
    const identity = thisWorker();
    worker = identity.id;
    await store.join(identity, 600_000);
  });
  beforeEach(() => {
    wasStruck = false;
    onTestFinished(() => {
      proxy.tap = () => "pass";
    });
  });
  afterAll(async () => {
    await store?.close();
    await proxy?.close();
    if (direct) await dropDatabase(direct);
  });

  const principal = { tenant: "t", user: "u", roles: [] };
  const newRun = (more: Partial<NewRun> = {}): NewRun => {
    const deadline = Date.now() + 600_000;
    const created = { type: "run.created", agent: "a", principal, deadline, seq: 1, at: 0 } as const;
    return { id: newRunId(Date.now(), more.session?.id), agent: "a", principal, deadline, dueAt: 0, events: [created], blobs: [], ...more };
  };
  const begun = async () => {
    const { run } = await store.create(newRun());
    const claims = await store.claim(worker, ["a"], 100);
    const claim = claims.find((one) => one.run.id === run.id);
    if (!claim) throw new Error("The run was not there to be claimed.");
    return claim;
  };
  /** A run that is held, and what appends an event to it. */
  const writing = async () => {
    const { run, epoch } = await begun();
    const write = (seq: number, more: Partial<Append> = {}) => {
      const events = [{ type: "run.released", why: `event ${seq}`, seq, at: 0 } as const];
      return store.append({ run: run.id, worker, epoch, events, chunks: [], blobs: [], consumed: [], ...more });
    };
    return { id: run.id, write };
  };
  /** From now on, the next commit of a transaction that writes meets its fate. */
  const strike = (fateOf: (typeof FATES)[string]) => {
    const writing = new Set<number>();
    let struck: number | undefined;
    proxy.tap = (data, { from, connection }) => {
      if (data.includes("pg_current_xact_id") || data.includes("insert into groundcrew.events")) writing.add(connection);
      const isCommit = data.includes("groundcrew.append_events") || (writing.has(connection) && data.includes("commit\0"));
      if (struck === undefined && from === "client" && isCommit) struck = connection;
      if (struck !== connection) return "pass";
      const fate = fateOf(from, data);
      wasStruck ||= fate !== "pass";
      return fate;
    };
  };
  const count = async (sql: string) => Number((await run<{ n: number }>(direct, sql))[0]?.n);

  describe.each(Object.entries(FATES))("%s", (name, fate) => {
    test("of a start: the run is there once", async () => {
      const wanted = newRun({ start: { key: `key ${name}`, hash: "h" } });
      strike(fate);
      expect(await store.create(wanted)).toMatchObject({ outcome: "created", run: { id: wanted.id } });
      expect(wasStruck).toBe(true);
      expect(await store.journal(wanted.id)).toHaveLength(1);
      expect(await count(`select count(*) as n from groundcrew.starts where run = '${wanted.id}'`)).toBe(1);
    });

    test("of a turn: the session has it once", async () => {
      const session = { id: `s-${name.length}`, busy: "queue", message: "m" } as const;
      strike(fate);
      expect(await store.create(newRun({ session }))).toMatchObject({ outcome: "created", run: { turn: 1 } });
      expect(wasStruck).toBe(true);
      expect(await store.runs({ session: session.id, limit: 10 })).toHaveLength(1);
      expect(await store.session("t", session.id)).toMatchObject({ turns: 1 });
    });

    test("of a signal: the inbox has it once, and it counts as new", async () => {
      const claim = await begun();
      strike(fate);
      expect(await store.signal({ id: "s", run: claim.run.id, kind: "signal", name: "go" })).toBe(true);
      expect(wasStruck).toBe(true);
      expect((await store.inbox(worker)).filter((signal) => signal.run === claim.run.id)).toHaveLength(1);
    });

    test("of an append: the journal goes on from it", async () => {
      const { id, write } = await writing();
      strike(fate);
      expect(await write(2)).toBe("written");
      expect(wasStruck).toBe(true);
      expect(await write(3)).toBe("written");
      expect((await store.journal(id)).map(({ seq }) => seq)).toEqual([1, 2, 3]);
    });

    test("of events alone, which one statement writes: they are there once", async () => {
      const { id, write } = await writing();
      await write(2); // from here on this process knows where the run stands
      strike(fate);
      expect(await write(3)).toBe("written");
      expect(wasStruck).toBe(true);
      expect(await Promise.all([write(4), write(5)])).toEqual(["written", "written"]);
      expect((await store.journal(id)).map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5]);
    });

    test("of events with more: they are there once, with all that was written with them", async () => {
      const { id, write } = await writing();
      await store.signal({ id: "s", run: id, kind: "signal", name: "go" });
      await write(2);
      strike(fate);
      const blob = { hash: `hash of ${name}`, data: "large" };
      expect(await write(3, { consumed: ["s"], blobs: [blob] })).toBe("written");
      expect(wasStruck).toBe(true);
      expect((await store.journal(id)).map(({ seq }) => seq)).toEqual([1, 2, 3]);
      expect((await store.inbox(worker)).filter((one) => one.run === id)).toEqual([]);
      expect(await store.blob(blob.hash)).toBe("large");
    });

    test("of a decision: it is made once, on record once, and whoever made it is told so", async () => {
      const { run: row, epoch } = await begun();
      const request = {
        kind: "tool",
        name: "refund",
        step: "s",
        agent: "a",
        session: null,
        user: "u",
        hash: "h",
        tool: "t",
        rules: "r",
      } as const;
      const more = {
        why: "w",
        spent: { modelSteps: 0, inputTokens: 0, outputTokens: 0 },
        context: [],
        quorum: 1,
        selfApproval: false,
      } as const;
      const asked: ApprovalRow = {
        ...{ id: `${row.id}.1`, run: row.id, tenant: `t ${name}`, status: "open", version: 1, level: 0, to: ["role:x"], requestedAt: 0 },
        ...{ expiresAt: null, request: { ...request, ...more, onExpire: "deny" }, votes: [], verdict: null },
      };
      const entry: AuditEntry = { tenant: asked.tenant, action: "asked", actor: { kind: "agent", id: "a" }, channel: "runtime" };
      const aside = { opens: [asked], closes: [], audit: [entry], deliveries: [] };
      strike(fate);
      const event = { type: "run.released", why: "x", seq: 2, at: 0 } as const;
      const write = { run: row.id, worker, epoch, events: [event], chunks: [], blobs: [], consumed: [] };
      expect(await store.append({ ...write, aside })).toBe("written");
      expect(wasStruck).toBe(true);

      wasStruck = false;
      strike(fate);
      const signal = { id: "ended", value: "approved" };
      const next = { ...asked, version: 2, status: "approved" } as const;
      const amended = await store.amend({ next, signal, audit: [{ ...entry, action: "approved" }], deliveries: [] });
      expect(wasStruck).toBe(true);
      expect(amended).toEqual({ won: true, row: next });
      const actions = (await store.audit(asked.tenant, 0, 10)).map(({ record }) => JSON.parse(record).action);
      expect(actions).toEqual(["asked", "approved"]);
      expect((await store.inbox(worker)).filter((one) => one.run === row.id)).toHaveLength(1);
    });

    test("of a claim: the run is taken once", async () => {
      const wanted = newRun({ agent: `b ${name}` });
      await store.create(wanted);
      strike(fate);
      const claims = await store.claim(worker, [wanted.agent], 10);
      expect(claims.map(({ run: { id }, epoch }) => [id, epoch])).toEqual([[wanted.id, 1]]);
      expect(wasStruck).toBe(true);
    });
  });
});

describePostgres("events that arrive late, when whoever sent them has given them up", () => {
  /** A run that is held here, and what the next statement that writes events meets. */
  async function ground() {
    const direct = await createDatabase(await sharedPostgres());
    const proxy = await TcpProxy.before(Number(new URL(direct).port));
    const [store, elsewhere] = [await openPostgres(proxy.url(direct), { clock: systemClock }), await openPostgres(direct)];
    onTestFinished(async () => {
      await Promise.all([store.close(), elsewhere.close()]);
      await proxy.close();
      await dropDatabase(direct);
    });
    const worker = thisWorker();
    await store.join(worker, 600_000);
    const principal = { tenant: "t", user: "u", roles: [] };
    const deadline = Date.now() + 600_000;
    const created = { type: "run.created", agent: "a", principal, deadline, seq: 1, at: 0 } as const;
    const wanted = { id: newRunId(Date.now()), agent: "a", principal, deadline, dueAt: 0, events: [created], blobs: [] };
    const { claim } = await store.create(wanted, worker.id); // so where it stands is known here
    if (!claim) throw new Error("It was not given.");
    const write = (at: Store, by: { id: string }, epoch: number, seq: number) => {
      const events = [{ type: "run.released", why: `by ${by.id}`, seq, at: 0 } as const];
      return at.append({ run: wanted.id, worker: by.id, epoch, events, chunks: [], blobs: [], consumed: [] });
    };
    const isLate = Promise.withResolvers<void>();
    let wasLate = false;
    proxy.tap = (data, { from }) => {
      if (wasLate || from !== "client" || !data.includes("groundcrew.append_events")) return "pass";
      wasLate = true;
      isLate.resolve();
      return "late";
    };
    return { store, elsewhere, proxy, worker, id: wanted.id, write, isLate: isLate.promise };
  }

  test("after they were sent again are not there twice", async () => {
    const { store, proxy, worker, id, write } = await ground();
    expect(await write(store, worker, 1, 2)).toBe("written");
    expect(await write(store, worker, 1, 3)).toBe("written");
    await proxy.deliver();
    expect((await store.journal(id)).map(({ seq }) => seq)).toEqual([1, 2, 3]);
    expect(await write(store, worker, 1, 4)).toBe("written");
  });

  test("after the run was taken over change nothing, and whoever sends them again is told", async () => {
    const { store, elsewhere, proxy, worker, id, write, isLate } = await ground();
    const writing = write(store, worker, 1, 2);
    const ended = expect(writing).rejects.toMatchObject({ code: "SUPERSEDED" });
    proxy.refuse();
    await isLate;
    const heir = { ...thisWorker(), id: "heir" };
    await elsewhere.leave(worker.id);
    await elsewhere.join(heir, 600_000);
    const [claim] = await elsewhere.claim(heir.id, ["a"], 1);
    await proxy.deliver();
    expect(await write(elsewhere, heir, claim?.epoch ?? 0, 2)).toBe("written");
    proxy.accept();
    await ended;
    expect(await elsewhere.journal(id)).toMatchObject([{ seq: 1 }, { seq: 2, why: "by heir" }]);
  });
});

describePostgres("a row that somebody else holds", () => {
  test("keeps a statement that writes events waiting for a bounded time, and then nothing of it is written", async () => {
    const direct = await createDatabase(await sharedPostgres());
    const store = await openPostgres(direct);
    const other = new Client({ connectionString: direct });
    await other.connect();
    onTestFinished(async () => {
      await other.end();
      await store.close();
      await dropDatabase(direct);
    });
    const worker = thisWorker();
    await store.join(worker, 600_000);
    const principal = { tenant: "t", user: "u", roles: [] };
    const created = { type: "run.created", agent: "a", principal, deadline: 1e15, seq: 1, at: 0 } as const;
    const id = newRunId(Date.now());
    await store.create({ id, agent: "a", principal, deadline: 1e15, dueAt: 0, events: [created], blobs: [] }, worker.id);
    await other.query("begin");
    await other.query("select from groundcrew.workers for update");
    const events = [{ type: "run.released", why: "x", seq: 2, at: 0 } as const];
    const write = () => store.append({ run: id, worker: worker.id, epoch: 1, events, chunks: [], blobs: [], consumed: [] });
    await expect(write()).rejects.toMatchObject({ code: "STORE_BUSY" });
    await other.query("commit");
    expect(await store.journal(id)).toHaveLength(1);
    expect(await write()).toBe("written");
    expect((await store.journal(id)).map(({ seq }) => seq)).toEqual([1, 2]);
  });
});

describePostgres("a server that hangs over a commit", () => {
  test("leaves it unknown, and that is said: not that the store was busy, which would mean that nothing was done", async () => {
    const server = await startPostgres();
    const url = await server.database();
    const proxy = await TcpProxy.before(server.port);
    const store = await openPostgres(proxy.url(url), { clock: systemClock });
    onTestFinished(async () => {
      await store.close();
      await proxy.close();
      await server.remove();
    });
    const stuck = Promise.withResolvers<number>();
    proxy.tap = (data, { from }) => {
      if (from !== "client" || !data.includes("commit\0")) return "pass";
      proxy.tap = () => "pass";
      const text = "select pid from pg_stat_activity where state = 'idle in transaction'";
      run<{ pid: number }>(url, text).then(([found]) => stuck.resolve(found?.pid ?? 0), stuck.reject);
      return "desert";
    };
    const principal = { tenant: "t", user: "u", roles: [] };
    const created = { type: "run.created", agent: "a", principal, deadline: 1, seq: 1, at: 0 } as const;
    const id = newRunId(Date.now());
    const creating = store.create({ id, agent: "a", principal, deadline: 1, dueAt: 0, events: [created], blobs: [] });
    creating.catch(() => {}); // looked at below
    const pid = await stuck.promise;
    process.kill(pid, "SIGSTOP");
    onTestFinished(() => void process.kill(pid, "SIGCONT"));
    await expect(creating).rejects.toMatchObject({
      code: "STORE_UNAVAILABLE",
      message: expect.stringContaining("what became of a commit"),
    });
  });
});

describePostgres("a server that crashed over a commit", () => {
  test("is not believed about the commit of another transaction, which was given the same number afterwards", async () => {
    const server = await startPostgres({ settings: { wal_writer_delay: "10s" } }); // what is not committed is not on disk
    const url = await server.database();
    const proxy = await TcpProxy.before(server.port);
    const store = await openPostgres(proxy.url(url), { clock: systemClock });
    onTestFinished(async () => {
      await store.close();
      await proxy.close();
      await server.remove();
    });
    await run(url, "create table others (n int)");
    const isHeld = Promise.withResolvers<void>();
    proxy.tap = (data, { from }) => {
      if (from !== "client" || !data.includes("commit\0")) return "pass";
      proxy.refuse(); // nobody asks before the server is there again
      isHeld.resolve();
      return "desert";
    };
    const id = newRunId(Date.now());
    const principal = { tenant: "t", user: "u", roles: [] };
    const created = { type: "run.created", agent: "a", principal, deadline: 1, seq: 1, at: 0 } as const;
    const creating = store.create({ id, agent: "a", principal, deadline: 1, dueAt: 0, events: [created], blobs: [] });
    creating.catch(() => {}); // looked at below
    await isHeld.promise;
    await server.kill();
    await server.start();
    for (let n = 0; n < 30; n++) await run(url, `insert into others values (${n})`);
    proxy.tap = () => "pass";
    proxy.accept();
    await expect(creating).rejects.toMatchObject({ code: "STORE_UNAVAILABLE", message: expect.stringContaining("crashed over a commit") });
    expect(await store.run(id)).toBeNull();
  });
});
