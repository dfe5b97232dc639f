/** The demo's second act: a refund above the limit needs somebody. Answered, it goes on at once; left alone, it escalates and expires. */
import { setTimeout as wait } from "node:timers/promises";
import type { FeedItem } from "groundcrew/client";
import type { Ledger } from "../support/ledger.ts";
import type { Claim } from "./claims.ts";
import type { Reader } from "./reader.ts";
import { heading, note, paint, say } from "./screen.ts";
import { groundcrew } from "./server-process.ts";

/** How long somebody at a second terminal has before the demo goes there itself. */
const PATIENCE_MS = 20_000;

export interface Act {
  reader: Reader;
  ledger: Ledger;
  /** Nobody answers. */
  isUnattended: boolean;
  ask: (prompt: string) => Promise<string>;
}

/** @returns what it claims, checked. */
export async function approvalAct({ reader, ledger, isUnattended, ask }: Act): Promise<Claim[]> {
  const before = ledger.entries().filter(({ kind }) => kind === "refund").length;
  const run = await ask("The espresso machine of order A-1077 does not work. I want my money back.");
  const story = reader.follow(run);
  if (!isUnattended) await answer(reader, run);
  else note("nobody answers: after 3 seconds it goes to role:lead as well, after 6 it expires");
  const seen = await story;
  const paid = ledger.entries().filter(({ kind }) => kind === "refund").length - before;
  const requested = seen.filter(({ type }) => type === "approval.requested").length;
  return isUnattended
    ? unattendedClaims(seen, paid)
    : [
        [`the refund above the limit was asked for ${times(requested)}, allowed, and paid ${times(paid)}`, requested === 1 && paid === 1],
        ["what was paid is what was approved: the bank saw the arguments that the person saw", isAsApproved(seen, ledger)],
      ];
}

function unattendedClaims(seen: readonly FeedItem[], paid: number): Claim[] {
  const escalated = seen.filter(({ type }) => type === "approval.escalated").length;
  const ended = seen.find((item) => item.type === "approval.ended");
  return [
    [
      `it was escalated ${times(escalated)} and then expired`,
      escalated === 1 && ended?.type === "approval.ended" && ended.verdict.outcome === "expired",
    ],
    ["without an approval nothing was paid, and the run came to its end", paid === 0 && seen.at(-1)?.type === "run.succeeded"],
  ];
}

/** Waits for somebody at a second terminal; where nobody comes, does what they would have done. */
async function answer(reader: Reader, run: string): Promise<void> {
  const id = await asked(reader, run);
  const { url } = reader;
  const command = "npm run -s groundcrew --";
  heading("Somebody has to agree. In a second terminal:");
  say(`  ${command} inbox --url ${url}`);
  say(`  ${command} approve ${id} --url ${url}`);
  const until = Date.now() + (process.stdin.isTTY && !process.env["CI"] ? PATIENCE_MS : 0);
  while (Date.now() < until && !reader.has(run, "approval.ended")) await wait(100);
  if (reader.has(run, "approval.ended")) return;
  note("nobody did, so the demo does:");
  await groundcrew("inbox", "--url", url);
  await groundcrew("approve", id, "--reason", "A known fault of this machine.", "--url", url);
}

async function asked(reader: Reader, run: string): Promise<string> {
  for (;;) {
    const item = reader.items.find((one) => one.type === "approval.requested" && one.approval.startsWith(`${run}.`));
    if (item?.type === "approval.requested") return item.approval;
    await wait(50);
  }
}

function isAsApproved(seen: readonly FeedItem[], ledger: Ledger): boolean {
  const item = seen.find((one) => one.type === "approval.requested");
  const shown = item?.type === "approval.requested" ? (item.request.input as { orderId: string; amount: number }) : undefined;
  const paid = ledger.entries().findLast(({ kind }) => kind === "refund");
  return paid?.kind === "refund" && paid.orderId === shown?.orderId && paid.amount === shown.amount;
}

function times(count: number): string {
  return count === 1 ? "once" : `${count} times`;
}

export function introduceUnattended(): void {
  say(paint("bold", "Groundcrew: a refund that needs somebody, and nobody is there"));
  say();
}
