/** Slack, as a real server that speaks its API and holds to its limits. */
import { createHmac } from "node:crypto";
import { describe, expect, test } from "vitest";
import { isError } from "../../src/errors.ts";
import { verdict } from "../../src/fault/verdict.ts";
import type { Notice } from "../../src/notify/channel.ts";
import { slack, verifySlack } from "../../src/notify/slack.ts";
import { type Block, readButton } from "../../src/notify/slack-message.ts";
import type { ApprovalRow, Verdict } from "../../src/persistence/approval.ts";
import { ana, approvalRow, bo, type Heard, HOSTILE, listen, never, noticeOf, status } from "./ground.ts";

const SIGNING_SECRET = "8f742231b10e8888abcd99yyyzzz85a5";

interface Posted {
  channel: string;
  text: string;
  mrkdwn: boolean;
  parse: string;
  link_names: boolean;
  unfurl_links: boolean;
  blocks: Block[];
  metadata: { event_payload: { id: string } };
}

type TextObject = { type: string; text: string; emoji?: boolean };

/** Its answer: what Slack itself would refuse, it refuses. */
function answerOf({ headers, path, body }: Heard): { ok: boolean; error?: string } {
  if (path !== "/api/chat.postMessage") return { ok: false, error: "unknown_method" };
  if (headers.authorization !== "Bearer xoxb-1") return { ok: false, error: "invalid_auth" };
  const { channel, blocks, text } = JSON.parse(body) as Posted;
  if (channel !== "C1") return { ok: false, error: "channel_not_found" };
  if (text === "" || blocks.length === 0 || blocks.length > 50) return { ok: false, error: "invalid_blocks" };
  const texts = textsOf(blocks).filter(({ text }) => text.length === 0 || text.length > 3_000);
  return texts.length > 0 ? { ok: false, error: "invalid_blocks" } : { ok: true };
}

function textsOf(blocks: readonly Block[]): TextObject[] {
  return blocks.flatMap(({ text }) => (text === undefined ? [] : [text as TextObject]));
}

/** What Slack makes of plain text: the three entities and nothing else. */
const read = (text: string) => text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");

const wordsOf = ({ blocks }: Posted) =>
  read(
    textsOf(blocks)
      .map(({ text }) => text)
      .join(""),
  );

function buttonsOf({ blocks }: Posted) {
  const actions = blocks.filter(({ type }) => type === "actions");
  return actions.flatMap(({ elements }) => elements as { action_id: string; value: string }[]);
}

async function slackServer() {
  const { url, heard } = await listen((response, one) => status(200, {}, JSON.stringify(answerOf(one)))(response));
  const channel = slack({ token: "xoxb-1", signingSecret: SIGNING_SECRET, channel: "C1", apiUrl: `${url}/api` });
  return { channel, posted: () => heard.map(({ body }) => JSON.parse(body) as Posted) };
}

async function post(more: Partial<Notice>): Promise<Posted> {
  const { channel, posted } = await slackServer();
  await channel.send(noticeOf(more), never);
  const all = posted();
  expect(all).toHaveLength(1);
  return all[0] as Posted;
}

const approval = (more: Parameters<typeof approvalRow>[0]) => ({ approvals: [approvalRow(more)] });

