/** How a worker shares: limits, turns, priorities; and that nobody waits for a poll who could have been woken. */
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { agent, flow, type Limits } from "../../src/agent.ts";
import { type Clock, systemClock } from "../../src/clock.ts";
import { POLL_MS } from "../../src/limits.ts";
import type { Store } from "../../src/persistence/store.ts";
import { openSqlite } from "../../src/sqlite/open.ts";
import { startRequest } from "../../src/wire.ts";
import { gate, makeCrew, reaches, tempStore } from "../support/crew.ts";
import { scripted } from "../support/model.ts";
import { until, within } from "../support/until.ts";

/** A clock on which nobody ever polls: what needs a poll to go on, does not go on. */
const withoutPolls: Clock = {
  now: Date.now,
  after: (ms, task) => (ms === POLL_MS ? () => {} : systemClock.after(ms, task)),
};

/** A real store whose claims are counted. */
async function countedStore(clock: Clock = systemClock): Promise<{ store: Store; claims: () => number }> {
  const store = await openSqlite(tempStore(), { clock });
  onTestFinished(() => store.close());
  const claim = vi.spyOn(store, "claim");
  return { store, claims: () => claim.mock.calls.length };
}

/** How many of its calls were at work at once, at most. */
function crowd() {
  let now = 0;
  const seen = { most: 0, total: 0 };
  const enter = async <T>(work: () => Promise<T>): Promise<T> => {
    seen.total++;
    seen.most = Math.max(seen.most, ++now);
    try {
      return await work();
    } finally {
      now--;
    }
  };
  return { seen, enter };
}

const tick = () => new Promise<void>((resolve) => setImmediate(resolve));

describe("nobody waits for a poll", () => {
  test("who is started, who sleeps for a moment, and who is called by another run", async () => {
    const child = flow("child", async (ctx) => {
      await ctx.sleep(20);
      return "grown";
    });
    const parent = flow("parent", async (ctx) => [
      await ctx.call(child, { input: 1 }),
      await ctx.call(child, { input: 2, name: "second" }),
    ]);
    const crew = makeCrew([parent, child], { clock: withoutPolls });
    for (let i = 0; i < 3; i++) {
      const run = await crew.start(parent, { input: 1 });
      expect(await within("the parent has both children's results", run.result())).toEqual(["grown", "grown"]);
    }
  });

  test("a parent that works beside its child hears of the child's end", async () => {
    const [atWork, grow, grown] = [gate(), gate(), gate()];
    const child = flow("child", async (ctx) =>
      ctx.step("grow", async () => {
        atWork.open();
        await grow.opened;
      }),
    );
    const parent = flow("parent", async (ctx) =>
      ctx.all([
        ctx.call(child, { input: 1 }).then(() => grown.open()),
        ctx.step("beside", () => grown.opened), // keeps the parent from parking
      ]),
    );
    const crew = makeCrew([parent, child], { clock: withoutPolls });
    const run = await crew.start(parent, { input: 1 });
    await within("the child is at work", atWork.opened);
    for (let i = 0; i < 20; i++) await tick(); // what a look before has still to tell, it has told
    grow.open();
    await within("the child's end has reached the parent", run.result());
  });

  test("the next turn of a session", async () => {
    const crew = makeCrew([agent("a", { model: scripted(() => "hm") })], { clock: withoutPolls });
    const turns = [];
    for (let i = 0; i < 5; i++) turns.push(await crew.start("a", { prompt: `${i}`, session: "s" }));
    await within("all turns are answered", Promise.all(turns.map((turn) => turn.result())));
  });

  test("who came while the worker was full", async () => {
    const { seen, enter } = crowd();
    const busy = flow("busy", async (ctx) => ctx.step("work", () => enter(tick)));
    const crew = makeCrew([busy], { clock: withoutPolls, worker: { concurrency: 2 } });
    const runs = await Promise.all(Array.from({ length: 30 }, () => crew.start(busy, { input: 1 })));
    await within("all runs are done", Promise.all(runs.map((run) => run.result())));
    expect(seen).toEqual({ most: 2, total: 30 });
  });

  test.each<[string, (limits: Limits) => { limits?: Limits; tenants?: Limits }]>([
    ["an agent", (limits) => ({ limits })],
    ["a tenant", (tenants) => ({ tenants })],
  ])("whom the concurrency of %s held back, and the limit holds", async (_whose, place) => {
    const { limits, tenants } = place({ concurrency: 2 });
    const { seen, enter } = crowd();
    const busy = flow("busy", async (ctx) => ctx.step("work", () => enter(tick)), limits && { limits });
    const crew = makeCrew([busy], { clock: withoutPolls, ...(tenants && { tenants }) });
    const runs = await Promise.all(Array.from({ length: 30 }, () => crew.start(busy, { input: 1 })));
    await within("all runs are done", Promise.all(runs.map((run) => run.result())));
    expect(seen).toEqual({ most: 2, total: 30 });
  });
});

