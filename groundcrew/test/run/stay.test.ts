/** What keeps one run's trouble from its neighbours, and a run from parking, or acting, when it must not. */
import { expect, test } from "vitest";
import { flow } from "../../src/agent.ts";
import { GroundcrewError } from "../../src/errors.ts";
import type { Event } from "../../src/persistence/event.ts";
import type { Store } from "../../src/persistence/store.ts";
import { openSqlite } from "../../src/sqlite/open.ts";
import { gate, makeCrew, reaches, tempStore } from "../support/crew.ts";
import { until } from "../support/until.ts";

test("a wait beside a step in flight ends at its time, not at the step's end", async () => {
  const work = gate();
  const crew = makeCrew([
    flow("f", async (ctx) => {
      const step = ctx.step("slow", { effect: "read" }, () => work.opened);
      const first = await Promise.race([step.then(() => "step"), ctx.sleep(20).then(() => "sleep")]);
      work.open();
      await step;
      return first;
    }),
  ]);
  expect(await (await crew.start("f", { input: null })).result()).toBe("sleep");
});

test("a signal that is taken is acted on before the run parks for another wait, also when the store is slow", async () => {
  const file = tempStore();
  const store = slowAppends(await openSqlite(file), 30);
  const crew = makeCrew([flow("f", async (ctx) => Promise.race([ctx.sleep("1h").then(() => "slept"), ctx.waitFor("go")]))], { store });
  const run = await crew.start("f", { input: null });
  await reaches(run, "parked");
  await run.signal("go", "went");
  expect(await run.result()).toBe("went");
  await crew.close();
  await store.close();
});

test("a run that cannot be taken up is set aside, and its neighbours run as if it were not there", async () => {
  const store = await openSqlite(tempStore());
  const crew = makeCrew([flow("f", async (ctx) => ctx.step("a", { effect: "read" }, () => "fine"))], { store });
  const broken = await crew.start("f", { input: null, after: "1h" });
  const real = store.journal.bind(store);
  store.journal = async (id) => {
    if (id === broken.id) throw new TypeError("Unexpected token");
    return real(id);
  };
  await broken.signal("anything"); // wakes nothing: it is queued for later
  await broken.cancel("away with it");
  const neighbour = await crew.start("f", { input: null });
  expect(await neighbour.result()).toBe("fine");
  expect(await until("it is ended without being read", async () => (await broken.row()).status === "cancelled")).toBe(true);
  expect((await neighbour.row()).epoch).toBe(1);
  await expect(broken.result()).rejects.toMatchObject({ code: "EVENT_UNREADABLE" });
  await crew.close();
  await store.close();
});

test("a run that is set aside stays parked, whatever is sent to it, until it can be read", async () => {
  const store = await openSqlite(tempStore());
  const crew = makeCrew([flow("f", async (ctx) => ctx.waitFor("go"))], { store });
  const run = await crew.start("f", { input: null });
  await reaches(run, "parked");
  const real = store.journal.bind(store);
  let reads = 0;
  store.journal = async () => {
    reads++;
    throw new TypeError("Unexpected token");
  };
  await run.signal("go", 1);
  await until("it is set aside", async () => (await run.row()).reason === "attention");
  const before = reads;
  await run.signal("other", 2);
  await until("the signal was looked at", async () => reads > before && (await run.row()).reason === "attention");
  expect(reads).toBeLessThan(before + 5);
  store.journal = real;
  await run.retry();
  expect(await run.result()).toBe(1);
  await crew.close();
  await store.close();
});

test("a `once` effect does not start when the run was told to stop while its start was being recorded", async () => {
  const store = await openSqlite(tempStore());
  let acted = 0;
  const crew = makeCrew([flow("f", async (ctx) => ctx.step("pay", () => ++acted))], { store });
  const recording = gate();
  let line = Promise.resolve();
  const append = store.append.bind(store);
  store.append = (write) => {
    if (write.events.some((event) => event.type === "step.started")) line = recording.opened; // and all that comes behind it
    return line.then(() => append(write));
  };
  const told = gate();
  const inbox = store.inbox.bind(store);
  store.inbox = async (worker) => {
    const signals = await inbox(worker);
    if (signals.length > 0) setImmediate(told.open); // the worker has delivered them by then
    return signals;
  };
  const run = await crew.start("f", { input: null });
  await until("it runs", async () => (await run.row()).status === "running");
  await run.cancel("no");
  await told.opened;
  recording.open();
  await expect(run.result()).rejects.toMatchObject({ code: "RUN_CANCELLED" });
  expect(acted).toBe(0);
  const types = (await run.journal()).map(({ type }) => type);
  expect(types).toContain("step.abandoned"); // certainly nothing happened:
  expect(types).not.toContain("step.unknown"); // nobody is asked
  await crew.close();
  await store.close();
});

