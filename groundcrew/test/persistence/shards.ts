/**
 * What may be said to tables that are spread over machines by their shard. A statement names the shard of every hot table that
 * it mentions, or is one of the few that look over all shards; and those lock no row, which such tables refuse.
 */
const HOT = [
  ...["runs", "sessions", "events", "chunks", "signals", "starts", "blobs", "blob_refs"],
  ...["approvals", "audit", "audit_heads", "deliveries"],
];

const ACROSS = {
  "a look for what is due": /^(with recursive fresh|select) .*\bdue_at is not null\b/,
  "a list, down its index": /^select \* from groundcrew\.(runs|sessions) .*order by (id|active_at)\b.* limit \$\d+$/,
  "what a worker holds": /\bworker = \$1\b/,
  "what anybody holds": /^select shard, id, worker from groundcrew\.runs where worker is not null/,
  "how much is at work": /^select agent, tenant, count\(\*\).* where worker is not null/,
  "a look for what a sweep may take": /^select shard.* (finished_at|active_at) < \$1 .* limit \$5$/,
  "what a run refers to, in the shards of the keys": /groundcrew\.(blob_refs|starts)\b.* where (b\.)?run = any\(\$1\)/,
  "an inbox, down its index": /^select data from groundcrew\.approvals where .*order by requested_at desc, id desc limit \$\d+$/,
  "where the chains end": /^select tenant, seq, hash from groundcrew\.audit_heads order by tenant$/,
  "news that is due": /^select (shard, id|min\(due_at\) as at) from groundcrew\.deliveries where due_at (<= \$1|is not null)/,
  "news by its name": /^select shard from groundcrew\.deliveries where id = \$1 and due_at is not null$/,
  "news that a sweep takes": /^select shard, id from groundcrew\.deliveries where ended_at < \$1/,
  "a page of a dump, of news": /^select id, run, data, .* from groundcrew\.deliveries where id >=? \$1 order by id limit \$2$/,
  "records that no head leads to": /^select a\.tenant from groundcrew\.audit a where not exists .* limit 1$/,
  "a page of a dump": /octet_length\(e\.data\).* limit \$\d+$/,
};

/** Each hot table that is mentioned without its shard, with the statement. */
export function unsharded(statements: Iterable<string>): string[] {
  return hotOnes(statements).filter((sql) => !namesShards(sql) && !Object.values(ACROSS).some((known) => known.test(sql)));
}

/** Statements that lock rows without naming the shard. */
export function lockingAcross(statements: Iterable<string>): string[] {
  return hotOnes(statements).filter((sql) => !namesShards(sql) && /\bfor (no key )?(update|share)\b|\bfor key share\b/.test(sql));
}

/** The hot tables that these write to. */
export function writtenTables(statements: Iterable<string>): string[] {
  return HOT.filter((table) =>
    [...statements].some((sql) => new RegExp(`\\b(into|update|delete from) groundcrew\\.${table}\\b`).test(sql)),
  );
}

export const hotTables: readonly string[] = HOT;

function hotOnes(statements: Iterable<string>): string[] {
  const all = [...statements].map((sql) => sql.replaceAll(/\s+/g, " ").trim());
  return [...new Set(all)].filter((sql) => mentions(sql) > 0);
}

function mentions(sql: string): number {
  return sql.match(new RegExp(`\\bgroundcrew\\.(${HOT.join("|")})\\b`, "g"))?.length ?? 0;
}

/** As many conditions on a shard as tables, where rows that are inserted bring theirs with them. */
function namesShards(sql: string): boolean {
  const conditions = sql.match(/\bshard = /g)?.length ?? 0;
  const inserted = /^(with w as \()?insert into groundcrew\.\w+ \(shard,/.test(sql) ? 1 : 0;
  return mentions(sql) <= conditions + inserted;
}
