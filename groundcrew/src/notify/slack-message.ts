/**
 * News as a message in Slack. Everything that comes from elsewhere stands in plain text with `&`, `<` and `>` escaped, where Slack
 * makes nothing of it: no link, no mention, no formatting. What can be agreed to here is shown here, whole.
 */
import { MAX_SLACK_BLOCK_CHARS, MAX_SLACK_BLOCKS } from "../limits.ts";
import type { ApprovalRow } from "../persistence/approval.ts";
import type { Notice } from "./channel.ts";
import { accountOf, elsewhere, headlineOf } from "./words.ts";

export type Block = Readonly<Record<string, unknown>>;

export interface SlackMessage {
  /** What a notification shows. */
  text: string;
  blocks: readonly Block[];
}

/** All of it, as far as a message of Slack's goes. */
export function wholeMessage(notice: Notice): SlackMessage {
  const { approvals } = notice;
  const blocks: Block[] = mentions(notice);
  for (const [index, approval] of approvals.entries()) {
    const left = approvals.length - index - 1;
    const room = MAX_SLACK_BLOCKS - blocks.length - (left > 0 ? 1 : 0); // one to say that there are more
    const mine = blocksOf(approval, notice, room, left);
    if (!mine) return { text: escaped(headlineOf(notice)), blocks: [...blocks, remainder(approvals.slice(index), notice)] };
    blocks.push(...mine);
  }
  return { text: escaped(headlineOf(notice)), blocks: blocks.length > 0 ? blocks : textBlocks(headlineOf(notice)) };
}

/** Only that there is something to decide, and where. For what Slack does not take. */
export function briefMessage(notice: Notice): SlackMessage {
  return { text: escaped(headlineOf(notice)), blocks: [...mentions(notice), remainder(notice.approvals, notice)] };
}

/** The members whom it is for. Only a Slack id becomes a mention. */
function mentions({ people }: Notice): Block[] {
  const ids = people.flatMap(({ slack }) => (slack !== undefined && /^[UW][A-Z0-9]+$/.test(slack) ? [`<@${slack}>`] : []));
  const text = ids
    .join(" ")
    .slice(0, MAX_SLACK_BLOCK_CHARS)
    .replace(/<[^>]*$/, "");
  return text === "" ? [] : [{ type: "section", text: { type: "mrkdwn", text, verbatim: true } }];
}

/** Whole, with its buttons; or, alone and larger than a message may be, its beginning without them. Undefined: no room. */
function blocksOf(approval: ApprovalRow, notice: Notice, room: number, left: number): Block[] | undefined {
  const { headline, facts, shown } = accountOf(approval, notice);
  const said = [
    ...textBlocks([headline, ...facts.map(([label, text]) => `${label}: ${text}`)].join("\n")),
    ...shown.flatMap(([label, text]) => textBlocks(`${label}:\n${text}`)),
  ];
  const whole = [...said, ...actions(approval, notice), { type: "divider" }];
  if (whole.length <= room) return whole;
  const isAlone = notice.approvals.length === 1 && left === 0;
  return isAlone ? [...said.slice(0, room - 1), remainder([approval], notice)] : undefined;
}

/** A question is answered in words, which a button does not have. */
function actions(approval: ApprovalRow, notice: Notice): Block[] {
  if (notice.about === "ended") return [];
  if (approval.request.kind === "question") return textBlocks(elsewhere(approval, notice));
  const value = buttonValue(approval.id, notice.proposal(approval).hash);
  return [
    {
      type: "actions",
      block_id: `approval:${approval.id}`,
      elements: [button("approve", "Approve", "primary", value), button("deny", "Deny", "danger", value)],
    },
  ];
}

function button(action: "approve" | "deny", text: string, style: string, value: string): Block {
  return { type: "button", action_id: action, style, value, text: { type: "plain_text", text, emoji: false } };
}

/** Which request, and what of it was shown: a click says yes to that and nothing else. */
export function buttonValue(approval: string, hash: string): string {
  return `${hash} ${approval}`;
}

/** @returns undefined for what is no button of ours */
export function readButton(value: unknown): { approval: string; hash: string } | undefined {
  const [, hash, approval] = /^(\S+) (.+)$/.exec(typeof value === "string" ? value : "") ?? [];
  return hash === undefined || approval === undefined ? undefined : { hash, approval };
}

function remainder(approvals: readonly ApprovalRow[], notice: Notice): Block {
  const first = approvals[0] ? elsewhere(approvals[0], notice) : "";
  const others = approvals.length > 1 ? ` And ${approvals.length - 1} more: groundcrew inbox lists them.` : "";
  return plainSection(escaped(`Too long to be shown, and so to be decided, here. ${first}${others}`).slice(0, MAX_SLACK_BLOCK_CHARS));
}

function textBlocks(text: string): Block[] {
  return pieces(text, MAX_SLACK_BLOCK_CHARS).map(plainSection);
}

function plainSection(text: string): Block {
  return { type: "section", text: { type: "plain_text", text, emoji: false } };
}

/** `text`, escaped, in pieces of at most `max`; no character, and none that is escaped, is cut in two. */
function pieces(text: string, max: number): string[] {
  const found: string[] = [];
  let piece = "";
  for (const character of text) {
    const next = escaped(character);
    if (piece.length + next.length > max) {
      found.push(piece);
      piece = "";
    }
    piece += next;
  }
  return piece === "" ? found : [...found, piece];
}

const ENTITIES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };

/** As Slack wants it: these three, and no others. */
export function escaped(text: string): string {
  return text.replace(/[&<>]/g, (character) => ENTITIES[character] ?? character);
}