test("a step that fails while nobody awaits it does not end the process; who awaits it is told", async () => {
  const crew = makeCrew([
    flow("f", async (ctx) => {
      const early = ctx.step("a", { effect: "read" }, () => {
        throw new Error("too early");
      });
      await ctx.step("b", { effect: "read" }, () => new Promise((resolve) => setTimeout(resolve, 30)));
      return early;
    }),
  ]);
  await expect((await crew.start("f", { input: null })).result()).rejects.toMatchObject({ code: "STEP_FAILED", message: "too early" });
});

test("a run that is tried again keeps its idempotency keys, and is tried again once however often it is asked for", async () => {
  const keys: string[] = [];
  const crew = makeCrew([
    flow("f", async (ctx) =>
      ctx.step("pay", { effect: "keyed" }, ({ key }) => {
        keys.push(key);
        if (keys.length === 1) throw new Error("the line was cut");
        return "paid";
      }),
    ),
  ]);
  const run = await crew.start("f", { input: null });
  await expect(run.result()).rejects.toMatchObject({ code: "STEP_FAILED" });
  const [again, twice] = await Promise.all([run.retry(), run.retry()]);
  expect(await again.result()).toBe("paid");
  expect(twice.id).toBe(again.id);
  expect(keys).toEqual([keys[0], keys[0]]);
});

test("signals of the old run do not silence the ones its retry is sent", async () => {
  let tries = 0;
  const crew = makeCrew([
    flow("f", async (ctx) => {
      const said = await ctx.waitFor<string>("go");
      if (++tries === 1) throw new Error("not yet");
      return [said, await ctx.waitFor<string>("go")];
    }),
  ]);
  const run = await crew.start("f", { input: null });
  await run.signal("go", "first", { id: "s" });
  await expect(run.result()).rejects.toThrow("not yet");
  const again = await run.retry();
  await reaches(again, "signal");
  await again.signal("go", "second", { id: "s" });
  expect(await again.result()).toEqual(["first", "second"]);
});

test("calls of one flow that come in another order at the next pass are refused, never swapped", async () => {
  const child = flow("child", async (ctx, { doc }: { doc: string }) => {
    await ctx.sleep(5);
    return `answer for ${doc}`;
  });
  const waits: Record<string, number> = { alice: 30, bob: 1 };
  const unnamed = flow("unnamed", async (ctx) =>
    ctx.all(
      ["alice", "bob"].map(async (user) => {
        const doc = await ctx.step(
          `fetch ${user}`,
          { effect: "read" },
          () => new Promise<string>((r) => setTimeout(() => r(user), waits[user])),
        );
        return ctx.call(child, { input: { doc } });
      }),
    ),
  );
  const named = flow("named", async (ctx) =>
    ctx.all(
      ["alice", "bob"].map(async (user) => {
        const doc = await ctx.step(
          `fetch ${user}`,
          { effect: "read" },
          () => new Promise<string>((r) => setTimeout(() => r(user), waits[user])),
        );
        return ctx.call(child, { input: { doc }, name: user });
      }),
    ),
  );
  const crew = makeCrew([unnamed, named, child]);
  const refused = await reaches(await crew.start("unnamed", { input: undefined }), "attention", "succeeded");
  expect(refused.reason === "attention" || JSON.stringify(refused.output) === '["answer for alice","answer for bob"]').toBe(true);
  expect(await (await crew.start("named", { input: undefined })).result()).toEqual(["answer for alice", "answer for bob"]);
});

test("who waits for a run in a process that may work, works on it", async () => {
  const file = tempStore();
  const flows = [flow("f", async () => "done")];
  const first = makeCrew(flows, { store: file, worker: false });
  const { id } = await first.start("f", { input: null });
  await first.close();
  const second = makeCrew(flows, { store: file });
  expect(await (await second.run(id)).result()).toBe("done");
});

