import type { DatabaseSync } from "node:sqlite";
import { GroundcrewError } from "../errors.ts";
import { LIVENESS_CHECK_MS } from "../limits.ts";
import { isGone, thisHost } from "../persistence/host.ts";
import type { Claim, WorkerIdentity } from "../persistence/store.ts";
import type { Inbox } from "./inbox.ts";
import { type RunRecord, row, rows, selectRun, type Transaction, toRunRow } from "./row.ts";

interface WorkerRecord extends Record<string, string | number | null> {
  id: string;
  host: string;
  pid: number;
  started_at: string;
  lease_until: number;
}

interface DueRecord extends Record<string, string | number | null> {
  n: number;
  due_at: number;
  /** Who held it and did not hand it back. */
  worker: string | null;
}

/** Some hundred bytes each; more than any worker holds. */
const MAX_KNOWN_NUMBERS = 10_000;

export type Leases = ReturnType<typeof openLeases>;

/** Who may write, and who takes over. */
export function openLeases(db: DatabaseSync, inbox: Inbox) {
  const join = db.prepare("insert or replace into workers (id, host, pid, started_at, lease_ms, lease_until) values (?, ?, ?, ?, ?, ?)");
  const renew = db.prepare("update workers set lease_ms = ?, lease_until = ? where id = ? and lease_until > ?");
  const holds = db.prepare("select 1 from workers where id = ? and lease_until > ?");
  const others = db.prepare("select id, host, pid, started_at, lease_until from workers where id <> ?");
  // A lease longer than a lease can be was given before the clock jumped back. Its holder, if it lives, renews it in time.
  const clamp = db.prepare("update workers set lease_until = ?1 + lease_ms where lease_until > ?1 + lease_ms");
  const forget = db.prepare("delete from workers where id = ?");
  const held = db.prepare("select id from runs where worker = ?");
  const orphan = db.prepare("update runs set status = 'queued', due_at = ?2, timed = 0, changed_at = ?2 where worker = ?1");
  const one = db.prepare("select id, host, pid, started_at, lease_until from workers where id = ?");
  const handBack = db.prepare(
    "update runs set status = 'queued', worker = null, due_at = ?2, timed = 0, changed_at = ?2 where worker = ?1",
  );
  const ready = db.prepare(
    "select n, due_at, worker from runs where agent = ? and timed = 0 and due_at is not null order by due_at limit ?",
  );
  const timed = db.prepare("select n, due_at, worker from runs where agent = ? and timed = 1 and due_at <= ? order by due_at limit ?");
  const take = db.prepare(
    "update runs set status = 'running', reason = null, due_at = null, timed = 0, worker = ?2, epoch = epoch + 1, changed_at = ?3 where n = ?1",
  );
  const get = db.prepare(`${selectRun} where r.n = ?`);
  const firstReady = db.prepare("select min(due_at) as at from runs where agent = ? and timed = 0 and due_at is not null");
  const firstTimed = db.prepare("select min(due_at) as at from runs where agent = ? and timed = 1 and due_at is not null");

  const seenAlive = new Map<string, number>();
  /** Row numbers of runs claimed here, for their many writes. Only a short cut: who uses it compares the id. */
  const numbers = new Map<string, number>();

  function isLost(worker: WorkerRecord, now: number): boolean {
    if (worker.lease_until <= now) return true;
    if (Math.abs(now - (seenAlive.get(worker.id) ?? Number.NEGATIVE_INFINITY)) < LIVENESS_CHECK_MS) return false;
    seenAlive.set(worker.id, now);
    return isGone({ id: worker.id, host: worker.host, pid: worker.pid, startedAt: worker.started_at }, thisHost());
  }

  /** Makes the runs of workers that are gone claimable. Without its row in `workers` such a worker writes nothing more. */
  function reap(tx: Transaction, self: string): void {
    clamp.run(tx.now);
    for (const worker of rows<WorkerRecord>(others, self)) {
      if (!isLost(worker, tx.now)) continue;
      for (const run of rows<{ id: string }>(held, worker.id)) tx.changed.add(run.id);
      orphan.run(worker.id, tx.now);
      forget.run(worker.id);
      seenAlive.delete(worker.id);
    }
  }

  function due(tx: Transaction, agents: readonly string[], limit: number): DueRecord[] {
    return agents
      .flatMap((agent) => [...rows<DueRecord>(ready, agent, limit), ...rows<DueRecord>(timed, agent, tx.now, limit)])
      .sort((a, b) => a.due_at - b.due_at || a.n - b.n)
      .slice(0, limit);
  }

  /** One look per worker and flush: between two writes of one transaction no lease can run out. */
  function mustHold(tx: Transaction, worker: string): void {
    let valid = tx.leases.get(worker);
    if (valid === undefined) {
      valid = holds.get(worker, tx.now) !== undefined;
      tx.leases.set(worker, valid);
    }
    if (!valid) throw new GroundcrewError("SUPERSEDED", `The lease of worker ${worker} has run out.`);
  }

  return {
    mustHold,

    join(tx: Transaction, worker: WorkerIdentity, leaseMs: number): void {
      join.run(worker.id, worker.host, worker.pid, worker.startedAt, leaseMs, tx.now + leaseMs);
      tx.leases.delete(worker.id);
    },

    isAlive(worker: string, now: number): boolean {
      const found = row<WorkerRecord>(one, worker);
      return found !== undefined && !isLost(found, now);
    },

    renew: (tx: Transaction, worker: string, leaseMs: number) => renew.run(leaseMs, tx.now + leaseMs, worker, tx.now).changes === 1,

    leave(tx: Transaction, worker: string): void {
      for (const run of rows<{ id: string }>(held, worker)) tx.changed.add(run.id);
      handBack.run(worker, tx.now);
      forget.run(worker);
      tx.leases.delete(worker);
    },

    claim(tx: Transaction, worker: string, agents: readonly string[], limit: number): Claim[] {
      mustHold(tx, worker);
      reap(tx, worker);
      return due(tx, agents, limit).map((before) => {
        take.run(before.n, worker, tx.now);
        const run = toRunRow(row<RunRecord>(get, before.n) as RunRecord);
        if (numbers.size >= MAX_KNOWN_NUMBERS) numbers.clear();
        numbers.set(run.id, before.n);
        tx.changed.add(run.id);
        return { run, epoch: run.epoch, takeover: before.worker !== null, signals: inbox.ofRun(before.n) };
      });
    },

    /** The row number of a run that was claimed here, or null. */
    numberOf: (run: string): number | null => numbers.get(run) ?? null,

    nextDue(agents: readonly string[], now: number): number | null {
      let next: number | null = null;
      const earlier = (at: number | null | undefined) => {
        if (at != null && (next === null || at < next)) next = at;
      };
      for (const agent of agents) {
        const at = row<{ at: number | null }>(firstReady, agent)?.at;
        earlier(at == null ? null : Math.min(at, now)); // due, whatever the clock says by now
        earlier(row<{ at: number | null }>(firstTimed, agent)?.at);
      }
      return next;
    },
  };
}
