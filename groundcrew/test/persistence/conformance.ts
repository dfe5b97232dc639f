/**
 * What the verbs of the store seam mean. Every store runs this suite; what it does not say, a store need not do.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ErrorCode } from "../../src/errors.ts";
import { MAX_INBOX, MAX_QUEUED_TURNS } from "../../src/limits.ts";
import type { Chunk, Event, Fact } from "../../src/persistence/event.ts";
import { thisWorker } from "../../src/persistence/host.ts";
import { newRunId } from "../../src/persistence/id.ts";
import type {
  Append,
  BusyPolicy,
  Claim,
  Created,
  Cursor,
  NewRun,
  Page,
  SessionRow,
  Store,
  SweepPolicy,
  SweepReport,
  Transition,
  WorkerIdentity,
} from "../../src/persistence/store.ts";
import type { FakeClock } from "../../src/testing/clock.ts";
import { breakerClaims } from "./breaker-claims.ts";
import { copyClaims } from "./copy-claims.ts";
import { fairClaims } from "./fair-claims.ts";
import { auditClaims, deliveryClaims, stopClaims } from "./log-claims.ts";
import { peopleClaims } from "./people-claims.ts";

/** One empty database, as a test sees it. */
export interface Ground {
  clock: FakeClock;
  /** Whether it is told that its tables are spread over machines. */
  isDistributed?: boolean;
  /** Opens it: once more, or from a process of its own for all that the stores know. */
  open(options?: { auditKey?: string }): Promise<Store>;
  remove(): Promise<void>;
}

const LEASE = 10_000;
const alice = { tenant: "acme", user: "alice", roles: ["member"] };
const bob = { tenant: "acme", user: "bob", roles: [] };
const start: Cursor = { seq: 0, chunk: 0 };

