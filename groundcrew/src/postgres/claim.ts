/** Which runs a worker takes up: looked for without a lock, then taken one by one where nobody else is faster. */
import { GroundcrewError } from "../errors.ts";
import { MAX_LANES, MAX_LOOKS, MAX_PROMOTED, MIN_LANES } from "../limits.ts";
import { keptForLate, share } from "../persistence/share.ts";
import type { Claim, Quotas } from "../persistence/store.ts";
import type { Connection } from "./connection.ts";
import { ofRuns } from "./inbox.ts";
import { type Found, type Look, look, lookForLate, lookForResumed, READY } from "./look.ts";
import { Rooms } from "./quota.ts";
import { among, column, escaped, type RunRecord, type Sql, type Transaction, together, toRunRow, within } from "./row.ts";

/** Runs a transaction, and tells what it changed. `isAhead`: whether it sends its statements before it knows the time. */
type Commit = <T>(work: (tx: Transaction) => Promise<T>, isAhead?: boolean) => Promise<T>;

/** One round: what it saw, and what was taken of it. */
interface Round {
  seen: Look;
  taken: Claim[];
}

export class Claims {
  readonly #connection: Connection;
  readonly #commit: Commit;
  /** Behind the tenant whose turn was the last: the next claim goes on there. */
  #from = "";
  /** The tenant whose turn was the last. */
  #last = "";
  #isOdd = false;

  constructor(connection: Connection, commit: Commit) {
    this.#connection = connection;
    this.#commit = commit;
  }

