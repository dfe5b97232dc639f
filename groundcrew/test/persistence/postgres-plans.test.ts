/**
 * What the PostgreSQL store reads, as the server itself counts it, with a million finished runs in the tables: no verb goes
 * through a hot table row by row, or through an index from end to end.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ApprovalFilter, ApprovalRow } from "../../src/persistence/approval.ts";
import type { AuditEntry } from "../../src/persistence/audit.ts";
import { thisWorker } from "../../src/persistence/host.ts";
import { newRunId } from "../../src/persistence/id.ts";
import type { Append, Claim, NewRun, RunFilter, SessionFilter, Store } from "../../src/persistence/store.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { run } from "../support/database.ts";
import { type Postgres, startPostgres } from "../support/postgres.ts";
import { describeOwnPostgres } from "../support/shared-postgres.ts";
import { until } from "../support/until.ts";
import { FINISHED, fill } from "./million.ts";
import { hotTables } from "./shards.ts";

/** What a verb may read of one table: some hundreds of open runs, and nothing that grows with the finished ones. */
const MOST_ROWS = 2_000;

const FAST = { fsync: "off", wal_level: "minimal", max_wal_senders: "0", max_wal_size: "8GB", autovacuum: "off" };

/** One of the open runs, with many children that have ended: the first that a sweep finds. */
const PARENT = `run_${String(FINISHED + 10_000).padStart(23, "0")}${((FINISHED + 10_000) % 256).toString(16).padStart(2, "0")}`;
const CHILDREN = `update groundcrew.runs set parent = '${PARENT}' where id in (
  select id from groundcrew.runs where session is null and finished_at is not null order by finished_at limit 40)`;
/** Runs of an agent of their own that were ready, and are gone: only the index still knows of them. */
const BYGONE = `
  insert into groundcrew.runs select (jsonb_populate_record(null::groundcrew.runs, to_jsonb(r) || jsonb_build_object(
      'id', 'bygone' || i, 'agent', 'bygone', 'tenant', 't7', 'status', 'queued', 'due_at', i, 'timed', false, 'worker', null))).*
    from (select * from groundcrew.runs limit 1) r, generate_series(1, 10000) i;
  delete from groundcrew.runs where agent = 'bygone'`;
const alice = { tenant: "t7", user: "u7", roles: [] };

/** Events and chunks in one journal: far more than a verb may read. */
const LONG = 20_000;

function longJournal(run: string): string {
  const of = `select shard, id, i from groundcrew.runs, generate_series`;
  return `
    insert into groundcrew.events (shard, run, last, data)
      select shard, id, i, '[{"type":"run.released","why":"","seq":' || i || ',"at":1}]' from (${of}(2, ${LONG}) i where id = '${run}') r;
    insert into groundcrew.chunks (shard, run, after, first, last, data)
      select shard, id, ${LONG}, i, i, '[{"after":${LONG},"index":' || i || '}]' from (${of}(1, ${LONG}) i where id = '${run}') r;
    analyze groundcrew.events, groundcrew.chunks`;
}

