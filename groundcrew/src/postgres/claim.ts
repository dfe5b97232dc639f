/** Which runs a worker takes up: looked for without a lock, then taken one by one where nobody else is faster. */
import { GroundcrewError } from "../errors.ts";
import { MAX_LANES, MAX_LOOKS, MAX_PROMOTED } from "../limits.ts";
import { share } from "../persistence/share.ts";
import type { Claim, Quotas } from "../persistence/store.ts";
import type { Connection } from "./connection.ts";
import { ofRuns } from "./inbox.ts";
import { type Found, look, READY } from "./look.ts";
import { Rooms } from "./quota.ts";
import { column, escaped, type RunRecord, type Sql, shardsOf, type Transaction, together, toRunRow } from "./row.ts";

/** Runs a transaction, and tells what it changed. */
type Commit = <T>(work: (tx: Transaction) => Promise<T>) => Promise<T>;

export class Claims {
  readonly #connection: Connection;
  readonly #commit: Commit;
  /** The tenant from which the next look goes on: not everybody who waits is seen at once. */
  #from = "";

  constructor(connection: Connection, commit: Commit) {
    this.#connection = connection;
    this.#commit = commit;
  }

  /** Looks until it has found enough or has seen everything. */
  async claim(worker: string, agents: readonly string[], limit: number, quotas: Quotas | undefined): Promise<Claim[]> {
    const claims: Claim[] = [];
    const timed = await this.#timed(agents);
    if (timed.length > 0) await this.#commit((tx) => promote(tx, timed));
    for (let looks = 0; looks < MAX_LOOKS && claims.length < limit; looks++) {
      const from = this.#from;
      const wanted = limit - claims.length;
      const found = await look(this.#connection, agents, from, wanted);
      const lanes = [...Map.groupBy(found, ({ agent, tenant }) => JSON.stringify([agent, tenant])).values()];
      const taken = found.length > 0 ? await this.#commit((tx) => take(tx, worker, found, wanted, quotas)) : [];
      claims.push(...taken);

      this.#from = lanes.length >= Math.min(wanted, this.#connection.isDistributed ? MAX_LANES : wanted) ? behind(found) : "";
      const perLane = Math.ceil(wanted / Math.max(1, lanes.length));
      const isCut = taken.length > 0 && lanes.some((lane) => lane.length >= perLane);
      if (from === "" && this.#from === "" && !isCut) break;
    }
    return claims;
  }

  /** Runs whose time has come. */
  #timed(agents: readonly string[]): Promise<{ shard: number; id: string }[]> {
    return this.#connection.query(
      `select shard, id from groundcrew.runs where agent = any($1) and timed and due_at is not null and due_at <= ${this.#connection.now}
       order by due_at limit $2`,
      [agents.map(escaped), MAX_PROMOTED],
    );
  }
}

/** Behind the last tenant that was looked at for every agent: they are gone through side by side. */
function behind(found: readonly Found[]): string {
  const tenants = [...Map.groupBy(found, ({ agent }) => agent).values()].map((of) => [...new Set(of.map(({ tenant }) => tenant))]);
  const most = Math.max(...tenants.map(({ length }) => length));
  const [first = ""] = tenants.flatMap((of) => (of.length === most ? (of.at(-1) ?? []) : [])).sort();
  return `${first}\u0001`;
}

/** From now on they are ready, and take their turn. */
async function promote(tx: Transaction, timed: readonly { shard: number; id: string }[]): Promise<void> {
  for (const some of together(tx, timed)) {
    await tx.write(
      `update groundcrew.runs r set timed = false
       from (select shard, id from groundcrew.runs where shard = any($1) and id = any($2) and timed for update skip locked) d
       where r.shard = d.shard and r.id = d.id and r.shard = any($1)`,
      [shardsOf(some), column(some, "id")],
    );
  }
}

/** Its own row is held meanwhile: a worker that is being given up takes nothing more. @throws GroundcrewError `SUPERSEDED` */
async function take(tx: Transaction, worker: string, found: readonly Found[], limit: number, quotas: Quotas | undefined): Promise<Claim[]> {
  const lease = await tx.query("select 1 from groundcrew.workers where id = $1 and lease_until > $2 for key share", [worker, tx.now]);
  if (lease.length === 0) throw new GroundcrewError("SUPERSEDED", `The lease of worker ${worker} has run out.`);
  const rooms = quotas ? await Rooms.open(tx, found, quotas) : undefined;
  const chosen = share(found, limit, rooms && ((of, name) => rooms.of(of, name)));
  if (chosen.length === 0) return [];
  const taken: Taken[] = [];
  for (const some of together(tx, chosen)) taken.push(...(await takeSome(tx, worker, some)));
  await rooms?.close(taken);
  const signals = Map.groupBy(await ofRuns(tx, shardsOf(taken), column(taken, "id")), ({ run }) => run);
  const order = new Map(chosen.map(({ id }, index) => [id, index]));
  return taken
    .sort((a, b) => (order.get(a.id) ?? 0) - (order.get(b.id) ?? 0))
    .map((record) => {
      const run = toRunRow(record);
      tx.changed.add(run.id);
      return { run, epoch: run.epoch, takeover: record.before !== null, signals: signals.get(run.id) ?? [] };
    });
}

/** `before`: who held it and did not hand it back. */
type Taken = RunRecord & { before: string | null };

function takeSome(tx: Transaction, worker: string, chosen: readonly Found[]) {
  return tx.query<Taken>(
    `update groundcrew.runs r
     set status = 'running', reason = null, due_at = null, timed = false, worker = $3, epoch = r.epoch + 1, changed_at = $4
     from (select shard, id, worker from groundcrew.runs
           where shard = any($1) and id = any($2) and ${READY} for update skip locked) d
     where r.shard = d.shard and r.id = d.id and r.shard = any($1)
     returning r.*, d.worker as before`,
    [shardsOf(chosen), column(chosen, "id"), worker, tx.now],
  );
}

/** When the next run that waits for a time will be due. */
export async function nextDue(sql: Pick<Sql, "query">, agents: readonly string[]): Promise<number | null> {
  const [found] = await sql.query<{ at: number | null }>(
    `select min(n.at) as at from unnest($1::text[]) a (agent)
     cross join lateral (select min(due_at) as at from groundcrew.runs where agent = a.agent and due_at is not null and timed) n`,
    [agents.map(escaped)],
  );
  return found?.at ?? null;
}
