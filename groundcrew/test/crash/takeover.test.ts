/** Workers die, are told to stop, and are told to cancel: another goes on, at once, and nothing is done twice. */
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Event, Run } from "../../src/index.ts";
import { fold } from "../../src/persistence/fold.ts";
import { until, within } from "../support/until.ts";
import { type Child, endOf, killLeftovers, spawnWorker } from "./child.ts";
import { dropGrounds, kinds } from "./ground.ts";
import { flawOf, shownBy, watchAll } from "./readers.ts";
import { seeded } from "./seeded.ts";
import { Stage } from "./stage.ts";

afterAll(dropGrounds);

describe.each(kinds)("on %s", (kind) => {
  let stage: Stage;

  beforeEach(async () => {
    stage = await Stage.begin(kind);
    await stage.open();
  });

  afterEach(async () => {
    killLeftovers();
    await stage.end();
  });

  const inTime = () => ({ signal: AbortSignal.timeout(15_000) });

  /** When the nth call of a name arrived. */
  function arrivalOf(name: string, nth: number): Promise<number> {
    return until(`call ${nth} of ${name} arrives`, () => stage.world.arrivals.filter((arrival) => arrival.name === name)[nth - 1]?.at);
  }

  /** A busy machine may make one try slow; what is promised can be seen in the quickest of three. */
  async function quickest(measure: (attempt: number) => Promise<number>): Promise<number> {
    const times = [await measure(1), await measure(2), await measure(3)];
    return Math.min(...times);
  }

  describe("a worker that is killed", () => {
    const job = () => stage.job({ lease: 60_000 });

    async function startVigil(): Promise<{ run: Run<unknown>; worker: Child }> {
      stage.world.silent = new Set(["watch", "guard"]);
      const worker = spawnWorker(job());
      await worker.ready;
      const run = await stage.crew.start("vigil", { input: null });
      await arrivalOf("watch", 1);
      return { run, worker };
    }

    test("is followed by an idle one on the same machine within a second, however long its lease is", async () => {
      let { run, worker } = await startVigil();
      const time = await quickest(async (attempt) => {
        const idle = spawnWorker(job());
        await idle.ready;
        worker.kill("SIGKILL");
        await endOf(worker, "SIGKILL");
        const killedAt = Date.now();
        worker = idle;
        return (await arrivalOf("watch", attempt + 1)) - killedAt;
      });
      expect(time).toBeLessThan(1_000);
      stage.world.release();
      expect(await run.result(inTime())).toHaveLength(2);
      expect((await run.view()).takeovers).toBe(3);
    });

    test("goes on at once when it is started again, alone", async () => {
      let { run, worker } = await startVigil();
      const time = await quickest(async (attempt) => {
        worker.kill("SIGKILL");
        await endOf(worker, "SIGKILL");
        worker = spawnWorker(job());
        await worker.ready;
        const readyAt = Date.now();
        return (await arrivalOf("watch", attempt + 1)) - readyAt;
      });
      expect(time).toBeLessThan(300);
      stage.world.release();
      expect(await run.result(inTime())).toHaveLength(2);
    });

    test("twenty times in one turn spends no retry, and its readers take back each of the twenty answers", async () => {
      const KILLS = 20;
      const { world, crew, store } = stage;
      world.pace = "slow";
      const run = await crew.start("clerk", { prompt: "Please look after order 7." });
      const readers = watchAll(crew, "clerk", seeded(20), () => {});
      const hasShown = (attempt: number) => readers.watched[0]?.steady.some((item) => item.type === "chunk" && item.attempt === attempt);
      for (let attempt = 1; attempt <= KILLS; attempt++) {
        const worker = spawnWorker(stage.job());
        await until(`readers see attempt ${attempt}`, () => hasShown(attempt));
        worker.kill("SIGKILL");
        await endOf(worker, "SIGKILL");
      }
      world.pace = "at once";
      const last = spawnWorker(stage.job());
      expect(await run.result(inTime())).toMatch(/^Done, all of it/);
      await within("every reader has seen the end", readers.ended);

      const state = fold(await store.journal(run.id));
      expect(state.takeovers).toBe(KILLS);
      expect(state.steps.get("model:1")).toMatchObject({ status: "succeeded", attempt: KILLS + 1, failures: 0 });
      for (const name of ["lookup", "refund", "mail"]) expect(world.count(name)).toBe(1);

      const [watched] = readers.watched;
      const feed = watched?.steady ?? [];
      expect(flawOf(feed)).toBeUndefined();
      expect(watched?.restless).toEqual(feed);
      for (let attempt = 1; attempt <= KILLS; attempt++) {
        const shown = feed.findLastIndex((item) => item.type === "chunk" && item.step === "model:1" && item.attempt === attempt);
        const retracted = feed.flatMap((item, index) => (item.type === "step.abandoned" && item.attempt === attempt ? index : []));
        expect(retracted, `retractions of attempt ${attempt}`).toHaveLength(1);
        expect(retracted[0]).toBeGreaterThan(shown);
      }
      expect(shownBy(feed).split("I look it up")).toHaveLength(2);
      last.kill("SIGTERM");
      await endOf(last, 0);
    }, 90_000);
  });

  describe("a worker that is told to stop", () => {
    test("ends the step in flight, hands the run over behind it, and no step runs twice", async () => {
      const { world, crew } = stage;
      world.silent = new Set(["stair-3"]);
      const first = spawnWorker(stage.job());
      await first.ready;
      const run = await crew.start("stairs", { input: null });
      await until("the third step is in flight", () => world.count("stair-3") === 1);
      const second = spawnWorker(stage.job());
      await second.ready;

      first.kill("SIGTERM");
      await until("the first worker is stopping", () => first.isStopping);
      expect(first.isOver).toBe(false);
      world.release();
      await endOf(first, 0);
      expect(await run.result(inTime())).toHaveLength(6);

      expect(world.arrivals.map(({ name }) => name)).toEqual(Array.from({ length: 6 }, (_, index) => `stair-${index + 1}`));
      const events = await run.journal();
      expect(claimsOf(events)).toEqual([false, false]);
      const released = events.findIndex((event) => event.type === "run.released");
      expect(events[released - 1]?.type).toBe("step.succeeded");
      second.kill("SIGTERM");
      await endOf(second, 0);
    });
  });

  function claimsOf(events: readonly Event[]): boolean[] {
    return events.flatMap((event) => (event.type === "run.claimed" ? event.takeover : []));
  }

  describe("a run that another process cancels", () => {
    test("has the signals of its running steps fired within a second, and begins nothing more", async () => {
      const { world, crew } = stage;
      world.silent = new Set(["watch", "guard"]);
      const worker = spawnWorker(stage.job());
      await worker.ready;
      const time = await quickest(async (attempt) => {
        const run = await crew.start("vigil", { input: null });
        await Promise.all([arrivalOf("watch", attempt), arrivalOf("guard", attempt)]);
        const cancelledAt = Date.now();
        await run.cancel("not needed any more", "dana");
        const firedAt = await Promise.all([arrivalOf("watch-aborted", attempt), arrivalOf("guard-aborted", attempt)]);
        await expect(run.result(inTime())).rejects.toMatchObject({ code: "RUN_CANCELLED" });
        expect(await run.view()).toMatchObject({ status: "cancelled", summary: expect.stringContaining("not needed any more") });
        return Math.max(...firedAt) - cancelledAt;
      });
      expect(time).toBeLessThan(1_000);
      expect(world.count("watch") + world.count("guard")).toBe(6);
      worker.kill("SIGTERM");
      await endOf(worker, 0);
    });
  });
});