describeOwnPostgres("with a million finished runs", () => {
  let server: Postgres;
  let database: string;
  const statements = new Set<string>();
  let worker = "";
  let claims: Claim[] = [];

  const open = () => openPostgres(database, { onQuery: (text) => statements.add(text) });

  beforeAll(async () => {
    server = await startPostgres({ settings: FAST });
    database = await server.database();
    await (await open()).close();
    await fill(database);
    const store = await open();
    worker = thisWorker("worker").id;
    await store.join(thisWorker("worker"), 600_000);
    claims = await store.claim(worker, ["support", "sales"], 20);
    await store.close();
    await run(database, longJournal((claims[1] as Claim).run.id));
    await run(database, CHILDREN);
  }, 180_000);
  afterAll(() => server?.remove());

  /** Rows that were read by going through a table, and by going through an index, of each hot table. */
  const counted = async () => {
    await until("the server has counted everything", async () => {
      const others = await run(database, "select 1 from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()");
      return others.length === 0;
    });
    return await run<{ table: string; scans: number; rows: number }>(
      database,
      `select t.relname as table, t.seq_scan::int as scans,
         (t.seq_tup_read + (select sum(idx_tup_read) from pg_stat_user_indexes i where i.relid = t.relid))::int as rows
       from pg_stat_user_tables t where schemaname = 'groundcrew' and relname = any('{${hotTables.join(",")}}') order by 1`,
    );
  };

  const reading = async (work: (store: Store) => Promise<unknown>) => {
    const before = await counted();
    const store = await open();
    const found = await work(store).finally(() => store.close());
    expect(Array.isArray(found) ? found[0] : found).toBeTruthy(); // a verb that did nothing would read nothing
    const after = await counted();
    return after.map(({ table, scans, rows }, i) => ({
      table,
      scans: scans - (before[i]?.scans ?? 0),
      rows: rows - (before[i]?.rows ?? 0),
    }));
  };

  const readsLittle = async (work: (store: Store) => Promise<unknown>) => {
    const read = await reading(work);
    expect(read.filter(({ scans }) => scans > 0)).toEqual([]);
    expect(read.filter(({ rows }) => rows > MOST_ROWS)).toEqual([]);
  };

  let count = 0;
  const newRun = (more: Partial<NewRun> = {}): NewRun => {
    const at = Date.now() + ++count;
    const created = { type: "run.created", agent: "support", principal: alice, deadline: at, seq: 1, at } as const;
    const id = newRunId(at, more.session?.id);
    return { id, agent: "support", principal: alice, deadline: at, dueAt: at, events: [created], blobs: [], ...more };
  };
  const write = (more: Partial<Append> = {}): Append => {
    const claim = claims[0] as Claim;
    return { run: claim.run.id, worker, epoch: claim.epoch, events: [], chunks: [], blobs: [], consumed: [], ...more };
  };
  const long = () => (claims[1] as Claim).run.id;
  const fact = (seq: number) => ({ type: "run.released", why: "", seq, at: 1 }) as const;
  const message = { text: "hello" };

  const entry: AuditEntry = { tenant: "t7", action: "x", actor: { kind: "runtime", id: "runtime" }, channel: "runtime" };
  const askedBy = (run: string): ApprovalRow => {
    const request = { hash: "h", user: "u" } as ApprovalRow["request"];
    const more = { to: [], requestedAt: Date.now(), expiresAt: null, request, votes: [], verdict: null };
    return { id: `${run}.2`, run, tenant: "t7", status: "open", version: 1, level: 0, ...more };
  };
  const newsOf = (run: string, about: "requested" | "ended" = "requested") => {
    return { id: `mail/${about}/${run}.2`, tenant: "t7", channel: "mail", about, approvals: [`${run}.2`], to: [] };
  };

  const verbs: Record<string, (store: Store) => Promise<unknown>> = {
    renew: (store) => store.renew(worker, 600_000),
    "create, alone": (store) => store.create(newRun({ start: { key: "new", hash: "h" }, blobs: [{ hash: "new", data: "x" }] })),
    "create, a child": (store) => {
      const { run, epoch } = claims[2] as Claim;
      return store.create(newRun({ parent: { run: run.id, step: "call", worker, epoch } }));
    },
    "create, a turn of a session": (store) => store.create(newRun({ session: { id: "s500", busy: "queue", message } })),
    claim: (store) => store.claim(worker, ["support", "sales"], 20),
    "claim, with quotas": (store) => {
      const quota = { concurrency: 1000, rate: { runs: 1000, perMs: 1000 } };
      return store.claim(worker, ["support", "sales"], 20, { agent: () => quota, tenant: () => quota });
    },
    nextDue: (store) => store.nextDue(["support", "sales"]),
    inbox: (store) => store.inbox(worker),
    signal: (store) => store.signal({ id: "s1", run: (claims[0] as Claim).run.id, kind: "signal", name: "go" }),
    append: (store) =>
      store.append(
        write({
          events: [fact(2)],
          chunks: [{ after: 2, index: 1, at: 1, step: "s", attempt: 1, part: "p" }],
          blobs: [{ hash: "other", data: "y" }],
          consumed: ["s1"],
        }),
      ),
    "append, of events of runs that go on": async (store) => {
      const runs = claims.slice(7, 17);
      const writeAll = (seq: number) =>
        Promise.all(runs.map(({ run, epoch }) => store.append(write({ run: run.id, epoch, events: [fact(seq)] }))));
      await writeAll(2); // from here on this process knows where they stand
      return writeAll(3);
    },
    "append, to its end": (store) => store.append(write({ events: [fact(3)], next: { to: "succeeded" } })),
    "append, to an end that stops children": (store) => {
      const [child, { run, epoch }] = claims.slice(3) as [Claim, Claim];
      const stops = { children: [child.run.id], why: "enough" };
      return store.append(write({ run: run.id, epoch, events: [fact(2)], next: { to: "failed", stops } }));
    },
    run: (store) => store.run((claims[0] as Claim).run.id),
    read: (store) => store.read((claims[0] as Claim).run.id, { seq: 0, chunk: 0 }, 100),
    "read, in the middle of a long journal": (store) => store.read(long(), { seq: LONG / 2, chunk: 0 }, 100),
    "read, by readers of many runs at once": (store) => Promise.all(claims.map(({ run }) => store.read(run.id, { seq: 0, chunk: 0 }, 100))),
    "read, in the middle of many chunks": (store) => store.read(long(), { seq: LONG, chunk: LONG / 2 }, 100),
    "last, of a long journal": (store) => store.last(long()),
    journal: (store) => store.journal((claims[0] as Claim).run.id),
    last: (store) => store.last((claims[0] as Claim).run.id),
    "rows, journals and last events of many runs at once": (store) =>
      Promise.all(claims.slice(2).flatMap(({ run }) => [store.run(run.id), store.journal(run.id), store.last(run.id)])),
    blob: (store) => store.blob("new"),
    session: (store) => store.session("t7", "s7"),
    "sweep, of what is due": (store) =>
      store.sweep({ ...NEVER, limit: 20, runsBefore: Date.now(), chunksBefore: Date.now(), dryRun: false }),
    "sweep, past children that are kept": (store) => store.sweep({ ...NEVER, limit: 60, runsBefore: Date.now(), dryRun: true }),
    "sweep, of sessions": (store) => store.sweep({ ...NEVER, limit: 50, sessionsBefore: Date.now(), dryRun: false }),
    "append, with what it asks and tells": (store) => {
      const { run, epoch } = claims[5] as Claim;
      const aside = { opens: [askedBy(run.id)], closes: [], audit: [entry], deliveries: [newsOf(run.id)] };
      return store.append(write({ run: run.id, epoch, events: [fact(2)], aside }));
    },
    "append, to its end, with what it has asked": (store) => {
      const { run, epoch } = claims[6] as Claim;
      const aside = { opens: [], closes: [`${run.id}.1`], audit: [entry], deliveries: [] };
      return store.append(write({ run: run.id, epoch, events: [fact(2)], aside, next: { to: "succeeded" } }));
    },
    approval: (store) => store.approval(`${(claims[5] as Claim).run.id}.2`),
    amend: (store) => {
      const asked = askedBy((claims[5] as Claim).run.id);
      const signal = { id: "ended", value: null };
      return store.amend({ next: { ...asked, version: 2 }, signal, audit: [entry], deliveries: [newsOf(asked.run, "ended")] });
    },
    record: (store) => store.record([entry]).then(() => true),
    audit: (store) => store.audit("t7", 10, 100),
    "takeDeliveries, of which many are due": (store) => store.takeDeliveries(20, 1_000),
    nextDelivery: (store) => store.nextDelivery(),
    settleDelivery: (store) => store.settleDelivery(newsOf((claims[5] as Claim).run.id).id, { state: "sent" }, [entry]).then(() => true),
    "sweep, of what was told": (store) => store.sweep({ ...NEVER, limit: 50, runsBefore: 40_000, dryRun: false }),
    leave: (store) => store.leave(worker).then(() => true),
  };
  const NEVER = { runsBefore: 0, sessionsBefore: 0, chunksBefore: 0 };

  const runFilters: Record<string, Omit<RunFilter, "limit">> = {
    all: {},
    "of a tenant": { tenant: "t7" },
    "of a user": { tenant: "t7", user: "u7" },
    "of an agent": { tenant: "t7", agent: "support" },
    "of a session": { tenant: "t7", session: "s7" },
    "of a session, without its tenant": { session: "s7" },
    "of a parent": { tenant: "t1", parent: PARENT },
    "open ones of a tenant": { tenant: "t7", status: ["queued", "running", "parked"] },
  };
  const sessionFilters: Record<string, Omit<SessionFilter, "limit">> = {
    all: {},
    "of a tenant": { tenant: "t7" },
    "of a user": { tenant: "t7", user: "u7" },
    "of an agent": { tenant: "t7", agent: "support" },
    "behind another": { tenant: "t7", before: { activeAt: Date.now(), tenant: "t7", id: "x" } },
  };

  const approvalFilters: Record<string, Omit<ApprovalFilter, "limit">> = {
    all: {},
    "of a tenant": { tenant: "t7" },
    "open ones of a tenant": { tenant: "t7", status: "open" },
    "open ones of a tenant, behind another": { tenant: "t7", status: "open", before: `${PARENT}.1` },
    "open ones of all": { status: "open" },
    "of a run": { run: PARENT },
    "open ones of a run of a tenant": { run: PARENT, tenant: "t0", status: "open" },
  };

  test.each(Object.entries(verbs))("%s", async (_, work) => {
    await readsLittle(work);
  });
  test.each(Object.entries(runFilters))("runs: %s", async (_, filter) => {
    await readsLittle((store) => store.runs({ ...filter, limit: 20 }));
  });
  test.each(Object.entries(approvalFilters))("approvals: %s", async (_, filter) => {
    await readsLittle((store) => store.approvals({ ...filter, limit: 20 }));
  });
  test.each(Object.entries(sessionFilters))("sessions: %s", async (_, filter) => {
    await readsLittle((store) => store.sessions({ ...filter, limit: 20 }));
  });

  test("a claim passes by what has been ready before, and was never vacuumed, no more than once", async () => {
    await run(database, BYGONE);
    const claimer = thisWorker("claimer");
    const before = await open();
    await before.join(claimer, 600_000);
    await before.close();
    const passed = await pagesOfReady((store) => store.claim(claimer.id, ["bygone"], 20));
    expect(passed).toBeGreaterThan(100); // or there was nothing to pass by

    const between = await open();
    await between.create(newRun({ agent: "bygone" }));
    await between.close();
    const read = await pagesOfReady(async (store) => expect(await store.claim(claimer.id, ["bygone"], 20)).toHaveLength(1));
    expect(read).toBeLessThan(1.5 * passed);
  });

  /** Pages that were read of the index of what is ready. */
  const pagesOfReady = async (work: (store: Store) => Promise<unknown>): Promise<number> => {
    const pages = async () => {
      await counted();
      const text = "select (idx_blks_hit + idx_blks_read)::int as pages from pg_statio_user_indexes where indexrelname = 'runs_ready'";
      const [found] = await run<{ pages: number }>(database, text);
      return found?.pages ?? 0;
    };
    const before = await pages();
    const store = await open();
    await work(store).finally(() => store.close());
    return (await pages()) - before;
  };

  test("no statement of these verbs is planned to go through a hot table, whatever its parameters may be", async ({ skip }) => {
    const planned = [...statements].filter((sql) => /groundcrew\./.test(sql) && /^\W*(select|with|insert|update|delete)\b/.test(sql));
    skip(planned.length === 0, "not run: it is about the statements of the tests above");
    const scanning = [];
    for (const sql of planned) if ((await scannedBy(sql)).length > 0) scanning.push(sql);
    expect(scanning).toEqual([]);
  });

  /** The hot tables that the server would go through for this statement if it knew none of its parameters. */
  const scannedBy = async (sql: string): Promise<string[]> => {
    const [plan] = await run(database, `explain (generic_plan, format json) ${sql}`);
    const scans = JSON.stringify(plan).matchAll(/"Node Type":"Seq Scan"[^{}]*?"Relation Name":"(\w+)"/g);
    return [...scans].flatMap(([, table = ""]) => (hotTables.includes(table) ? [table] : []));
  };
});
