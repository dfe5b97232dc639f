/** What the audit log, deliveries and stops mean, for every store. Part of the conformance suite. */
import { expect, test } from "vitest";
import type { NewDelivery } from "../../src/persistence/delivery.ts";
import { newRunId } from "../../src/persistence/id.ts";
import type { Change } from "../../src/persistence/store.ts";
import { until } from "../support/until.ts";
import type { Ground } from "./conformance.ts";
import { unitsOf } from "./copy-claims.ts";
import { entryOf, Hands, LEASE, LONE, NASTY, news, unwritable } from "./people-hands.ts";

export function auditClaims(makeGround: () => Promise<Ground>): void {
  const hands = new Hands(makeGround);

  test("records are chained per tenant, in the order in which they were written", async () => {
    const { store, other } = hands;
    await store.record([entryOf("one"), entryOf("two", { tenant: "other" }), entryOf("three")]);
    await other.record([entryOf("four"), entryOf("five", { tenant: NASTY })]);
    expect(await hands.actions()).toEqual(["one", "three", "four"]);
    expect(await hands.wholeChain("acme")).toBe(3);
    expect(await hands.wholeChain("other")).toBe(1);
    expect(await hands.wholeChain(NASTY)).toBe(1);
    expect(await store.audit("acme", 1, 1)).toMatchObject([{ tenant: "acme", seq: 2 }]);
    expect(await store.audit("acme", 3, 10)).toEqual([]);
    expect(await store.audit("nobody", 0, 10)).toEqual([]);
    await store.record([]);
    expect((await store.auditHeads()).map(({ tenant }) => tenant).sort()).toEqual([NASTY, "acme", "other"].sort());
    for (const tenant of [NASTY, "acme"]) expect(await store.auditHeads(tenant)).toMatchObject([{ tenant }]);
    expect(await store.auditHeads("nobody")).toEqual([]);
  });

  test("a record says what it was given and when, whatever its texts are made of; half a character becomes U+FFFD", async () => {
    const { store } = hands;
    const texts = {
      action: NASTY,
      onBehalfOf: NASTY,
      run: NASTY,
      approval: NASTY,
      reason: NASTY,
      detail: { [NASTY]: [NASTY, null, 1.5, true] },
    };
    const entry = entryOf("x", { ...texts, actor: { kind: "service", id: NASTY } });
    await store.record([
      entry,
      entryOf(LONE, { tenant: LONE, reason: LONE, detail: { [LONE]: LONE } }),
      entryOf("z", { tenant: "x\ud801y" }),
    ]);
    const [{ record = "" } = {}] = await store.audit("acme", 0, 1);
    expect(JSON.parse(record)).toEqual({ v: 1, seq: 1, at: hands.clock.now(), prev: "0".repeat(64), ...entry });
    const mended = LONE.toWellFormed();
    expect(await hands.wholeChain(mended)).toBe(2); // two names that no table can tell apart are one chain, and a whole one
    expect(await hands.actions(LONE)).toEqual([mended, "z"]);
  });

  test("with a key the chain is an HMAC: without the key nobody can tell, or make, a right one", async () => {
    const keyed = await hands.ground.open({ auditKey: "k" });
    await keyed.record([entryOf("one"), entryOf("two")]).finally(() => keyed.close());
    expect(await hands.wholeChain("acme", "k")).toBe(2);
    await expect(hands.wholeChain("acme")).rejects.toThrow();
    await expect(hands.wholeChain("acme", "another")).rejects.toThrow();
  });

  test("100 who write at once, from two processes, to two tenants crosswise, leave whole chains and lose nothing", async () => {
    const { store, other } = hands;
    const writes = Array.from({ length: 100 }, (_, n) => {
      const both = [entryOf(`a${n}`, { tenant: n % 3 ? "acme" : "zeta" }), entryOf(`b${n}`, { tenant: n % 3 ? "zeta" : "acme" })];
      return (n % 2 ? store : other).record(both);
    });
    await Promise.all(writes);
    expect(await hands.wholeChain("acme")).toBe(100);
    expect(await hands.wholeChain("zeta")).toBe(100);
    expect(new Set([...(await hands.actions("acme")), ...(await hands.actions("zeta"))]).size).toBe(200);
  });

  test("writers of every kind at once, from two processes, share one chain", async () => {
    const { store, other } = hands;
    const claims = await Promise.all(Array.from({ length: 8 }, () => hands.held()));
    const asked = await Promise.all(Array.from({ length: 8 }, () => hands.asked()));
    const { run } = await hands.held();
    await Promise.all([
      ...claims.map((claim) => store.append(hands.write(claim, { opens: [hands.row(claim)], audit: [entryOf("requested")] }))),
      ...asked.map(({ row }) => other.amend(hands.approve(row, "ana"))),
      ...asked.map((_, n) => store.signal({ id: `p${n}`, run: run.id, kind: "pause", name: "pause" }, [entryOf("paused")])),
      ...asked.map((_, n) => other.record([entryOf(`recorded${n}`)])),
      ...asked.map((_, n) => (n % 2 ? store : other).stop({ agent: `a${n}`, why: "w", by: "b" }, [entryOf("stopped")])),
    ]);
    expect(await hands.wholeChain("acme")).toBe(40);
  });

  test("entries of which one cannot be written are none of them written, and the chain goes on as if they had not been tried", async () => {
    const { store } = hands;
    await store.record([entryOf("one")]);
    await expect(store.record([entryOf("two"), entryOf("two", { tenant: "other" }), unwritable])).rejects.toMatchObject({
      code: "INTERNAL",
    });
    await store.record([entryOf("three")]);
    expect(await hands.actions()).toEqual(["one", "three"]);
    expect(await hands.wholeChain("acme")).toBe(2);
    expect(await hands.actions("other")).toEqual([]);
  });

  test("what a signal puts on record is there when the signal is new, and not a second time, nor for one that is refused", async () => {
    const { store, other } = hands;
    const { run } = await hands.held();
    const signal = { id: "s1", run: run.id, kind: "pause" as const, name: "pause", value: "why" };
    expect(await store.signal(signal, [entryOf("run.paused")])).toBe(true);
    expect(await other.signal(signal, [entryOf("run.paused")])).toBe(false);
    await expect(store.signal({ ...signal, run: newRunId(0) }, [entryOf("run.paused")])).rejects.toMatchObject({ code: "RUN_NOT_FOUND" });
    expect(await store.signal({ ...signal, id: "c1", kind: "cancel" }, [entryOf("run.cancelled")])).toBe(true);
    expect(await store.signal({ ...signal, id: "c2", kind: "cancel" }, [entryOf("run.cancelled")])).toBe(false);
    expect(await hands.actions()).toEqual(["run.paused", "run.cancelled"]);
  });

  test("a signal whose record cannot be written is not sent; others of the same moment are", async () => {
    const { store } = hands;
    const { run, worker } = await hands.held();
    const send = (id: string, entry = entryOf(id)) => store.signal({ id, run: run.id, kind: "pause", name: "pause" }, [entry]);
    const [, failed] = await Promise.allSettled([send("a"), send("b", unwritable), send("c")]);
    expect(failed).toMatchObject({ status: "rejected", reason: { code: "INTERNAL" } });
    expect((await store.inbox(worker)).map(({ id }) => id).sort()).toEqual(["a", "c"]);
    expect((await hands.actions()).sort()).toEqual(["a", "c"]);
    expect(await hands.wholeChain("acme")).toBe(2);
  });

  test("what a beginning puts on record is there when the run begins now, and not a second time, nor for one that is refused", async () => {
    const { store, other } = hands;
    for (const session of [undefined, { id: "s", busy: "queue" as const, message: "hi" }]) {
      const kind = session ? "turn" : "run";
      const begin = (by: typeof store, name: string, hash = "h") =>
        by.create({ ...hands.newRun(session && { session }), start: { key: kind, hash }, audit: [entryOf(`${kind} ${name}`)] });
      const first = await begin(store, "begins");
      expect(first.outcome).toBe("created");
      expect(await begin(other, "again")).toMatchObject({ outcome: "existing", run: { id: first.run.id } });
      await expect(begin(store, "refused", "another")).rejects.toMatchObject({ code: "START_CONFLICT" });
    }
    expect(await hands.actions()).toEqual(["run begins", "turn begins"]);
    expect(await hands.wholeChain("acme")).toBe(2);
  });

  test("of runs that many begin at once with one key, from two processes, the one that is made is on record", async () => {
    const { store, other } = hands;
    const start = { key: "k", hash: "h" };
    const begun = await Promise.all(
      Array.from({ length: 20 }, (_, n) => {
        const run = hands.newRun();
        return (n % 2 ? store : other).create({ ...run, start, audit: [entryOf(run.id)] });
      }),
    );
    const made = begun.filter(({ outcome }) => outcome === "created").map(({ run }) => run.id);
    expect(new Set(begun.map(({ run }) => run.id))).toEqual(new Set(made));
    expect(await hands.actions()).toEqual(made);
  });

  test("a run whose record cannot be written has not begun; others of the same moment have", async () => {
    const { store } = hands;
    const runs = [hands.newRun(), hands.newRun(), hands.newRun()];
    const records = [entryOf("a"), unwritable, entryOf("c")];
    const [, failed] = await Promise.allSettled(runs.map((run, n) => store.create({ ...run, audit: records.slice(n, n + 1) })));
    expect(failed).toMatchObject({ status: "rejected", reason: { code: "INTERNAL" } });
    const found = await Promise.all(runs.map(async ({ id }) => (await store.run(id)) !== null));
    expect(found).toEqual([true, false, true]);
    expect((await hands.actions()).sort()).toEqual(["a", "c"]);
    expect(await hands.wholeChain("acme")).toBe(2);
  });

  test("a stop, a lift and an outcome whose record cannot be written have not happened", async () => {
    const { store } = hands;
    const claim = await hands.held();
    await store.append(hands.write(claim, { deliveries: [news("a")] }));
    await store.stop({ agent: "old", why: "w", by: "b" }, []);
    await expect(store.stop({ agent: "new", why: "w", by: "b" }, [unwritable])).rejects.toMatchObject({ code: "INTERNAL" });
    await expect(store.lift("old", [unwritable])).rejects.toMatchObject({ code: "INTERNAL" });
    await expect(store.settleDelivery("a", { state: "sent" }, [unwritable])).rejects.toMatchObject({ code: "INTERNAL" });
    expect(await store.stops()).toMatchObject([{ agent: "old" }]);
    expect(await store.takeDeliveries(10, LEASE)).toMatchObject([{ id: "a", failures: 0 }]);
  });

  test("no sweep takes a record, however old", async () => {
    const { store, clock } = hands;
    const claim = await hands.held();
    await store.append(hands.write(claim, { audit: [entryOf("one"), entryOf("two")] }, { next: { to: "succeeded" } }));
    clock.jump(86_400_000 * 10_000);
    const before = clock.now() + 1;
    await store.sweep({ runsBefore: before, sessionsBefore: before, chunksBefore: before, limit: 1_000, dryRun: false });
    expect(await store.run(claim.run.id)).toBeNull();
    expect(await hands.wholeChain("acme")).toBe(2);
  });
}

