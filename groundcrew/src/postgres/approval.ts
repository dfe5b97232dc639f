/** Requests for somebody's agreement: `approvals_pkey` for one; for lists `approvals_inbox`, `_tenant`, `_status`, `_all` and `_run`. */
import {
  type Amended,
  type Amendment,
  type ApprovalFilter,
  type ApprovalRow,
  approvalNotFound,
  cancelled,
  cancelledEntry,
  changed,
  isApprovalId,
  runOfApproval,
} from "../persistence/approval.ts";
import { shardOfRun } from "../persistence/id.ts";
import { noPlace } from "../persistence/page.ts";
import { type Aside, isTerminal } from "../persistence/store.ts";
import { appendAudit } from "./audit.ts";
import { addDeliveries } from "./delivery.ts";
import { lock, put } from "./inbox.ts";
import { column, escaped, key, type Sql, type Transaction } from "./row.ts";

interface Stored {
  data: string;
}

const ONE = "select data from groundcrew.approvals where shard = $1 and id = $2";

export async function findApproval(sql: Pick<Sql, "query">, id: string): Promise<ApprovalRow | null> {
  if (!isApprovalId(id)) return null;
  const [found] = await sql.query<Stored>(ONE, placeOf(id));
  return found ? (JSON.parse(found.data) as ApprovalRow) : null;
}

function placeOf(id: string): [number, string] {
  return [shardOfRun(runOfApproval(id)), escaped(id)];
}

/** What runs write beside their journals; in one transaction with these, whose rows are held by now. */
export async function writeAsides(tx: Transaction, asides: readonly Aside[], auditKey: string | undefined): Promise<void> {
  const opens = asides.flatMap((aside) => aside.opens);
  if (opens.length > 0) {
    await tx.write(
      `insert into groundcrew.approvals (shard, id, run, tenant, status, requested_at, data)
       select * from unnest($1::smallint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[])`,
      [
        opens.map(({ run }) => shardOfRun(run)),
        opens.map(({ id }) => key(id, "approval id")),
        opens.map(({ run }) => escaped(run)),
        opens.map(({ tenant }) => escaped(tenant)),
        column(opens, "status"),
        column(opens, "requestedAt"),
        opens.map((row) => JSON.stringify(row)),
      ],
    );
  }
  for (const id of asides.flatMap((aside) => aside.closes)) {
    const open = await held(tx, id);
    if (open?.status === "open") await keep(tx, cancelled(open, tx.now));
  }
  await addDeliveries(
    tx,
    asides.flatMap((aside) => aside.deliveries),
  );
  await appendAudit(
    tx,
    asides.flatMap((aside) => aside.audit),
    auditKey,
  );
}

/** Locks the run, as whoever signals it does, and then the approval. */
export async function amend(
  tx: Transaction,
  { next: wanted, signal, audit, deliveries }: Amendment,
  auditKey: string | undefined,
): Promise<Amended> {
  const status = await lock(tx, runOfApproval(wanted.id));
  const before = await held(tx, wanted.id);
  if (!before) throw approvalNotFound(wanted.id);
  if (before.status !== "open" || wanted.version !== before.version + 1) return { won: false, row: before };
  if (!status || isTerminal(status)) {
    const over = cancelled(before, tx.now); // its run was ended by somebody who could not read what it had asked
    await keep(tx, over);
    await appendAudit(tx, [cancelledEntry(over)], auditKey);
    return { won: false, row: over };
  }
  const next = changed(before, wanted);
  await keep(tx, next);
  if (signal) await put(tx, { ...signal, run: next.run, kind: "approval", name: next.id });
  await addDeliveries(tx, deliveries);
  await appendAudit(tx, audit, auditKey);
  return { won: true, row: next };
}

async function held(tx: Transaction, id: string): Promise<ApprovalRow | null> {
  const [found] = await tx.query<Stored>(`${ONE} for no key update`, placeOf(id));
  return found ? (JSON.parse(found.data) as ApprovalRow) : null;
}

async function keep(tx: Transaction, next: ApprovalRow): Promise<void> {
  await tx.write("update groundcrew.approvals set status = $3, data = $4 where shard = $1 and id = $2", [
    ...placeOf(next.id),
    next.status,
    JSON.stringify(next),
  ]);
}

/** Newest first. */
export async function listApprovals(
  sql: Pick<Sql, "query">,
  { tenant, run, status, before, limit }: ApprovalFilter,
): Promise<ApprovalRow[]> {
  const place = before === undefined ? null : await findApproval(sql, before);
  if (before !== undefined && !place) throw noPlace(before, "approval");
  const values: unknown[] = [];
  const conditions = ["true"];
  const where = (condition: string, value: unknown) => conditions.push(condition.replace("?", `$${values.push(value)}`));
  if (run !== undefined) {
    where("shard = ?", shardOfRun(run));
    where("run = ?", escaped(run));
  }
  if (tenant !== undefined) where("tenant = ?", escaped(tenant));
  if (status !== undefined) where("status = ?", status);
  if (place) conditions.push(`(requested_at, id) < ($${values.push(place.requestedAt)}, $${values.push(escaped(place.id))})`);
  const text = `select data from groundcrew.approvals where ${conditions.join(" and ")} order by requested_at desc, id desc limit $${values.push(limit)}`;
  return (await sql.query<Stored>(text, values)).map(({ data }) => JSON.parse(data) as ApprovalRow);
}
