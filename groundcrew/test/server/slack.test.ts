/** Clicks in Slack: what is signed by it, decides as the person who clicked; every click gets an answer, and nothing else changes anything. */
import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { slack } from "../../src/notify/slack.ts";
import { buttonValue } from "../../src/notify/slack-message.ts";
import { HOSTILE } from "../notify/ground.ts";
import { until } from "../support/until.ts";
import { codeOf, openDesk, people, recordsOf, type ServedDesk, type Setting } from "./desk.ts";

const SIGNING = "slacks-signing-secret";

/** A server that speaks Slack's API, as far as it is used. */
async function slackServer() {
  const said: { path: string; body: { text?: string; response_type?: string } }[] = [];
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    said.push({ path: request.url ?? "", body: JSON.parse(text) });
    response.end('{"ok":true}');
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { said, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

async function desk(setting: Setting = {}, apiUrl = "http://127.0.0.1:9/") {
  const channels = [slack({ token: "xoxb-none", signingSecret: SIGNING, channel: "C1", apiUrl })];
  return openDesk({ supervision: { channels }, ...setting });
}

interface Click {
  action?: string;
  value?: unknown;
  at?: number;
  secret?: string;
  type?: string;
  url?: string;
}

/** As Slack sends a click of the member. */
async function requestOf({ crew, id }: ServedDesk, member: string, click: Click = {}) {
  const value = "value" in click ? click.value : buttonValue(id, (await crew.approval(id)).request.hash);
  const { action = "approve", at = Date.now(), secret = SIGNING, type = "block_actions", url } = click;
  const payload = { type, user: { id: member }, actions: [{ action_id: action, value }], ...(url !== undefined && { response_url: url }) };
  const body = new URLSearchParams({ payload: JSON.stringify(payload) }).toString();
  const timestamp = String(Math.floor(at / 1_000));
  const signature = `v0=${createHmac("sha256", secret).update(`v0:${timestamp}:${body}`).digest("hex")}`;
  const headers: Record<string, string> = {
    "content-type": "application/x-www-form-urlencoded",
    "x-slack-request-timestamp": timestamp,
    "x-slack-signature": signature,
  };
  return { body, headers };
}

const send = ({ server }: ServedDesk, init: { body: string; headers: Record<string, string> }) =>
  fetch(`${server.url}/v1/channels/slack`, { method: "POST", ...init });
const click = async (served: ServedDesk, member: string, how?: Click) => send(served, await requestOf(served, member, how));
const textOf = async (response: Response) => ((await response.json()) as { text: string }).text;

test("a click decides as the person whose member id it is, once, and everybody after is told who and when", async () => {
  const served = await desk();
  const first = await click(served, "U0ANA");
  expect(first.status).toBe(200);
  expect(await first.json()).toMatchObject({
    response_type: "ephemeral",
    replace_original: false,
    text: expect.stringMatching(/^approved by ana at 20/),
  });
  expect(await textOf(await click(served, "U0BO", { action: "deny" }))).toMatch(/is approved by ana at 20/);
  await served.crew.settle(served.run);
  expect(served.ledger).toHaveLength(1);
  expect((await served.crew.approval(served.id)).verdict).toMatchObject({ by: ["ana"], channel: "slack" });
});

test("a denial says where it came from", async () => {
  const served = await desk();
  expect(await textOf(await click(served, "U0BO", { action: "deny" }))).toMatch(/^denied by bo at/);
  expect((await served.crew.approval(served.id)).verdict).toMatchObject({ reason: "denied in Slack" });
  await served.crew.settle(served.run);
  expect(served.ledger).toEqual([]);
});

test("those who are not known, or may not, are told so, and what they tried is on record", async () => {
  const served = await desk({
    people: { ...people, zoe: { slack: "U0ZOE" }, abel: { slack: "U0ABEL", tenant: "other", roles: ["finance"] } },
  });
  expect(await textOf(await click(served, "U0NOBODY"))).toContain("not known");
  for (const member of ["U0ZOE", "U0ABEL", "U0CUSTOMER"])
    expect(await textOf(await click(served, member)), member).toContain("may not decide");
  expect(await served.crew.approval(served.id)).toMatchObject({ status: "open", votes: [] });
  const refused = (await recordsOf(served.crew)).filter(({ action }) => action === "approval.refused");
  expect(refused).toMatchObject([{ actor: { id: "zoe" }, channel: "slack" }, { actor: { id: "customer" } }]);
});

test("what comes too late is told what it has become", async () => {
  const served = await desk({ policy: { within: "1h" } });
  served.crew.clock.jump(2 * 3_600_000);
  expect(await textOf(await click(served, "U0ANA"))).toContain("expired");
  const gone = await desk();
  await gone.run.cancel("not needed");
  await gone.crew.settle(gone.run);
  expect(await textOf(await click(gone, "U0ANA"))).toContain("cancelled");
  expect(await textOf(await click(gone, "U0ANA", { value: buttonValue("run_0000.1", "h") }))).toBe('There is no approval "run_0000.1".');
});

test("one person by Slack and by the API is one of a quorum", async () => {
  const served = await desk({ policy: { quorum: 2 } });
  expect(await textOf(await click(served, "U0ANA"))).toBe("Noted. 1 of 2 people have agreed.");
  expect((await served.say("ana")).status).toBe(200);
  expect(await served.crew.approval(served.id)).toMatchObject({ status: "open", votes: [{ by: "ana" }] });
  expect(await textOf(await click(served, "U0BO"))).toMatch(/^approved by ana and bo/);
});

test("what Slack has not signed, signed long ago or ahead of time, or signed otherwise, changes nothing", async () => {
  const served = await desk();
  const { body, headers } = await requestOf(served, "U0ANA");
  const old = (await requestOf(served, "U0ANA", { at: Date.now() - 302_000 })).headers;
  const bad: [what: string, body: string, headers: Record<string, string>][] = [
    ["another secret", body, (await requestOf(served, "U0ANA", { secret: "another" })).headers],
    ["long ago", body, old],
    ["ahead of time", body, (await requestOf(served, "U0ANA", { at: Date.now() + 302_000 })).headers],
    ["an old signature with a new time", body, { ...old, "x-slack-request-timestamp": String(Math.floor(Date.now() / 1_000)) }],
    ["no signature", body, { "x-slack-request-timestamp": headers["x-slack-request-timestamp"] ?? "" }],
    ["no time", body, { "x-slack-signature": headers["x-slack-signature"] ?? "" }],
    ["a time that is none", body, { ...headers, "x-slack-request-timestamp": "1e9" }],
    ["a part of the signature", body, { ...headers, "x-slack-signature": (headers["x-slack-signature"] ?? "").slice(0, 20) }],
    ["the body written anew", `${body}&`, headers],
    ["somebody else's body", body.replace("U0ANA", "U0BO"), headers],
  ];
  for (const [what, sent, with_] of bad) {
    const response = await send(served, { body: sent, headers: with_ });
    expect([response.status, await codeOf(response)], what).toEqual([401, "UNAUTHENTICATED"]);
  }
  expect((await send(served, { body: "x".repeat(3_000_000), headers })).status).toBe(413);
  expect(await served.crew.approval(served.id)).toMatchObject({ status: "open", votes: [] });
  expect((await send(served, { body, headers })).status).toBe(200); // it was good all along
});

test("a click that somebody has listened to is not taken a second time", async () => {
  const served = await desk({ policy: { quorum: 2 } });
  const request = await requestOf(served, "U0ANA");
  expect((await send(served, request)).status).toBe(200);
  const again = await send(served, request);
  expect([again.status, await codeOf(again)]).toEqual([401, "UNAUTHENTICATED"]);
  expect((await recordsOf(served.crew)).filter(({ action }) => action.startsWith("approval.voted"))).toHaveLength(1);
});

test("what is no button of ours decides nothing, whatever it is called", async () => {
  const served = await desk();
  for (const action of ["approve_all", "groundcrew.approve", "open_link", "", "APPROVE", "constructor"]) {
    expect(await textOf(await click(served, "U0ANA", { action })), action).toContain("not one of ours");
  }
  for (const value of ["forged", "", null, 7, { approval: served.id }]) {
    expect(await textOf(await click(served, "U0ANA", { value })), String(value)).toContain("not one of ours");
  }
  expect((await click(served, "U0ANA", { type: "view_submission" })).status).toBe(400);
  expect((await served.crew.approval(served.id)).status).toBe("open");
});

test("a button beside other arguments than those on the table decides nothing", async () => {
  const served = await desk({ policy: { quorum: 2 } });
  const before = await requestOf(served, "U0ANA");
  await served.say("bo", "approve", { input: { order: "o1", amount: 9_000 } });
  expect(await textOf(await send(served, before))).toContain("edited since");
  expect(await textOf(await click(served, "U0ANA", { value: buttonValue(served.id, "0".repeat(64)) }))).toContain("edited since");
  expect(await served.crew.approval(served.id)).toMatchObject({ status: "open", votes: [{ by: "bo" }] });
});

test("whoever clicks sees what came of it: it is told at the click's own address, inert, and at no other server's", async () => {
  const api = await slackServer();
  const served = await desk({}, `${api.url}/api/`);
  const asked = api.said.length;
  await click(served, "U0ANA", { url: `${api.url}/actions/1` });
  const answer = await until("it is told", () => api.said.find(({ path }) => path === "/actions/1"));
  expect(answer.body).toMatchObject({ response_type: "ephemeral", text: expect.stringMatching(/^approved by ana/), mrkdwn: false });
  const elsewhere = await slackServer();
  for (const url of [`${elsewhere.url}/actions/1`, "https://evil.example/", "http://169.254.169.254/", "nonsense"]) {
    expect((await click(served, "U0BO", { url })).status).toBe(200);
  }
  expect(elsewhere.said).toEqual([]);
  expect(api.said.slice(asked).filter(({ path }) => path.startsWith("/actions"))).toHaveLength(1);
});

test("a store that takes its time keeps nobody waiting: Slack is answered in time, and what came of it is told behind it", async () => {
  const api = await slackServer();
  const served = await desk({}, `${api.url}/api/`);
  const { promise: slow, resolve: goOn } = Promise.withResolvers<void>();
  const decide = served.crew.decide.bind(served.crew);
  served.crew.decide = async (...given) => {
    await slow;
    return decide(...given);
  };
  const begun = performance.now();
  expect(await textOf(await click(served, "U0ANA", { url: `${api.url}/actions/1` }))).toContain("the answer follows");
  expect(performance.now() - begun).toBeLessThan(3_000);
  goOn();
  const answer = await until("it is told", () => api.said.find(({ path }) => path === "/actions/1"));
  expect(answer.body.text).toMatch(/^approved by ana/);
});

test("a name that acts on Slack is told without effect", async () => {
  const served = await desk();
  await served.crew.decide(
    served.id,
    { do: "approve" },
    { tenant: "default", user: HOSTILE.slack, roles: ["finance"], kind: "person", channel: "api" },
  );
  const text = await textOf(await click(served, "U0ANA"));
  expect(text).toContain("&lt;!channel&gt;");
  expect(text).not.toMatch(/[<>]/);
});

test("without a Slack channel there is no such door", async () => {
  const served = await desk({ supervision: {} });
  expect((await click(served, "U0ANA")).status).toBe(401); // like any address that takes a key
  expect((await served.crew.approval(served.id)).status).toBe("open");
});
