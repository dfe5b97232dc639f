import type { DatabaseSync } from "node:sqlite";
import { BREAKER_MEMORY_MS, MAX_BREAKERS } from "../limits.ts";
import { type Breaker, checkBreaker, unknownBreaker } from "../persistence/store.ts";
import { row, rows, type Transaction } from "./row.ts";

type BreakerRecord = Record<string, string | number> & Breaker;

/** What all workers know of what they call. */
export function openBreakers(db: DatabaseSync) {
  const columns = "key, version, state, until, trips, why, opened, by";
  const notClosed = db.prepare(`select ${columns} from breakers where state <> 'closed' order by key limit ?`);
  const find = db.prepare(`select ${columns} from breakers where key = ?`);
  const keep = db.prepare(`insert or replace into breakers (${columns}) values (?, ?, ?, ?, ?, ?, ?, ?)`);
  const forget = db.prepare("delete from breakers where state = 'closed' and until < ?");
  const makeRoom = db.prepare(`delete from breakers where key in (
    select key from breakers where key <> ? order by state = 'closed', until desc, key limit -1 offset ?)`);

  return {
    notClosed: (): Breaker[] => rows<BreakerRecord>(notClosed, MAX_BREAKERS).map((record) => ({ ...record })),

    turn(tx: Transaction, next: Breaker): Breaker {
      checkBreaker(next);
      const { key, version, state, until, trips, why, opened, by } = next;
      const found = row<BreakerRecord>(find, key);
      if (version !== (found?.version ?? 0) + 1) return found ? { ...found } : unknownBreaker(key);
      keep.run(key, version, state, until, trips, why, opened, by);
      if (!found) {
        forget.run(tx.now - BREAKER_MEMORY_MS);
        makeRoom.run(key, MAX_BREAKERS - 1);
      }
      return next;
    },
  };
}
