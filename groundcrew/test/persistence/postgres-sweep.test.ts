/** What a sweep must not do to those who work on the same tables meanwhile. */
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { thisWorker } from "../../src/persistence/host.ts";
import { newRunId, shardOf } from "../../src/persistence/id.ts";
import type { NewRun, Store, SweepPolicy, SweepReport } from "../../src/persistence/store.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { createDatabase, dropDatabase, run } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { until, within } from "../support/until.ts";

const alice = { tenant: "acme", user: "alice", roles: [] };
const LATER = 100_000;
const TABLES = ["runs", "sessions", "events", "chunks", "blobs", "blob_refs"];
const EMPTY = TABLES.map((table) => `delete from groundcrew.${table}`).join("; ");

describePostgres("a sweep on PostgreSQL", () => {
  const clock = new FakeClock();
  let database: string;
  let stores: Store[] = [];
  let store: Store;
  let count = 0;

  beforeAll(async () => {
    database = await createDatabase(await sharedPostgres());
  });
  afterAll(() => dropDatabase(database));
  beforeEach(async () => {
    stores = [await openPostgres(database, { clock }), await openPostgres(database, { clock }), await openPostgres(database, { clock })];
    store = stores[0] as Store;
  });
  afterEach(async () => {
    await store.sweep(policy({ limit: 1e6 }));
    await Promise.all(stores.map((one) => one.close()));
    const remains = await left();
    await run(database, EMPTY); // the next test is not to blame
    expect(remains).toEqual({ runs: 0, sessions: 0, events: 0, chunks: 0, blobs: 0, blob_refs: 0 });
  });

  const policy = (more: Partial<SweepPolicy> = {}): SweepPolicy => {
    const before = clock.now() + LATER;
    return { runsBefore: before, sessionsBefore: before, chunksBefore: before, limit: 20, dryRun: false, ...more };
  };
  const left = async () => {
    const counts = TABLES.map((table) => `(select count(*)::int from groundcrew.${table}) as ${table}`);
    return (await run<Record<string, number>>(database, `select ${counts.join(", ")}`))[0];
  };
  const newRun = (session?: string): NewRun => {
    const at = clock.now();
    const created = { type: "run.created", agent: "a", principal: alice, deadline: at + LATER, seq: 1, at } as const;
    const id = newRunId(at + ++count, session);
    const turn = session === undefined ? {} : { session: { id: session, busy: "queue" as const, message: null } };
    return { id, agent: "a", principal: alice, deadline: at + LATER, dueAt: at, events: [created], blobs: [], ...turn };
  };
  /** A run with an event, two chunks, a blob of its own and one that all share. */
  const finish = async (session?: string): Promise<string> => {
    const { run: made } = await store.create(newRun(session));
    const worker = thisWorker(`worker-${++count}`);
    await store.join(worker, LATER);
    const claim = (await store.claim(worker.id, ["a"], 100)).find((one) => one.run.id === made.id);
    const chunk = (index: number) => ({ after: 1, index, at: 1, step: "s", attempt: 1, part: "p" });
    const blobs = [SHARED, { hash: `own-${made.id}`, data: "x" }];
    const write = { run: made.id, worker: worker.id, epoch: claim?.epoch ?? 0, events: [], consumed: [] };
    await store.append({ ...write, chunks: [chunk(1), chunk(2)], blobs });
    await store.append({ ...write, chunks: [], blobs: [], next: { to: "succeeded" } });
    await store.leave(worker.id);
    return made.id;
  };
  const SHARED = { hash: "shared", data: "y" };

  /** A transaction of somebody else, who takes his time. */
  const somebody = async () => {
    const client = new Client({ connectionString: database });
    await client.connect();
    onTestFinished(() => client.end());
    await client.query("begin");
    return client;
  };
  const someoneWaits = () =>
    until("somebody waits for a lock", async () => {
      const waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
      return (await run(database, waiting)).length > 0;
    });
  const nothing = { runs: 0, sessions: 0, events: 0, chunks: 0, blobs: 0, more: false };

  test("that three do at once takes everything once, and each tells its own part", async () => {
    for (let i = 0; i < 12; i++) await finish();
    for (let i = 0; i < 12; i++) await finish(`session-${i % 4}`);
    const reports: SweepReport[] = [];
    const passes = async (own: Store) => {
      let report: SweepReport;
      do {
        report = await own.sweep(policy());
        reports.push(report);
      } while (report.more);
    };
    await Promise.all(stores.map(passes));
    const sum = (what: Exclude<keyof SweepReport, "more">) => reports.reduce((total, report) => total + report[what], 0);
    const last = await store.sweep(policy({ limit: 1e6 })); // what one held when another came by
    const all = { runs: sum("runs") + last.runs, sessions: sum("sessions") + last.sessions, events: sum("events") + last.events };
    expect(all).toEqual({ runs: 24, sessions: 4, events: 24 });
    expect(sum("chunks") + last.chunks).toBe(48);
    expect(sum("blobs") + last.blobs).toBe(25);
  });

  test("leaves a session alone that is just being spoken in, and all its turns", async () => {
    await finish("chat");
    await finish("chat");
    const speaker = await somebody();
    await speaker.query("select from groundcrew.sessions where shard = $1 and id = 'chat' for no key update", [shardOf("chat")]);
    expect(await within("the sweep is over", store.sweep(policy({ chunksBefore: 0 })))).toEqual(nothing);
    await speaker.query("rollback");
    expect(await store.sweep(policy())).toMatchObject({ runs: 2, sessions: 1, chunks: 4 });
  });

  test("takes no session of which one turn is held by somebody else", async () => {
    await finish("chat");
    const second = await finish("chat");
    const holder = await somebody();
    await holder.query("select from groundcrew.runs where id = $1 for update", [second]);
    expect(await within("the sweep is over", store.sweep(policy()))).toMatchObject({ runs: 0, sessions: 0, chunks: 2 });
    await holder.query("rollback");
    expect(await store.sweep(policy())).toMatchObject({ runs: 2, sessions: 1, chunks: 2 });
  });

  test("keeps a blob that somebody refers to while it goes", async () => {
    const id = await finish();
    const writer = await somebody();
    const keep = newRunId(clock.now());
    const at = [shardOf(SHARED.hash), SHARED.hash];
    await writer.query(
      "insert into groundcrew.blobs values ($1, $2, 'y') on conflict (shard, hash) do update set hash = excluded.hash",
      at,
    );
    const sweeping = store.sweep(policy());
    await until("the sweep waits", async () => {
      return (
        (await run(database, "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()")).length > 0
      );
    });
    await writer.query("insert into groundcrew.blob_refs values ($1, $2, $3)", [...at, keep]);
    await writer.query("commit");
    expect(await within("the sweep is over", sweeping)).toMatchObject({ runs: 1, blobs: 1 });
    expect(await store.blob(SHARED.hash)).toBe("y");
    expect(await store.blob(`own-${id}`)).toBeNull();
    await run(database, EMPTY);
  });

  test("does not refuse a turn that comes while its session goes: it begins the session anew", async () => {
    const old = await finish("chat");
    const sweeper = await somebody();
    await sweeper.query("select from groundcrew.sessions where id = 'chat' for update");
    const speaking = store.create(newRun("chat"));
    await someoneWaits();
    await sweeper.query("delete from groundcrew.runs where id = $1", [old]);
    await sweeper.query("delete from groundcrew.sessions where id = 'chat'");
    await sweeper.query("commit");
    expect(await within("the turn begins", speaking)).toMatchObject({ outcome: "created", run: { turn: 1 } });
    await run(database, EMPTY);
  });

  test("and new turns in the sessions that it takes: each has all its turns, or none of the old ones", async () => {
    for (let round = 0; round < 5; round++) {
      const sessions = [0, 1, 2, 3].map((n) => `round-${round}-${n}`);
      for (const session of sessions) await finish(session);
      const speaking = sessions.map((session) => store.create(newRun(session)));
      const sweeping = stores.map((own) => own.sweep(policy({ limit: 1e6 })));
      const [spoken] = await Promise.all([Promise.all(speaking), Promise.all(sweeping)]);
      for (const [i, session] of sessions.entries()) {
        const { turns } = (await store.session("acme", session)) ?? { turns: 0 };
        const runs = await store.runs({ session, limit: 10 });
        expect(runs.map(({ turn }) => turn).reverse()).toEqual(turns === 2 ? [1, 2] : [1]);
        expect(runs[0]?.id).toBe(spoken[i]?.run.id);
      }
      await run(database, "update groundcrew.runs set status = 'cancelled', finished_at = 1, due_at = null where finished_at is null");
    }
  });
});
