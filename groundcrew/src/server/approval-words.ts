/** What became of a request, in a sentence for people. */
import type { ApprovalRow } from "../persistence/approval.ts";
import { proposal } from "../supervision/judge.ts";

export function outcomeText(row: ApprovalRow): string {
  if (row.status === "open") return `Noted. ${missing(row)}`;
  const { by = [], at } = row.verdict ?? {};
  const who = by.length > 0 ? ` by ${by.join(" and ")}` : "";
  return `${row.status}${who}${at === undefined ? "" : ` at ${new Date(at).toISOString()}`}`;
}

function missing(row: ApprovalRow): string {
  const { hash } = proposal(row);
  const agreed = new Set(row.votes.filter((vote) => vote.hash === hash).map(({ by }) => by)).size;
  return `${agreed} of ${row.request.quorum} people have agreed.`;
}
