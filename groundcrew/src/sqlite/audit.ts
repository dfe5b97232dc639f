import type { DatabaseSync } from "node:sqlite";
import { type AuditEntry, type AuditHead, byTenant, chain, GENESIS, type StoredAudit } from "../persistence/audit.ts";
import { row, rows, type Transaction } from "./row.ts";

type HeadRecord = Record<string, string | number> & AuditHead;
type StoredRecord = Record<string, string | number> & StoredAudit;

export type AuditLog = ReturnType<typeof openAudit>;

/** A chain of records for each tenant. @param key makes it an HMAC */
export function openAudit(db: DatabaseSync, key: string | undefined) {
  const head = db.prepare("select tenant, seq, hash from audit_heads where tenant = ?");
  const heads = db.prepare("select tenant, seq, hash from audit_heads order by tenant");
  const keepHead = db.prepare("insert or replace into audit_heads (tenant, seq, hash) values (?, ?, ?)");
  const insert = db.prepare("insert into audit (tenant, seq, record, hash) values (?, ?, ?, ?)");
  const page = db.prepare("select tenant, seq, record, hash from audit where tenant = ? and seq > ? order by seq limit ?");

  return {
    /** In the transaction of what they are about. */
    append(tx: Transaction, entries: readonly AuditEntry[]): void {
      for (const [tenant, its] of byTenant(entries)) {
        const before = row<HeadRecord>(head, tenant) ?? { tenant, seq: 0, hash: GENESIS };
        const links = chain(before, its, tx.now, key);
        for (const link of links) insert.run(tenant, link.seq, link.record, link.hash);
        const last = links.at(-1);
        if (last) keepHead.run(tenant, last.seq, last.hash);
      }
    },

    page: (tenant: string, after: number, limit: number): StoredAudit[] =>
      rows<StoredRecord>(page, tenant, after, limit).map((record) => ({ ...record })),
    /** @param tenant default: all of them */
    heads(tenant?: string): AuditHead[] {
      const found = tenant === undefined ? rows<HeadRecord>(heads) : rows<HeadRecord>(head, tenant);
      return found.map((record) => ({ ...record }));
    },
  };
}