describe("a quota that is used up", () => {
  test.each<[string, Limits]>([
    ["concurrency", { concurrency: 1 }],
    ["rate", { rate: { runs: 1, per: "1h" } }],
  ])("of %s holds back no cancel and no deadline of a run that waits, and none of its steps runs", async (_which, limits) => {
    const [atWork, done] = [gate(), gate()];
    const ran: string[] = [];
    const busy = flow(
      "busy",
      async (ctx, input) =>
        ctx.step("work", async () => {
          ran.push(input as string);
          atWork.open();
          await done.opened;
        }),
      { limits },
    );
    const crew = makeCrew([busy], { worker: { concurrency: 4 } });
    const first = await crew.start(busy, { input: "first" });
    await atWork.opened;
    const [cancelled, short] = [await crew.start(busy, { input: "cancelled" }), await crew.start(busy, { input: "short", deadline: 50 })];
    await cancelled.cancel("not needed");
    await expect(within("the cancelled one has ended", cancelled.result())).rejects.toMatchObject({ code: "RUN_CANCELLED" });
    await expect(within("the short one has ended", short.result())).rejects.toMatchObject({ code: "RUN_EXPIRED" });
    done.open();
    await first.result();
    expect(ran).toEqual(["first"]);
  });
});

describe("looking costs little", () => {
  test("a run that ends where nothing else can be due costs no claim", async () => {
    const { store, claims } = await countedStore(withoutPolls);
    const open = gate();
    const crew = makeCrew([flow("f", async (ctx) => ctx.step("s", () => open.opened))], { store, clock: withoutPolls });
    const runs = await Promise.all(Array.from({ length: 5 }, () => crew.start("f", { input: 1 })));
    await until("all are at work", async () => (await crew.health()).worker?.runs === 5);
    await tick();
    const before = claims();
    open.open();
    await Promise.all(runs.map((run) => run.result()));
    await until("the worker holds none", async () => (await crew.health()).worker?.runs === 0);
    await tick();
    expect(claims()).toBe(before);
  });

  test("a start is taken up by one claim, that of its own commit, and is not looked for again", async () => {
    const { store, claims } = await countedStore(withoutPolls);
    const open = gate();
    const crew = makeCrew([flow("f", async (ctx) => ctx.step("s", () => open.opened))], { store, clock: withoutPolls });
    await crew.work();
    for (let i = 0; i < 20; i++) await tick(); // its first look has found nothing
    const before = claims();
    const run = await crew.start("f", { input: 1 });
    await reaches(run, "running");
    await tick();
    expect(claims() - before).toBe(1);
    open.open();
    await run.result();
  });

  test("runs that a limit holds back are not looked for again and again", async () => {
    const { store, claims } = await countedStore(withoutPolls);
    const open = gate();
    const slow = flow("slow", async (ctx) => ctx.step("s", () => open.opened), {
      limits: { concurrency: 1, rate: { runs: 2, per: "1h" } },
    });
    const crew = makeCrew([slow, flow("other", async () => 1)], { store, clock: withoutPolls });
    await Promise.all(Array.from({ length: 20 }, () => crew.start(slow, { input: 1, after: 5 })));
    await until("the first is at work", async () => (await crew.runs({ status: ["running"] })).length === 1);
    await until("the others' time has come", async () => (await crew.runs()).every(({ dueAt }) => (dueAt ?? 0) <= Date.now()));
    await (await crew.start("other", { input: 1 })).result();
    await until("it is quiet", async () => {
      const before = claims();
      for (let i = 0; i < 20; i++) await tick();
      return claims() === before;
    });
    open.open();
    await until("the second has ended", async () => (await crew.runs({ status: ["succeeded"] })).length === 3);
    await until("it is quiet", async () => {
      const before = claims();
      for (let i = 0; i < 20; i++) await tick();
      return claims() === before;
    });
    expect(await crew.runs({ status: ["queued"] })).toHaveLength(18);
  });
});

