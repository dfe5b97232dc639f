import type { DatabaseSync } from "node:sqlite";
import {
  type Amended,
  type Amendment,
  type ApprovalFilter,
  type ApprovalRow,
  approvalNotFound,
  cancelled,
  cancelledEntry,
  changed,
  runOfApproval,
} from "../persistence/approval.ts";
import { noPlace } from "../persistence/page.ts";
import { type Aside, isTerminal, type RunStatus } from "../persistence/store.ts";
import type { AuditLog } from "./audit.ts";
import type { Deliveries } from "./delivery.ts";
import type { Inbox } from "./inbox.ts";
import type { Query } from "./list.ts";
import { row, rows, type Transaction } from "./row.ts";

type Stored = { data: string };

export type Approvals = ReturnType<typeof openApprovals>;

/** Requests for somebody's agreement: the row that decides between those who decide. */
export function openApprovals(db: DatabaseSync, inbox: Inbox, audit: AuditLog, deliveries: Deliveries) {
  const insert = db.prepare(
    "insert into approvals (id, run, tenant, status, requested_at, data) select ?, r.n, ?, ?, ?, ? from runs r where r.id = ?",
  );
  const find = db.prepare("select data from approvals where id = ?");
  const keep = db.prepare("update approvals set status = ?2, data = ?3 where id = ?1");
  const findRun = db.prepare("select n, status from runs where id = ?");

  function get(id: string): ApprovalRow | null {
    const found = row<Stored>(find, id);
    return found ? (JSON.parse(found.data) as ApprovalRow) : null;
  }

  function put(next: ApprovalRow): void {
    keep.run(next.id, next.status, JSON.stringify(next));
  }

  return {
    get,

    /** What a run writes beside its journal. Nothing can fail half-way that is not to blame alone. */
    aside(tx: Transaction, { opens, closes, audit: entries, deliveries: news }: Aside): void {
      for (const next of opens) insert.run(next.id, next.tenant, next.status, next.requestedAt, JSON.stringify(next), next.run);
      for (const id of closes) {
        const open = get(id);
        if (open?.status === "open") put(cancelled(open, tx.now));
      }
      deliveries.add(tx, news);
      audit.append(tx, entries);
    },

    amend(tx: Transaction, { next: wanted, signal, audit: entries, deliveries: news }: Amendment): Amended {
      const before = get(wanted.id);
      const run = row<{ n: number; status: RunStatus }>(findRun, runOfApproval(wanted.id));
      if (!before) throw approvalNotFound(wanted.id);
      if (before.status !== "open" || wanted.version !== before.version + 1) return { won: false, row: before };
      if (!run || isTerminal(run.status)) {
        const over = cancelled(before, tx.now); // its run was ended by somebody who could not read what it had asked
        put(over);
        audit.append(tx, [cancelledEntry(over)]);
        return { won: false, row: over };
      }
      const next = changed(before, wanted);
      if (signal) inbox.put(tx, run.n, { ...signal, run: next.run, kind: "approval", name: next.id }); // first: it may be refused
      put(next);
      deliveries.add(tx, news);
      audit.append(tx, entries);
      return { won: true, row: next };
    },

    list(filter: ApprovalFilter): ApprovalRow[] {
      const last = filter.before === undefined ? undefined : get(filter.before);
      if (last === null) throw noPlace(filter.before ?? "", "approval");
      const { sql, bound } = approvalsQuery(filter, last);
      return rows<Stored>(db.prepare(sql), ...bound).map(({ data }) => JSON.parse(data) as ApprovalRow);
    },
  };
}

/** @param last the one behind which the list goes on. */
export function approvalsQuery({ tenant, run, status, limit }: ApprovalFilter, last: ApprovalRow | undefined): Query {
  const conditions = ["true"];
  const bound: (string | number)[] = [];
  const where = (condition: string, ...values: (string | number)[]) => {
    conditions.push(condition);
    bound.push(...values);
  };
  if (tenant !== undefined) where(run === undefined ? "tenant = ?" : "+tenant = ?", tenant); // a run's are few: by its own index
  if (run !== undefined) where("run = (select n from runs where id = ?)", run);
  if (status !== undefined) where(run === undefined ? "status = ?" : "+status = ?", status);
  if (last) where("(requested_at, id) < (?, ?)", last.requestedAt, last.id);
  const sql = `select data from approvals where ${conditions.join(" and ")} order by requested_at desc, id desc limit ?`;
  return { sql, bound: [...bound, limit] };
}
