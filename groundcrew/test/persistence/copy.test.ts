/** A whole store moved into another one: between every two kinds, interrupted anywhere, and never over something else. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type CopyProgress, copyStore } from "../../src/persistence/copy.ts";
import { thisWorker } from "../../src/persistence/host.ts";
import { newRunId } from "../../src/persistence/id.ts";
import type { Store } from "../../src/persistence/store.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { openSqlite } from "../../src/sqlite/open.ts";
import { createDatabase, dropDatabase } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { unitsOf } from "./copy-claims.ts";
import { fill } from "./fill.ts";

type Kind = "SQLite" | "PostgreSQL";

const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function make(kind: Kind): Promise<Store> {
  const store = kind === "SQLite" ? await makeSqlite() : await makePostgres();
  cleanups.push(() => store.close());
  return store;
}

function makeSqlite(): Promise<Store> {
  const directory = mkdtempSync(join(tmpdir(), "groundcrew-"));
  cleanups.push(() => rmSync(directory, { recursive: true }));
  return openSqlite(join(directory, "store.db"));
}

async function makePostgres(): Promise<Store> {
  const url = await createDatabase(await sharedPostgres());
  cleanups.push(() => dropDatabase(url));
  return openPostgres(url);
}

/** The store with some verbs of its own. */
function withVerbs(store: Store, verbs: Partial<Store>): Store {
  return new Proxy(store, {
    get(of, name: keyof Store) {
      const value = verbs[name] ?? of[name];
      return typeof value === "function" ? value.bind(of) : value;
    },
  });
}

/** Dumps two pieces at a time. */
const inSmallPages = (store: Store) => withVerbs(store, { dump: (after) => store.dump(after, 2) });

/** Takes some pages and dies at the next. */
function dyingAfter(pages: number, store: Store): Store {
  let left = pages;
  return withVerbs(store, {
    async load(units) {
      if (left-- === 0) throw new Error("died");
      await store.load(units);
    },
  });
}

const ignore = () => {};

function copying(from: Kind, to: Kind): void {
  let source: Store;
  let target: Store;

  beforeEach(async () => {
    [source, target] = [await make(from), await make(to)];
    await fill(source, Date.now());
  });

  const bothAreEqual = async () => expect(await unitsOf(target)).toEqual(await unitsOf(source));

  test("a whole store arrives, counted and hashed", async () => {
    const phases: CopyProgress["phase"][] = [];
    const report = await copyStore(source, target, ({ phase }) => phases.push(phase));
    expect(report).toMatchObject({ runs: 14, sessions: 1, blobs: 3, chunks: 2, signals: 3, starts: 3, approvals: 1, resumed: 0 });
    expect([report.audit, report.deliveries]).toEqual([12, 12]);
    expect(new Set(phases)).toEqual(new Set(["copying", "verifying"]));
    await bothAreEqual();
  });

  test("a copy that died again and again is always a beginning of its source, and ends the same", async () => {
    const all = await unitsOf(source);
    const whole = (await copyStore(source, await make(to), ignore)).hash;
    const sizes: number[] = [];
    // Seven pages at a time: a run and its blobs are two, and what is there counts from the run on.
    const attempt = () => copyStore(inSmallPages(source), dyingAfter(7, target), ignore);
    for (let failure: unknown; ; failure = undefined) {
      const report = await attempt().catch((error: unknown) => {
        failure = error;
      });
      const there = await unitsOf(target);
      expect(there).toEqual(all.slice(0, there.length));
      sizes.push(there.length);
      if (!report) expect(failure).toMatchObject({ message: "died" });
      else {
        expect(report.hash).toBe(whole);
        expect(report.resumed).toBeGreaterThan(0);
        break;
      }
    }
    expect(sizes.length).toBeGreaterThan(2);
    expect(sizes.at(-1)).toBe(all.length);
    expect(new Set(sizes).size).toBe(sizes.length);
  });

  test("copying once more changes nothing", async () => {
    const first = await copyStore(source, target, ignore);
    const again = await copyStore(source, target, ignore);
    expect(again).toEqual({ ...first, resumed: first.runs });
    await bothAreEqual();
  });
}

describe("from SQLite to SQLite", () => copying("SQLite", "SQLite"));
describePostgres("from SQLite to PostgreSQL", () => copying("SQLite", "PostgreSQL"));
describePostgres("from PostgreSQL to SQLite", () => copying("PostgreSQL", "SQLite"));
describePostgres("from PostgreSQL to PostgreSQL", () => copying("PostgreSQL", "PostgreSQL"));

