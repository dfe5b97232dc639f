import type { DatabaseSync } from "node:sqlite";
import { type Bucket, type Kind, type Room, refill, roomFor, scopeOf } from "../persistence/share.ts";
import type { Quota, Quotas } from "../persistence/store.ts";
import { row, type Transaction } from "./row.ts";

/** What the quotas of one claim leave room for. */
export interface Rooms {
  /** The same object each time; undefined without a quota. */
  of(kind: Kind, name: string): Room | undefined;
  /** Writes down what is left of the rates. */
  close(): void;
}

/** A room with the rate that it was measured by. */
interface Measured {
  room: Room;
  bucket: Bucket | undefined;
  scope: string;
}

/** Only agents and tenants that have a quota cost anything here. */
export function openQuotas(db: DatabaseSync) {
  const atWork = {
    agent: db.prepare("select count(*) as runs from (select 1 from runs where agent = ? and status = 'running' limit ?)"),
    tenant: db.prepare("select count(*) as runs from (select 1 from runs where tenant = ? and status = 'running' limit ?)"),
  };
  const find = db.prepare("select tokens, at from rates where scope = ?");
  const keep = db.prepare("insert or replace into rates (scope, tokens, at) values (?, ?, ?)");

  function measure(tx: Transaction, kind: Kind, name: string, quota: Quota): Measured {
    const { concurrency, rate } = quota;
    const scope = scopeOf(kind, name);
    const before = rate && row<Bucket & Record<string, number>>(find, scope);
    const bucket = rate && refill(before, rate, tx.now);
    if (before && bucket && before.at > tx.now) keep.run(scope, bucket.tokens, bucket.at); // or a clock that jumped back would fill nothing for long
    const runs = concurrency === undefined ? 0 : (row<{ runs: number }>(atWork[kind], name, concurrency)?.runs ?? 0);
    return { room: roomFor(quota, runs, bucket), bucket, scope };
  }

  return (tx: Transaction, quotas: Quotas | undefined): Rooms => {
    const measured: Record<Kind, Map<string, Measured | undefined>> = { agent: new Map(), tenant: new Map() };
    return {
      of(kind, name) {
        const known = measured[kind];
        if (!known.has(name)) {
          const quota = quotas?.[kind](name);
          known.set(name, quota && measure(tx, kind, name, quota));
        }
        return known.get(name)?.room;
      },

      close() {
        for (const { room, bucket, scope } of [...measured.agent.values(), ...measured.tenant.values()].flatMap((one) => one ?? [])) {
          if (bucket && room.starts < bucket.tokens) keep.run(scope, room.starts, bucket.at);
        }
      },
    };
  };
}