/** As a store on a disk that takes its time. */
function slowAppends(store: Store, ms: number): Store {
  const real = store.append.bind(store);
  store.append = async (write) => {
    const events: readonly Event[] = [...write.events];
    await new Promise((resolve) => setTimeout(resolve, ms));
    return real({ ...write, events });
  };
  return store;
}

test("a run whose worker is gone is said to be interrupted, not to be at work", async () => {
  const file = tempStore();
  const crew = makeCrew([flow("f", async () => "done")], { store: file, worker: false });
  const run = await crew.start("f", { input: null });
  const store = await openSqlite(file);
  await store.join({ id: "gone", host: "another machine", pid: 1, startedAt: "" }, 60_000);
  await store.claim("gone", ["f"], 1);
  expect((await run.view()).summary).toMatch(/^Running/);
  await store.leave("gone");
  expect((await run.view()).summary).not.toMatch(/^Running/);
  await store.join({ id: "short", host: "another machine", pid: 1, startedAt: "" }, 500);
  await store.claim("short", ["f"], 1);
  await until("its lease has run out", async () => (await run.view()).summary.startsWith("Interrupted"));
  await store.close();
});

test("a cancel that a worker recorded before it died ends the run at the next one, before anything else is done", async () => {
  const store = await openSqlite(tempStore());
  let acted = 0;
  const flows = [flow("f", async (ctx) => ctx.step("act", () => ++acted))];
  const starter = makeCrew(flows, { store, worker: false });
  const run = await starter.start("f", { input: null });
  await run.cancel("not needed any more");
  await store.join({ id: "dies", host: "another machine", pid: 1, startedAt: "" }, 60_000);
  const [claim] = await store.claim("dies", ["f"], 1);
  const fact = { at: Date.now(), seq: 2, type: "cancel.requested", id: claim?.signals[0]?.id ?? "", why: "not needed any more" } as const;
  const write = { run: run.id, worker: "dies", epoch: claim?.epoch ?? 0, events: [fact], chunks: [], blobs: [], consumed: [fact.id] };
  await store.append(write);
  await store.leave("dies");
  const crew = makeCrew(flows, { store });
  await crew.work();
  await expect(run.result()).rejects.toMatchObject({ code: "RUN_CANCELLED" });
  expect(acted).toBe(0);
  await crew.close();
  await store.close();
});

test("a store that is away while a run starts a child does not fail the run, nor is it told so: it goes on where it was", async () => {
  const store = await openSqlite(tempStore());
  const child = flow("child", async () => "done");
  const parent = flow("parent", async (ctx) => ctx.call(child, { input: undefined }).catch(() => "gave up"));
  const crew = makeCrew([parent, child], { store });
  const real = store.create.bind(store);
  let refusals = 0;
  store.create = async (run) => {
    if (run.parent && refusals++ === 0) throw new GroundcrewError("STORE_UNAVAILABLE", "The store cannot be reached.");
    return real(run);
  };
  const run = await crew.start(parent, { input: undefined });
  expect(await run.result()).toBe("done");
  expect(refusals).toBeGreaterThan(1);
  expect(await crew.runs({ parent: run.id })).toHaveLength(1);
  await crew.close();
  await store.close();
});

/** A flow that calls "child", which waits, in a crew whose store does not take the start before it is told to. */
async function parentInDoubt(body: (call: () => Promise<unknown>) => Promise<unknown>) {
  const store = await openSqlite(tempStore());
  const [asked, goOn] = [gate(), gate()];
  const child = flow("child", async (ctx) => ctx.waitFor("never"));
  const parent = flow("parent", async (ctx) => body(() => ctx.call(child, { input: undefined })));
  const create = store.create.bind(store);
  let isFirst = true;
  store.create = async (run) => {
    if (!run.parent || !isFirst) return create(run);
    isFirst = false;
    asked.open();
    await goOn.opened;
    return create(run);
  };
  const crew = makeCrew([parent, child], { store });
  const run = await crew.start(parent, { input: undefined });
  await asked.opened;
  /** Takes the parent away from the crew, as if it had stood still for longer than its lease. */
  const takeOver = async () => {
    await store.leave((await run.row()).worker ?? "");
    await store.join({ id: "heir", host: "another machine", pid: 1, startedAt: "" }, 60_000);
    const [claim] = await store.claim("heir", ["parent"], 1);
    return { run: run.id, worker: "heir", epoch: claim?.epoch ?? 0, events: [], chunks: [], blobs: [], consumed: [] };
  };
  return { store, crew, run, goOn, takeOver };
}

