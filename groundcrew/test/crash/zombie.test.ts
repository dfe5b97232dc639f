/** A worker that is not dead but stands still: it wakes up after another has taken its runs, and must not touch them. */
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { until } from "../support/until.ts";
import { type Child, endOf, killLeftovers, spawnWorker } from "./child.ts";
import { dropGrounds, kinds } from "./ground.ts";
import { Stage } from "./stage.ts";

const LEASE_MS = 1_000;

const RECEIPTS = [{ receipt: "receipt of watch" }, { receipt: "receipt of guard" }];

afterAll(dropGrounds);

describe.each(kinds)("on %s, a worker that was stopped past its lease", (kind) => {
  let stage: Stage;

  beforeEach(async () => {
    stage = await Stage.begin(kind);
    await stage.open();
  });

  afterEach(async () => {
    killLeftovers();
    await stage.end();
  });

  /** Stops a worker in the middle of two steps and lets another one finish the run. */
  async function takeFromStopped(): Promise<{ stale: Child; heir: Child }> {
    const { world, crew } = stage;
    world.silent = new Set(["watch", "guard"]);
    const stale = spawnWorker(stage.job({ lease: LEASE_MS }));
    await stale.ready;
    const run = await crew.start("vigil", { input: null });
    await until("both steps are in flight", () => world.count("watch") === 1 && world.count("guard") === 1);
    await until("the journal says so", async () => (await run.view()).current.length === 2);
    stale.kill("SIGSTOP");
    world.silent.clear();
    const heir = spawnWorker(stage.job({ lease: LEASE_MS }));
    expect(await run.result({ signal: AbortSignal.timeout(15_000) })).toEqual(RECEIPTS);
    expect(world.arrivals).toHaveLength(4);
    const claims = (await run.journal()).filter((event) => event.type === "run.claimed");
    expect(claims.map(({ takeover }) => takeover)).toEqual([false, true]);
    return { stale, heir };
  }

  /** Wakes the stale process, which comes back as a new worker: by then it has dealt with what it held. Then ends both. */
  async function wakeAndEnd(stale: Child, heir: Child): Promise<void> {
    expect(await stage.ground.workersOf(stale.pid)).toBe(0);
    stale.kill("SIGCONT");
    await until("the stale process works again, as a new worker", async () => (await stage.ground.workersOf(stale.pid)) === 1);
    stale.kill("SIGTERM");
    heir.kill("SIGTERM");
    await Promise.all([endOf(stale, 0), endOf(heir, 0)]);
  }

  test("stops its steps, and changes not one row with what they still do", async () => {
    const { stale, heir } = await takeFromStopped();
    const before = await stage.ground.fingerprint();
    await wakeAndEnd(stale, heir);
    expect(stage.world.count("watch-aborted") + stage.world.count("guard-aborted")).toBe(2);
    expect(await stage.ground.fingerprint()).toBe(before);
  });

  test("changes not one row with answers that came while it stood still", async () => {
    const { stale, heir } = await takeFromStopped();
    const before = await stage.ground.fingerprint();
    stage.world.release();
    await wakeAndEnd(stale, heir);
    expect(await stage.ground.fingerprint()).toBe(before);
  });

  test("takes up new runs afterwards", async () => {
    const { stale, heir } = await takeFromStopped();
    heir.kill("SIGTERM");
    await endOf(heir, 0);
    stale.kill("SIGCONT");
    const run = await stage.crew.start("vigil", { input: null });
    expect(await run.result({ signal: AbortSignal.timeout(10_000) })).toEqual(RECEIPTS);
    stale.kill("SIGTERM");
    await endOf(stale, 0);
  });
});
