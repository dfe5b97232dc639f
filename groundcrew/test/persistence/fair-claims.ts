/** What a store owes to those who share it: turns, priorities, limits and rates. Part of the conformance suite. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { MAX_PROMOTED } from "../../src/limits.ts";
import { thisWorker } from "../../src/persistence/host.ts";
import { newRunId } from "../../src/persistence/id.ts";
import type { Claim, NewRun, Priority, Quota, Quotas, Store, Transition } from "../../src/persistence/store.ts";
import type { FakeClock } from "../../src/testing/clock.ts";
import type { Ground } from "./conformance.ts";

const LEASE = 3_600_000;

export function fairClaims(makeGround: () => Promise<Ground>): void {
  let ground: Ground;
  let clock: FakeClock;
  let store: Store;
  let other: Store;
  let count = 0;

  beforeEach(async () => {
    ground = await makeGround();
    clock = ground.clock;
    [store, other] = [await ground.open(), await ground.open()];
  });

  afterEach(async () => {
    await Promise.all([store.close(), other.close()]);
    await ground.remove();
  });

  // ---- hands ----

  const join = async (at = store): Promise<string> => {
    const worker = thisWorker(`worker-${++count}`);
    await at.join(worker, LEASE);
    return worker.id;
  };

  const newRun = (tenant: string, more: Partial<NewRun> = {}): NewRun => {
    const principal = { tenant, user: "u", roles: [] };
    const { agent = "support" } = more;
    const deadline = clock.now() + 86_400_000;
    const id = newRunId(clock.now() + ++count);
    const events = [{ type: "run.created", agent, principal, deadline, seq: 1, at: clock.now() }] as const;
    return { id, agent, principal, deadline, dueAt: clock.now(), events, blobs: [], ...more };
  };
  const create = (tenant: string, howMany = 1, more: Partial<NewRun> = {}) =>
    Promise.all(Array.from({ length: howMany }, async () => (await store.create(newRun(tenant, more))).run.id));

  const agents = ["support", "sales"];
  const claim = (worker: string, limit: number, quotas?: Quotas, at = store) => at.claim(worker, agents, limit, quotas);
  const give = (worker: string, { run, epoch }: Claim, next: Transition) =>
    store.append({ run: run.id, worker, epoch, events: [], chunks: [], blobs: [], consumed: [], next });
  const end = (worker: string, one: Claim) => give(worker, one, { to: "succeeded" });
  const tenants = (claims: readonly Claim[]) => claims.map(({ run }) => run.principal.tenant);
  const counted = (claims: readonly Claim[]) =>
    Object.fromEntries([...Map.groupBy(tenants(claims), (tenant) => tenant)].map(([tenant, all]) => [tenant, all.length]));

  const ofAgents = (quota: Quota): Quotas => ({ agent: () => quota, tenant: () => undefined });
  const ofTenants = (quota: Quota): Quotas => ({ agent: () => undefined, tenant: () => quota });

  // ---- turns ----

  test("a tenant with 1,000 queued runs delays another's next run by no more than one claim", async () => {
    await create("much", 1_000, { dueAt: clock.now() - 60_000 });
    for (const tenant of ["before", "very", "before"]) {
      const worker = await join();
      expect(tenants(await claim(worker, 1))).toEqual(["much"]);
      await create(tenant);
      expect(tenants(await claim(worker, 1))).toEqual([tenant]);
    }
  });

  test("tenants have one run each before one of them has a second, also one with several agents", async () => {
    for (const agent of agents) await create("a", 10, { agent, dueAt: clock.now() - 60_000 });
    await create("b", 10);
    await create("c", 2);
    const worker = await join();
    expect(tenants(await claim(worker, 3)).sort()).toEqual(["a", "b", "c"]);
    expect(counted(await claim(worker, 7))).toEqual({ a: 3, b: 3, c: 1 });
  });

  test("tenants of different agents take turns as those of one do, with limits and without, however few runs are asked for", async () => {
    for (const tenant of ["a", "b", "c"]) await create(tenant, 24);
    for (const tenant of ["d", "e", "f"]) await create(tenant, 24, { agent: "sales" });
    const worker = await join();
    for (const quotas of [undefined, ofTenants({ concurrency: 1_000 })]) {
      for (const limit of [1, 2, 4]) {
        const served: Claim[] = [];
        while (served.length < 24) served.push(...(await claim(worker, limit, quotas)));
        expect(counted(served)).toEqual({ a: 4, b: 4, c: 4, d: 4, e: 4, f: 4 });
      }
    }
  });

  test("a claim gives as much as it is asked for, however unevenly it is waited for", async () => {
    await create("much", 200);
    for (let i = 0; i < 10; i++) await create(`few ${i}`);
    const worker = await join();
    const claims = [...(await claim(worker, 64)), ...(await claim(worker, 64)), ...(await claim(worker, 100))];
    expect(claims).toHaveLength(210);
    expect(new Set(claims.map(({ run }) => run.id)).size).toBe(210);
  });

  test("a tenant whose name is empty, or holds any character, has its turn like the others", async () => {
    const names = ["", "\u0000", "a", "a\u0000", "a\u0001", "\u{1f6e9}", "\uffff", "'; drop table runs", "é"];
    for (const name of names) await create(name, 2);
    const worker = await join();
    for (let round = 0; round < 2; round++) {
      const served: string[] = [];
      for (const _ of names) served.push(...tenants(await claim(worker, 1)));
      expect(served.sort()).toEqual(names.toSorted());
    }
    expect(await claim(worker, 10)).toEqual([]);
  });

  test("priority orders a tenant's own runs, whatever their agent, and does not let it pass another tenant", async () => {
    const priorities: Priority[] = [5, 1, 3];
    for (const [i, priority] of priorities.entries()) {
      await create("a", 1, { priority, agent: agents[i % 2] as string, dueAt: clock.now() - 1_000 * priority }); // the last is due longest
    }
    await create("b", 2, { priority: 5 });
    const worker = await join();
    const order: string[] = [];
    for (let i = 0; i < 5; i++) order.push(...(await claim(worker, 1)).map(({ run }) => `${run.principal.tenant}${run.priority}`));
    expect(order).toEqual(["a1", "b5", "a3", "b5", "a5"]);
  });

  test("a run without a priority stands in the middle, and keeps it from its start to its end", async () => {
    const { run } = await store.create(newRun("a", { priority: 4 }));
    await create("a");
    const worker = await join();
    const [first, second] = await claim(worker, 2);
    expect([first?.run.priority, second?.run.priority]).toEqual([3, 4]);
    await end(worker, second as Claim);
    expect(await other.run(run.id)).toMatchObject({ priority: 4, status: "succeeded" });
  });

  test("timers of any number that come due at once keep nobody waiting, and none of them is forgotten", async () => {
    const timers = MAX_PROMOTED + 44;
    await create("sleeper", timers, { dueAt: clock.now() + 10 });
    clock.jump(20);
    await create("b");
    const worker = await join();
    const first = await claim(worker, 64);
    expect(counted(first)).toEqual({ sleeper: 63, b: 1 });
    const rest: Claim[] = [];
    for (let i = 0; i < 10; i++) rest.push(...(await claim(worker, 64)));
    expect(first.length + rest.length).toBe(timers + 1);
    expect(await store.nextDue(agents)).toBeNull();
  });

  test("the next time that is told is that of a run which waits for a time, never of one that is ready", async () => {
    await create("a", 3);
    expect(await store.nextDue(agents)).toBeNull();
    const worker = await join();
    const [one] = await claim(worker, 1);
    await give(worker, one as Claim, { to: "parked", reason: "timer", dueAt: clock.now() + 500 });
    expect(await store.nextDue(agents)).toBe(clock.now() + 500);
    expect(await store.nextDue(["sales"])).toBeNull();
    clock.jump(600);
    await claim(worker, 10, ofAgents({ concurrency: 1 }));
    expect(await store.nextDue(agents)).toBeNull(); // held back by a quota, it is not looked for again and again
  });

  // ---- at work at once ----

  test.each([
    ["an agent's", ofAgents],
    ["a tenant's", ofTenants],
  ])("%s concurrency is never exceeded by two workers that claim at once", async (_whose, of) => {
    await create("a", 30);
    const quotas = of({ concurrency: 3 });
    const [one, two] = [await join(), await join(other)];
    let held: [string, Claim][] = [];
    for (let round = 0; round < 5; round++) {
      const [first, second] = await Promise.all([claim(one, 4, quotas), claim(two, 4, quotas, other)]);
      held.push(...first.map((each): [string, Claim] => [one, each]), ...second.map((each): [string, Claim] => [two, each]));
      expect(held).toHaveLength(3);
      const [leaver, ...rest] = held as [[string, Claim]];
      await (round % 2 ? end(...leaver) : give(...leaver, { to: "parked", reason: "signal", dueAt: null }));
      held = rest;
    }
  });

  test("a tenant's concurrency is counted over all its agents, an agent's over all its tenants", async () => {
    for (const tenant of ["a", "b"]) for (const agent of agents) await create(tenant, 5, { agent });
    const worker = await join();
    expect(counted(await claim(worker, 20, ofTenants({ concurrency: 3 })))).toEqual({ a: 3, b: 3 });
    const sales: Quotas = { agent: (name) => (name === "sales" ? { concurrency: 8 } : undefined), tenant: () => undefined };
    await claim(await join(other), 20, sales, other);
    const working = await store.runs({ status: ["running"], limit: 100 });
    expect([...Map.groupBy(working, ({ agent }) => agent)].map(([agent, { length }]) => [agent, length]).sort()).toEqual([
      ["sales", 8],
      ["support", 10],
    ]);
  });

  test("one tenant's quota is not another's, and a limit that is lowered takes nothing away", async () => {
    await create("a", 5);
    await create("b", 5);
    const worker = await join();
    const only = (of: string, concurrency: number): Quotas => ({
      agent: () => undefined,
      tenant: (tenant) => (tenant === of ? { concurrency } : undefined),
    });
    expect(counted(await claim(worker, 6, only("a", 2)))).toEqual({ a: 2, b: 4 });
    expect(counted(await claim(worker, 6, only("a", 1)))).toEqual({ b: 1 });
    expect(counted(await claim(worker, 6, only("a", 0)))).toEqual({});
    expect(counted(await claim(worker, 6))).toEqual({ a: 3 });
  });

  test("tenants at their limit do not hold up the others, however few runs are asked for", async () => {
    const full = Array.from({ length: 40 }, (_, i) => `full ${i}`);
    for (const tenant of full) await create(tenant, 3, { dueAt: clock.now() - 60_000 });
    const quotas = ofTenants({ concurrency: 1 });
    const worker = await join();
    expect(await claim(worker, 64, quotas)).toHaveLength(full.length);
    expect(await claim(worker, 64, quotas)).toEqual([]);
    for (const tenant of ["a", "full 20a", "z"]) {
      await create(tenant);
      expect(tenants(await claim(worker, 1, quotas))).toEqual([tenant]);
    }
  });

  test("any number of tenants at their limit is gone through within some claims, from wherever the last one ended", async () => {
    for (let i = 0; i < 600; i += 100) await Promise.all(Array.from({ length: 100 }, (_, n) => create(`full ${i + n}`)));
    const quotas: Quotas = { agent: () => undefined, tenant: (name) => (name.startsWith("full") ? { concurrency: 0 } : undefined) };
    const worker = await join();
    for (const tenant of ["zzz", "aaa", "full~"]) {
      await create(tenant, 1);
      const free: Quotas = { ...quotas, tenant: (name) => (name === tenant ? undefined : { concurrency: 0 }) };
      const served: string[] = [];
      for (let i = 0; i < 90 && served.length === 0; i++) served.push(...tenants(await claim(worker, 1, free)));
      expect(served).toEqual([tenant]);
    }
  });

  test("an agent at its limit does not hold up other agents of the same tenant", async () => {
    await create("a", 100, { agent: "support", dueAt: clock.now() - 60_000, priority: 1 });
    await create("a", 1, { agent: "sales", priority: 5 });
    const quotas: Quotas = { agent: (name) => (name === "support" ? { concurrency: 1 } : undefined), tenant: () => undefined };
    const worker = await join();
    expect((await claim(worker, 1, quotas)).map(({ run }) => run.agent)).toEqual(["support"]);
    expect((await claim(worker, 1, quotas)).map(({ run }) => run.agent)).toEqual(["sales"]);
    expect(await claim(worker, 1, quotas)).toEqual([]);
  });

  test("the place of a worker that is gone goes to whoever takes over its run, and to nobody beside", async () => {
    await create("a", 5);
    const quotas = ofAgents({ concurrency: 2 });
    const gone = await join();
    const lost = await claim(gone, 5, quotas);
    clock.jump(LEASE);
    const worker = await join(other);
    const taken = await claim(worker, 5, quotas, other);
    expect(taken).toHaveLength(2);
    expect(lost).toHaveLength(2);
    expect(await claim(worker, 5, quotas, other)).toEqual([]);
  });

  // ---- beginning per time ----

  test("a rate holds over any window, over all workers, and is used up when there is enough to do", async () => {
    const [runs, perMs] = [5, 1_000];
    await create("a", 200);
    const workers = [await join(), await join(other)] as const;
    const seed = 20_260_101;
    const random = seeded(seed);
    const begun: number[] = [];
    const from = clock.now();
    while (clock.now() - from < 20_000) {
      const which = random() < 0.5 ? 0 : 1;
      const limit = 1 + Math.floor(random() * 8);
      const claims = await claim(workers[which], limit, ofAgents({ rate: { runs, perMs } }), which ? other : store);
      begun.push(...claims.map(() => clock.now() - from));
      clock.jump(Math.floor(random() * 400));
    }
    for (const at of begun) {
      const inWindow = begun.filter((other) => other >= at && other < at + perMs).length;
      expect(inWindow, `from ${at} on, seed ${seed}`).toBeLessThanOrEqual(2 * runs);
      expect(begun.filter((other) => other <= at).length, `until ${at}, seed ${seed}`).toBeLessThanOrEqual(
        runs + (at * runs) / perMs + 1e-6,
      );
    }
    expect(begun.length, `seed ${seed}`).toBeGreaterThan(18 * runs);
  });

  test("after a quiet time no more begins at once than the rate's number", async () => {
    await create("a", 50);
    const worker = await join();
    const quotas = ofTenants({ rate: { runs: 4, perMs: 1_000 } });
    expect(await claim(worker, 50, quotas)).toHaveLength(4);
    clock.jump(60_000);
    expect(await claim(worker, 50, quotas)).toHaveLength(4);
    clock.jump(500);
    expect(await claim(worker, 50, quotas)).toHaveLength(2);
  });

  test.each([
    ["an agent's", ofAgents],
    ["a tenant's", ofTenants],
  ])("%s rate holds up no run that has begun, however many new ones wait before it", async (_whose, of) => {
    const quotas = of({ rate: { runs: 2, perMs: 3_000_000 } });
    await create("a", 2);
    const worker = await join();
    const [first, second] = (await claim(worker, 10, quotas)) as [Claim, Claim];
    await create("a", 300, { priority: 1, dueAt: clock.now() - 60_000 });
    await give(worker, first, { to: "parked", reason: "timer", dueAt: clock.now() + 10 });
    await give(worker, second, { to: "queued" });
    clock.jump(20);
    const back = await claim(worker, 1, quotas);
    back.push(...(await claim(worker, 10, quotas)));
    expect(back.map(({ run }) => run.id).sort()).toEqual([first.run.id, second.run.id].sort());
  });

  test("tenants whose rate is used up do not hold up the others", async () => {
    const spent = Array.from({ length: 40 }, (_, i) => `spent ${i}`);
    for (const tenant of spent) await create(tenant, 3, { dueAt: clock.now() - 60_000 });
    const quotas = ofTenants({ rate: { runs: 1, perMs: 3_000_000 } });
    const worker = await join();
    expect(await claim(worker, 64, quotas)).toHaveLength(spent.length);
    for (const tenant of ["a", "spent 20a", "z"]) {
      await create(tenant);
      expect(tenants(await claim(worker, 1, quotas))).toEqual([tenant]);
    }
  });

  test("a clock that jumps back an hour does not stop a rate for an hour", async () => {
    await create("a", 10, { dueAt: clock.now() - 7_200_000 });
    const quotas = ofAgents({ rate: { runs: 1, perMs: 1_000 } });
    expect(await claim(await join(), 10, quotas)).toHaveLength(1);
    clock.jump(-3_600_000);
    const worker = await join();
    expect(await claim(worker, 10, quotas)).toEqual([]);
    clock.jump(1_000);
    expect(await claim(worker, 10, quotas)).toHaveLength(1);
  });

  // ---- what is only to be ended ----

  const cancel = (run: string) => store.signal({ id: `cancel ${run}`, run, kind: "cancel", name: "cancel" });

  test.each<[string, Quotas]>([
    ["an agent's concurrency", ofAgents({ concurrency: 1 })],
    ["a tenant's concurrency", ofTenants({ concurrency: 1 })],
    ["an agent's rate", ofAgents({ rate: { runs: 1, perMs: 3_000_000 } })],
    ["a tenant's rate", ofTenants({ rate: { runs: 1, perMs: 3_000_000 } })],
  ])("a cancel, or a deadline that has passed, goes past %s that is used up, and uses nothing of it", async (_which, quotas) => {
    const worker = await join();
    await create("a");
    const [first] = (await claim(worker, 10, quotas)) as [Claim];
    const [cancelled, waiting] = await create("a", 2);
    const [overdue] = await create("a", 1, { deadline: clock.now() + 10 });
    const [later] = await create("a", 1, { dueAt: clock.now() + 60_000 });
    expect(await claim(worker, 10, quotas)).toEqual([]);
    await cancel(cancelled as string);
    await cancel(later as string);
    clock.jump(10);
    const late = await claim(worker, 10, quotas);
    expect(late.map(({ run }) => run.id).sort()).toEqual([cancelled, overdue, later].sort());
    expect(late.flatMap(({ signals }) => signals.map(({ kind }) => kind))).toEqual(["cancel", "cancel"]);
    for (const one of late) await give(worker, one, { to: "cancelled" });
    expect(await claim(worker, 10, quotas)).toEqual([]);
    await end(worker, first);
    clock.jump(3_000_000);
    await store.join({ ...thisWorker(worker) }, LEASE);
    expect((await claim(worker, 10, quotas)).map(({ run }) => run.id)).toEqual([waiting]);
  });

  test("a run that slept when it was cancelled needs no place to end in, nor does one whose worker is gone", async () => {
    const quotas = ofAgents({ concurrency: 1 });
    const gone = await join();
    await create("a", 2);
    const [sleeper] = (await claim(gone, 1, quotas)) as [Claim];
    await give(gone, sleeper, { to: "parked", reason: "signal", dueAt: null });
    const [lost] = (await claim(gone, 1, quotas)) as [Claim];
    await cancel(lost.run.id);
    await store.leave(gone);
    await create("a", 1, { priority: 1 });
    const worker = await join(other);
    expect(await claim(worker, 1, quotas, other)).toHaveLength(1); // one of them, or the new one, has the place
    await cancel(sleeper.run.id);
    const rest = await claim(worker, 10, quotas, other);
    expect((await store.runs({ status: ["running"], limit: 10 })).map(({ id }) => id)).toEqual(
      expect.arrayContaining([sleeper.run.id, lost.run.id]),
    );
    expect(rest.length).toBeGreaterThan(0);
  });

  test("any number of cancelled runs delays no other tenant by more than a claim, and any number of runs that may go delays no cancel", async () => {
    const many = await create("many", 300, { dueAt: clock.now() - 60_000 });
    const quotas: Quotas = { agent: () => undefined, tenant: (name) => (name === "many" ? { concurrency: 0 } : undefined) };
    await Promise.all(many.map(cancel));
    await create("busy", 300, { dueAt: clock.now() - 60_000 });
    const worker = await join();
    for (const limit of [1, 2, 3, 64]) {
      const seen = counted([...(await claim(worker, limit, quotas)), ...(await claim(worker, limit, quotas))]);
      expect(seen, `${limit} at a time`).toEqual({ many: limit, busy: limit });
    }
    const rest: Claim[] = [];
    for (let i = 0; i < 10; i++) rest.push(...(await claim(worker, 64, quotas)));
    expect(counted(rest)).toEqual({ many: 230, busy: 230 });
  });

  // ---- who is told ----

  test("a change says whether a run has become ready, and not that one has changed in any other way", async () => {
    const told: boolean[] = [];
    store.watch((change) => told.push(change.runs === null || change.due === true));
    const says = async (work: () => Promise<unknown>) => {
      told.length = 0;
      await work();
      await Promise.resolve();
      return told.some((due) => due);
    };
    const [first, second] = await create("a", 2);
    const worker = await join();
    let held: Claim[] = [];
    expect(await says(() => create("a", 1, { dueAt: clock.now() + 60_000 }))).toBe(false);
    expect(await says(() => create("a"))).toBe(true);
    expect(await says(async () => (held = await claim(worker, 2)))).toBe(false);
    expect(held.map(({ run }) => run.id)).toEqual([first, second]);
    const [one, two] = held as [Claim, Claim];
    expect(await says(() => give(worker, one, { to: "parked", reason: "signal", dueAt: null }))).toBe(false);
    expect(await says(() => store.signal({ id: "s", run: one.run.id, kind: "signal", name: "go" }))).toBe(true);
    expect(await says(() => give(worker, two, { to: "parked", reason: "timer", dueAt: clock.now() + 60_000 }))).toBe(false);
    const [again] = await claim(worker, 1);
    expect(await says(() => give(worker, again as Claim, { to: "queued" }))).toBe(true);
    const [ready] = await create("a");
    expect(await says(() => cancel(ready as string))).toBe(true); // a quota may have held it back
  });

  test("a session's next turn, and a parent whose child has ended, are told to be ready", async () => {
    const told: boolean[] = [];
    const session = { id: "chat", busy: "queue", message: null } as const;
    const turn = () => newRun("a", { id: newRunId(clock.now() + ++count, session.id), session });
    await store.create(turn());
    await store.create(turn());
    const worker = await join();
    const [first] = await claim(worker, 10);
    store.watch((change) => told.push(change.runs === null || change.due === true));
    await end(worker, first as Claim);
    expect(told.splice(0)).toContain(true);
    const [parent] = await claim(worker, 10);
    const { run: caller, epoch } = parent as Claim;
    await store.create(newRun("a", { parent: { run: caller.id, step: "call", worker, epoch } }));
    const [child] = await claim(worker, 10);
    await give(worker, parent as Claim, { to: "parked", reason: "child", dueAt: null });
    await Promise.resolve();
    told.length = 0;
    await end(worker, child as Claim);
    expect(told).toContain(true);
  });
}

/** From 0 to 1, the same for the same seed. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