describe("a message in Slack", () => {
  test("says what is asked, why, for whom, until when, and has a button for either answer", async () => {
    const message = await post({});
    const words = wordsOf(message);
    for (const said of [
      "support asks to call refund",
      "more than 100",
      "customer",
      "role:finance",
      '"amount": 120',
      "My order is broken.",
    ]) {
      expect(words).toContain(said);
    }
    expect(buttonsOf(message).map(({ action_id, value }) => [action_id, readButton(value)])).toEqual([
      ["approve", { approval: "run1.1", hash: "hash-1" }],
      ["deny", { approval: "run1.1", hash: "hash-1" }],
    ]);
    expect(message.metadata.event_payload.id).toBe("webhook/requested/run1.1");
  });

  test("mentions those whom it is for by their Slack id, and nobody else", async () => {
    const evil = { ...bo, slack: "U1> <!channel" };
    const message = await post({ people: [ana, bo, evil] });
    const mentions = textsOf(message.blocks).filter(({ type }) => type === "mrkdwn");
    expect(mentions.map(({ text }) => text)).toEqual(["<@U024BE7LH>"]);
  });

  test.each(Object.entries(HOSTILE))("%s has no effect wherever it comes from, and is shown whole", async (_name, text) => {
    const input = { [text]: text };
    const message = await post({
      people: [],
      ...approval({ to: [`role:${text}`], request: { input, name: text, agent: text, why: text, user: text, context: [text] } }),
    });
    for (const { type, text: shown, emoji } of textsOf(message.blocks)) {
      expect([type, emoji]).toEqual(["plain_text", false]);
      expect(shown).not.toMatch(/[<>]/);
      expect(shown.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
    }
    expect(message.text).not.toMatch(/[<>\n]/);
    expect(message).toMatchObject({ mrkdwn: false, parse: "none", link_names: false, unfurl_links: false });
    const shown = wordsOf(message).replace(/⟨U\+([0-9A-F]+)⟩/g, (_all, hex) => String.fromCodePoint(Number.parseInt(hex, 16)));
    expect(shown).toContain(JSON.stringify(input, null, 2));
  });

  test("shows 10,000 characters whole, cut in no character and in nothing that is escaped", async () => {
    const text = "<💥&>".repeat(2_500);
    const message = await post(approval({ request: { input: { text } } }));
    expect(wordsOf(message)).toContain(JSON.stringify({ text }, null, 2));
    for (const { text: piece } of textsOf(message.blocks)) {
      expect(piece.isWellFormed()).toBe(true);
      expect(piece.replace(/&(lt|gt|amp);/g, "")).not.toContain("&");
    }
    expect(buttonsOf(message)).toHaveLength(2);
  });

  test("of arguments that do not fit says where they are, and has no button: nobody agrees to what is not shown", async () => {
    const message = await post(approval({ request: { input: { text: "x".repeat(150_000) } } }));
    expect(message.blocks.length).toBeLessThanOrEqual(50);
    expect(buttonsOf(message)).toEqual([]);
    expect(wordsOf(message)).toContain("groundcrew approval run1.1 --url https://agents.example.com");
  });

  test("has no button where a character of the arguments is not shown, however long they are", async () => {
    const decidable = [];
    for (let length = 130_000; length < 145_000; length += 500) {
      const text = "x".repeat(length);
      const message = await post(approval({ request: { input: { text } } }));
      if (buttonsOf(message).length === 0) continue;
      decidable.push(length);
      expect(wordsOf(message)).toContain(`"${text}"`);
    }
    expect(decidable.length).toBeGreaterThan(5); // both sides of the border were looked at
    expect(decidable).not.toContain(144_500);
  });

  test("several asked for together are one message, with buttons for each", async () => {
    const approvals = [1, 2, 3].map((n) => approvalRow({ id: `run1.${n}`, request: { hash: `hash-${n}`, input: { n } } }));
    const message = await post({ approvals });
    expect(buttonsOf(message).map(({ action_id, value }) => `${action_id} ${value}`)).toEqual(
      [1, 2, 3].flatMap((n) => [`approve hash-${n} run1.${n}`, `deny hash-${n} run1.${n}`]),
    );
    expect(message.text).toContain("3 approvals");
  });

  test("of thirty together has buttons for those that it shows, and says that there are more", async () => {
    const approvals = Array.from({ length: 30 }, (_, n) => approvalRow({ id: `run1.${n}`, request: { input: { marker: `<${n}>` } } }));
    const message = await post({ approvals });
    const words = wordsOf(message);
    const decidable = buttonsOf(message).flatMap(({ value }) => readButton(value)?.approval ?? []);
    expect(decidable.length).toBeGreaterThan(10);
    for (const id of decidable) expect(words).toContain(`"marker": "<${id.split(".")[1]}>"`);
    expect(words).toMatch(/And \d+ more: groundcrew inbox/);
  });

  test("that Slack takes for too long all the same is sent anew, without buttons", async () => {
    const { url, heard } = await listen(status(200, {}, '{"ok":false,"error":"msg_blocks_too_long"}'), status(200, {}, '{"ok":true}'));
    await slack({ token: "xoxb-1", signingSecret: SIGNING_SECRET, channel: "C1", apiUrl: url }).send(noticeOf(), never);
    const second = JSON.parse(heard[1]?.body ?? "") as Posted;
    expect(buttonsOf(second)).toEqual([]);
    expect(wordsOf(second)).toContain("groundcrew approval run1.1");
  });

  test("about arguments that somebody has edited shows these and those, and its buttons are about these", async () => {
    const first = { by: "ana", roles: [], hash: "hash-1", at: 1, channel: "api" as const };
    const edited = { by: "bo", roles: [], hash: "hash-2", input: { amount: 90 }, at: 2, channel: "api" as const };
    const message = await post({ about: "reminded", ...approval({ votes: [first, edited], request: { quorum: 2 } }) });
    expect(wordsOf(message)).toMatch(/as edited since: to be agreed to:\n\{\n {2}"amount": 90\n\}[\s\S]*not to be used:\n[\s\S]*120/);
    expect(wordsOf(message)).toContain("2, of whom have agreed: bo"); // ana has agreed to other arguments
    expect(buttonsOf(message).map(({ value }) => readButton(value)?.hash)).toEqual(["hash-2", "hash-2"]);
  });

  test("about a question has no buttons, and says where it is answered", async () => {
    const message = await post(approval({ request: { kind: "question", name: "escalate", input: { question: "Is this a fraud?" } } }));
    expect(buttonsOf(message)).toEqual([]);
    expect(wordsOf(message)).toContain("Is this a fraud?");
    expect(wordsOf(message)).toContain("groundcrew answer run1.1");
  });

  test("about an end says who has decided, and has no buttons", async () => {
    const end: Verdict = { outcome: "denied", by: ["ana"], at: 5_000, channel: "slack", reason: "<!here> no", hash: "hash-1" };
    const row: ApprovalRow = approvalRow({ status: "denied", verdict: end });
    const message = await post({ about: "ended", approvals: [row] });
    expect(wordsOf(message)).toContain("denied by ana at 1970-01-01T00:00:05.000Z (slack)");
    expect(wordsOf(message)).toContain("Reason: <!here> no");
    expect(message.text).toBe("support, refund: denied");
    expect(buttonsOf(message)).toEqual([]);
  });
});

describe("what Slack answers", () => {
  async function failure(...answer: Parameters<typeof status>) {
    const { url } = await listen(status(...answer));
    const channel = slack({ token: "xoxb-hunter2", signingSecret: SIGNING_SECRET, channel: "C1", apiUrl: url });
    const error = await channel.send(noticeOf(), never).catch((thrown: unknown) => thrown);
    if (!isError(error, "NOTIFY_FAILED")) throw new Error(`Expected NOTIFY_FAILED, got ${String(error)}`);
    expect(error.message).not.toContain("hunter2");
    return { message: error.message, ...verdict(error, 0).failure };
  }

  test("invalid_auth is for an operator to put right", async () => {
    expect(await failure(200, {}, '{"ok":false,"error":"invalid_auth"}')).toMatchObject({
      chance: "never",
      message: expect.stringContaining("invalid_auth"),
    });
  });

  test("an error of its own is over in a while", async () => {
    expect(await failure(200, {}, '{"ok":false,"error":"internal_error"}')).toMatchObject({ chance: "again" });
  });

  test("429 says until when", async () => {
    expect(await failure(429, { "retry-after": "30" }, '{"ok":false,"error":"ratelimited"}')).toMatchObject({
      chance: "later",
      at: 30_000,
    });
  });

  test.each(["", "<html>", "null", "[]", '{"ok":"true"}', '{"ok":false}', '{"ok":false,"error":{}}'])(
    "%j does not count as sent",
    async (body) => {
      await failure(200, {}, body);
    },
  );

  test("a redirect is not followed: the token goes to Slack only", async () => {
    const elsewhere = await listen(status(200, {}, '{"ok":true}'));
    await failure(302, { location: elsewhere.url });
    expect(elsewhere.heard).toEqual([]);
  });
});

describe("a click", () => {
  const now = 1_531_420_618_000;
  const body = "payload=%7B%22type%22%3A%22block_actions%22%7D";

  function sign(more: { secret?: string; timestamp?: string; body?: string; version?: string } = {}): Headers {
    const { secret = SIGNING_SECRET, timestamp = String(now / 1_000), version = "v0" } = more;
    const hash = createHmac("sha256", secret)
      .update(`${version}:${timestamp}:${more.body ?? body}`)
      .digest("hex");
    return new Headers({ "x-slack-request-timestamp": timestamp, "x-slack-signature": `${version}=${hash}` });
  }

  const isTaken = (headers: Headers, at = now, raw: string | Uint8Array = body) => {
    try {
      return verifySlack(raw, headers, SIGNING_SECRET, at) === headers.get("x-slack-signature");
    } catch (error) {
      expect(isError(error, "UNAUTHENTICATED")).toBe(true);
      return false;
    }
  };

  test("that Slack has signed is taken, also as bytes", () => {
    expect(isTaken(sign())).toBe(true);
    expect(isTaken(sign(), now, Buffer.from(body))).toBe(true);
  });

  test("as Slack's own example has it", () => {
    const example =
      "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const headers = new Headers({
      "x-slack-request-timestamp": "1531420618",
      "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    });
    expect(isTaken(headers, now, example)).toBe(true);
  });

  test("is taken for five minutes, and not for a second more, in either direction", () => {
    expect([300, 301, -300, -301].map((seconds) => isTaken(sign(), now + seconds * 1_000))).toEqual([true, false, true, false]);
  });

  test.each<[string, Headers]>([
    ["with another secret", sign({ secret: "another" })],
    ["of another body", sign({ body: `${body}&x=1` })],
    ["of another version", sign({ version: "v1" })],
    ["without a signature", new Headers({ "x-slack-request-timestamp": String(now / 1_000) })],
    ["without a time", new Headers({ "x-slack-signature": sign().get("x-slack-signature") ?? "" })],
    ["with no number as its time", sign({ timestamp: "NaN" })],
    ["with a time beside the number", sign({ timestamp: "1531420618.5" })],
    ["with a time before the signed one", new Headers({ ...Object.fromEntries(sign()), "x-slack-request-timestamp": "1531420619" })],
    ["with half a signature", new Headers({ ...Object.fromEntries(sign()), "x-slack-signature": "v0=a2114d57" })],
    ["with nothing", new Headers()],
  ])("%s is refused", (_what, headers) => {
    expect(isTaken(headers)).toBe(false);
  });

  test.each([undefined, null, 7, "", "one", { value: "x" }])("a value that is no button's says nothing (%j)", (value) => {
    expect(readButton(value)).toBeUndefined();
  });
});

describe("the settings of Slack", () => {
  const good = { token: "xoxb-1", signingSecret: SIGNING_SECRET, channel: "C1" };

  test.each([
    { token: "" },
    { token: "xoxb hunter2" },
    { signingSecret: "" },
    { channel: "" },
    { apiUrl: "http://slack.example" },
    { token: "a\r\nb: hunter2" },
  ])("%j is refused", (bad) => {
    const make = () => slack({ ...good, ...bad });
    expect(make).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
    expect(make).not.toThrow("hunter2");
  });

  test("its secrets do not show when it is printed", () => {
    expect(JSON.stringify(slack(good))).toBe('{"name":"slack","address":"slack"}');
  });
});
