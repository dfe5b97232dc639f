/** The page behind a link: what is asked, complete and inert, and the buttons. Nothing on it is loaded, run, or sent elsewhere. */
import { createHash } from "node:crypto";
import { inert } from "../inert.ts";
import { MAX_REASON_CHARS } from "../limits.ts";
import { escaped } from "../notify/mail.ts";
import { accountOf } from "../notify/words.ts";
import { type ApprovalRow, proposal } from "../persistence/approval.ts";

const STYLE = [
  "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}",
  "th{text-align:left;vertical-align:top;padding-right:1rem;white-space:nowrap}",
  "td,pre{white-space:pre-wrap;overflow-wrap:anywhere}",
  "pre{background:#f4f4f4;color:#111;padding:1rem}",
  "textarea{width:100%}",
  "button{font:inherit;padding:.5rem 1.5rem;margin-right:1rem}",
].join("");

const POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${createHash("sha256").update(STYLE).digest("base64")}'`,
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** The address of the page is a key: it goes nowhere else, and stays in no cache. */
export const PAGE_HEADERS: Record<string, string> = {
  "content-security-policy": POLICY,
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-robots-tag": "noindex",
  "cache-control": "no-store",
};

/** @param now wall-clock milliseconds */
export function requestPage(row: ApprovalRow, now: number): string {
  const { headline, facts, shown } = accountOf(row, { about: "requested", at: now });
  const rows = facts.map(([label, text]) => `<tr><th>${escaped(label)}</th><td>${escaped(text)}</td></tr>`);
  const values = shown.map(([label, text]) => `<h2>${escaped(label)}</h2><pre>${escaped(text)}</pre>`);
  return whole(headline, `${values.join("")}${form(row)}<h2>About it</h2><table>${rows.join("")}</table>`);
}

export function messagePage(title: string, what: string): string {
  return whole(title, `<p>${escaped(inert(what))}</p>`);
}

function form(row: ApprovalRow): string {
  const isQuestion = row.request.kind === "question";
  const label = isQuestion ? "Your answer, or why you give none" : "Why; the agent is told when you do not allow it";
  const yes = isQuestion
    ? '<button name="decision" value="answer">Answer</button>'
    : '<button name="decision" value="approve">Allow</button>';
  const no = `<button name="decision" value="deny">${isQuestion ? "Refuse to answer" : "Do not allow"}</button>`;
  return `<form method="post"><input type="hidden" name="hash" value="${escaped(proposal(row).hash)}">
<p><label>${label}<br><textarea name="reason" rows="3" maxlength="${MAX_REASON_CHARS}"></textarea></label></p><p>${yes}${no}</p></form>`;
}

function whole(title: string, body: string): string {
  const head = `<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escaped(inert(title))}</title><style>${STYLE}</style>`;
  return `<!doctype html><html lang="en" dir="ltr"><head>${head}</head><body><h1>${escaped(inert(title))}</h1>${body}</body></html>`;
}
