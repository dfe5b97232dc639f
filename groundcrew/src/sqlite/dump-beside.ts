import type { DatabaseSync } from "node:sqlite";
import type { AuditHead, StoredAudit } from "../persistence/audit.ts";
import { BESIDE, behind, FIRST, headless, type Place, placeOf, type StoredBeside, type StoredUnit } from "../persistence/dump.ts";
import type { Stop } from "../persistence/store.ts";
import { row, rows } from "./row.ts";

type Last = typeof FIRST;
type Row<T> = Record<string, string | number | null> & T;
type StoredDelivery = Omit<Extract<StoredBeside, { kind: "delivery" }>, "kind">;

/** What is no run's, in pieces: by kind, key and number. */
export function openBeside(db: DatabaseSync) {
  const heads = db.prepare("select tenant, seq, hash from audit_heads");
  const lost = db.prepare("select tenant from audit a where not exists (select 1 from audit_heads where tenant = a.tenant) limit 1");
  const audit = db.prepare("select tenant, seq, record, hash from audit where tenant = ? and seq > ? order by seq");
  const deliveries = db.prepare(
    `select id, run, data, created_at as "createdAt", due_at as "dueAt", failures, state, why, ended_at as "endedAt"
     from deliveries where id > ?1 or (id = ?1 and ?2 < 0) order by id`,
  );
  const stops = db.prepare("select agent, why, by, at from stops");

  const after: Record<StoredBeside["kind"], (last: Last) => Generator<StoredBeside>> = {
    *audit(last) {
      const headlessTenant = last.seq < 0 ? row<{ tenant: string }>(lost)?.tenant : undefined;
      if (headlessTenant !== undefined) throw headless(headlessTenant, db.location() ?? "the store");
      for (const { tenant } of behind(rows<Row<AuditHead>>(heads), { ...last, seq: -1 }, (head) => head.tenant)) {
        const records = audit.iterate(tenant, tenant === last.key ? last.seq : 0) as Iterable<StoredAudit>;
        for (const record of records) yield { kind: "audit", ...record };
      }
    },
    *head(last) {
      for (const head of behind(rows<Row<AuditHead>>(heads), last, ({ tenant }) => tenant)) yield { kind: "head", ...head };
    },
    *delivery({ key, seq }) {
      for (const record of deliveries.iterate(key, seq) as Iterable<Row<StoredDelivery>>) yield { kind: "delivery", ...record };
    },
    *stop(last) {
      for (const stop of behind(rows<Row<Stop>>(stops), last, ({ agent }) => agent)) yield { kind: "stop", ...stop };
    },
  };

  const insertAudit = db.prepare("insert or ignore into audit (tenant, seq, record, hash) values (?, ?, ?, ?)");
  const insertHead = db.prepare("insert or ignore into audit_heads (tenant, seq, hash) values (?, ?, ?)");
  const insertDelivery = db.prepare(
    `insert or ignore into deliveries (id, run, data, created_at, due_at, failures, state, why, ended_at)
     values (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const insertStop = db.prepare("insert or ignore into stops (agent, why, by, at) values (?, ?, ?, ?)");

  return {
    *after(from: NonNullable<Place["beside"]>): Generator<[StoredUnit, Place]> {
      for (const kind of BESIDE.slice(BESIDE.indexOf(from.kind))) {
        for (const unit of after[kind](kind === from.kind ? from : FIRST)) yield [unit, placeOf(unit)];
      }
    },

    load(unit: StoredBeside): void {
      if (unit.kind === "audit") insertAudit.run(unit.tenant, unit.seq, unit.record, unit.hash);
      else if (unit.kind === "head") insertHead.run(unit.tenant, unit.seq, unit.hash);
      else if (unit.kind === "stop") insertStop.run(unit.agent, unit.why, unit.by, unit.at);
      else {
        const { id, run, data, createdAt, dueAt, failures, state, why, endedAt } = unit;
        insertDelivery.run(id, run, data, createdAt, dueAt, failures, state, why, endedAt);
      }
    },
  };
}
