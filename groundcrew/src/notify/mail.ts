/** News as a mail to one person: as text, and as HTML in which nothing that comes from elsewhere is more than text. */
import { createHash } from "node:crypto";
import { MAX_SUBJECT_CHARS } from "../limits.ts";
import type { Notice, Recipient } from "./channel.ts";
import { type Account, accountOf, elsewhere, headlineOf } from "./words.ts";

export interface Mail {
  subject: string;
  text: string;
  html: string;
  messageId: string;
  headers: Record<string, string>;
}

interface Part extends Account {
  /** Theirs, to decide by. */
  link: string | undefined;
  /** Where to decide otherwise. */
  elsewhere: string | undefined;
}

/** @param from whose domain the message's id is of. */
export function mailOf(notice: Notice, person: Recipient, from: string): Mail {
  const parts = notice.approvals.map((approval): Part => {
    const link = notice.link(approval, person);
    const isOpen = notice.about !== "ended";
    return { ...accountOf(approval, notice), link, elsewhere: isOpen && link === undefined ? elsewhere(approval, notice) : undefined };
  });
  const headline = headlineOf(notice);
  return {
    subject: cut(headline, MAX_SUBJECT_CHARS),
    text: [headline, ...parts.map(textOf), ...footerOf(parts)].join("\n\n"),
    html: pageOf(headline, parts),
    messageId: messageIdOf(notice, person, from),
    headers: { "Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All", "X-Groundcrew-Delivery": encodeURI(notice.id) },
  };
}

function footerOf(parts: readonly Part[]): string[] {
  return parts.some(({ link }) => link !== undefined) ? ["A link is yours alone: whoever has it decides as you. It can be used once."] : [];
}

/** The same for every try: mail servers and programs that look at it show a repeat once. */
function messageIdOf({ id }: Notice, { user, tenant }: Recipient, from: string): string {
  const domain = /@([\w.-]+)/.exec(from)?.[1] ?? "localhost";
  const hash = createHash("sha256")
    .update(JSON.stringify([id, tenant, user]))
    .digest("hex");
  return `<groundcrew.${hash.slice(0, 32)}@${domain}>`;
}

function textOf({ headline, facts, shown, link, elsewhere }: Part): string {
  const lines = [
    headline,
    "",
    ...facts.map(([label, text]) => `${label}: ${text}`),
    ...shown.flatMap(([label, text]) => ["", `${label}:`, text]),
  ];
  if (link !== undefined) lines.push("", `Look at it and decide: ${link}`);
  if (elsewhere !== undefined) lines.push("", elsewhere);
  return lines.join("\n");
}

/** No style, no picture, no script: nothing is loaded from anywhere, and the only address is that of our own server. */
function pageOf(headline: string, parts: readonly Part[]): string {
  const body = [...parts.map(htmlOf), ...footerOf(parts).map((text) => `<p>${escaped(text)}</p>`)].join("<hr>");
  const title = escaped(headline);
  return `<!doctype html><html dir="ltr"><head><meta charset="utf-8"><title>${title}</title></head><body>${body}</body></html>`;
}

function htmlOf({ headline, facts, shown, link, elsewhere }: Part): string {
  const rows = facts.map(([label, text]) => `<tr><th align="left" valign="top">${escaped(label)}</th><td>${escaped(text)}</td></tr>`);
  const values = shown.map(([label, text]) => `<h3>${escaped(label)}</h3><pre style="white-space:pre-wrap">${escaped(text)}</pre>`);
  const button = link === undefined ? "" : `<p><a href="${escaped(link)}">Look at it and decide</a></p>`;
  const other = elsewhere === undefined ? "" : `<p>${escaped(elsewhere)}</p>`;
  return `<h2>${escaped(headline)}</h2><table>${rows.join("")}</table>${values.join("")}${button}${other}`;
}

const ENTITIES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "`": "&#96;" };

/** As text in HTML, in an element and in an attribute. */
export function escaped(text: string): string {
  return text.replace(/[&<>"'`]/g, (character) => ENTITIES[character] ?? character);
}

function cut(text: string, max: number): string {
  return text.length > max ? `${text.slice(0, max).replace(/[\ud800-\udbff]$/, "")}…` : text;
}
