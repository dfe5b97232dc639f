/** What quotas leave room for. Claims under quotas go one after the other: what the one before has taken is counted. */
import { type Bucket, type Kind, type Room, refill, roomFor, scopeOf } from "../persistence/share.ts";
import type { Quota, Quotas } from "../persistence/store.ts";
import { type Transaction, unescaped } from "./row.ts";

/** A room with the rate that it was measured by. */
interface Measured {
  room: Room;
  bucket: Bucket | undefined;
  /** Whether the bucket has to be written down, whatever was used of it. */
  isOff: boolean;
}

/** How many runs of a tenant an agent is at work on. */
interface AtWork {
  agent: string;
  tenant: string;
  runs: number;
}

export class Rooms {
  readonly #tx: Transaction;
  readonly #quotas: Quotas;
  readonly #atWork: readonly AtWork[];
  readonly #measured = new Map<string, Measured | null>();

  private constructor(tx: Transaction, quotas: Quotas, atWork: readonly AtWork[]) {
    this.#tx = tx;
    this.#quotas = quotas;
    this.#atWork = atWork;
  }

  static async open(tx: Transaction, quotas: Quotas): Promise<Rooms> {
    await tx.query("lock table groundcrew.rates in share row exclusive mode"); // held to the end of the claim; readers go on
    const atWork = await tx.query<AtWork>(
      "select agent, tenant, count(*) as runs from groundcrew.runs where worker is not null and status = 'running' group by agent, tenant",
    );
    return new Rooms(tx, quotas, atWork);
  }

  /** To be called before `of` is asked about them. @param names as the tables hold them. */
  async measure(kind: Kind, names: readonly string[]): Promise<void> {
    const fresh = [...new Set(names)].filter((name) => !this.#measured.has(scopeOf(kind, name)));
    const limited = fresh.flatMap((name) => {
      const quota = this.#quotas[kind](unescaped(name));
      return quota ? { name, scope: scopeOf(kind, name), quota } : [];
    });
    for (const name of fresh) this.#measured.set(scopeOf(kind, name), null);
    const rated = limited.filter(({ quota }) => quota.rate).map(({ scope }) => scope);
    const rows =
      rated.length === 0
        ? []
        : await this.#tx.query<Bucket & { scope: string }>("select scope, tokens, at from groundcrew.rates where scope = any($1)", [rated]);
    const buckets = new Map(rows.map((row) => [row.scope, row]));
    for (const { name, scope, quota } of limited) this.#measured.set(scope, this.#measureOne(kind, name, quota, buckets.get(scope)));
  }

  #measureOne(kind: Kind, name: string, quota: Quota, before: Bucket | undefined): Measured {
    const bucket = quota.rate && refill(before, quota.rate, this.#tx.now);
    const runs = this.#atWork.reduce((sum, row) => sum + (row[kind] === name ? row.runs : 0), 0);
    // A bucket from before the clock jumped back would be filled with nothing for long.
    return { room: roomFor(quota, runs, bucket), bucket, isOff: before !== undefined && before.at > this.#tx.now };
  }

  /** The same object each time; undefined without a quota. */
  readonly of = (kind: Kind, name: string): Room | undefined => this.#measured.get(scopeOf(kind, name))?.room;

  /** Writes down what is left of the rates. */
  async close(): Promise<void> {
    const left = [...this.#measured].flatMap(([scope, measured]) => {
      if (!measured?.bucket || (measured.room.starts >= measured.bucket.tokens && !measured.isOff)) return [];
      return { scope, tokens: measured.room.starts, at: measured.bucket.at };
    });
    if (left.length === 0) return;
    await this.#tx.write(
      `insert into groundcrew.rates (scope, tokens, at) select * from unnest($1::text[], $2::double precision[], $3::bigint[])
       on conflict (scope) do update set tokens = excluded.tokens, at = excluded.at`,
      [left.map(({ scope }) => scope), left.map(({ tokens }) => tokens), left.map(({ at }) => at)],
    );
  }
}