export function deliveryClaims(makeGround: () => Promise<Ground>): void {
  const hands = new Hands(makeGround);

  const add = async (...some: NewDelivery[]) => {
    const claim = await hands.held();
    await hands.store.append(hands.write(claim, { deliveries: some }));
    return claim;
  };
  const taken = async (limit = 10, at = hands.store) => (await at.takeDeliveries(limit, LEASE)).map(({ id }) => id);

  test("one that is taken is nobody else's until its lease is over, and then it is due again", async () => {
    const { store, other, clock } = hands;
    await add(news("a"), news("b"));
    expect(await taken(1)).toEqual(["a"]);
    expect(await taken(10, other)).toEqual(["b"]);
    expect(await taken()).toEqual([]);
    expect(await store.nextDelivery()).toBe(clock.now() + LEASE);
    clock.jump(LEASE - 1);
    expect(await taken()).toEqual([]);
    clock.jump(1);
    expect(await taken(10, other)).toEqual(["a", "b"]);
  });

  test("the one that has been due longest is given first", async () => {
    for (const id of ["c", "b", "a"]) {
      await add(news(id));
      hands.clock.jump(10);
    }
    expect(await taken(2)).toEqual(["c", "b"]);
    expect(await taken(2)).toEqual(["a"]);
  });

  test("many who take at once never take the same one, and together take all", async () => {
    const { store, other } = hands;
    await add(...Array.from({ length: 50 }, (_, n) => news(`n${n}`, { tenant: `t${n}` })));
    const all: string[] = [];
    await until("everything is taken", async () => {
      const found = await Promise.all(Array.from({ length: 10 }, (_, n) => taken(10, n % 2 ? store : other)));
      all.push(...found.flat());
      return all.length >= 50;
    });
    expect(new Set(all).size).toBe(50);
    expect(all).toHaveLength(50);
  });

  test("the same news twice is one, also when two tell it in the same moment, and after it has arrived", async () => {
    const { store, other } = hands;
    await add(news("a"));
    const claims = [await hands.held(), await hands.held()];
    const again = news("a", { to: ["user:other"] });
    await Promise.all(claims.map((claim, n) => (n ? store : other).append(hands.write(claim, { deliveries: [again, again] }))));
    expect(await store.takeDeliveries(10, LEASE)).toMatchObject([{ id: "a", to: ["role:finance"] }]);
    await store.settleDelivery("a", { state: "sent" }, []);
    await add(again);
    expect(await store.nextDelivery()).toBeNull();
  });

  test("one that failed waits for its time; one that has arrived, or was given up, is over, once", async () => {
    const { store, other, clock } = hands;
    await add(news("a"), news("b"), news("c"));
    await store.takeDeliveries(10, LEASE);
    await store.settleDelivery("a", { state: "sent" }, [entryOf("sent")]);
    await other.settleDelivery("a", { state: "sent" }, [entryOf("sent")]);
    await other.settleDelivery("a", { state: "waiting", at: clock.now(), why: "late" }, [entryOf("late")]);
    await store.settleDelivery("b", { state: "waiting", at: clock.now() + 60_000, why: LONE }, []);
    await store.settleDelivery("c", { state: "dead", why: NASTY }, [entryOf("given up")]);
    await store.settleDelivery("nothing", { state: "sent" }, [entryOf("sent")]);
    expect(await hands.actions()).toEqual(["sent", "given up"]);
    expect(await store.nextDelivery()).toBe(clock.now() + 60_000);
    clock.jump(59_999);
    expect(await taken()).toEqual([]);
    clock.jump(1);
    expect(await store.takeDeliveries(10, LEASE)).toMatchObject([{ id: "b", failures: 1 }]);
    await store.settleDelivery("b", { state: "waiting", at: clock.now(), why: "not tried", isUntried: true }, []);
    expect(await store.takeDeliveries(10, LEASE)).toMatchObject([{ id: "b", failures: 1 }]); // nobody's failure
    await store.settleDelivery("b", { state: "sent" }, []);
    expect(await store.nextDelivery()).toBeNull();
  });

  test("one that was taken again when its lease was over is settled by whoever is first, also the one who had it before", async () => {
    const { store, other, clock } = hands;
    await add(news("a"));
    expect(await taken()).toEqual(["a"]);
    clock.jump(LEASE);
    expect(await taken(10, other)).toEqual(["a"]);
    await Promise.all([
      store.settleDelivery("a", { state: "sent" }, [entryOf("sent by the first")]),
      other.settleDelivery("a", { state: "sent" }, [entryOf("sent by the second")]),
    ]);
    expect(await hands.actions()).toHaveLength(1);
    clock.jump(LEASE);
    expect(await taken()).toEqual([]);
  });

  test("comes back as it went in, whatever its texts are made of, and no two names are one", async () => {
    const { store, clock } = hands;
    const all = [
      news(NASTY, { tenant: NASTY, channel: NASTY, to: [NASTY, LONE] }),
      news(LONE, { tenant: LONE, channel: LONE, about: "ended" }),
      news("x\ud801y"),
      news(""),
    ];
    await add(...all);
    const found = await store.takeDeliveries(10, LEASE);
    const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
    expect(found.sort(byId)).toEqual(all.map((one) => ({ ...one, createdAt: clock.now(), failures: 0 })).sort(byId));
    for (const { id } of all) await store.settleDelivery(id, { state: "sent" }, [entryOf("sent")]);
    expect(await hands.actions()).toHaveLength(all.length);
    expect(await store.nextDelivery()).toBeNull();
  });

  /** All that are in the tables, with the run that each is about. */
  const stored = async () => {
    hands.clock.jump(LEASE); // no worker lives
    const units = (await unitsOf(hands.store)).filter((unit) => unit.kind === "delivery");
    return Object.fromEntries(units.map(({ id, run }) => [id, run]));
  };
  const sweep = (runsBefore: number, dryRun = false, limit = 100) =>
    hands.store.sweep({ runsBefore, sessionsBefore: 0, chunksBefore: 0, limit, dryRun });

  test("a run that is swept takes along what was told of it; what is still to be told stays, and an open run's stays whole", async () => {
    const { store, clock } = hands;
    const claim = await hands.held();
    const row = hands.row(claim);
    const about = { approvals: [row.id] };
    await store.append(hands.write(claim, { opens: [row], deliveries: [news("told", about), news("late", about), news("dead", about)] }));
    await store.append(hands.write(claim, { closes: [row.id] }, { events: [], next: { to: "succeeded" } }));
    const open = await hands.asked();
    await add(news("of an open run", { approvals: [open.row.id] }), news("of none"), news("of none, to be told"));
    for (const id of ["told", "of an open run", "of none"]) await store.settleDelivery(id, { state: "sent" }, []);
    await store.settleDelivery("dead", { state: "dead", why: "w" }, []);
    const before = await stored();
    clock.jump(1_000);
    await sweep(clock.now(), true);
    expect(await stored()).toEqual(before);
    expect(await store.approval(row.id)).toMatchObject({ status: "cancelled" });
    await sweep(clock.now());
    expect(await store.run(claim.run.id)).toBeNull();
    expect(await store.approval(row.id)).toBeNull();
    expect(await store.approval(open.row.id)).toEqual(open.row);
    expect(await stored()).toEqual({ late: null, "of an open run": open.row.run, "of none, to be told": null });
  });

  test("one that was told after its run was swept goes by its own age, no sooner", async () => {
    const { store, clock } = hands;
    const claim = await hands.held();
    const row = hands.row(claim);
    await store.append(hands.write(claim, { opens: [row], deliveries: [news("late", { approvals: [row.id] })] }));
    await store.append(hands.write(claim, { closes: [row.id] }, { events: [], next: { to: "succeeded" } }));
    clock.jump(1_000);
    await sweep(clock.now());
    expect(await taken()).toEqual(["late"]);
    await store.settleDelivery("late", { state: "sent" }, [entryOf("sent")]);
    const at = clock.now();
    await sweep(at);
    expect(await stored()).toEqual({ late: null });
    await sweep(at + 1);
    expect(await stored()).toEqual({});
  });

  test("a pass of the sweep is bounded by them too, and passes together take all", async () => {
    const { store, clock } = hands;
    await add(...Array.from({ length: 25 }, (_, n) => news(`n${n}`)));
    for (let n = 0; n < 25; n++) await store.settleDelivery(`n${n}`, { state: "sent" }, []);
    clock.jump(1);
    const left: number[] = [];
    for (let n = 0; n < 3; n++) {
      await sweep(clock.now(), false, 10);
      left.push(Object.keys(await stored()).length);
    }
    expect(left).toEqual([15, 5, 0]);
  });
}