  async claim(worker: string, agents: readonly string[], limit: number, quotas: Quotas | undefined): Promise<Claim[]> {
    const names = agents.map(escaped);
    if (quotas) {
      // Nothing is locked, nor written, before there is something to take.
      if ((await this.#lookFreely(names, "", 1)).found.length === 0) return [];
      return this.#commit((tx) => this.#within(tx, worker, names, limit, quotas));
    }
    return this.#around(limit, async (from, wanted) => {
      const seen = await this.#lookFreely(names, from, wanted);
      const chosen = share(fromTurn(seen.found, this.#last), turnsOf(seen, from, wanted));
      return { seen, taken: chosen.length === 0 ? [] : await this.#commit((tx) => take(tx, worker, chosen), true) };
    });
  }

  /** Looks for timers that have come due along with the rest; when there are any it looks again, and finds them ready. */
  async #lookFreely(names: readonly string[], from: string, wanted: number): Promise<Look> {
    const both = (sql: Sql) =>
      Promise.all([look(sql, { fresh: names, spent: [] }, from, wanted, wanted), timedOf(sql, names, this.#connection.now)]);
    const [seen, timed] = await this.#connection.look(both);
    if (timed.length === 0) return seen;
    await this.#promoteTimed(timed);
    return (await this.#connection.look(both))[0];
  }

  async #promoteTimed(timed: readonly { shard: number; id: string }[]): Promise<void> {
    if (timed.length > 0) await this.#commit((tx) => promote(tx, timed));
  }

  /** Under quotas all of a claim is one transaction, and no other claim under quotas goes on beside it. */
  async #within(tx: Transaction, worker: string, agents: readonly string[], limit: number, quotas: Quotas): Promise<Claim[]> {
    const rooms = await Rooms.open(tx, quotas);
    await rooms.measure("agent", agents);
    const late = await lookForLate(tx, agents, tx.now, limit);
    if (late.length > 0) this.#isOdd = !this.#isOdd;
    const kept = keptForLate(late.length, limit, this.#isOdd);
    const claims = await this.#around(limit - kept, async (from, wanted) => {
      const open = agents.filter((agent) => (rooms.of("agent", agent)?.places ?? 1) >= 1);
      const isSpent = (agent: string) => (rooms.of("agent", agent)?.starts ?? 1) < 1;
      const lanes = { fresh: open.filter((agent) => !isSpent(agent)), spent: open.filter(isSpent) };
      const seen = await look(tx, lanes, from, Math.max(wanted, MIN_LANES), wanted);
      await rooms.measure("tenant", seen.tenants);
      const spent = seen.tenants.filter((tenant) => (rooms.of("tenant", tenant)?.starts ?? 1) < 1);
      const found = seen.found.filter(({ tenant }) => !spent.includes(tenant)).concat(await lookForResumed(tx, open, spent, seen.each));
      const chosen = share(fromTurn(found, this.#last), turnsOf(seen, from, wanted), rooms.of);
      return { seen, taken: chosen.length === 0 ? [] : await take(tx, worker, chosen) };
    });
    await rooms.close();
    const taken = new Set(claims.map(({ run }) => escaped(run.id)));
    const left = late.filter(({ id }) => !taken.has(id)).slice(0, limit - claims.length);
    return left.length === 0 ? claims : [...claims, ...(await take(tx, worker, left))];
  }

  /** Goes around the tenants, from where the last claim ended, until there is enough or everything was seen. */
  async #around(limit: number, round: (from: string, wanted: number) => Promise<Round>): Promise<Claim[]> {
    const claims: Claim[] = [];
    const start = this.#from;
    let at = start;
    let isCut = false;
    for (let looks = 0; looks < MAX_LOOKS && claims.length < limit; looks++) {
      const wanted = limit - claims.length;
      const { seen, taken } = await round(at, wanted);
      claims.push(...taken);
      const served = taken.at(-1)?.run.principal.tenant;
      const mayBeMore = seen.tenants.length >= Math.min(wanted, MAX_LANES);
      if (served !== undefined) this.#last = escaped(served);
      if (served !== undefined) this.#from = mayBeMore ? behind(this.#last) : ""; // all were seen: the next look need not go around
      isCut ||= taken.length > 0 && [...Map.groupBy(seen.found, ({ tenant }) => tenant).values()].some(({ length }) => length >= seen.each);

      const last = seen.tenants.at(-1);
      if (last !== undefined && mayBeMore) at = behind(last);
      else if (at !== "" && start !== "") at = "";
      else if (isCut) [at, isCut] = ["", false];
      else return claims;
    }
    if (claims.length < limit) this.#from = at; // what was not come to is where the next claim goes on
    return claims;
  }
}

/** Runs whose time has come. */
function timedOf(sql: Sql, agents: readonly string[], now: string): Promise<{ shard: number; id: string }[]> {
  return sql.query(
    `select shard, id from groundcrew.runs where agent = any($1) and timed and due_at is not null and due_at <= ${now}
     order by due_at limit $2`,
    [agents, MAX_PROMOTED],
  );
}

/** The tenants behind the last turn first. */
function fromTurn(found: readonly Found[], last: string): Found[] {
  return [...found.filter(({ tenant }) => tenant > last), ...found.filter(({ tenant }) => tenant <= last)];
}

/** A look from the middle on sees the last tenants alone: they have a turn each, and a second one beside all the others. */
function turnsOf({ tenants }: Look, from: string, wanted: number): number {
  return from === "" ? wanted : Math.min(wanted, tenants.length);
}

/** The next text in the order of the tables: none holds NUL. */
function behind(tenant: string): string {
  return `${tenant}\u0001`;
}

/** From now on they are ready, and take their turn. */
async function promote(tx: Transaction, timed: readonly { shard: number; id: string }[]): Promise<void> {
  for (const some of together(tx, timed)) {
    await tx.write(
      `update groundcrew.runs r set timed = false
       from (select shard, id from groundcrew.runs where ${among(tx, "shard", "id")} and timed and due_at <= ${tx.clock} for update skip locked) d
       where r.shard = d.shard and r.id = d.id${within(tx, "r.shard")}`,
      [column(some, "shard"), column(some, "id")],
    );
  }
}

/**
 * In their order; one that somebody else holds is passed over. The worker's own row is held meanwhile: a worker that is being
 * given up takes nothing more.
 * @throws GroundcrewError `SUPERSEDED`
 */
async function take(tx: Transaction, worker: string, chosen: readonly Found[]): Promise<Claim[]> {
  const holding = tx.query(`select 1 from groundcrew.workers where id = $1 and lease_until > ${tx.clock} for key share`, [worker]);
  const takings = together(tx, chosen).map((some) => takeSome(tx, worker, some));
  const inboxes = ofRuns(tx, column(chosen, "shard"), column(chosen, "id")); // behind the taking: from then on no signal comes in unseen
  const [lease, waiting, ...some] = await Promise.all([holding, inboxes, ...takings]);
  if (lease.length === 0) throw new GroundcrewError("SUPERSEDED", `The lease of worker ${worker} has run out.`);
  const taken = some.flat();
  const signals = Map.groupBy(waiting, ({ run }) => run);
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
     set status = 'running', reason = null, due_at = null, timed = false, worker = $3, epoch = r.epoch + 1, changed_at = ${tx.clock}
     from (select shard, id, worker from groundcrew.runs
           where ${among(tx, "shard", "id")} and ${READY} for update skip locked) d
     where r.shard = d.shard and r.id = d.id${within(tx, "r.shard")}
     returning r.*, d.worker as before`,
    [column(chosen, "shard"), column(chosen, "id"), worker],
  );
}

/** When the next run that waits for a time will be due, for each list of agents. All the runs that end in one commit are reason to ask. */
export async function nextDues(sql: Pick<Sql, "query">, asked: readonly (readonly string[])[]): Promise<(number | null)[]> {
  const agents = [...new Set(asked.flat())];
  const found = await sql.query<{ agent: string; at: number | null }>(
    `select a.agent, n.at from unnest($1::text[]) a (agent)
     cross join lateral (select min(due_at) as at from groundcrew.runs where agent = a.agent and due_at is not null and timed) n`,
    [agents.map(escaped)],
  );
  const next = new Map(found.flatMap(({ agent, at }) => (at === null ? [] : [[agent, at]])));
  return asked.map((names) => {
    const times = names.flatMap((name) => next.get(escaped(name)) ?? []);
    return times.length > 0 ? Math.min(...times) : null;
  });
}
