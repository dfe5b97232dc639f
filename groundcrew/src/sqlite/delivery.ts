import type { DatabaseSync } from "node:sqlite";
import { runOfNews } from "../persistence/approval.ts";
import { type Delivery, type DeliveryOutcome, deliveryKey, type NewDelivery } from "../persistence/delivery.ts";
import { row, rows, type Transaction } from "./row.ts";

type Stored = { id: string; data: string; created_at: number; failures: number };

export type Deliveries = ReturnType<typeof openDeliveries>;

/** What is to be told outside, and has not arrived. */
export function openDeliveries(db: DatabaseSync) {
  const insert = db.prepare("insert or ignore into deliveries (id, run, data, created_at, due_at) values (?1, ?2, ?3, ?4, ?4)");
  const due = db.prepare("select id, data, created_at, failures from deliveries where due_at <= ? order by due_at, id limit ?");
  const hold = db.prepare("update deliveries set due_at = ? where id = ?");
  const wait = db.prepare("update deliveries set due_at = ?2, failures = failures + ?4, why = ?3 where id = ?1 and due_at is not null");
  const end = db.prepare("update deliveries set due_at = null, state = ?2, why = ?3, ended_at = ?4 where id = ?1 and due_at is not null");
  const first = db.prepare("select min(due_at) as at from deliveries where due_at is not null");

  return {
    add(tx: Transaction, news: readonly NewDelivery[]): void {
      for (const one of news) insert.run(deliveryKey(one.id), runOfNews(one), JSON.stringify(one), tx.now);
      if (news.length > 0) tx.told = true;
    },

    take(tx: Transaction, limit: number, leaseMs: number): Delivery[] {
      return rows<Stored>(due, tx.now, limit).map(({ id, data, created_at, failures }) => {
        hold.run(tx.now + leaseMs, id);
        return { ...(JSON.parse(data) as NewDelivery), createdAt: created_at, failures };
      });
    },

    /** @returns whether it was still to be settled. */
    settle(tx: Transaction, id: string, outcome: DeliveryOutcome): boolean {
      const key = deliveryKey(id);
      if (outcome.state === "waiting") return wait.run(key, outcome.at, outcome.why, outcome.isUntried ? 0 : 1).changes > 0;
      return end.run(key, outcome.state, outcome.state === "dead" ? outcome.why : null, tx.now).changes > 0;
    },

    next: (): number | null => row<{ at: number | null }>(first)?.at ?? null,
  };
}