export function stopClaims(makeGround: () => Promise<Ground>): void {
  const hands = new Hands(makeGround);

  test("one is known to every process, with its reason; setting it again changes the reason; lifting it is told once", async () => {
    const { store, other, clock } = hands;
    await store.stop({ agent: "*", why: NASTY, by: "ana" }, [entryOf("stop.set")]);
    await other.stop({ agent: "support", why: "one", by: "bo" }, []);
    clock.jump(10);
    await other.stop({ agent: "support", why: "two", by: "cy" }, []);
    expect(await store.stops()).toEqual([
      { agent: "*", why: NASTY, by: "ana", at: clock.now() - 10 },
      { agent: "support", why: "two", by: "cy", at: clock.now() },
    ]);
    expect(await other.lift("*", [entryOf("stop.lifted")])).toBe(true);
    expect(await other.lift("*", [entryOf("stop.lifted")])).toBe(false);
    expect(await store.stops()).toMatchObject([{ agent: "support" }]);
    expect(await hands.actions()).toEqual(["stop.set", "stop.lifted"]);
  });

  test("of an agent with any name is that agent's alone; half a character names none", async () => {
    const { store } = hands;
    await store.stop({ agent: NASTY, why: LONE, by: LONE }, []);
    expect(await store.stops()).toEqual([{ agent: NASTY, why: LONE.toWellFormed(), by: LONE.toWellFormed(), at: hands.clock.now() }]);
    await expect(store.stop({ agent: LONE, why: "w", by: "b" }, [entryOf("stop.set")])).rejects.toMatchObject({ code: "INPUT_INVALID" });
    expect(await store.lift("a", [])).toBe(false);
    expect(await store.lift(NASTY, [])).toBe(true);
    expect(await hands.actions()).toEqual([]);
  });

  test("who watches is told that something may be due when one is set or lifted, also by another process", async () => {
    const { store, other, clock } = hands;
    const own: Change[] = [];
    const foreign: Change[] = [];
    const unwatch = [store.watch((change) => own.push(change)), other.watch((change) => foreign.push(change))];
    const isDue = (change: Change) => change.runs === null || change.due === true;
    for (const act of [() => store.stop({ agent: "*", why: "w", by: "ana" }, []), () => store.lift("*", [])]) {
      own.length = foreign.length = 0;
      await act();
      await until("this process is told at once", () => own.some(({ runs, ...change }) => runs !== null && "due" in change && change.due));
      await until("the other one is told", async () => {
        await clock.advance(25);
        return foreign.some(isDue);
      });
    }
    for (const end of unwatch) end();
  });

  test("who watches is told of news that is to be delivered", async () => {
    const { other, store, clock } = hands;
    const own: Change[] = [];
    const foreign: Change[] = [];
    const unwatch = [store.watch((change) => own.push(change)), other.watch((change) => foreign.push(change))];
    const claim = await hands.held();
    await clock.advance(25);
    own.length = foreign.length = 0;
    await store.append(hands.write(claim, { deliveries: [news("a")] }));
    await until("this process is told at once", () => own.some(({ runs, ...change }) => runs !== null && "due" in change && change.due));
    await until("the other one is told", async () => {
      await clock.advance(25);
      return foreign.some((change) => change.runs === null || change.due === true);
    });
    for (const end of unwatch) end();
  });
}
