/** What `dump` and `load` mean, for every store. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { ApprovalRow } from "../../src/persistence/approval.ts";
import type { AuditEntry } from "../../src/persistence/audit.ts";
import { type StoredRun, type StoredUnit, unitName } from "../../src/persistence/dump.ts";
import { thisWorker } from "../../src/persistence/host.ts";
import { newRunId } from "../../src/persistence/id.ts";
import type { Store } from "../../src/persistence/store.ts";
import type { Ground } from "./conformance.ts";
import { type Filled, fill } from "./fill.ts";

const start = { seq: 0, chunk: 0 };

export async function unitsOf(store: Store, limit = 100): Promise<StoredUnit[]> {
  const units: StoredUnit[] = [];
  for (let after: string | null = null; ; ) {
    const page = await store.dump(after, limit);
    units.push(...page.units);
    if (page.next === null) return units;
    after = page.next;
  }
}

export function copyClaims(makeGround: () => Promise<Ground>): void {
  let grounds: [Ground, Ground];
  let from: Store;
  let to: Store;
  let runs: Filled;

  beforeEach(async () => {
    grounds = [await makeGround(), await makeGround()];
    [from, to] = [await grounds[0].open(), await grounds[1].open()];
    runs = await fill(from, grounds[0].clock.now());
  });

  afterEach(async () => {
    await Promise.all([from.close(), to.close()]);
    await Promise.all(grounds.map((ground) => ground.remove()));
  });

  const copy = async () => to.load(await unitsOf(from));
  const join = async () => {
    const worker = thisWorker();
    await to.join(worker, 10_000);
    return worker.id;
  };

  test("what was dumped and loaded is dumped again as it was", async () => {
    const before = await unitsOf(from);
    expect(before.filter(({ kind }) => kind === "run")).toHaveLength(Object.keys(runs).length);
    await to.load(before);
    expect(await unitsOf(to)).toEqual(before);
  });

  test("a dump in small pages has every piece once, in the same order", async () => {
    const whole = (await unitsOf(from)).map(unitName);
    for (const limit of [1, 2, 3, 7]) expect((await unitsOf(from, limit)).map(unitName)).toEqual(whole);
  });

  test("a run comes behind its session and its blobs, a turn behind the turn before it", async () => {
    const units = await unitsOf(from);
    const names = units.map(unitName);
    const turns = [runs.first, runs.second, runs.third].map((id) => names.indexOf(`run ${id}`));
    const session = names.findIndex((name) => name.startsWith("session"));
    expect(turns).toEqual([session + 1, session + 2, session + 3]);
    for (const run of units.filter((unit) => unit.kind === "run")) {
      const blobs = run.blobs.map((blob) => names.indexOf(`blob ${blob} of run ${run.id}`));
      for (const place of blobs) expect(place).toBeGreaterThanOrEqual(0);
      for (const place of blobs) expect(place).toBeLessThan(names.indexOf(unitName(run)));
    }
  });

  test("everything that can be asked of a run has the same answer in the copy", async () => {
    await copy();
    for (const id of Object.values(runs)) {
      expect(await to.journal(id)).toEqual(await from.journal(id));
      expect(await to.read(id, start, 100)).toEqual(await from.read(id, start, 100));
    }
    const { status: _, dueAt: __, ...row } = (await from.run(runs.child)) ?? {};
    expect(await to.run(runs.child)).toMatchObject(row);
    expect(await to.session("acme", "chat")).toEqual(await from.session("acme", "chat"));
    const units = await unitsOf(from);
    const blobs = units.filter((unit) => unit.kind === "blob");
    expect(blobs).toHaveLength(3);
    for (const { hash, data } of blobs) expect(await to.blob(hash)).toBe(data);
  });

  test("a run that a worker held that is gone is due at once in the copy, as a takeover; what was handed back is none", async () => {
    await copy();
    const claims = await to.claim(await join(), ["support", "other"], 100);
    const given = Object.fromEntries(claims.map(({ run, epoch, takeover }) => [run.id, { epoch, takeover }]));
    expect(given).toEqual({
      [runs.held]: { epoch: 2, takeover: true },
      [runs.second]: { epoch: 2, takeover: true },
      [runs.queued]: { epoch: 1, takeover: false },
    });
  });

  test("signals keep their order, and an id that was consumed stays known", async () => {
    await copy();
    expect(await to.signal({ id: "s1", run: runs.parked, kind: "signal", name: "seen" })).toBe(false);
    expect(await to.signal({ id: "s3", run: runs.parked, kind: "signal", name: "new" })).toBe(true);
    const [claim] = (await to.claim(await join(), ["support"], 100)).filter(({ run }) => run.id === runs.parked);
    expect(claim?.signals).toEqual([
      { id: "s2", run: runs.parked, kind: "signal", name: "kept", value: ["\0"], from: "bob", at: expect.any(Number) },
      { id: "s3", run: runs.parked, kind: "signal", name: "new", at: expect.any(Number) },
    ]);
  });

  test("a start key leads to the run that it started before the move", async () => {
    await copy();
    const principal = { tenant: "acme", user: "alice", roles: [] };
    const again = { id: newRunId(0), agent: "support", principal, deadline: 1, dueAt: 0, events: [], blobs: [] };
    const { outcome, run } = await to.create({ ...again, start: { key: "k1", hash: "h2" } });
    expect([outcome, run.id]).toEqual(["existing", runs.parent]);
    await expect(to.create({ ...again, start: { key: "k1", hash: "other" } })).rejects.toMatchObject({ code: "START_CONFLICT" });
  });

  test("the turn that waits in a copied session comes when the one before it has ended, and not sooner", async () => {
    await copy();
    const worker = await join();
    const held = (await to.claim(worker, ["support"], 100)).find(({ run }) => run.id === runs.second);
    const nothing = { run: runs.second, worker, epoch: held?.epoch ?? 0, events: [], chunks: [], blobs: [] };
    expect((await to.run(runs.third))?.dueAt).toBeNull();
    const message = held?.signals[0];
    expect(message).toMatchObject({ kind: "message", value: { text: "hello" } });
    await to.append({ ...nothing, consumed: [message?.id ?? ""], next: { to: "succeeded" } });
    expect((await to.claim(worker, ["support"], 100)).map(({ run }) => run.id)).toEqual([runs.third]);
  });

  test("loading again changes nothing, even when the copy has gone on since", async () => {
    await copy();
    const worker = await join();
    const claim = (await to.claim(worker, ["support"], 100)).find(({ run }) => run.id === runs.held);
    const end = { type: "run.succeeded", seq: 4, at: 0 } as const;
    const write = { run: runs.held, worker, epoch: claim?.epoch ?? 0, events: [end], chunks: [], blobs: [], consumed: [] };
    await to.append({ ...write, next: { to: "succeeded" } });
    await to.leave(worker);
    const after = await unitsOf(to);
    await copy();
    expect(await unitsOf(to)).toEqual(after);
  });

  test("neither side gives or takes while a worker lives", async () => {
    const units = await unitsOf(from);
    const worker = thisWorker();
    for (const store of [from, to]) {
      await store.join(worker, 10_000);
      await expect(store.dump(null, 1)).rejects.toMatchObject({ code: "STORE_BUSY" });
      await expect(store.load(units)).rejects.toMatchObject({ code: "STORE_BUSY" });
      await store.leave(worker.id);
    }
    expect(await unitsOf(to)).toEqual([]);
    expect(await unitsOf(from)).toEqual(units);
  });

  test("what people are asked and told, what they have done and what they have stopped is the same in the copy, and goes on there", async () => {
    await copy();
    const asked = await from.approvals({ limit: 10 });
    expect(asked).toHaveLength(1);
    expect(await to.approvals({ tenant: "acme", status: "open", limit: 10 })).toEqual(asked);
    expect(await to.stops()).toEqual(await from.stops());
    const heads = await from.auditHeads();
    expect(heads.length).toBeGreaterThan(5);
    expect(await to.auditHeads()).toEqual(heads);
    for (const { tenant } of heads) expect(await to.audit(tenant, 0, 100)).toEqual(await from.audit(tenant, 0, 100));

    const entry: AuditEntry = { tenant: "acme", action: "approval.approved", actor: { kind: "person", id: "ana" }, channel: "api" };
    const [row] = asked as [ApprovalRow];
    expect((await to.amend({ next: { ...row, version: 2, status: "denied" }, audit: [entry], deliveries: [] })).won).toBe(true);
    const head = heads.find(({ tenant }) => tenant === "acme");
    const [added] = await to.audit("acme", head?.seq ?? 0, 10);
    expect(JSON.parse(added?.record ?? "")).toMatchObject({ seq: (head?.seq ?? 0) + 1, prev: head?.hash });
    const [here, there] = [await from.takeDeliveries(100, 10_000), await to.takeDeliveries(100, 10_000)];
    expect(there).toEqual(here);
    expect(there.map(({ id }) => id)).not.toContain("sent");
  });

  test("a log of any length is dumped in order, whatever the pages are", async () => {
    const entry = (tenant: string, n: number) => ({ tenant, action: `${n}`, actor: { kind: "service", id: "s" }, channel: "api" }) as const;
    await from.record(Array.from({ length: 230 }, (_, n) => entry(n % 2 ? "even" : "odd", n)));
    await from.record(Array.from({ length: 100 }, (_, n) => entry("hundred", n)));
    const whole = await unitsOf(from, 1_000);
    expect(whole.filter(({ kind }) => kind === "audit").length).toBeGreaterThan(330);
    for (const limit of [1, 99, 100, 101]) expect(await unitsOf(from, limit)).toEqual(whole);
    await to.load(whole);
    expect(await unitsOf(to)).toEqual(whole);
  });

  test("a journal that cannot be read is moved as it is", async () => {
    const units = await unitsOf(from);
    const damaged = units.map((unit): StoredUnit => (unit.kind === "run" ? { ...unit, events: [{ last: 1, data: "{ nonsense" }] } : unit));
    await to.load(damaged);
    expect((await unitsOf(to)).filter((unit): unit is StoredRun => unit.kind === "run")[0]?.events).toEqual([
      { last: 1, data: "{ nonsense" },
    ]);
    await expect(to.journal(runs.held)).rejects.toMatchObject({ code: "EVENT_UNREADABLE" });
  });
}
