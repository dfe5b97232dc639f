/** What the demo says about itself, checked: each claim is true or the demo fails. */
import type { FeedItem } from "groundcrew/client";
import type { Entry } from "../support/ledger.ts";

export interface Evidence {
  entries: Entry[];
  /** What the reader who was there all the time saw of the first run, and what one sees who comes afterwards. */
  followed: FeedItem[];
  fresh: FeedItem[];
  kills: number;
  reconnects: number;
  /** Calls that reached the model; undefined for a real one, which does not tell. */
  modelCalls: number | undefined;
  modelSteps: number;
  /** Texts of the session's messages after the second turn. */
  conversation: string[];
}

export type Claim = [what: string, isTrue: boolean];

export function claims(evidence: Evidence): Claim[] {
  const { entries, followed, fresh, kills, reconnects, modelCalls, modelSteps, conversation } = evidence;
  const refunds = entries.filter((entry) => entry.kind === "refund");
  const repeats = entries.filter((entry) => entry.kind === "repeat");
  const emails = entries.filter((entry) => entry.kind === "email");
  const takeovers = followed.filter((item) => item.type === "run.claimed" && item.takeover);
  const unknown = followed.filter((item) => item.type === "step.unknown");
  const resolved = followed.filter((item) => item.type === "step.resolved");
  const outcomes = followed.flatMap((item) => (item.type === "step.succeeded" || item.type === "step.resolved" ? item.step : []));

  const all: Claim[] = [
    [
      `${kills} kills, ${takeovers.length} takeovers, and the run succeeded`,
      takeovers.length === kills && followed.at(-1)?.type === "run.succeeded",
    ],
    [
      `the bank was asked ${refunds.length + repeats.length} times with one key, and paid ${count(refunds.length, "refund")}`,
      refunds.length === 1 && repeats.length === 1 && refunds[0]?.id === repeats[0]?.of && refunds[0]?.key === repeats[0]?.key,
    ],
    [
      `${count(emails.length, "e-mail")} went out; nobody had seen its outcome, so it was looked up and not sent again`,
      emails.length === 1 && unknown.length === 1 && resolved.length === 1,
    ],
    [
      `what was done stayed done: each of ${outcomes.length} steps has one outcome`,
      outcomes.length > 0 && new Set(outcomes).size === outcomes.length,
    ],
    [
      `the reader saw ${count(followed.length, "item")} over ${reconnects + 1} connections: no gap, no repeat, one end`,
      reconnects >= kills && isGapless(followed),
    ],
    ["a reader who comes now sees the very same", followed.length > 0 && JSON.stringify(fresh) === JSON.stringify(followed)],
    ["the second turn knew the first", conversation.length > 3 && conversation.some((text) => text.includes("A-1042"))],
  ];
  if (modelCalls !== undefined) {
    all.push([`no answer of the model was paid for twice: ${modelCalls} calls, ${modelSteps} answers`, modelCalls === modelSteps]);
  }
  return all;
}

/** Events count up by one, chunks count up by one behind their event, and the end comes once and last. */
function isGapless(items: FeedItem[]): boolean {
  let [seq, chunk] = [0, 0];
  for (const item of items) {
    if (item.type === "chunk") chunk++;
    else [seq, chunk] = [seq + 1, 0];
    if (item.cursor !== (chunk === 0 ? `${seq}` : `${seq}.${chunk}`)) return false;
  }
  const ends = items.flatMap(({ type }, index) => (/^run\.(succeeded|failed|cancelled|expired)$/.test(type) ? index : []));
  return ends.length === 1 && ends[0] === items.length - 1;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
