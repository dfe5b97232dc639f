/** What all workers know of what they call. The table is small and written only in trouble: it is not spread by shard. */
import { BREAKER_MEMORY_MS, MAX_BREAKERS } from "../limits.ts";
import { type Breaker, checkBreaker, unknownBreaker } from "../persistence/store.ts";
import { escaped, type Sql, type Transaction, unescaped } from "./row.ts";

const COLUMNS = "key, version, state, until, trips, why, opened, by";

export async function notClosed(sql: Pick<Sql, "query">): Promise<Breaker[]> {
  const found = await sql.query<Breaker>(
    `select ${COLUMNS} from groundcrew.breakers where state <> 'closed' order by key limit ${MAX_BREAKERS}`,
  );
  return found.map(toBreaker);
}

/** The statement that writes is the check: of many who come with the same version the row's lock lets one through. */
export async function turn(tx: Transaction, next: Breaker): Promise<Breaker> {
  checkBreaker(next);
  const { version, state, until, trips, opened, by } = next;
  const values = [escaped(next.key), version, state, until, trips, escaped(next.why), opened, by];
  const isNew = version === 1;
  const written = await tx.write(isNew ? INSERT : UPDATE, values);
  if (written === 1 && isNew) await makeRoom(tx, values[0] as string);
  if (written === 1) return next;
  const [found] = await tx.query<Breaker>(`select ${COLUMNS} from groundcrew.breakers where key = $1`, [values[0]]);
  return found ? toBreaker(found) : unknownBreaker(next.key);
}

const INSERT = `insert into groundcrew.breakers (${COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (key) do nothing`;

const UPDATE = `update groundcrew.breakers set version = $2, state = $3, until = $4, trips = $5, why = $6, opened = $7, by = $8
  where key = $1 and version = $2 - 1`;

/** Passes by what somebody else has locked: that one is not to be forgotten, or is already. */
async function makeRoom(tx: Transaction, key: string): Promise<void> {
  await tx.write(
    `delete from groundcrew.breakers where key in (
       select key from groundcrew.breakers where key <> $1 and (state = 'closed' and until < $2 or key in (
         select key from groundcrew.breakers where key <> $1 order by state = 'closed', until desc, key offset $3))
       for update skip locked)`,
    [key, tx.now - BREAKER_MEMORY_MS, MAX_BREAKERS - 1],
  );
}

function toBreaker(found: Breaker): Breaker {
  return { ...found, key: unescaped(found.key), why: unescaped(found.why) };
}
