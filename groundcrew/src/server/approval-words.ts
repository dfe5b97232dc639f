/** What became of a request, in a sentence for people. */
import { type ApprovalRow, agreedTo } from "../persistence/approval.ts";

export function outcomeText(row: ApprovalRow): string {
  if (row.status === "open") return `Noted. ${missing(row)}`;
  const { by = [], at } = row.verdict ?? {};
  const who = by.length > 0 ? ` by ${by.join(" and ")}` : "";
  return `${row.status}${who}${at === undefined ? "" : ` at ${new Date(at).toISOString()}`}`;
}

function missing(row: ApprovalRow): string {
  return `${agreedTo(row).length} of ${row.request.quorum} people have agreed.`;
}
