import type { DatabaseSync } from "node:sqlite";
import { GroundcrewError } from "../errors.ts";
import { LIVENESS_CHECK_MS } from "../limits.ts";
import { isGone, thisHost } from "../persistence/host.ts";
import type { WorkerIdentity } from "../persistence/store.ts";
import { row, rows, type Transaction } from "./row.ts";

interface WorkerRecord extends Record<string, string | number | null> {
  id: string;
  host: string;
  pid: number;
  started_at: string;
  lease_until: number;
}

export type Leases = ReturnType<typeof openLeases>;

/** Who may write, and whose runs are free to be taken over. */
export function openLeases(db: DatabaseSync) {
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

  const seenAlive = new Map<string, number>();

  function isLost(worker: WorkerRecord, now: number): boolean {
    if (worker.lease_until <= now) return true;
    if (Math.abs(now - (seenAlive.get(worker.id) ?? Number.NEGATIVE_INFINITY)) < LIVENESS_CHECK_MS) return false;
    seenAlive.set(worker.id, now);
    return isGone({ id: worker.id, host: worker.host, pid: worker.pid, startedAt: worker.started_at }, thisHost());
  }

  function tellAll(tx: Transaction, worker: string): void {
    for (const { id } of rows<{ id: string }>(held, worker)) {
      tx.changed.add(id);
      tx.due.add(id);
    }
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
      tellAll(tx, worker);
      handBack.run(worker, tx.now);
      forget.run(worker);
      tx.leases.delete(worker);
    },

    /** Makes the runs of workers that are gone claimable. Without its row in `workers` such a worker writes nothing more. */
    reap(tx: Transaction, self: string): void {
      clamp.run(tx.now);
      for (const worker of rows<WorkerRecord>(others, self)) {
        if (!isLost(worker, tx.now)) continue;
        tellAll(tx, worker.id);
        orphan.run(worker.id, tx.now);
        forget.run(worker.id);
        seenAlive.delete(worker.id);
      }
    },
  };
}