describe("a limit", () => {
  test("of one place is enough for a run that calls its own kind: who waits for a child takes none", async () => {
    const { seen, enter } = crowd();
    const count: ReturnType<typeof flow<number, number>> = flow<number, number>(
      "count",
      async (ctx, n) => {
        await ctx.step("work", () => enter(tick));
        return n === 0 ? 0 : 1 + (await ctx.call(count, { input: n - 1 }));
      },
      { limits: { concurrency: 1 } },
    );
    const crew = makeCrew([count], { clock: withoutPolls });
    const runs = await Promise.all([3, 2, 4].map((input) => crew.start(count, { input })));
    expect(await within("all are done", Promise.all(runs.map((run) => run.result())))).toEqual([3, 2, 4]);
    expect(seen.most).toBe(1);
  });

  test("holds over two crews on one file", async () => {
    const store = tempStore();
    const { seen, enter } = crowd();
    const define = () => flow("busy", async (ctx) => ctx.step("work", () => enter(tick)), { limits: { concurrency: 2 } });
    const crews = [makeCrew([define()], { store }), makeCrew([define()], { store })] as const;
    const runs = await Promise.all(Array.from({ length: 20 }, (_, i) => (crews[i % 2] as (typeof crews)[0]).start("busy", { input: 1 })));
    await within("all runs are done", Promise.all(runs.map((run) => run.result())));
    expect(seen.total).toBe(20);
    expect(seen.most).toBeLessThanOrEqual(2);
  });

  test("on how often runs begin delays them and loses none", async () => {
    const begun: number[] = [];
    const often = flow("often", async () => begun.push(Date.now()), { limits: { rate: { runs: 5, per: "1s" } } });
    const crew = makeCrew([often]);
    const runs = await Promise.all(Array.from({ length: 10 }, () => crew.start(often, { input: 1 })));
    await within("all runs are done", Promise.all(runs.map((run) => run.result())));
    expect(begun).toHaveLength(10);
    expect((begun.at(-1) ?? 0) - (begun[0] ?? 0)).toBeGreaterThan(900); // five at once, then one every fifth of a second
  });

  test("of a tenant may be asked for by name; one that cannot be told stops that tenant and no other, and is told once", async () => {
    const troubles: unknown[] = [];
    let isBroken = true;
    const crew = makeCrew([flow("f", async () => 1)], {
      onTrouble: (trouble) => troubles.push(trouble),
      tenants: (tenant) => {
        if (tenant === "broken" && isBroken) throw new Error("no such plan");
        return tenant === "odd" && isBroken ? ({ concurrency: "many" } as never) : { concurrency: 1 };
      },
    });
    const start = (tenant: string) => crew.start("f", { input: 1, principal: { tenant } });
    const [broken, odd] = [await start("broken"), await start("odd")];
    for (const tenant of ["a", "b", "a"]) expect(await (await start(tenant)).result()).toBe(1);
    expect((await broken.row()).status).toBe("queued");
    expect(troubles.map((trouble) => (trouble as Error).message)).toEqual([
      expect.stringMatching(/tenant "broken" cannot be told: no such plan/),
      expect.stringMatching(/tenant "odd" cannot be told: .*concurrency.*"many"/),
    ]);
    isBroken = false;
    await within("both go on", Promise.all([broken.result(), odd.result()]));
    expect(troubles).toHaveLength(2);
  });
});

describe("priority", () => {
  test("orders what waits, and the runs that a run gives rise to have its own", async () => {
    const order: string[] = [];
    const child = flow("child", async () => 1);
    const f = flow("f", async (ctx, input: string) => {
      await ctx.step("note", () => order.push(input));
      if (input.startsWith("first")) await ctx.call(child, { input: 1 });
      if (input === "fails") throw new Error("it does");
    });
    const reader = makeCrew([f, child], { worker: false, store: tempStore() });
    const runs = [];
    for (const [input, priority] of [
      ["last", 5],
      ["middle", undefined],
      ["fails", 2],
      ["first", 1],
    ] as const)
      runs.push(await reader.start(f, { input, priority, principal: { tenant: "acme" } }));
    const store = (await reader.health()).store;
    const crew = makeCrew([f, child], { store, worker: { concurrency: 1 } });
    await crew.work();
    await until("all have ended", async () => (await crew.runs({ status: ["queued", "running", "parked"] })).length === 0);
    expect(order).toEqual(["first", "fails", "middle", "last"]);
    const [grown] = await crew.runs({ agent: "child" });
    expect(grown).toMatchObject({ priority: 1, principal: { tenant: "acme" } });
    const [last, , fails] = runs.map(({ id }) => id) as [string, string, string, string];
    expect(await (await (await crew.run(fails)).retry()).row()).toMatchObject({ priority: 2, principal: { tenant: "acme" } });
    expect(await (await (await crew.run(last)).fork({ from: "note" })).row()).toMatchObject({ priority: 5 });
  });

  test.each([0, 6, 2.5, "1", null])("of %j is refused", async (priority) => {
    const crew = makeCrew([flow("f", async () => 1)]);
    await expect(crew.start("f", { input: 1, priority: priority as never })).rejects.toMatchObject({
      code: "INPUT_INVALID",
      message: expect.stringMatching(/priority.*1, 2, 3, 4, 5/),
    });
    expect(await crew.runs()).toEqual([]);
  });

  test("is not an end user's to choose: over HTTP it is refused", () => {
    expect(startRequest.safeParse({ prompt: "hi" }).success).toBe(true);
    expect(startRequest.safeParse({ prompt: "hi", priority: 1 }).success).toBe(false);
  });

  test("comes first also for one who waits at a full worker, and passes no other tenant", async () => {
    const order: string[] = [];
    const open = gate();
    const f = flow("f", async (ctx, input: string) => {
      order.push(input);
      if (input === "hold") await ctx.step("hold", () => open.opened);
    });
    const crew = makeCrew([f], { worker: { concurrency: 1 }, clock: withoutPolls });
    const hold = await crew.start(f, { input: "hold", principal: { tenant: "z" } });
    await reaches(hold, "running");
    const runs = [];
    for (const [input, tenant, priority] of [
      ["a slow", "a", 5],
      ["a fast", "a", 1],
      ["b", "b", 5],
    ] as const)
      runs.push(await crew.start(f, { input, priority, principal: { tenant } }));
    open.open();
    await within("all are done", Promise.all(runs.map((run) => run.result())));
    expect(order).toEqual(["hold", "a fast", "b", "a slow"]);
  });
});