test("a worker that stood still starts no child of a run that another has ended meanwhile", async () => {
  let wentOn = false;
  const { store, crew, run, goOn, takeOver } = await parentInDoubt(async (call) => {
    await call().catch(() => {});
    wentOn = true;
  });
  const heir = await takeOver();
  const seq = (await run.journal()).length + 1;
  const fact = { type: "run.cancelled", why: "enough", seq, at: Date.now() } as const;
  await store.append({ ...heir, events: [fact], next: { to: "cancelled" } });
  goOn.open();
  await until("the worker has given it up", async () => (await crew.health()).worker?.runs === 0);
  expect(await crew.runs({ agent: "child" })).toEqual([]);
  expect(wentOn).toBe(false);
  expect((await run.journal()).length).toBe(seq);
  await crew.close();
  await store.close();
});

test("a worker that lost a run does not stop its children when its body fails: they are another's now", async () => {
  const store = await openSqlite(tempStore());
  const [begun, fail] = [gate(), gate()];
  const child = flow("child", async (ctx) => ctx.waitFor("never"));
  const parent = flow("parent", async (ctx) => {
    ctx.call(child, { input: undefined }).catch(() => {});
    await ctx.step("work", async () => {
      begun.open();
      await fail.opened;
    });
    throw new Error("the body gives up");
  });
  const crew = makeCrew([parent, child], { store });
  const run = await crew.start(parent, { input: undefined });
  await begun.opened;
  await until("the child waits", async () => (await crew.runs({ agent: "child" }))[0]?.reason === "signal");
  const lost = gate();
  const append = store.append.bind(store);
  store.append = async (write) => {
    if (write.next?.to === "failed") await lost.opened; // the worker stands still right here
    return append(write);
  };
  const signals: string[] = [];
  const signal = store.signal.bind(store);
  store.signal = (message) => {
    signals.push(message.kind);
    return signal(message);
  };
  fail.open();
  await until("the body has failed", async () => (await run.journal()).some(({ type }) => type === "step.succeeded"));
  await store.leave((await run.row()).worker ?? "");
  await store.join({ id: "heir", host: "another machine", pid: 1, startedAt: "" }, 60_000);
  expect(await store.claim("heir", ["parent"], 1)).toHaveLength(1);
  lost.open();
  await until("the worker has given it up", async () => (await crew.health()).worker?.runs === 0);
  expect(await crew.runs({ agent: "child" })).toMatchObject([{ status: "parked", reason: "signal" }]);
  expect(signals).toEqual([]);
  await crew.close();
  await store.close();
});

test("the children of a run that failed, or was cancelled, are asked to end by the write that ends it", async () => {
  for (const how of ["failed", "cancelled"] as const) {
    const store = await openSqlite(tempStore());
    const append = store.append.bind(store);
    const stopped: unknown[] = [];
    store.append = (write) => {
      if (write.next && "stops" in write.next) stopped.push(write.next.to, write.next.stops?.children.length);
      return append(write);
    };
    const child = flow("child", async (ctx) => ctx.waitFor("never"));
    const parent = flow("parent", async (ctx) => {
      ctx.call(child, { input: undefined }).catch(() => {});
      await ctx.waitFor("go");
      throw new Error("no");
    });
    const crew = makeCrew([parent, child], { store });
    const run = await crew.start(parent, { input: undefined });
    await until("both wait", async () => (await crew.runs({})).every(({ status }) => status === "parked"));
    await (how === "failed" ? run.signal("go") : run.cancel());
    await expect(run.result()).rejects.toThrow();
    await until("the child has ended", async () => (await crew.runs({ agent: "child" }))[0]?.status === "cancelled");
    expect(stopped).toEqual([how, 1]);
    await crew.close();
    await store.close();
  }
});