describePostgres("up and down again", () => {
  test("is the same store", async () => {
    const [file, server, back] = [await make("SQLite"), await make("PostgreSQL"), await make("SQLite")];
    await fill(file, Date.now());
    const up = await copyStore(file, server, ignore);
    const down = await copyStore(server, back, ignore);
    expect(down).toEqual(up);
    expect(await unitsOf(back)).toEqual(await unitsOf(file));
  });
});

describe("a target", () => {
  let source: Store;
  let target: Store;

  beforeEach(async () => {
    [source, target] = [await make("SQLite"), await make("SQLite")];
    await fill(source, Date.now());
  });

  const isRefusedAsIs = async (code: string, message: RegExp, from = source) => {
    const before = await unitsOf(target);
    await expect(copyStore(from, target, ignore)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect(await unitsOf(target)).toEqual(before);
  };

  const startIn = async (store: Store, id = newRunId(Date.now())) => {
    const principal = { tenant: "t", user: "u", roles: [] };
    const created = { type: "run.created", agent: "a", principal, deadline: 1, seq: 1, at: 0 } as const;
    await store.create({ id, agent: "a", principal, deadline: 1, dueAt: 0, events: [created], blobs: [] });
    return id;
  };

  test("that holds a run of its own is refused and named, and nothing is written", async () => {
    const own = await startIn(target);
    await isRefusedAsIs("STORE_DIFFERS", new RegExp(`run ${own}`));
  });

  test("that holds a whole other store is refused", async () => {
    const other = await make("SQLite");
    await fill(other, Date.now() + 1);
    await copyStore(other, target, ignore);
    await isRefusedAsIs("STORE_DIFFERS", /is not a copy of the source/);
  });

  test("that has gone on since is refused with the run that differs, and is not rolled back", async () => {
    await copyStore(source, target, ignore);
    const worker = thisWorker();
    await target.join(worker, 10_000);
    const [claim] = await target.claim(worker.id, ["support"], 1);
    await target.leave(worker.id);
    await isRefusedAsIs("STORE_DIFFERS", new RegExp(`run ${claim?.run.id} is another`));
  });

  test("whose source grew after an interruption gets what is new as well", async () => {
    await copyStore(source, target, ignore);
    const added = await startIn(source, "run_zzz00");
    const { resumed, runs } = await copyStore(source, target, ignore);
    expect(runs - resumed).toBe(1);
    expect(await target.run(added)).not.toBeNull();
  });

  test("that a write has lost something of on the way is found by reading it again, and the run is named", async () => {
    const lossy = withVerbs(target, {
      load: (units) => target.load(units.map((unit) => (unit.kind === "run" ? { ...unit, signals: [] } : unit))),
    });
    const failure = await copyStore(source, lossy, ignore).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "STORE_DIFFERS", run: expect.stringMatching(/^run_/) });
  });

  test("is not begun while a worker lives on either side", async () => {
    const worker = thisWorker();
    for (const store of [source, target]) {
      await store.join(worker, 10_000);
      await expect(copyStore(source, target, ignore)).rejects.toMatchObject({ code: "STORE_BUSY" });
      await store.leave(worker.id);
    }
    expect(await unitsOf(target)).toEqual([]);
  });

  test("with blobs of many megabytes takes them page by page", async () => {
    const big = "x".repeat(3 * 1024 * 1024);
    const blobs = [1, 2, 3, 4].map((n) => ({ hash: `${n}`.repeat(64), data: JSON.stringify(`${n}${big}`) }));
    const principal = { tenant: "t", user: "u", roles: [] };
    const created = { type: "run.created", agent: "a", principal, deadline: 1, seq: 1, at: 0 } as const;
    await source.create({ id: newRunId(0), agent: "a", principal, deadline: 1, dueAt: 0, events: [created], blobs });
    const sizes: number[] = [];
    for (let after: string | null = null; ; ) {
      const page = await source.dump(after, 500);
      sizes.push(JSON.stringify(page.units).length);
      if (page.next === null) break;
      after = page.next;
    }
    expect(Math.max(...sizes)).toBeLessThan(7 * 1024 * 1024);
    expect(sizes.length).toBeGreaterThanOrEqual(3);
    await copyStore(source, target, ignore);
    for (const { hash, data } of blobs) expect(await target.blob(hash)).toBe(data);
  });
});
