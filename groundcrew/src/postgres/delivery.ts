/** What is to be told outside, and has not arrived: `deliveries_due` across the shards, then a lock inside each. */
import { runOfNews } from "../persistence/approval.ts";
import { type Delivery, type DeliveryOutcome, deliveryKey, type NewDelivery } from "../persistence/delivery.ts";
import { shardOf, shardOfRun } from "../persistence/id.ts";
import { among, column, escaped, type Sql, type Transaction, together } from "./row.ts";

interface Stored {
  shard: number;
  id: string;
  data: string;
  created_at: number;
  was_due_at: number;
  failures: number;
}

/** With the run that it is about, where there is one. */
export function shardOfNews(news: NewDelivery): number {
  const run = runOfNews(news);
  return run === null ? shardOf(news.tenant) : shardOfRun(run);
}

export async function addDeliveries(tx: Transaction, news: readonly NewDelivery[]): Promise<void> {
  if (news.length === 0) return;
  const rows = news.map((one) => {
    const run = runOfNews(one);
    return { shard: shardOfNews(one), id: deliveryKey(one.id), run: run === null ? null : escaped(run), data: JSON.stringify(one) };
  });
  rows.sort((a, b) => a.shard - b.shard || (a.id < b.id ? -1 : 1));
  await tx.begun;
  await tx.query(
    `insert into groundcrew.deliveries (shard, id, run, data, created_at, due_at)
     select a.*, $5::bigint, $5::bigint from unnest($1::smallint[], $2::text[], $3::text[], $4::text[]) as a on conflict (shard, id) do nothing`,
    [column(rows, "shard"), column(rows, "id"), column(rows, "run"), column(rows, "data"), tx.now],
  );
  tx.due = true;
}

/** Looks without locks, then takes what nobody else has taken since. */
export async function takeDeliveries(tx: Transaction, limit: number, leaseMs: number): Promise<Delivery[]> {
  const due = await tx.query<{ shard: number; id: string }>(
    "select shard, id from groundcrew.deliveries where due_at <= $1 order by due_at, id limit $2",
    [tx.now, limit],
  );
  const taken: Stored[] = [];
  for (const some of together(tx, due)) {
    const held = await tx.query<Stored>(
      `update groundcrew.deliveries d set due_at = $4 from (
         select shard, id, due_at from groundcrew.deliveries where ${among(tx, "shard", "id")} and due_at <= $3 for update skip locked
       ) free where d.shard = free.shard and d.id = free.id
       returning d.shard, d.id, d.data, d.created_at, d.failures, free.due_at as was_due_at`,
      [column(some, "shard"), column(some, "id"), tx.now, tx.now + leaseMs],
    );
    taken.push(...held);
  }
  taken.sort((a, b) => a.was_due_at - b.was_due_at || (a.id < b.id ? -1 : 1));
  return taken.map(({ data, created_at, failures }) => ({ ...(JSON.parse(data) as NewDelivery), createdAt: created_at, failures }));
}

/** @returns whether it was still to be settled. */
export async function settleDelivery(tx: Transaction, id: string, outcome: DeliveryOutcome): Promise<boolean> {
  const key = deliveryKey(id);
  const [found] = await tx.query<{ shard: number }>("select shard from groundcrew.deliveries where id = $1 and due_at is not null", [key]);
  if (!found) return false;
  const isWaiting = outcome.state === "waiting";
  const written = await tx.write(
    `update groundcrew.deliveries set due_at = $3, failures = failures + $4, state = $5, why = $6, ended_at = $7
     where shard = $1 and id = $2 and due_at is not null`,
    [
      found.shard,
      key,
      isWaiting ? outcome.at : null,
      isWaiting && !outcome.isUntried ? 1 : 0,
      isWaiting ? null : outcome.state,
      outcome.state === "sent" ? null : escaped(outcome.why.toWellFormed()),
      isWaiting ? null : tx.now,
    ],
  );
  return written > 0;
}

export async function nextDelivery(sql: Pick<Sql, "query">): Promise<number | null> {
  const [found] = await sql.query<{ at: number | null }>("select min(due_at) as at from groundcrew.deliveries where due_at is not null");
  return found?.at ?? null;
}
