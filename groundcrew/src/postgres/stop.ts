/** What an operator has stopped. The table is small and hardly ever written: it is not spread by shard. */
import type { Stop } from "../persistence/store.ts";
import { escaped, key, type Sql, type Transaction, unescaped } from "./row.ts";

export async function allStops(sql: Pick<Sql, "query">): Promise<Stop[]> {
  const found = await sql.query<Stop>("select agent, why, by, at from groundcrew.stops order by agent");
  return found.map(({ agent, why, by, at }) => ({ agent: unescaped(agent), why: unescaped(why), by: unescaped(by), at }));
}

export async function setStop(tx: Transaction, { agent, why, by }: Omit<Stop, "at">): Promise<void> {
  await tx.write(
    `insert into groundcrew.stops (agent, why, by, at) values ($1, $2, $3, $4)
     on conflict (agent) do update set why = excluded.why, by = excluded.by, at = excluded.at`,
    [key(agent, "agent"), escaped(why.toWellFormed()), escaped(by.toWellFormed()), tx.now],
  );
  tx.due = true;
}

/** @returns whether it was stopped. */
export async function liftStop(tx: Transaction, agent: string): Promise<boolean> {
  const wasStopped = (await tx.write("delete from groundcrew.stops where agent = $1", [escaped(agent)])) > 0;
  if (wasStopped) tx.due = true;
  return wasStopped;
}
