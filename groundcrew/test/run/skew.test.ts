/** Workers whose clocks are wrong by hours: on PostgreSQL the time is the server's, and nothing depends on a process's own. */
import { afterEach, expect, test } from "vitest";
import { flow } from "../../src/agent.ts";
import { type Clock, systemClock } from "../../src/clock.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { type Crew, groundcrew } from "../../src/runtime.ts";
import { createDatabase, dropDatabase } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { within } from "../support/until.ts";

const HOUR = 3_600_000;

/** What only opens and closes a transaction: it goes along with the statements that are counted. */
const AROUND = /^(begin|commit|select set_config)/;

/** Wrong by `ms`, and by nothing else. */
function wrong(ms: number): Clock {
  return { now: () => Date.now() + ms, after: (delayMs, task) => systemClock.after(delayMs, task) };
}

describePostgres("workers with wrong clocks", () => {
  const open: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const close of open.splice(0)) await close();
  });

  const work = flow("work", async (ctx, input: number) => {
    const first = await ctx.step("first", { effect: "once" }, () => input);
    await ctx.sleep(300);
    const nobody = await ctx.waitFor<number>("nobody", { within: 200 });
    return [first, nobody ?? "nobody"];
  });

  test("lose nothing, repeat nothing, take nothing from each other, wait as long as they were told, and do not spin", async () => {
    const database = await createDatabase(await sharedPostgres());
    open.push(() => dropDatabase(database));
    const statements = [0, 0];
    const crews: Crew[] = [];
    for (const [n, skew] of [5 * HOUR, -5 * HOUR].entries()) {
      const store = await openPostgres(database, {
        onQuery: (text) => {
          if (!AROUND.test(text)) statements[n] = (statements[n] ?? 0) + 1;
        },
      });
      const crew = groundcrew({
        agents: [work],
        store,
        clock: wrong(skew),
        worker: { lease: 2_000 },
        onTrouble: (error) => troubles.push(error),
      });
      open.unshift(async () => {
        await crew.close();
        await store.close();
      });
      crews.push(crew);
    }
    const troubles: unknown[] = [];
    await Promise.all(crews.map((crew) => crew.work()));

    const begunAt = Date.now();
    const runs = await Promise.all(
      crews.flatMap((crew) => Array.from({ length: 10 }, (_, n) => crew.start(work, { input: n, deadline: "30s" }))),
    );
    const later = await Promise.all(crews.map((crew) => crew.start(work, { input: 1, after: 800 })));
    for (const run of [...runs, ...later]) expect(await within("it ends", run.result())).toMatchObject([expect.any(Number), "nobody"]);
    expect(Date.now() - begunAt).toBeLessThan(15_000);

    for (const run of [...runs, ...later]) {
      const events = await run.journal();
      expect(events.filter(({ type }) => type === "step.unknown" || type === "step.abandoned")).toEqual([]);
      expect(events.flatMap((event) => (event.type === "run.claimed" && event.takeover ? event : []))).toEqual([]);
      const times = events.map(({ at }) => at);
      for (const at of times) expect(Math.abs(at - Date.now()), "how far the journal's time is from here").toBeLessThan(60_000);
      const slept = events.filter((event) => "step" in event && event.step?.startsWith("sleep")).map(({ at }) => at);
      expect((slept[1] ?? 0) - (slept[0] ?? 0), "ms slept").toBeGreaterThanOrEqual(250);
    }
    for (const run of later) {
      const claimed = (await run.journal()).find(({ type }) => type === "run.claimed");
      expect((claimed?.at ?? 0) - begunAt, "ms until a delayed start").toBeGreaterThan(700);
    }

    expect(troubles).toEqual([]);
    const before = [...statements];
    const idleAt = performance.now();
    await new Promise((end) => setTimeout(end, 2_000)); // longer than a lease in which nobody has anything to do
    const seconds = (performance.now() - idleAt) / 1_000;
    for (const [n, count] of statements.entries())
      expect((count - (before[n] ?? 0)) / seconds, "statements of an idle worker in a second").toBeLessThan(30);
    expect(troubles).toEqual([]);
  });
});
