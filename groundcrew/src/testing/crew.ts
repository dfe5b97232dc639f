import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Definition } from "../agent.ts";
import { type Duration, duration } from "../clock.ts";
import { GroundcrewError } from "../errors.ts";
import { DEFAULT_LEASE_MS } from "../limits.ts";
import { isTerminal, type RunRow, type Store } from "../persistence/store.ts";
import { Crew, type CrewOptions, type Run, type RunView } from "../runtime.ts";
import { openSqlite } from "../sqlite/open.ts";
import { openStore } from "../store.ts";
import { FakeClock, turns } from "./clock.ts";

/** While runs are at work the clock moves on by this much per real millisecond, at most: a tool that asks a real service still gets its answer. */
const HASTE_MS = 400;

/** Nobody else writes to a store that is made here, so it is hardly ever asked whether somebody has. */
const POLL_MS = 60_000;

/** Real time that a run gets to come to rest. */
const MAX_REAL_MS = 30_000;

/** Runs that are looked at to find the next one that goes on by itself. */
const MAX_OPEN_RUNS = 1_000;

export interface TestCrewOptions extends Omit<Partial<CrewOptions>, "agents" | "clock"> {
  /** Default: one that begins now. */
  clock?: FakeClock;
}

/**
 * A crew on a store of its own, which goes with it, and on a clock that stands still.
 *
 * ```ts
 * await using crew = await testCrew([support]);
 * const view = await crew.settle(await crew.start(support, { prompt: "Where is my order?" }));
 * ```
 * @throws what opening the store throws; GroundcrewError `CONFIG_INVALID`, `AGENT_DUPLICATE`
 */
export async function testCrew(agents: readonly Definition[], options: TestCrewOptions = {}): Promise<TestCrew> {
  const { clock = new FakeClock(), ...rest } = options;
  const folder = rest.store === undefined ? mkdtempSync(join(tmpdir(), "groundcrew-test-")) : undefined;
  const store =
    folder === undefined ? await openStore(rest.store, { clock }) : await openSqlite(join(folder, "crew.db"), { clock, pollMs: POLL_MS });
  const leave = async () => {
    if (store !== rest.store) await store.close();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  };
  return new TestCrew({ ...rest, agents, clock, store }, leave);
}

type Ground = CrewOptions & { clock: FakeClock; store: Store };

/** What `testCrew` gives. */
export class TestCrew extends Crew {
  readonly clock: FakeClock;
  readonly #store: Store;
  readonly #works: boolean;
  readonly #leave: () => Promise<void>;
  #closed: Promise<void> | undefined;

  constructor(ground: Ground, leave: () => Promise<void>) {
    super(ground);
    this.clock = ground.clock;
    this.#store = ground.store;
    this.#works = ground.worker !== false;
    this.#leave = leave;
  }

  /**
   * Moves the clock on until the run has ended, or waits for somebody: an answer, a signal, a `retry`. When every run is parked it goes
   * straight to where the next one goes on, so that hours cost milliseconds.
   * @throws GroundcrewError `INTERNAL` when it is still at work after 30 s of real time
   */
  async settle(run: Run<unknown>): Promise<RunView> {
    for (const deadline = performance.now() + MAX_REAL_MS; performance.now() < deadline; ) {
      if (!(await this.#move(Number.POSITIVE_INFINITY, async () => isAtRest(await run.row())))) return run.view();
    }
    throw new GroundcrewError("INTERNAL", `Run ${run.id} did not come to rest in ${MAX_REAL_MS} ms: ${(await run.view()).summary}`, {
      run: run.id,
    });
  }

  /** Moves the clock on by `time`, and lets every run do meanwhile what it would do. */
  async advance(time: Duration): Promise<void> {
    const until = this.clock.now() + duration(time, "advance");
    while (await this.#move(until)) {}
  }

  /** Ends the runs' stay, closes the store, and removes it if it was made here. */
  override close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Lets happen what is ready, then moves the clock a little, or on to where the next run goes on. @returns whether there is more to come */
  async #move(until: number, isOver?: () => Promise<boolean>): Promise<boolean> {
    if (this.#works) await this.work();
    await turns();
    if (await isOver?.()) return false;
    const left = until - this.clock.now();
    if (left <= 0) return false;
    const { worker } = await this.health();
    const next = worker && worker.runs > 0 ? this.clock.now() : await this.#nextRun();
    if (next === undefined && left === Number.POSITIVE_INFINITY) return false; // it is somebody else's turn
    const far = Math.min(next === undefined ? left : next - this.clock.now(), left);
    if (far > 0) await this.#jump(far, worker?.id);
    else await this.#step(left);
    return true;
  }

  /** When the next of the runs goes on by itself. */
  async #nextRun(): Promise<number | undefined> {
    const open = await this.runs({ status: ["parked", "queued"], limit: MAX_OPEN_RUNS });
    const due = open.flatMap((row) => wakesAt(row) ?? []);
    return due.length === 0 ? undefined : Math.min(...due);
  }

  /** A process that sleeps for hours loses its lease. That is not what a test is about. */
  async #jump(ms: number, worker: string | undefined): Promise<void> {
    if (worker !== undefined) await this.#store.renew(worker, ms + DEFAULT_LEASE_MS);
    this.clock.jump(ms);
    await turns();
  }

  async #step(left: number): Promise<void> {
    await this.clock.advance(Math.min(HASTE_MS, left));
    await sleep(1);
  }

  async #end(): Promise<void> {
    let isOver = false;
    const closing = super.close().finally(() => {
      isOver = true;
    });
    while (!isOver) await this.clock.advance(HASTE_MS); // a tool that ignores its signal is waited for by this clock
    await closing;
    await this.#leave();
  }
}

/** Ended, or nothing but somebody else moves it. A run that waits for a child goes on with the child; one that needs people waits for them. */
function isAtRest(row: RunRow): boolean {
  const isForPeople = row.reason === "approval" || row.reason === "attention";
  if (isTerminal(row.status) || (row.status === "parked" && isForPeople)) return true;
  return row.status === "parked" && row.reason !== "child" && wakesAt(row) === null;
}

/** A parked run is looked at at its deadline, to be ended: that is not when it goes on. */
function wakesAt({ status, dueAt, deadline }: RunRow): number | null {
  return status === "parked" && dueAt === deadline ? null : dueAt;
}
