/** Who may write, and whose runs are free to be taken over. */
import { GroundcrewError } from "../errors.ts";
import { LIVENESS_CHECK_MS } from "../limits.ts";
import { isGone, thisHost } from "../persistence/host.ts";
import type { WorkerIdentity } from "../persistence/store.ts";
import type { Connection } from "./connection.ts";
import { among, column, type Transaction, together } from "./row.ts";

interface WorkerRecord {
  id: string;
  host: string;
  pid: number;
  started_at: string;
  lease_ms: number;
  lease_until: number;
  now: number;
}

const columns = "id, host, pid, started_at, lease_ms, lease_until";

export async function join(tx: Transaction, worker: WorkerIdentity, leaseMs: number): Promise<void> {
  await tx.query(
    `insert into groundcrew.workers (id, host, pid, started_at, lease_ms, lease_until) values ($1, $2, $3, $4, $5, $6)
     on conflict (id) do update set host = excluded.host, pid = excluded.pid, started_at = excluded.started_at,
       lease_ms = excluded.lease_ms, lease_until = excluded.lease_until`,
    [worker.id, worker.host, worker.pid, worker.startedAt, leaseMs, tx.now + leaseMs],
  );
}

/** Which of the workers still hold their leases; from here on until the end of the transaction. */
export async function holdLeases(tx: Transaction, workers: readonly string[]): Promise<Set<string>> {
  const found = await tx.query<{ id: string }>(
    `select id from groundcrew.workers where id = any($1) and lease_until > ${tx.clock} order by id for key share`,
    [[...new Set(workers)]],
  );
  return new Set(found.map(({ id }) => id));
}

/** Runs held by nobody who is known, as after a row was deleted by hand, are free again. */
export async function freeUnheld(tx: Transaction): Promise<void> {
  const text = "select shard, id, worker from groundcrew.runs where worker is not null and status = 'running'";
  const held = await tx.query<{ shard: number; id: string; worker: string }>(text);
  const known = new Set((await tx.query<{ id: string }>("select id from groundcrew.workers")).map(({ id }) => id)); // asked last: who claimed has joined before
  const unheld = held.filter(({ worker }) => !known.has(worker));
  for (const some of together(tx, unheld)) {
    const freed = await tx.query<{ id: string }>(
      `update groundcrew.runs set status = 'queued', due_at = $3, timed = false, changed_at = $3
       where ${among(tx, "shard", "id")} and status = 'running' and worker = any($4) returning id`,
      [column(some, "shard"), column(some, "id"), tx.now, column(some, "worker")],
    );
    tellAll(tx, freed);
  }
}

/** @returns false when the lease was already lost. */
export async function renew(tx: Transaction, worker: string, leaseMs: number): Promise<boolean> {
  const renewed = await tx.query(
    "update groundcrew.workers set lease_ms = $2, lease_until = $3 where id = $1 and lease_until > $4 returning id",
    [worker, leaseMs, tx.now + leaseMs, tx.now],
  );
  return renewed.length > 0;
}

/** Its row goes first: who writes for this worker holds it, and has to be done. */
export async function leave(tx: Transaction, worker: string): Promise<void> {
  await tx.query("delete from groundcrew.workers where id = $1", [worker]);
  const back = await tx.query<{ id: string }>(
    `update groundcrew.runs set status = 'queued', worker = null, due_at = $2, timed = false, changed_at = $2 where worker = $1 returning id`,
    [worker, tx.now],
  );
  tellAll(tx, back);
}

function tellAll(tx: Transaction, runs: readonly { id: string }[]): void {
  for (const { id } of runs) tx.changed.add(id);
  if (runs.length > 0) tx.due = true;
}

/** Looks after the leases of the others, for one process. */
export class Reaper {
  readonly #connection: Connection;
  readonly #commit: (work: (tx: Transaction) => Promise<void>) => Promise<void>;
  readonly #seenAlive = new Map<string, number>();
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(connection: Connection, commit: (work: (tx: Transaction) => Promise<void>) => Promise<void>) {
    this.#connection = connection;
    this.#commit = commit;
  }

  /**
   * Makes the runs of workers that are gone claimable, looking no more often than is worth it. Without its row such a worker
   * writes nothing more.
   * @param here the store's clock as this process knows it; only to look less often.
   * @throws GroundcrewError `SUPERSEDED` when it is the lease of `self` that has run out.
   */
  async reap(self: string, here: number): Promise<void> {
    if (Math.abs(here - this.#lookedAt) < LIVENESS_CHECK_MS) return;
    this.#lookedAt = here;
    const workers = await this.#workers("");
    const own = workers.find(({ id }) => id === self);
    if (!own || own.lease_until <= own.now) throw new GroundcrewError("SUPERSEDED", `The lease of worker ${self} has run out.`);
    for (const worker of workers) {
      // A lease longer than a lease can be was given before the clock jumped back. Its holder, if it lives, renews it in time.
      if (worker.lease_until > worker.now + worker.lease_ms) await this.#clamp(worker);
      if (worker.id !== self && this.#isLost(worker)) await this.#take(worker);
    }
  }

  /** Whether the worker's lease holds and, as far as can be told from here, its process is there. */
  async isAlive(id: string): Promise<boolean> {
    const [found] = await this.#workers("where id = $1", id);
    return found !== undefined && !this.#isLost(found);
  }

  #workers(where: string, ...values: string[]): Promise<WorkerRecord[]> {
    return this.#connection.query<WorkerRecord>(
      `select ${columns}, ${this.#connection.now} as now from groundcrew.workers ${where} order by id`,
      values,
    );
  }

  #isLost({ id, host, pid, started_at, lease_until, now }: WorkerRecord): boolean {
    if (lease_until <= now) return true;
    if (Math.abs(now - (this.#seenAlive.get(id) ?? Number.NEGATIVE_INFINITY)) < LIVENESS_CHECK_MS) return false;
    this.#seenAlive.set(id, now);
    return isGone({ id, host, pid, startedAt: started_at }, thisHost());
  }

  async #take({ id, lease_until }: WorkerRecord): Promise<void> {
    this.#seenAlive.delete(id);
    await this.#commit(async (tx) => {
      // It may have renewed its lease since it was looked at, or another worker may have been faster.
      const gone = await tx.query("delete from groundcrew.workers where id = $1 and lease_until = $2 returning id", [id, lease_until]);
      if (gone.length === 0) return;
      const orphans = await tx.query<{ id: string }>(
        "update groundcrew.runs set status = 'queued', due_at = $2, timed = false, changed_at = $2 where worker = $1 returning id",
        [id, tx.now],
      );
      tellAll(tx, orphans);
    });
  }

  #clamp({ id, now, lease_ms }: WorkerRecord): Promise<void> {
    return this.#commit(async (tx) => {
      await tx.query("update groundcrew.workers set lease_until = $2 where id = $1 and lease_until > $2", [id, now + lease_ms]);
    });
  }
}
