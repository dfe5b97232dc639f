/** The audit log: a chain of records for each tenant, down `audit_pkey`. Who appends holds the tenant's head, always as the last lock. */
import { type AuditEntry, type AuditHead, byTenant, chain, GENESIS, type StoredAudit } from "../persistence/audit.ts";
import { shardOf } from "../persistence/id.ts";
import { column, escaped, type Sql, type Transaction, unescaped } from "./row.ts";

/** In the transaction of what they are about. Nothing that locks may come behind it. */
export async function appendAudit(tx: Transaction, entries: readonly AuditEntry[], key: string | undefined): Promise<void> {
  if (entries.length === 0) return;
  const chains = [...byTenant(entries)].map(([tenant, its]) => ({ shard: shardOf(tenant), tenant, its }));
  chains.sort((a, b) => a.shard - b.shard || (a.tenant < b.tenant ? -1 : 1));
  await tx.begun;
  const links: (StoredAudit & { shard: number })[] = [];
  for (const { shard, tenant, its } of chains) {
    const [head] = await tx.query<AuditHead>(HOLD, [shard, escaped(tenant), GENESIS]); // one by one: their order is the order of the locks
    const before = { tenant, seq: head?.seq ?? 0, hash: head?.hash ?? GENESIS };
    links.push(...chain(before, its, tx.now, key).map((link) => ({ ...link, shard })));
  }
  const last = [...new Map(links.map((link) => [link.tenant, link])).values()];
  await Promise.all([
    tx.write(
      `insert into groundcrew.audit (shard, tenant, seq, record, hash)
       select * from unnest($1::smallint[], $2::text[], $3::bigint[], $4::text[], $5::text[])`,
      [
        column(links, "shard"),
        links.map(({ tenant }) => escaped(tenant)),
        column(links, "seq"),
        column(links, "record"),
        column(links, "hash"),
      ],
    ),
    tx.write(
      `update groundcrew.audit_heads h set seq = a.seq, hash = a.hash
       from unnest($1::smallint[], $2::text[], $3::bigint[], $4::text[]) as a (shard, tenant, seq, hash)
       where h.shard = a.shard and h.tenant = a.tenant`,
      [column(last, "shard"), last.map(({ tenant }) => escaped(tenant)), column(last, "seq"), column(last, "hash")],
    ),
  ]);
}

/** Makes the head where there is none, and locks it. */
const HOLD = `insert into groundcrew.audit_heads (shard, tenant, seq, hash) values ($1, $2, 0, $3)
  on conflict (shard, tenant) do update set seq = audit_heads.seq returning seq, hash`;

export async function auditPage(sql: Pick<Sql, "query">, tenant: string, after: number, limit: number): Promise<StoredAudit[]> {
  const found = await sql.query<StoredAudit>(
    "select tenant, seq, record, hash from groundcrew.audit where shard = $1 and tenant = $2 and seq > $3 order by seq limit $4",
    [shardOf(tenant), escaped(tenant), after, limit],
  );
  return found.map((record) => ({ ...record, tenant: unescaped(record.tenant) }));
}

/** @param tenant default: all of them */
export async function auditHeads(sql: Pick<Sql, "query">, tenant?: string): Promise<AuditHead[]> {
  const text = "select tenant, seq, hash from groundcrew.audit_heads";
  const found =
    tenant === undefined
      ? await sql.query<AuditHead>(`${text} order by tenant`)
      : await sql.query<AuditHead>(`${text} where shard = $1 and tenant = $2`, [shardOf(tenant), escaped(tenant)]);
  return found.map((head) => ({ ...head, tenant: unescaped(head.tenant) }));
}
