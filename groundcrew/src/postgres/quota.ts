/** What quotas leave room for. Claims that share a quota go one after the other: its row is held until their end. */
import { type Bucket, type Candidate, type Room, refill, roomFor } from "../persistence/share.ts";
import type { Quota, Quotas } from "../persistence/store.ts";
import { type Transaction, unescaped } from "./row.ts";

type Kind = "agent" | "tenant";

interface Scope {
  name: string;
  kind: Kind;
  quota: Quota;
}

interface AtWork {
  agent: string;
  tenant: string;
  runs: number;
}

export class Rooms {
  readonly #tx: Transaction;
  readonly #scopes: Scope[];
  readonly #rooms: Map<string, Room>;
  readonly #buckets: Map<string, Bucket>;

  private constructor(tx: Transaction, scopes: Scope[], rooms: Map<string, Room>, buckets: Map<string, Bucket>) {
    this.#tx = tx;
    this.#scopes = scopes;
    this.#rooms = rooms;
    this.#buckets = buckets;
  }

  static async open(tx: Transaction, candidates: readonly Candidate[], quotas: Quotas): Promise<Rooms> {
    const scopes = [...scopesOf(candidates, quotas, "agent"), ...scopesOf(candidates, quotas, "tenant")];
    if (scopes.length === 0) return new Rooms(tx, scopes, new Map(), new Map());
    const keys = scopes.map(keyOf).sort();
    await tx.write("insert into groundcrew.quotas (scope) select * from unnest($1::text[]) on conflict do nothing", [keys]);
    const rows = await tx.query<{ scope: string; tokens: number | null; at: number | null }>(
      "select scope, tokens, at from groundcrew.quotas where scope = any($1) order by scope for update",
      [keys],
    );
    // Asked behind the lock: what the claim before has taken is counted.
    const atWork = await tx.query<AtWork>(
      "select agent, tenant, count(*) as runs from groundcrew.runs where worker is not null and due_at is null group by agent, tenant",
    );
    const stored = new Map(rows.map(({ scope, tokens, at }) => [scope, tokens === null || at === null ? undefined : { tokens, at }]));
    const buckets = new Map<string, Bucket>();
    const rooms = new Map<string, Room>();
    for (const scope of scopes) {
      const key = keyOf(scope);
      const bucket = scope.quota.rate && refill(stored.get(key), scope.quota.rate, tx.now);
      if (bucket) buckets.set(key, bucket);
      const runs = atWork.reduce((sum, row) => sum + (row[scope.kind] === scope.name ? row.runs : 0), 0);
      rooms.set(key, roomFor(scope.quota, runs, bucket));
    }
    return new Rooms(tx, scopes, rooms, buckets);
  }

  of(kind: Kind, name: string): Room | undefined {
    return this.#rooms.get(keyOf({ kind, name }));
  }

  /** Writes down what the runs that were taken have used of the rates. */
  async close(taken: readonly { agent: string; tenant: string; epoch: number }[]): Promise<void> {
    const used = this.#scopes.flatMap((scope) => {
      const bucket = this.#buckets.get(keyOf(scope));
      const starts = taken.filter((run) => run[scope.kind] === scope.name && run.epoch === 1).length;
      return bucket ? { scope: keyOf(scope), tokens: bucket.tokens - starts, at: bucket.at } : [];
    });
    if (used.length === 0) return;
    await this.#tx.write(
      `update groundcrew.quotas q set tokens = a.tokens, at = a.at
       from unnest($1::text[], $2::double precision[], $3::bigint[]) as a (scope, tokens, at) where q.scope = a.scope`,
      [used.map(({ scope }) => scope), used.map(({ tokens }) => tokens), used.map(({ at }) => at)],
    );
  }
}

function keyOf({ kind, name }: { kind: Kind; name: string }): string {
  return `${kind} ${name}`;
}

function scopesOf(candidates: readonly Candidate[], quotas: Quotas, kind: Kind): Scope[] {
  return [...new Set(candidates.map((one) => one[kind]))].flatMap((name) => {
    const quota = quotas[kind](unescaped(name));
    return quota && (quota.concurrency !== undefined || quota.rate) ? { kind, name, quota } : [];
  });
}
