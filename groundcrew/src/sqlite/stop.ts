import type { DatabaseSync } from "node:sqlite";
import type { Stop } from "../persistence/store.ts";
import { key, rows, type Transaction } from "./row.ts";

type StopRecord = Record<string, string | number> & Stop;

/** What an operator has stopped. */
export function openStops(db: DatabaseSync) {
  const all = db.prepare("select agent, why, by, at from stops order by agent");
  const set = db.prepare("insert or replace into stops (agent, why, by, at) values (?, ?, ?, ?)");
  const lift = db.prepare("delete from stops where agent = ?");

  return {
    all: (): Stop[] => rows<StopRecord>(all).map((record) => ({ ...record })),

    set(tx: Transaction, { agent, why, by }: Omit<Stop, "at">): void {
      set.run(key(agent, "agent"), why, by, tx.now);
      tx.told = true;
    },

    lift(tx: Transaction, agent: string): boolean {
      const wasSet = lift.run(agent).changes > 0;
      if (wasSet) tx.told = true;
      return wasSet;
    },
  };
}
