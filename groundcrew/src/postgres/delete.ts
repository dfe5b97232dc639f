/** What a sweep takes away, table by table. The runs and sessions are locked: nobody can add to what is theirs. */
import { among, column, shardsOf, type Transaction, together } from "./row.ts";

export interface RunKey {
  shard: number;
  id: string;
}

export interface SessionKey extends RunKey {
  tenant: string;
}

interface BlobKey {
  shard: number;
  hash: string;
}

/** With all that is theirs. @returns how many blobs went with them. */
export async function deleteRuns(tx: Transaction, runs: readonly RunKey[]): Promise<number> {
  for (const table of ["events", "chunks", "signals", "approvals"]) await deleteOf(tx, table, "run", runs);
  await deleteNews(tx, runs);
  await tx.write("delete from groundcrew.starts where run = any($1)", [column(runs, "id")]);
  const blobs = await deleteRefs(tx, runs);
  await deleteOf(tx, "runs", "id", runs);
  return deleteBlobs(tx, blobs);
}

export async function deleteChunks(tx: Transaction, runs: readonly RunKey[]): Promise<void> {
  await deleteOf(tx, "chunks", "run", runs);
  for (const some of together(tx, runs)) {
    await tx.write(
      `update groundcrew.runs set streamed = false
       where shard = any($1) and (shard, id) in (select * from unnest($2::smallint[], $3::text[]))`,
      [shardsOf(some), column(some, "shard"), column(some, "id")],
    );
  }
}

export async function deleteSessions(tx: Transaction, sessions: readonly SessionKey[]): Promise<void> {
  for (const some of together(tx, sessions)) {
    await tx.write(
      `delete from groundcrew.sessions
       where shard = any($1) and (shard, tenant, id) in (select * from unnest($2::smallint[], $3::text[], $4::text[]))`,
      [shardsOf(some), column(some, "shard"), column(some, "tenant"), column(some, "id")],
    );
  }
}

/** What of their news has arrived or was given up. The rest is still to be told, and is nobody's from here on. Relies on `deliveries_run`. */
async function deleteNews(tx: Transaction, runs: readonly RunKey[]): Promise<void> {
  for (const some of together(tx, runs)) {
    const these = [shardsOf(some), column(some, "shard"), column(some, "id")];
    const where = "shard = any($1) and (shard, run) in (select * from unnest($2::smallint[], $3::text[]))";
    await tx.write(`delete from groundcrew.deliveries where ${where} and due_at is null`, these);
    await tx.write(`update groundcrew.deliveries set run = null where ${where}`, these);
  }
}

/** Nobody's news that has arrived, or was given up, before `bound`: what another sweep does not hold. Relies on `deliveries_ended`. */
export async function deleteOldNews(tx: Transaction, bound: number, limit: number): Promise<void> {
  const old = await tx.query<RunKey>(
    "select shard, id from groundcrew.deliveries where ended_at < $1 and ended_at is not null and run is null order by ended_at limit $2",
    [bound, limit],
  );
  for (const some of together(tx, old)) {
    await tx.write(
      `delete from groundcrew.deliveries d using (
         select shard, id from groundcrew.deliveries where ${among(tx, "shard", "id")} for update skip locked
       ) free where d.shard = free.shard and d.id = free.id`,
      [column(some, "shard"), column(some, "id")],
    );
  }
}

/** How many blobs nobody else refers to. Relies on `blob_refs_run`. */
export async function countBlobs(tx: Transaction, runs: readonly RunKey[]): Promise<number> {
  const [found] = await tx.query<{ n: number }>(
    `select count(*)::int as n from (
       select from groundcrew.blob_refs b where run = any($1) group by shard, hash
       having count(*) = (select count(*) from groundcrew.blob_refs where shard = b.shard and hash = b.hash)) last`,
    [column(runs, "id")],
  );
  return found?.n ?? 0;
}

async function deleteOf(tx: Transaction, table: string, name: string, runs: readonly RunKey[]): Promise<void> {
  for (const some of together(tx, runs)) {
    await tx.write(
      `delete from groundcrew.${table}
       where shard = any($1) and (shard, ${name}) in (select * from unnest($2::smallint[], $3::text[]))`,
      [shardsOf(some), column(some, "shard"), column(some, "id")],
    );
  }
}

/** @returns the blobs that were referred to, in the order in which all who write lock them. */
async function deleteRefs(tx: Transaction, runs: readonly RunKey[]): Promise<BlobKey[]> {
  const refs = await tx.query<BlobKey>("delete from groundcrew.blob_refs where run = any($1) returning shard, hash", [column(runs, "id")]);
  const blobs = new Map(refs.map((ref) => [ref.hash, ref]));
  return [...blobs.values()].sort((a, b) => a.shard - b.shard || (a.hash < b.hash ? -1 : 1));
}

/**
 * Those without any reference left. Who writes a blob locks its row, and refers to it afterwards: a lock that was waited for
 * shows the reference to the statement behind it.
 */
async function deleteBlobs(tx: Transaction, blobs: readonly BlobKey[]): Promise<number> {
  let deleted = 0;
  for (const some of together(tx, blobs)) {
    const these = [shardsOf(some), column(some, "shard"), column(some, "hash")];
    const where = "shard = any($1) and (shard, hash) in (select * from unnest($2::smallint[], $3::text[]))";
    await tx.query(`select from groundcrew.blobs where ${where} order by shard, hash for update`, these);
    deleted += await tx.write(
      `delete from groundcrew.blobs b where ${where}
       and not exists (select from groundcrew.blob_refs where shard = b.shard and hash = b.hash)`,
      these,
    );
  }
  return deleted;
}