export function conformance(name: string, makeGround: () => Promise<Ground>): void {
  describe(name, () => {
    let ground: Ground;
    let clock: FakeClock;
    let store: Store;
    let other: Store;
    const opened: Store[] = [];

    beforeEach(async () => {
      ground = await makeGround();
      clock = ground.clock;
      store = await ground.open();
      other = await ground.open();
      opened.push(store, other);
    });

    afterEach(async () => {
      await Promise.all(opened.splice(0).map((one) => one.close()));
      await ground.remove();
    });

    // ---- hands ----

    let count = 0;
    const newRun = (more: Partial<NewRun> = {}): NewRun => {
      // One after the other also in the order of their ids, and in the shard of their session.
      const id = more.id ?? newRunId(clock.now() + ++count, more.session?.id);
      const agent = more.agent ?? "support";
      const principal = more.principal ?? alice;
      const deadline = clock.now() + 86_400_000;
      const created: Event = { type: "run.created", agent, principal, deadline, seq: 1, at: clock.now() };
      return { id, agent, principal, deadline, dueAt: clock.now(), events: [created], blobs: [], ...more };
    };

    const inSession = (busy: BusyPolicy = "queue", more: Partial<NewRun> = {}): NewRun =>
      newRun({ session: { id: "chat", busy, message: { text: "hello" } }, ...more });

    const join = async (at: Store = store, identity: Partial<WorkerIdentity> = {}): Promise<string> => {
      const worker = { ...thisWorker(`worker-${++count}`), ...identity };
      await at.join(worker, LEASE);
      return worker.id;
    };

    const claimOne = async (worker: string, at: Store = store): Promise<Claim> => {
      const [claim] = await at.claim(worker, ["support"], 1);
      if (!claim) throw new Error("nothing to claim");
      return claim;
    };

    /** A run, created and claimed. */
    const begin = async (more: Partial<NewRun> = {}) => {
      const { run } = await store.create(newRun(more));
      const worker = await join();
      const claims = await store.claim(worker, ["support"], 100);
      const claim = claims.find((one) => one.run.id === run.id);
      if (!claim) throw new Error(`run ${run.id} was not given`);
      return { id: run.id, worker, epoch: claim.epoch, claim };
    };

    type Hold = { id: string; worker: string; epoch: number };
    /** A child that the one who holds the parent starts. */
    const childOf = ({ id, worker, epoch }: Hold, more: Partial<NewRun> = {}, step = "s"): NewRun =>
      newRun({ parent: { run: id, step, worker, epoch }, ...more });
    const write = (hold: Hold, more: Partial<Append> = {}): Append => ({
      run: hold.id,
      worker: hold.worker,
      epoch: hold.epoch,
      events: [],
      chunks: [],
      blobs: [],
      consumed: [],
      ...more,
    });
    const event = (seq: number, fact: Fact = { type: "run.released", why: `event ${seq}` }): Event => ({ ...fact, seq, at: clock.now() });
    const chunk = (after: number, index: number): Chunk => ({
      after,
      index,
      at: clock.now(),
      step: "model#1",
      attempt: 1,
      part: `${after}.${index}`,
    });
    const end = (hold: Hold, to: Transition["to"] = "succeeded", more: Partial<Append> = {}) =>
      store.append(write(hold, { next: { to } as Transition, ...more }));
    const park = (hold: Hold, dueAt: number | null = null, more: Partial<Append> = {}) =>
      store.append(write(hold, { next: { to: "parked", reason: "signal", dueAt }, ...more }));

    const refused = (promise: Promise<unknown>, code: ErrorCode) => expect(promise).rejects.toMatchObject({ code });
    const places = (page: Page) => page.items.map((item) => ("seq" in item ? `${item.seq}` : `${item.after}.${item.index}`));
    const everything = async (run: string) => ({
      row: await store.run(run),
      events: await store.journal(run),
      feed: await store.read(run, start, 1_000),
    });

    // ---- starting ----

    describe("create", () => {
      test("a run that was created is queued, due, and known to every process", async () => {
        const { outcome, run } = await store.create(newRun({ id: "r1" }));
        expect(outcome).toBe("created");
        expect(run).toMatchObject({
          id: "r1",
          status: "queued",
          dueAt: clock.now(),
          epoch: 0,
          worker: null,
          principal: alice,
          session: null,
        });
        expect(await other.run("r1")).toEqual(run);
        expect(await other.journal("r1")).toHaveLength(1);
      });

      test("the same key and the same request start one run, from whatever process", async () => {
        const key = { key: "k", hash: "h" };
        const [first, second] = await Promise.all([store.create(newRun({ start: key })), other.create(newRun({ start: key }))]);
        expect([first.outcome, second.outcome].sort()).toEqual(["created", "existing"]);
        expect(second.run.id).toBe(first.run.id);
        expect(await store.runs({ limit: 10 })).toHaveLength(1);
      });

      test("the same key with another request is a conflict, and starts nothing", async () => {
        await store.create(newRun({ start: { key: "k", hash: "h" } }));
        await refused(store.create(newRun({ start: { key: "k", hash: "other" } })), "START_CONFLICT");
        expect(await store.runs({ limit: 10 })).toHaveLength(1);
      });

      test("a key is of one tenant and one agent", async () => {
        const key = { key: "k", hash: "h" };
        await store.create(newRun({ start: key }));
        await expect(store.create(newRun({ start: key, agent: "sales" }))).resolves.toMatchObject({ outcome: "created" });
        await expect(store.create(newRun({ start: key, principal: { ...alice, tenant: "umbrella" } }))).resolves.toMatchObject({
          outcome: "created",
        });
      });

      test("an id that is taken starts nothing", async () => {
        await store.create(newRun({ id: "r1" }));
        await refused(store.create(newRun({ id: "r1", principal: bob })), "START_CONFLICT");
        expect(await store.run("r1")).toMatchObject({ principal: alice });
      });

      test("a key with a lone surrogate is refused, not confused with another", async () => {
        await refused(store.create(newRun({ start: { key: "\ud800", hash: "h" } })), "INPUT_INVALID");
        await refused(store.create(inSession("queue", { session: { id: "\udfff", busy: "queue", message: null } })), "INPUT_INVALID");
      });

      test("text with NUL and with characters of all planes comes back as it went in", async () => {
        const user = "a\u0000b\u{1f6e9}'\"; drop table runs";
        const { run } = await store.create(newRun({ principal: { tenant: "", user, roles: ["r\u0000"] } }));
        expect((await other.run(run.id))?.principal).toEqual({ tenant: "", user, roles: ["r\u0000"] });
      });

      test("a run that begins with a long journal, as a fork does, has all of it", async () => {
        const events = [...newRun().events, ...Array.from({ length: 1_000 }, (_, i) => event(i + 2))];
        const { run } = await store.create(newRun({ events }));
        expect(await store.journal(run.id)).toEqual(events);
      });

      test("a run that may not start yet is not given to a worker before its time", async () => {
        await store.create(newRun({ dueAt: clock.now() + 60_000 }));
        const worker = await join();
        expect(await store.claim(worker, ["support"], 10)).toEqual([]);
        expect(await store.nextDue(["support"])).toBe(clock.now() + 60_000);
        clock.jump(60_000);
        await store.join({ ...thisWorker(worker) }, LEASE);
        expect(await store.claim(worker, ["support"], 10)).toHaveLength(1);
        expect(await store.nextDue(["support"])).toBeNull();
      });
    });

    // ---- who may write ----

    describe("lease and fence", () => {
      test("each claim raises the epoch, and the old epoch writes nothing", async () => {
        const old = await begin();
        await store.append(write(old, { next: { to: "queued" } }));
        const again = await claimOne(old.worker);
        expect(again.epoch).toBe(old.epoch + 1);
        expect(again.takeover).toBe(false);
        const before = await everything(old.id);
        await refused(store.append(write(old, { events: [event(2)] })), "SUPERSEDED");
        await refused(
          store.append(
            write(old, { events: [event(2)], chunks: [chunk(2, 1)], blobs: [{ hash: "h", data: "d" }], next: { to: "succeeded" } }),
          ),
          "SUPERSEDED",
        );
        expect(await everything(old.id)).toEqual(before);
        expect(await store.blob("h")).toBeNull();
      });

      test("another worker at the right epoch writes nothing", async () => {
        const held = await begin();
        const stranger = await join();
        await refused(store.append(write({ ...held, worker: stranger }, { events: [event(2)] })), "SUPERSEDED");
        await refused(store.append(write({ ...held, worker: "never joined" }, { events: [event(2)] })), "SUPERSEDED");
        expect(await store.journal(held.id)).toHaveLength(1);
      });

      test("a worker whose lease ran out writes nothing, even while nobody has taken over", async () => {
        const held = await begin();
        clock.jump(LEASE);
        const before = await everything(held.id);
        await refused(store.append(write(held, { events: [event(2)] })), "SUPERSEDED");
        await refused(end(held), "SUPERSEDED");
        await refused(store.claim(held.worker, ["support"], 1), "SUPERSEDED");
        expect(await store.renew(held.worker, LEASE)).toBe(false);
        expect(await everything(held.id)).toEqual(before);
      });

      test("a worker whose lease ran out writes nothing more, where it has written before", async () => {
        const held = await begin();
        expect(await store.append(write(held, { events: [event(2)] }))).toBe("written");
        clock.jump(LEASE);
        const before = await everything(held.id);
        await refused(store.append(write(held, { events: [event(3)] })), "SUPERSEDED");
        expect(await everything(held.id)).toEqual(before);
      });

      const HANDS: Record<string, (by: string) => Promise<unknown>> = {
        nobody: async () => {},
        another: async () => claimOne(await join(other), other),
        "the same again": (by) => claimOne(by, other),
      };
      test.each(Object.entries(HANDS))("a run that went back and to %s takes nothing more; what is written with it is", async (_, take) => {
        const { run } = await store.create(newRun());
        const held = await begin(); // claims the other as well
        const lost: Hold = { id: run.id, worker: held.worker, epoch: 1 };
        const writeBoth = (seq: number) =>
          Promise.allSettled([lost, held].map((hold) => store.append(write(hold, { events: [event(seq)] }))));
        expect(await writeBoth(2)).toMatchObject([{ value: "written" }, { value: "written" }]);
        await other.append(write(lost, { next: { to: "queued" } }));
        await take(lost.worker);
        expect(await writeBoth(3)).toMatchObject([{ reason: { code: "SUPERSEDED" } }, { value: "written" }]);
        expect([await store.journal(lost.id), await store.journal(held.id)].map((events) => events.length)).toEqual([2, 3]);
      });

      test("renewing in time keeps the runs", async () => {
        const held = await begin();
        for (let i = 0; i < 5; i++) {
          clock.jump(LEASE - 1);
          expect(await store.renew(held.worker, LEASE)).toBe(true);
        }
        expect(await store.append(write(held, { events: [event(2)] }))).toBe("written");
        expect(await other.claim(await join(other), ["support"], 10)).toEqual([]);
      });

      test("the runs of a worker whose lease ran out go to another, once", async () => {
        const held = await begin();
        clock.jump(LEASE);
        const [one, two] = [await join(), await join(other)];
        const claims = (await Promise.all([store.claim(one, ["support"], 10), other.claim(two, ["support"], 10)])).flat();
        expect(claims).toHaveLength(1);
        expect(claims[0]).toMatchObject({ takeover: true, epoch: held.epoch + 1, run: { id: held.id, status: "running" } });
        await refused(store.append(write(held, { events: [event(2)] })), "SUPERSEDED");
        expect(await store.renew(held.worker, LEASE)).toBe(false);
      });

      test("the runs of a process that is gone are taken over at once, without waiting for its lease", async () => {
        await store.create(newRun());
        const dead = await join(store, { pid: 2 ** 22 + 1 }); // no kernel gives such a pid
        await claimOne(dead);
        expect(await claimOne(await join(other), other)).toMatchObject({ takeover: true });
        expect(await store.renew(dead, LEASE)).toBe(false);
      });

      test("a pid that another process has by now does not keep a dead worker's runs", async () => {
        await store.create(newRun());
        await claimOne(await join(store, { startedAt: "1" }));
        expect(await claimOne(await join(other), other)).toMatchObject({ takeover: true });
      });

      test("a worker is there as long as its lease holds, and nobody else ever was", async () => {
        const held = await begin();
        expect(await other.isAlive(held.worker)).toBe(true);
        expect(await other.isAlive("nobody")).toBe(false);
        clock.jump(60 * 60_000);
        expect(await other.isAlive(held.worker)).toBe(false);
      });

      test("a worker on another machine keeps its runs until its lease runs out", async () => {
        await store.create(newRun());
        await claimOne(await join(store, { host: "elsewhere", pid: 2 ** 22 + 1 }));
        const worker = await join(other);
        expect(await other.claim(worker, ["support"], 10)).toEqual([]);
        clock.jump(LEASE);
        await other.join(thisWorker(worker), LEASE);
        expect(await other.claim(worker, ["support"], 10)).toHaveLength(1);
      });

      test("a worker that leaves hands back all it holds: no takeover, no waiting", async () => {
        const held = await begin();
        await store.leave(held.worker);
        expect(await store.run(held.id)).toMatchObject({ status: "queued", worker: null, dueAt: clock.now() });
        expect(await claimOne(await join(other), other)).toMatchObject({ takeover: false, epoch: held.epoch + 1 });
        await refused(store.append(write(held, { events: [event(2)] })), "SUPERSEDED");
      });

      test("leaving after the lease was lost takes nothing from the new holder", async () => {
        const held = await begin();
        clock.jump(LEASE);
        const claim = await claimOne(await join(other), other);
        await store.leave(held.worker);
        expect(await store.run(held.id)).toMatchObject({ status: "running", worker: claim.run.worker });
      });

      test("one write that is refused does not touch the writes beside it", async () => {
        const held = await begin();
        const results = await Promise.allSettled([
          store.append(write(held, { events: [event(2)] })),
          store.append(write({ ...held, epoch: held.epoch - 1 }, { events: [event(3)] })),
          store.append(write(held, { events: [event(3)] })),
          store.append(write(held, { events: [event(7)] })),
          store.append(write(held, { events: [event(4), event(5)] })),
        ]);
        expect(results.map((result) => result.status)).toEqual(["fulfilled", "rejected", "fulfilled", "rejected", "fulfilled"]);
        expect((await store.journal(held.id)).map((one) => one.seq)).toEqual([1, 2, 3, 4, 5]);
      });

      test("a clock that jumps back an hour loses nothing and locks nobody out", async () => {
        const held = await begin();
        const { run: queued } = await store.create(newRun());
        clock.jump(-3_600_000);
        expect(await store.append(write(held, { events: [event(2)] }))).toBe("written");
        expect(await store.renew(held.worker, LEASE)).toBe(true);
        expect(await store.nextDue(["support"])).toBeNull();
        expect((await claimOne(held.worker)).run.id).toBe(queued.id);
      });

      test("a lease that was given before the clock jumped back does not outlast its length", async () => {
        await begin();
        clock.jump(-3_600_000);
        const worker = await join(other);
        expect(await other.claim(worker, ["support"], 10)).toEqual([]);
        clock.jump(LEASE);
        await other.join(thisWorker(worker), LEASE);
        expect(await other.claim(worker, ["support"], 10)).toHaveLength(1);
      });
    });

    describe("claim", () => {
      test("the run that is due longest comes first, and the limit holds", async () => {
        for (const [id, age] of [
          ["b", 20],
          ["c", 10],
          ["a", 30],
        ] as const)
          await store.create(newRun({ id, dueAt: clock.now() - age }));
        const worker = await join();
        expect((await store.claim(worker, ["support"], 2)).map(({ run }) => run.id)).toEqual(["a", "b"]);
        expect((await store.claim(worker, ["support"], 2)).map(({ run }) => run.id)).toEqual(["c"]);
        expect(await store.claim(worker, ["support"], 2)).toEqual([]);
      });

      test("a timer that has come is not starved by runs that keep arriving", async () => {
        const held = await begin();
        await park(held, clock.now() + 10);
        clock.jump(20);
        for (let i = 0; i < 5; i++) await store.create(newRun());
        expect((await claimOne(held.worker)).run.id).toBe(held.id);
      });

      test("a worker leaves the agents alone that it does not know", async () => {
        await store.create(newRun({ agent: "sales" }));
        const worker = await join();
        expect(await store.claim(worker, ["support"], 10)).toEqual([]);
        expect(await store.claim(worker, [], 10)).toEqual([]);
        expect(await store.nextDue(["support"])).toBeNull();
        expect(await store.claim(worker, ["support", "sales"], 10)).toHaveLength(1);
      });

      test("two stores that claim at once give each run once", async () => {
        const ids = await Promise.all(Array.from({ length: 50 }, async () => (await store.create(newRun())).run.id));
        const [one, two] = [await join(store), await join(other)];
        const given: string[] = [];
        while (given.length < ids.length) {
          const claims = await Promise.all([store.claim(one, ["support"], 3), other.claim(two, ["support"], 3)]);
          given.push(...claims.flat().map(({ run }) => run.id));
        }
        expect(given.sort()).toEqual(ids.sort());
      });

      test("a claim brings the signals that came before it", async () => {
        const { run } = await store.create(newRun());
        await store.signal({ id: "s1", run: run.id, kind: "signal", name: "go", value: { now: true }, from: "alice" });
        const { signals } = await claimOne(await join());
        expect(signals).toEqual([
          { id: "s1", run: run.id, kind: "signal", name: "go", value: { now: true }, from: "alice", at: clock.now() },
        ]);
      });
    });

    // ---- the journal ----

    describe("append", () => {
      test("events, chunks and blobs are read as they were written, by every process", async () => {
        const held = await begin();
        const fact: Fact = { type: "step.succeeded", step: "s", attempt: 1, value: { text: "a\u0000b \ud800 \u{1f6e9}" } };
        await store.append(
          write(held, { events: [event(2, fact), event(3)], chunks: [chunk(3, 1), chunk(3, 2)], blobs: [{ hash: "h", data: "data" }] }),
        );
        expect((await other.journal(held.id))[1]).toEqual(event(2, fact));
        expect(await other.blob("h")).toBe("data");
        expect(places(await other.read(held.id, start, 100))).toEqual(["1", "2", "3", "3.1", "3.2"]);
      });

      test("events with a gap, a repeat or a wrong order are refused and change nothing", async () => {
        const held = await begin();
        await store.append(write(held, { events: [event(2)] }));
        const before = await everything(held.id);
        for (const events of [[event(4)], [event(2)], [event(1), event(2)], [event(2), event(3)], [event(3), event(5)]]) {
          await refused(store.append(write(held, { events })), "INTERNAL");
          await refused(store.append(write(held, { events, next: { to: "succeeded" } })), "INTERNAL");
        }
        expect(await everything(held.id)).toEqual(before);
      });

      test("chunks that a reader would miss are refused: behind an older event, or with a gap", async () => {
        const held = await begin();
        await store.append(write(held, { events: [event(2)], chunks: [chunk(1, 1), chunk(2, 1)] }));
        for (const chunks of [[chunk(1, 2)], [chunk(2, 3)], [chunk(2, 1)], [chunk(3, 1)], [chunk(2, 2), chunk(2, 4)]]) {
          await refused(store.append(write(held, { chunks })), "INTERNAL");
        }
        await store.append(write(held, { chunks: [chunk(2, 2), chunk(2, 3)] }));
        expect(places(await store.read(held.id, start, 100))).toEqual(["1", "1.1", "2", "2.1", "2.2", "2.3"]);
      });

      test("what the caller changes after the call does not reach the journal", async () => {
        const held = await begin();
        const value = { n: 1 };
        const written = store.append(write(held, { events: [event(2, { type: "step.succeeded", step: "s", attempt: 1, value })] }));
        value.n = 2;
        await written;
        expect((await store.journal(held.id))[1]).toMatchObject({ value: { n: 1 } });
      });

      test("a parked run has no worker, keeps its reason, and wakes when its time comes", async () => {
        const held = await begin();
        await store.append(write(held, { next: { to: "parked", reason: "timer", dueAt: clock.now() + 5_000 } }));
        expect(await store.run(held.id)).toMatchObject({ status: "parked", reason: "timer", dueAt: clock.now() + 5_000, worker: null });
        expect(await store.claim(held.worker, ["support"], 1)).toEqual([]);
        clock.jump(5_000);
        expect(await claimOne(held.worker)).toMatchObject({ takeover: false, run: { status: "running", reason: null, dueAt: null } });
      });

      test("a finished run takes no more writes, also from its last holder", async () => {
        for (const status of ["succeeded", "failed", "cancelled", "expired"] as const) {
          const held = await begin();
          await end(held, status, { events: [event(2)] });
          const before = await everything(held.id);
          expect(before.row).toMatchObject({ status, worker: null, dueAt: null });
          await refused(store.append(write(held, { events: [event(3)] })), "SUPERSEDED");
          expect(await everything(held.id)).toEqual(before);
        }
      });

      test("a value of many megabytes goes in and comes out", async () => {
        const held = await begin();
        const data = "x".repeat(20 * 1024 * 1024);
        await store.append(write(held, { blobs: [{ hash: "big", data }] }));
        expect(await other.blob("big")).toBe(data);
      });
    });

    describe("read", () => {
      /** All of it, after it was read from each of its places on, in pages of several sizes. */
      const readFromEverywhere = async (run: string): Promise<string[]> => {
        const whole = places(await store.read(run, start, 100));
        for (const limit of [1, 2, 3, 7]) {
          for (let from = 0; from <= whole.length; from++) {
            const [seq = 0, index = 0] = from === 0 ? [] : (whole[from - 1] ?? "").split(".").map(Number);
            const seen: string[] = [];
            let cursor: Cursor = { seq, chunk: index };
            for (let more = true; more; ) {
              const page = await other.read(run, cursor, limit);
              expect(page.items.length).toBeLessThanOrEqual(limit);
              seen.push(...places(page));
              const last = page.items.at(-1);
              if (last) cursor = "seq" in last ? { seq: last.seq, chunk: 0 } : { seq: last.after, chunk: last.index };
              more = page.more;
            }
            expect(seen).toEqual(whole.slice(from));
          }
        }
        return whole;
      };

      test("from any place, in pages of any size, every reader sees the one sequence", async () => {
        const held = await begin();
        await store.append(write(held, { chunks: [chunk(1, 1), chunk(1, 2)] }));
        await store.append(write(held, { events: [event(2), event(3), event(4)] }));
        await store.append(write(held, { chunks: [chunk(4, 1)] }));
        await store.append(write(held, { chunks: [chunk(4, 2), chunk(4, 3)], events: [event(5)] }));
        await store.append(write(held, { chunks: [chunk(5, 1)] }));
        const whole = ["1", "1.1", "1.2", "2", "3", "4", "4.1", "4.2", "4.3", "5", "5.1"];
        expect(await readFromEverywhere(held.id)).toEqual(whole);
        for (const seq of [6, 7, 8, 9]) await store.append(write(held, { events: [event(seq)] }));
        expect(await readFromEverywhere(held.id)).toEqual([...whole, "6", "7", "8", "9"]);
        for (const index of [1, 2, 3, 4]) await store.append(write(held, { chunks: [chunk(9, index)] }));
        expect(await readFromEverywhere(held.id)).toEqual([...whole, "6", "7", "8", "9", "9.1", "9.2", "9.3", "9.4"]);
      });

      test("a place that the run has not reached is refused, and the end is not", async () => {
        const held = await begin();
        await store.append(write(held, { chunks: [chunk(1, 1)] }));
        expect(await store.read(held.id, { seq: 1, chunk: 1 }, 10)).toEqual({ items: [], more: false });
        for (const cursor of [
          { seq: 2, chunk: 0 },
          { seq: 1, chunk: 2 },
          { seq: -1, chunk: 0 },
          { seq: 0, chunk: 1 },
        ]) {
          await refused(store.read(held.id, cursor, 10), "CURSOR_INVALID");
        }
      });

      test("the last event is told without the journal, whatever stands beside it in its write", async () => {
        const held = await begin();
        expect(await other.last(held.id)).toMatchObject({ seq: 1, type: "run.created" });
        await store.append(write(held, { events: [event(2), event(3)] }));
        expect(await other.last(held.id)).toEqual(event(3));
      });

      test("a run that does not exist is said not to", async () => {
        await refused(store.last("nowhere"), "RUN_NOT_FOUND");
        await refused(store.read("nowhere", start, 10), "RUN_NOT_FOUND");
        await refused(store.journal("nowhere"), "RUN_NOT_FOUND");
        expect(await store.run("nowhere")).toBeNull();
        expect(await store.session("acme", "nowhere")).toBeNull();
        expect(await store.blob("nowhere")).toBeNull();
      });
    });

    // ---- signals ----

    describe("signal", () => {
      const signal = (run: string, id = "s1", kind: "signal" | "message" | "cancel" = "signal") => ({
        id,
        run,
        kind,
        name: "reply",
        value: 1,
      });

      test("the same id is one signal, also after it was consumed", async () => {
        const held = await begin();
        expect(await store.signal(signal(held.id))).toBe(true);
        expect(await other.signal(signal(held.id))).toBe(false);
        expect(await store.inbox(held.worker)).toHaveLength(1);
        await store.append(write(held, { events: [event(2)], consumed: ["s1"] }));
        expect(await store.signal(signal(held.id))).toBe(false);
        expect(await store.inbox(held.worker)).toEqual([]);
      });

      test("a run that does not exist, or has ended, takes none", async () => {
        await refused(store.signal(signal("nowhere")), "RUN_NOT_FOUND");
        const held = await begin();
        await end(held);
        await refused(store.signal(signal(held.id)), "RUN_FINISHED");
      });

      test("a parked run is woken", async () => {
        const held = await begin();
        await park(held);
        expect(await store.nextDue(["support"])).toBeNull();
        await other.signal(signal(held.id));
        expect(await store.run(held.id)).toMatchObject({ status: "queued", reason: null, dueAt: clock.now() });
        expect((await claimOne(held.worker)).signals).toHaveLength(1);
      });

      test("a signal that came while the run was about to park is not slept over", async () => {
        const held = await begin();
        await store.signal(signal(held.id));
        await park(held);
        expect(await store.run(held.id)).toMatchObject({ status: "queued", dueAt: clock.now() });
      });

      test("a run that consumes its last signal while it parks, parks", async () => {
        const held = await begin();
        await store.signal(signal(held.id));
        await park(held, null, { consumed: ["s1"] });
        expect(await store.run(held.id)).toMatchObject({ status: "parked" });
      });

      test("a run that wants to end while a message waits writes nothing and goes on", async () => {
        for (const to of ["succeeded", "failed"] as const) {
          const held = await begin();
          await store.signal(signal(held.id, "m1", "message"));
          const before = await everything(held.id);
          expect(await end(held, to, { events: [event(2)], blobs: [{ hash: to, data: "" }] })).toBe("signalled");
          expect(await everything(held.id)).toEqual(before);
          expect(await store.blob(to)).toBeNull();
          expect(await end(held, to, { events: [event(2)], consumed: ["m1"] })).toBe("written");
          expect(await store.run(held.id)).toMatchObject({ status: to });
        }
      });

      test("a run that is cancelled or expired ends whatever waits, and only messages hold up another end", async () => {
        for (const to of ["cancelled", "expired"] as const) {
          const held = await begin();
          await store.signal(signal(held.id, "m1", "message"));
          expect(await end(held, to)).toBe("written");
        }
        const held = await begin();
        await store.signal(signal(held.id));
        expect(await end(held)).toBe("written");
      });

      test("a cancel does not wait for the start time of a queued run", async () => {
        const { run } = await store.create(newRun({ dueAt: clock.now() + 60_000 }));
        await store.signal(signal(run.id));
        expect(await store.run(run.id)).toMatchObject({ dueAt: clock.now() + 60_000 });
        await store.signal(signal(run.id, "c", "cancel"));
        expect((await claimOne(await join())).signals.map(({ kind }) => kind)).toEqual(["signal", "cancel"]);
      });

      test("a sender that floods a run is told, and the run gets room again as it reads", async () => {
        const held = await begin();
        await Promise.all(Array.from({ length: MAX_INBOX }, (_, i) => store.signal(signal(held.id, `s${i}`))));
        await refused(store.signal(signal(held.id, "one more")), "INBOX_FULL");
        expect(await store.signal(signal(held.id, "s0"))).toBe(false);
        await store.append(write(held, { events: [event(2)], consumed: ["s0"] }));
        expect(await store.signal(signal(held.id, "one more"))).toBe(true);
      });

      test("a full inbox keeps nobody from cancelling a run, retrying it or answering for a step", async () => {
        const held = await begin();
        await Promise.all(Array.from({ length: MAX_INBOX }, (_, i) => store.signal(signal(held.id, `s${i}`))));
        await refused(store.signal(signal(held.id, "m", "message")), "INBOX_FULL");
        for (const kind of ["cancel", "retry", "resolve"] as const) {
          expect(await store.signal({ id: kind, run: held.id, kind, name: kind })).toBe(true);
        }
        expect((await store.inbox(held.worker)).slice(MAX_INBOX).map(({ kind }) => kind)).toEqual(["cancel", "retry", "resolve"]);
      });

      test("a cancel or a retry that waits already is not laid beside itself; one that was taken up may come again", async () => {
        const held = await begin();
        for (const kind of ["cancel", "retry"] as const) {
          expect(await store.signal({ id: `${kind} 1`, run: held.id, kind, name: kind })).toBe(true);
          expect(await other.signal({ id: `${kind} 2`, run: held.id, kind, name: kind })).toBe(false);
        }
        expect((await store.inbox(held.worker)).map(({ id }) => id)).toEqual(["cancel 1", "retry 1"]);
        await store.append(write(held, { events: [event(2)], consumed: ["retry 1"] }));
        expect(await store.signal({ id: "retry 3", run: held.id, kind: "retry", name: "retry" })).toBe(true);
      });

      test("a run may be set aside with what it was sent, without a word in its journal", async () => {
        const held = await begin();
        await store.signal(signal(held.id));
        await store.signal(signal(held.id, "c", "cancel"));
        const next = { to: "parked", reason: "attention", dueAt: null } as const;
        expect(await store.append(write(held, { consumed: ["s1", "c"], next }))).toBe("written");
        expect(await store.run(held.id)).toMatchObject({ status: "parked", reason: "attention", dueAt: null, worker: null });
        expect(await store.journal(held.id)).toHaveLength(1);
        expect(await store.claim(held.worker, ["support"], 1)).toEqual([]);
        await store.signal(signal(held.id, "s2"));
        expect((await claimOne(held.worker)).signals.map(({ id }) => id)).toEqual(["s2"]);
      });

      test("a worker's inbox holds what came to its runs, in order, and nothing of others", async () => {
        const held = await begin();
        const foreign = await begin();
        for (const id of ["s3", "s1", "s2"]) await other.signal(signal(held.id, id));
        await other.signal(signal(foreign.id));
        expect((await store.inbox(held.worker)).map(({ id }) => id)).toEqual(["s3", "s1", "s2"]);
      });
    });

    // ---- starting with somebody who has room ----

    describe("create for a worker", () => {
      /** What was created, as its worker holds it: given with the commit, or claimed behind it. */
      const held = async (created: Created, worker: string): Promise<Claim> => created.claim ?? (await claimOne(worker));

      test("gives the run to the worker once, at its first epoch, with its whole journal; nobody else finds it", async () => {
        const [worker, elsewhere] = [await join(), await join(other)];
        const created = await store.create(newRun(), worker);
        expect(created.claim !== undefined).toBe(!store.sharesCommits && !ground.isDistributed);
        const claim = await held(created, worker);
        expect(claim).toMatchObject({ epoch: 1, takeover: false, signals: [], run: { status: "running", worker, dueAt: null, epoch: 1 } });
        if (created.claim) expect(claim.events).toEqual(await store.journal(created.run.id));
        expect(await store.run(created.run.id)).toEqual(claim.run);
        expect(await other.claim(elsewhere, ["support"], 10)).toEqual([]);
        expect(await store.claim(worker, ["support"], 10)).toEqual([]);
        const hold = { id: created.run.id, worker, epoch: claim.epoch };
        await store.append(write(hold, { events: [event(2)] }));
        await end(hold, "succeeded", { events: [event(3)] });
        expect(await store.run(hold.id)).toMatchObject({ status: "succeeded" });
      });

      test("gives nothing to a worker whose lease has run out, or who is not there: the run is queued", async () => {
        const late = await join();
        clock.jump(LEASE);
        for (const worker of [late, "nobody"]) {
          const { claim, run } = await store.create(newRun(), worker);
          expect(claim).toBeUndefined();
          expect(run).toMatchObject({ status: "queued", worker: null, epoch: 0, dueAt: clock.now() });
        }
        expect(await other.claim(await join(other), ["support"], 10)).toHaveLength(2);
      });

      test("gives the run of a key once, and a run that was there before to nobody", async () => {
        const [worker, elsewhere] = [await join(), await join(other)];
        const start = { key: "k", hash: "h" };
        const both = await Promise.all([store.create(newRun({ start }), worker), other.create(newRun({ start }), elsewhere)]);
        const known = both.find(({ outcome }) => outcome === "existing");
        expect(known?.claim).toBeUndefined();
        const claims = [...both.flatMap(({ claim }) => claim ?? []), ...(await store.claim(worker, ["support"], 10))];
        expect(claims.map(({ run }) => run.id)).toEqual([known?.run.id]);
      });

      test("gives no turn that has to wait for the one before it, nor a message that the open turn has taken", async () => {
        const worker = await join();
        const first = await store.create(inSession(), worker);
        const claim = await held(first, worker);
        expect((await store.create(inSession("steer"), worker)).claim).toBeUndefined();
        const second = await store.create(inSession(), worker);
        expect(second).toMatchObject({ run: { turn: 2, status: "queued", worker: null, dueAt: null } });
        expect(second.claim).toBeUndefined();
        await end({ id: first.run.id, worker, epoch: claim.epoch }, "cancelled");
        expect((await store.claim(worker, ["support"], 10)).map(({ run }) => run.id)).toEqual([second.run.id]);
      });

      test("is handed back by a worker that leaves, and taken over from one that is gone", async () => {
        const [left, gone] = [await join(), await join(other)];
        const runs: string[] = [];
        for (const worker of [left, gone]) {
          const created = await store.create(newRun(), worker);
          if (!created.claim) await claimOne(worker);
          runs.push(created.run.id);
        }
        await store.leave(left);
        const heir = await join(other);
        expect((await other.claim(heir, ["support"], 10)).map(({ run, takeover }) => [run.id, takeover])).toEqual([[runs[0], false]]);
        clock.jump(LEASE);
        await other.join({ ...thisWorker(heir) }, LEASE);
        const taken = await other.claim(heir, ["support"], 10);
        expect(taken.find(({ run }) => run.id === runs[1])).toMatchObject({ takeover: true, epoch: 2 });
        await refused(store.append(write({ id: runs[1] ?? "", worker: gone, epoch: 1 }, { events: [event(2)] })), "SUPERSEDED");
      });
    });

    // ---- sessions ----

    describe("session", () => {
      test("turns run one at a time, in order, and none is lost", async () => {
        const runs = [];
        for (let i = 0; i < 5; i++) runs.push((await (i % 2 ? store : other).create(inSession())).run);
        expect(runs.map((run) => run.turn)).toEqual([1, 2, 3, 4, 5]);
        expect(runs.map((run) => run.dueAt)).toEqual([clock.now(), null, null, null, null]);
        const worker = await join();
        for (const run of runs) {
          const claims = await store.claim(worker, ["support"], 10);
          expect(claims.map((claim) => claim.run.id)).toEqual([run.id]);
          expect(claims[0]?.run).toMatchObject({ session: "chat" });
          await end({ id: run.id, worker, epoch: claims[0]?.epoch ?? 0 });
        }
        expect(await store.session("acme", "chat")).toMatchObject({ turns: 5, agent: "support", principal: alice });
      });

      test("the event that a turn begins with tells its place", async () => {
        await store.create(inSession());
        const { run } = await store.create(inSession());
        expect((await store.journal(run.id))[0]).toMatchObject({ type: "run.created", turn: 2 });
      });

      test("a turn whose start time is still to come when its predecessor ends, waits for it", async () => {
        const first = await begin(inSession());
        const { run } = await store.create(inSession("queue", { dueAt: clock.now() + 1_000 }));
        await end(first);
        expect(await store.run(run.id)).toMatchObject({ status: "queued", dueAt: clock.now() + 1_000 });
        expect(await store.claim(first.worker, ["support"], 1)).toEqual([]);
      });

      test("a parked turn keeps the next one waiting", async () => {
        const first = await begin(inSession());
        await store.create(inSession());
        await park(first);
        expect(await store.claim(first.worker, ["support"], 10)).toEqual([]);
      });

      test("reject: a message that comes while a turn is open is refused and leaves no trace", async () => {
        await store.create(inSession());
        await refused(store.create(inSession("reject")), "SESSION_BUSY");
        expect(await store.session("acme", "chat")).toMatchObject({ turns: 1 });
        expect(await store.runs({ limit: 10 })).toHaveLength(1);
      });

      test("interrupt: the open turn is asked to stop, woken if it sleeps, and the new one follows", async () => {
        const first = await begin(inSession());
        await park(first);
        const { run, outcome } = await store.create(inSession("interrupt"));
        expect({ outcome, turn: run.turn, dueAt: run.dueAt }).toEqual({ outcome: "created", turn: 2, dueAt: null });
        const claim = await claimOne(first.worker);
        expect(claim.run.id).toBe(first.id);
        expect(claim.signals).toMatchObject([{ kind: "cancel", value: "interrupted by a newer message" }]);
        await end({ ...first, epoch: claim.epoch }, "cancelled");
        expect((await claimOne(first.worker)).run.id).toBe(run.id);
      });

      test("steer: the message goes into the open turn, which answers it; no run is added", async () => {
        const first = await begin(inSession());
        const message = inSession("steer", { session: { id: "chat", busy: "steer", message: { text: "wait" } } });
        const { id } = message;
        const steered = await store.create(message);
        expect(steered).toMatchObject({ outcome: "steered", run: { id: first.id } });
        expect(await store.run(id)).toBeNull();
        expect(await store.inbox(first.worker)).toMatchObject([{ id, kind: "message", value: { text: "wait" }, from: "alice" }]);
        expect(await end(first)).toBe("signalled");
      });

      test("steer: a start that is repeated with its key steers once", async () => {
        const first = await begin(inSession());
        const key = { key: "k", hash: "h" };
        await store.create(inSession("steer", { start: key }));
        expect(await store.create(inSession("steer", { start: key }))).toMatchObject({ outcome: "existing", run: { id: first.id } });
        expect(await store.inbox(first.worker)).toHaveLength(1);
      });

      test("every policy just begins a turn when none is open", async () => {
        for (const busy of ["queue", "reject", "interrupt", "steer"] as const) {
          const held = await begin(inSession(busy));
          await end(held);
        }
        expect(await store.session("acme", "chat")).toMatchObject({ turns: 4 });
      });

      test("a session of another user or agent looks as if it did not exist, and of another tenant is another", async () => {
        await store.create(inSession());
        await refused(store.create(inSession("queue", { principal: bob })), "SESSION_NOT_FOUND");
        await refused(store.create(inSession("queue", { agent: "sales" })), "SESSION_NOT_FOUND");
        const { run } = await store.create(inSession("queue", { principal: { ...bob, tenant: "umbrella" } }));
        expect(run.turn).toBe(1);
        expect(await store.session("acme", "chat")).toMatchObject({ principal: alice, turns: 1 });
      });

      test("state is kept from the turn that ended, and only from its end", async () => {
        const first = await begin(inSession());
        expect(await store.session("acme", "chat")).toMatchObject({ state: null });
        clock.jump(1_000);
        await store.append(write(first, { next: { to: "succeeded", sessionState: { step: 1 } } }));
        expect(await store.session("acme", "chat")).toMatchObject({ state: { step: 1 }, activeAt: clock.now() });
        await end(await begin(inSession()));
        expect(await store.session("acme", "chat")).toMatchObject({ state: { step: 1 } });
      });

      test("a waiting turn that is cancelled ends before its turn and does not let the next one pass", async () => {
        const first = await begin(inSession());
        const { run: second } = await store.create(inSession());
        const { run: third } = await store.create(inSession());
        await store.signal({ id: "c", run: second.id, kind: "cancel", name: "cancel" });
        const claim = await claimOne(first.worker);
        expect(claim.run.id).toBe(second.id);
        await end({ ...first, id: second.id, epoch: claim.epoch }, "cancelled");
        expect(await store.claim(first.worker, ["support"], 10)).toEqual([]);
        await end(first);
        expect((await claimOne(first.worker)).run.id).toBe(third.id);
      });

      test("turns may wait only up to a bound", async () => {
        await Promise.all(Array.from({ length: MAX_QUEUED_TURNS + 1 }, () => store.create(inSession())));
        await refused(store.create(inSession()), "INBOX_FULL");
      });

      test("clients that write to one session at once get turns without gap or repeat", async () => {
        const created = await Promise.all(Array.from({ length: 40 }, (_, i) => (i % 2 ? store : other).create(inSession())));
        expect(created.map(({ run }) => run.turn).sort((a, b) => Number(a) - Number(b))).toEqual(
          Array.from({ length: 40 }, (_, i) => i + 1),
        );
      });
    });

    // ---- children ----

    describe("child", () => {
      test("the end of a child wakes its parent with the result, once", async () => {
        const parent = await begin();
        await store.create(childOf(parent, { id: "kid" }, "call#1"));
        await park(parent);
        const claim = await claimOne(parent.worker);
        await end({ id: "kid", worker: parent.worker, epoch: claim.epoch }, "failed");
        const woken = await claimOne(parent.worker);
        expect(woken.run.id).toBe(parent.id);
        expect(woken.signals).toMatchObject([{ id: "child:kid", kind: "child", name: "call#1", value: { run: "kid", status: "failed" } }]);
      });

      test("a child that ends while its parent is about to park is not slept over", async () => {
        const parent = await begin();
        await store.create(childOf(parent, { id: "kid" }));
        const claim = await claimOne(parent.worker);
        await end({ id: "kid", worker: parent.worker, epoch: claim.epoch });
        await park(parent);
        expect(await store.run(parent.id)).toMatchObject({ status: "queued" });
      });

      test("a child whose parent has ended, or is gone, ends as well", async () => {
        const [parent, gone] = [await begin(), await begin()];
        for (const each of [parent, gone]) await store.create(childOf(each));
        await end(gone);
        clock.jump(1);
        const sweep = { runsBefore: clock.now(), sessionsBefore: 0, chunksBefore: 0, limit: 100, dryRun: false };
        expect(await store.sweep(sweep)).toMatchObject({ runs: 1 });
        await end(parent);
        const claims = await store.claim(parent.worker, ["support"], 10);
        for (const { run, epoch } of claims) expect(await end({ id: run.id, worker: parent.worker, epoch })).toBe("written");
        expect(claims).toHaveLength(2);
        expect((await store.runs({ parent: parent.id, limit: 10 })).map((run) => run.status)).toEqual(["succeeded"]);
      });

      test("who does not hold a run starts no child of it, and leaves no trace; the children of others begin in the same moment", async () => {
        const [parked, ended, stale] = [await begin(), await begin(), await begin()];
        await park(parked);
        await end(ended);
        await store.append(write(stale, { next: { to: "queued" } }));
        const heir = { ...stale, worker: await join(), epoch: stale.epoch + 1 };
        await store.signal({ id: "go", run: parked.id, kind: "signal", name: "go" });
        const held = (await store.claim(heir.worker, ["support"], 10)).map(({ run }) => run.id);
        expect(held.sort()).toEqual([stale.id, parked.id].sort());

        const key = { start: { key: "child", hash: "h" } };
        const refusals = [
          { ...heir, epoch: stale.epoch },
          { ...heir, worker: stale.worker },
          { ...heir, worker: "never joined" },
          { ...heir, id: "nowhere" },
          parked,
          ended,
        ].map((hold) => childOf(hold, key));
        const fine = childOf(heir, { start: { key: "another", hash: "h" } });
        const alone = newRun();
        const asked = [...refusals, fine, alone].map((run) => store.create(run));
        const results = await Promise.allSettled(asked);
        expect(results.map((result) => (result.status === "rejected" ? result.reason.code : result.value.outcome))).toEqual([
          ...refusals.map(() => "SUPERSEDED"),
          "created",
          "created",
        ]);
        for (const { id } of refusals) expect(await store.run(id)).toBeNull();
        expect(await store.create(childOf(heir, key))).toMatchObject({ outcome: "created", run: { parent: heir.id } });
      });

      test("a worker whose lease has run out starts no child, even while nobody has taken over", async () => {
        const parent = await begin();
        clock.jump(LEASE);
        await refused(store.create(childOf(parent)), "SUPERSEDED");
        await refused(store.create(childOf(parent, { session: { id: "chat", busy: "queue", message: null } })), "SUPERSEDED");
        expect(await store.runs({ parent: parent.id, limit: 10 })).toEqual([]);
        expect(await store.session("acme", "chat")).toBeNull();
      });

      const stop = (hold: Hold, children: readonly string[], to: "failed" | "cancelled" = "cancelled") =>
        store.append(write(hold, { next: { to, stops: { children, why: "the parent run has ended" } } }));

      test("a child that is started in the moment in which its parent ends is refused, or stopped", async () => {
        const seen = new Set<string>();
        for (let i = 0; i < 20; i++) {
          const parent = await begin();
          const child = childOf(parent);
          const starting = () =>
            store.create(child).then(
              ({ outcome }) => outcome,
              ({ code }) => code,
            );
          const ending = () => stop(parent, [child.id]);
          const [started] = i % 2 ? await Promise.all([starting(), ending()]) : (await Promise.all([ending(), starting()])).toReversed();
          seen.add(started as string);
          if (started === "SUPERSEDED") expect(await store.run(child.id)).toBeNull();
          else expect((await claimOne(parent.worker)).signals).toMatchObject([{ kind: "cancel", value: "the parent run has ended" }]);
        }
        for (const started of seen) expect(["created", "SUPERSEDED"]).toContain(started);
      });

      test("the end of a parent stops those of its children that are open: the sleeping, the waiting and the one at work", async () => {
        const parent = await begin();
        const [over, asleep, late, waiting, working] = ["over", "asleep", "late", "waiting", "working"].map((id, i) =>
          childOf(parent, { id, dueAt: i === 2 ? clock.now() + 60_000 : clock.now() }),
        ) as [NewRun, NewRun, NewRun, NewRun, NewRun];
        const hold = async (run: NewRun): Promise<Hold> => {
          await store.create(run);
          const { epoch } = await claimOne(parent.worker);
          return { id: run.id, worker: parent.worker, epoch };
        };
        await end(await hold(over));
        await park(await hold(asleep));
        await hold(working);
        await store.create(late);
        await store.create(waiting);
        await store.signal({ id: "before", run: waiting.id, kind: "cancel", name: "cancel", value: "for another reason" });
        const children = [over, asleep, late, waiting, working].map(({ id }) => id);
        expect(await stop(parent, ["nowhere", ...children], "failed")).toBe("written");
        const cancelsOf = (signals: Claim["signals"]) =>
          signals.filter(({ kind }) => kind === "cancel").map(({ run, value }) => [run, value]);
        expect(cancelsOf(await store.inbox(parent.worker))).toEqual([["working", "the parent run has ended"]]);
        const claims = await store.claim(parent.worker, ["support"], 10);
        expect(cancelsOf(claims.flatMap(({ signals }) => signals)).sort()).toEqual([
          ["asleep", "the parent run has ended"],
          ["late", "the parent run has ended"],
          ["waiting", "for another reason"],
        ]);
        expect(await store.run("over")).toMatchObject({ status: "succeeded" });
      });

      test("an end that is refused, or held up by a message, stops no child", async () => {
        const stale = await begin();
        await store.create(childOf(stale, { id: "kid" }));
        await store.append(write(stale, { next: { to: "queued" } }));
        const heir = { ...stale, epoch: stale.epoch + 1 };
        await store.claim(heir.worker, ["support"], 10);
        await refused(stop(stale, ["kid"], "failed"), "SUPERSEDED");
        await store.signal({ id: "m", run: heir.id, kind: "message", name: "message", value: "wait" });
        expect(await stop(heir, ["kid"], "failed")).toBe("signalled");
        expect((await store.inbox(heir.worker)).map(({ run }) => run)).toEqual([heir.id]);
      });
    });

    // ---- lists ----

    describe("lists", () => {
      test("runs are found by each of their facts, newest first, page by page without gap or repeat", async () => {
        const ids: string[] = [];
        for (let i = 0; i < 10; i++) {
          const more = { agent: i % 2 ? "support" : "sales", principal: i % 3 ? alice : bob };
          ids.unshift((await store.create(newRun(more))).run.id);
        }
        const list = async (filter: object) => (await other.runs({ limit: 100, ...filter })).map((run) => run.id);
        expect(await list({})).toEqual(ids);
        expect(await list({ agent: "sales" })).toHaveLength(5);
        expect(await list({ tenant: "acme", user: "bob" })).toHaveLength(4);
        expect(await list({ tenant: "umbrella" })).toEqual([]);
        expect(await list({ status: ["queued"] })).toHaveLength(10);
        expect(await list({ status: ["parked", "succeeded"] })).toEqual([]);
        expect(await list({ status: [] })).toEqual([]);
        const paged: string[] = [];
        for (let page = await list({ limit: 3 }); page.length > 0; page = await list({ limit: 3, before: paged.at(-1) }))
          paged.push(...page);
        expect(paged).toEqual(ids);
        await refused(store.runs({ before: "nowhere", limit: 1 }), "CURSOR_INVALID");
      });

      test("the runs of a session, and sessions by owner and activity", async () => {
        await store.create(inSession());
        await store.create(inSession());
        await store.create(newRun());
        clock.jump(1_000);
        await store.create(inSession("queue", { principal: bob, session: { id: "bob's", busy: "queue", message: null } }));
        expect((await store.runs({ tenant: "acme", session: "chat", limit: 10 })).map((run) => run.turn)).toEqual([2, 1]);
        expect((await store.sessions({ limit: 10 })).map(({ id }) => id)).toEqual(["bob's", "chat"]);
        expect((await store.sessions({ limit: 10, user: "alice" })).map(({ id }) => id)).toEqual(["chat"]);
      });

      test("sessions are listed page by page without gap or repeat, also those of one moment and while one of them is active", async () => {
        const talk = (id: string) => store.create(newRun({ session: { id, busy: "queue", message: null } }));
        for (const id of ["s1", "s2", "s3"]) await talk(id);
        clock.jump(1_000);
        for (const id of ["t1", "t2", "t3", "t4"]) await talk(id);
        const page = async (last?: SessionRow) =>
          other.sessions({ tenant: "acme", limit: 2, ...(last && { before: { ...last, tenant: last.principal.tenant } }) });
        const listed: string[] = [];
        for (let rows = await page(); rows.length > 0; rows = await page(rows.at(-1))) {
          listed.push(...rows.map(({ id }) => id));
          clock.jump(1);
          await talk(listed[0] ?? ""); // goes to the top of a list that is being read
        }
        expect(listed).toEqual(["t4", "t3", "t2", "t1", "s3", "s2", "s1"]);
      });

      test("a session's runs are found without naming its tenant, and never those of another tenant that names it", async () => {
        await store.create(inSession());
        await store.create(inSession("queue", { principal: { ...bob, tenant: "umbrella" } }));
        const users = async (filter: object) =>
          (await store.runs({ session: "chat", limit: 10, ...filter })).map((run) => run.principal.user);
        expect(await users({})).toEqual(["bob", "alice"]);
        expect(await users({ tenant: "acme" })).toEqual(["alice"]);
        expect(await users({ tenant: "nowhere" })).toEqual([]);
      });

      test("open runs are found among any number of ended ones, by any filter beside", async () => {
        for (let i = 0; i < 3; i++) await end(await begin());
        const held = await begin();
        await park(held);
        const open = ["queued", "running", "parked"] as const;
        for (const filter of [{}, { tenant: "acme" }, { tenant: "acme", user: "alice" }, { tenant: "acme", agent: "support" }]) {
          expect((await store.runs({ ...filter, status: open, limit: 10 })).map(({ id }) => id)).toEqual([held.id]);
          expect(await store.runs({ ...filter, status: ["queued", "running"], limit: 10 })).toEqual([]);
        }
      });
    });

    // ---- cleaning ----

    describe("sweep", () => {
      const policy = (more: Partial<SweepPolicy> = {}): SweepPolicy => ({
        runsBefore: clock.now(),
        sessionsBefore: clock.now(),
        chunksBefore: clock.now(),
        limit: 10_000,
        dryRun: false,
        ...more,
      });

      /** Some of everything that can be swept, and some of everything that must not. */
      const fill = async () => {
        for (let i = 0; i < 3; i++) {
          const held = await begin();
          const blobs = [
            { hash: `own ${i}`, data: "x" },
            { hash: "shared", data: "y" },
          ];
          await store.append(write(held, { events: [event(2), event(3)], chunks: [chunk(3, 1), chunk(3, 2)], blobs }));
          await end(held, "succeeded", { events: [event(4)] });
        }
        for (let i = 0; i < 2; i++) await end(await begin(inSession()));
        const open = await begin();
        await store.append(write(open, { blobs: [{ hash: "shared", data: "y" }], chunks: [chunk(1, 1)] }));
        const { run } = await store.create(inSession("queue", { session: { id: "busy", busy: "queue", message: null } }));
        return { ...open, waiting: run.id };
      };

      test("what is due goes, with its blobs; open runs, their sessions and blobs that others use stay", async () => {
        const open = await fill();
        clock.jump(1_000);
        const report = await store.sweep(policy());
        expect(report).toEqual({ runs: 5, sessions: 1, events: 3 * 4 + 2, chunks: 6, blobs: 3, more: false });
        expect((await store.runs({ limit: 100 })).map(({ id }) => id).sort()).toEqual([open.id, open.waiting].sort());
        expect(await store.session("acme", "chat")).toBeNull();
        expect(await store.session("acme", "busy")).not.toBeNull();
        expect(await store.blob("own 0")).toBeNull();
        expect(await store.blob("shared")).toBe("y");
        expect(places(await store.read(open.id, start, 10))).toEqual(["1", "1.1"]);
        expect(await store.sweep(policy())).toEqual({ runs: 0, sessions: 0, events: 0, chunks: 0, blobs: 0, more: false });
      });

      test("a dry run tells exactly what the real one does, and does nothing", async () => {
        await fill();
        clock.jump(1_000);
        for (const limit of [1, 3, 7, 10_000]) {
          const before = await store.runs({ limit: 100 });
          const said = await store.sweep(policy({ limit, dryRun: true }));
          expect(await store.runs({ limit: 100 })).toEqual(before);
          expect(await store.sweep(policy({ limit }))).toEqual(said);
          expect(await store.runs({ limit: 100 })).toHaveLength(before.length - said.runs);
        }
      });

      test("what is younger than the policy says stays", async () => {
        await fill();
        const report = await store.sweep(policy());
        expect(report).toEqual({ runs: 0, sessions: 0, events: 0, chunks: 0, blobs: 0, more: false });
      });

      test("a pass is bounded, and passes together take everything", async () => {
        await fill();
        clock.jump(1_000);
        const reports: SweepReport[] = [];
        do reports.push(await store.sweep(policy({ limit: 5 })));
        while (reports.at(-1)?.more && reports.length < 20);
        expect(reports.length).toBeGreaterThan(2);
        const sum = (pick: (report: SweepReport) => number) => reports.reduce((total, one) => total + pick(one), 0);
        expect([sum((r) => r.runs), sum((r) => r.sessions), sum((r) => r.chunks), sum((r) => r.blobs)]).toEqual([5, 1, 6, 3]);
      });

      test("a session goes whole or not at all, also one that alone exceeds the limit", async () => {
        const turns = 4;
        for (const id of ["first", "second"]) {
          for (let i = 0; i < turns; i++) {
            const held = await begin({ session: { id, busy: "queue", message: null } });
            const blobs = [{ hash: `${id} state ${i}`, data: "{}" }];
            await end(held, "succeeded", { events: [event(2)], blobs });
          }
        }
        clock.jump(1_000);
        for (const [id, rest] of [
          ["first", turns],
          ["second", 0],
        ] as const) {
          expect(await store.sweep(policy({ limit: 3, dryRun: true }))).toMatchObject({ runs: turns, sessions: 1, blobs: turns });
          expect(await store.sweep(policy({ limit: 3 }))).toMatchObject({ runs: turns, sessions: 1, blobs: turns, more: rest > 0 });
          expect(await store.session("acme", id)).toBeNull();
          expect(await store.runs({ tenant: "acme", limit: 100 })).toHaveLength(rest);
        }
      });

      test("a session that comes back to life between two passes has lost nothing", async () => {
        await end(await begin()); // weighs 3 and goes first: the session does not fit behind it
        for (let i = 0; i < 3; i++) {
          const held = await begin(inSession());
          const blobs = [{ hash: `state ${i}`, data: "{}" }];
          await store.append(write(held, { events: [event(2)], blobs, next: { to: "succeeded", sessionState: { $blob: `state ${i}` } } }));
        }
        clock.jump(1_000);
        expect(await store.sweep(policy({ limit: 5 }))).toMatchObject({ runs: 1, sessions: 0, more: true });
        await store.create(inSession());
        expect(await store.sweep(policy({ limit: 5 }))).toMatchObject({ runs: 0, sessions: 0, more: false });
        expect(await store.runs({ tenant: "acme", session: "chat", limit: 10 })).toHaveLength(4);
        for (let i = 0; i < 3; i++) expect(await store.blob(`state ${i}`)).toBe("{}");
      });

      test("a finished turn of a session that is kept stays, and only its chunks go", async () => {
        const held = await begin(inSession());
        await store.append(write(held, { chunks: [chunk(1, 1), chunk(1, 2)] }));
        await end(held, "succeeded", { events: [event(2)] });
        clock.jump(1_000);
        const report = await store.sweep(policy({ sessionsBefore: 0 }));
        expect(report).toMatchObject({ runs: 0, sessions: 0, chunks: 2 });
        expect(places(await store.read(held.id, start, 10))).toEqual(["1", "2"]);
        expect(places(await store.read(held.id, { seq: 1, chunk: 2 }, 10))).toEqual(["2"]); // of a reader who had seen them
      });

      test("a finished child is kept as long as its parent is open, and costs a pass nothing while it is kept; then it goes", async () => {
        const parent = await begin();
        for (let i = 0; i < 40; i++) {
          await store.create(childOf(parent));
          const { run, epoch } = await claimOne(parent.worker);
          await end({ id: run.id, worker: parent.worker, epoch });
        }
        clock.jump(1);
        await end(await begin()); // behind all of them
        clock.jump(1_000);
        const age = policy().runsBefore;
        const passes: SweepReport[] = [];
        for (let more = true; more; more = passes.length < 20 && (passes.at(-1)?.more ?? false)) {
          const said = await store.sweep(policy({ limit: 9, dryRun: true }));
          passes.push(await store.sweep(policy({ limit: 9 })));
          expect(passes.at(-1)).toEqual(said);
        }
        expect(passes.map(({ runs }) => runs)).toEqual([0, 0, 0, 0, 1]);
        expect(await store.runs({ parent: parent.id, limit: 100 })).toHaveLength(40);
        clock.jump(500); // not as long again
        await end(await begin());
        clock.jump(1);
        expect(await store.sweep(policy({ limit: 1, runsBefore: age }))).toMatchObject({ runs: 0, more: false });

        await store.join(thisWorker(parent.worker), LEASE);
        await end(parent);
        clock.jump(1_000);
        expect(await store.sweep(policy())).toMatchObject({ runs: 42, more: false });
        expect(await store.runs({ limit: 100 })).toEqual([]);
      });

      test("a key whose run was swept starts a new run", async () => {
        const start = { key: "k", hash: "h" };
        await end(await begin({ start }));
        clock.jump(1_000);
        await store.sweep(policy());
        await expect(store.create(newRun({ start: { key: "k", hash: "other" } }))).resolves.toMatchObject({ outcome: "created" });
      });
    });

    // ---- watching, closing ----

    describe("watch", () => {
      test("own writes are told with their runs, after they are durable; others' writes are told", async () => {
        const own: (string[] | null)[] = [];
        const foreign: (string[] | null)[] = [];
        store.watch(({ runs }) => own.push(runs && [...runs]));
        const stop = other.watch(({ runs }) => foreign.push(runs && [...runs]));
        const { run } = await store.create(newRun());
        expect(own).toEqual([[run.id]]);
        const lookAgain = () => {
          clock.jump(25);
          return foreign.length;
        };
        await expect.poll(lookAgain).toBeGreaterThan(0);
        expect(foreign.every((runs) => runs === null || runs.join() === run.id)).toBe(true); // which, or that something has changed

        stop();
        const told = foreign.length;
        await store.create(newRun());
        clock.jump(1_000);
        await other.run(run.id);
        expect(foreign).toHaveLength(told);
      });

      test("the end of a run is told as its end, and nothing else is", async () => {
        const held = await begin();
        const ends: string[] = [];
        store.watch((change) => ends.push(...(change.runs === null ? [] : change.ended)));
        await store.append(write(held, { events: [event(2)] }));
        expect(ends).toEqual([]);
        await end(held, "succeeded", { events: [event(3)] });
        expect(ends).toEqual([held.id]);
      });

      test("a write that was refused is not told", async () => {
        const told: unknown[] = [];
        const held = await begin();
        store.watch((change) => told.push(change));
        await refused(store.append(write({ ...held, epoch: 99 }, { events: [event(2)] })), "SUPERSEDED");
        expect(told).toEqual([]);
      });
    });

    describe("close", () => {
      test("what was asked before is done, what is asked after is refused", async () => {
        const creating = store.create(newRun({ id: "last" }));
        await store.close();
        await expect(creating).resolves.toMatchObject({ outcome: "created" });
        await refused(store.create(newRun()), "CLOSED");
        await refused(store.run("last"), "CLOSED");
        await store.close();
        expect(await other.run("last")).not.toBeNull();
      });
    });

    describe("copy", () => copyClaims(makeGround));

    describe("breakers", () => breakerClaims(makeGround));

    describe("approvals", () => peopleClaims(makeGround));

    describe("the audit log", () => auditClaims(makeGround));

    describe("deliveries", () => deliveryClaims(makeGround));

    describe("stops", () => stopClaims(makeGround));

    describe("fair sharing", () => fairClaims(makeGround));

    test("an event that this release does not know is an error, never a hollow run", async () => {
      const held = await begin();
      await store.append(write(held, { events: [event(2, { type: "from.the.future" } as unknown as Fact)] }));
      await refused(store.journal(held.id), "EVENT_UNREADABLE");
      await refused(store.read(held.id, { seq: 1, chunk: 0 }, 10), "EVENT_UNREADABLE");
    });
  });
}
