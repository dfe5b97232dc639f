import { setImmediate as turn } from "node:timers/promises";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { GroundcrewError } from "../../src/errors.ts";
import { MAX_BATCH_ROWS, MAX_QUEUED_WRITES, STORE_PATIENCE_MS } from "../../src/limits.ts";
import { GroupCommit, type Outcome } from "../../src/persistence/group-commit.ts";

const LOCKED = new Error("locked");

/** A store that keeps what it is given, and fails as long as it is told to. */
function store() {
  const batches: string[][] = [];
  const state = { failure: null as Error | null };
  const commits = new GroupCommit<string>({
    flush(batch): Outcome[] {
      if (state.failure) throw state.failure;
      batches.push([...batch]);
      return batch.map((write) => (write === "bad" ? { error: new Error("bad") } : { value: write.toUpperCase() }));
    },
    transient: (failure) => (failure === LOCKED ? new GroundcrewError("STORE_BUSY", "locked") : null),
    maxPauseMs: 16,
  });
  return { commits, batches, state };
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

test("writes of one turn of the event loop share a commit, in their order", async () => {
  const { commits, batches } = store();
  expect(await Promise.all(["a", "b", "c"].map((write) => commits.submit(write)))).toEqual(["A", "B", "C"]);
  await commits.submit("d");
  expect(batches).toEqual([["a", "b", "c"], ["d"]]);
});

test("no write is done before its caller has gone on", async () => {
  const { commits, batches } = store();
  const writing = commits.submit("a");
  await Promise.resolve();
  expect(batches).toEqual([]);
  await writing;
});

test("each write ends in its own way", async () => {
  const { commits } = store();
  const results = await Promise.allSettled(["a", "bad", "c"].map((write) => commits.submit(write)));
  expect(results.map((result) => result.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
});

test("a batch is bounded, and a large write counts as several", async () => {
  const { commits, batches } = store();
  await Promise.all(Array.from({ length: MAX_BATCH_ROWS + 1 }, () => commits.submit("a")));
  expect(batches.map((batch) => batch.length)).toEqual([MAX_BATCH_ROWS, 1]);
  batches.length = 0;
  await Promise.all([commits.submit("a"), commits.submit("huge", 10 * MAX_BATCH_ROWS), commits.submit("c")]);
  expect(batches).toEqual([["a"], ["huge"], ["c"]]);
});

test("a queue that is full refuses the next write, and takes more when it has drained", async () => {
  const { commits } = store();
  const queued = Array.from({ length: MAX_QUEUED_WRITES }, () => commits.submit("a"));
  await expect(commits.submit("one more")).rejects.toMatchObject({ code: "STORE_BUSY" });
  await Promise.all(queued);
  await expect(commits.submit("later")).resolves.toBe("LATER");
});

test("a failure that passes loses nothing and keeps the order", async () => {
  const { commits, batches, state } = store();
  state.failure = LOCKED;
  const first = commits.submit("a");
  await turn();
  const second = commits.submit("b");
  await vi.advanceTimersByTimeAsync(STORE_PATIENCE_MS / 2);
  expect(batches).toEqual([]);
  state.failure = null;
  await vi.advanceTimersByTimeAsync(100);
  expect(await Promise.all([first, second])).toEqual(["A", "B"]);
  expect(batches).toEqual([["a", "b"]]);
});

test("a store that is away is asked no more often than it wants to be", async () => {
  let tries = 0;
  const commits = new GroupCommit<string>({
    flush(): Outcome[] {
      tries++;
      throw LOCKED;
    },
    transient: () => new GroundcrewError("STORE_UNAVAILABLE", "away"),
    maxPauseMs: 250,
  });
  const writing = commits.submit("a");
  writing.catch(() => {}); // it is looked at below
  await turn();
  await vi.advanceTimersByTimeAsync(2 * STORE_PATIENCE_MS);
  await expect(writing).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
  expect(tries).toBeLessThan(10 + STORE_PATIENCE_MS / 125); // the pauses are doubled up to 250 ms, and each is at least half of it
  expect(tries).toBeGreaterThan(STORE_PATIENCE_MS / 250);
});

test("a failure that does not pass is told after the store's patience, not before; then the store is tried afresh", async () => {
  const { commits, state } = store();
  state.failure = LOCKED;
  let ended = false;
  const writing = commits.submit("a").finally(() => {
    ended = true;
  });
  writing.catch(() => {}); // it is looked at below
  await turn();
  await vi.advanceTimersByTimeAsync(STORE_PATIENCE_MS * 0.9);
  expect(ended).toBe(false);
  await vi.advanceTimersByTimeAsync(STORE_PATIENCE_MS);
  await expect(writing).rejects.toMatchObject({ code: "STORE_BUSY" });
  state.failure = null;
  await expect(commits.submit("b")).resolves.toBe("B");
});

test("a failure that cannot pass is told at once, to its batch alone", async () => {
  const { commits, state } = store();
  state.failure = new Error("the disk is on fire");
  const writing = commits.submit("a");
  await expect(writing).rejects.toThrow("on fire");
  state.failure = null;
  await expect(commits.submit("b")).resolves.toBe("B");
});

test("while it is held nothing is written, and nothing is forgotten", async () => {
  const { commits, batches } = store();
  const writing = commits.submit("a");
  const release = commits.hold();
  await turn();
  await turn();
  expect(batches).toEqual([]);
  release();
  expect(await writing).toBe("A");
  const free = commits.hold();
  free();
  await expect(commits.submit("b")).resolves.toBe("B");
  expect(batches).toEqual([["a"], ["b"]]);
});

test("closing writes what is queued and takes nothing more", async () => {
  const { commits, batches } = store();
  const writing = commits.submit("a");
  const closing = commits.close();
  await expect(commits.submit("b")).rejects.toMatchObject({ code: "CLOSED" });
  await closing;
  expect(await writing).toBe("A");
  expect(batches).toEqual([["a"]]);
});

test("a store that answers later is asked for one batch at a time", async () => {
  let running = 0;
  let most = 0;
  const commits = new GroupCommit<number>({
    async flush(batch) {
      most = Math.max(most, ++running);
      await turn();
      running--;
      return batch.map((value) => ({ value }));
    },
    transient: () => null,
    maxPauseMs: 16,
  });
  const writes: Promise<unknown>[] = [];
  for (let i = 0; i < 50; i++) {
    writes.push(commits.submit(i));
    await turn();
  }
  expect(await Promise.all(writes)).toEqual(Array.from({ length: 50 }, (_, i) => i));
  expect(most).toBe(1);
});
