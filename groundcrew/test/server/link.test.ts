/** Links in messages: what opens one sees, and changes nothing; who posts decides, once, as the person it is for. */

import { tool } from "ai";
import { expect, test } from "vitest";
import { z } from "zod";
import { agent } from "../../src/agent.ts";
import { type Link, makeLink } from "../../src/notify/link.ts";
import { testCrew } from "../../src/testing/crew.ts";
import { scriptedModel } from "../../src/testing/model.ts";
import { escalation } from "../../src/tool/escalation.ts";
import { HOSTILE } from "../notify/ground.ts";
import { ask } from "../supervision/ground.ts";
import { openDesk, people, recordsOf, SECRET, type ServedDesk, serveDesk } from "./desk.ts";

function linkFor({ server, id }: Pick<ServedDesk, "server" | "id">, user: string, more: Partial<Link> = {}, secret = SECRET): string {
  const token = makeLink(secret, {
    approval: id,
    user,
    tenant: "default",
    delivery: `email/requested/${id}`,
    expires: Date.now() + 60_000,
    ...more,
  });
  return `${server.url}/v1/link/${token}`;
}

/** The form's hidden field. */
const hashOn = (html: string) => /name="hash" value="([^"]*)"/.exec(html)?.[1] ?? "";

/** As a browser does: looks at the page, then sends its form. */
async function press(url: string, decision: string, reason = ""): Promise<Response> {
  const hash = hashOn(await (await fetch(url)).text());
  // Under the page's `no-referrer` a browser says `null` for where the form stands.
  return fetch(url, { method: "POST", body: new URLSearchParams({ decision, reason, hash }), headers: { origin: "null" } });
}

test("a scanner that opens it, however often, changes nothing; the form decides, once", async () => {
  const desk = await openDesk();
  const url = linkFor(desk, "ana");
  for (let n = 0; n < 3; n++) expect(await (await fetch(url)).text()).toContain("support asks to call refund");
  for (const decision of ["approve", "deny"]) await fetch(`${url}?decision=${decision}`);
  expect(await desk.crew.approval(desk.id)).toMatchObject({ status: "open", votes: [] });
  expect(await (await press(url, "approve", "all in order")).text()).toMatch(/approved by ana at 20/);
  expect((await desk.crew.approval(desk.id)).verdict).toMatchObject({ by: ["ana"], channel: "link", reason: "all in order" });
  const again = await fetch(url, { method: "POST", body: new URLSearchParams({ decision: "deny", hash: "x" }) });
  expect([again.status, await again.text()]).toEqual([409, expect.stringContaining("approved by ana")]);
  expect(await (await fetch(url)).text()).toContain("Already decided");
  await desk.crew.settle(desk.run);
  expect(desk.ledger).toHaveLength(1);
});

test("who looked is on record; a HEAD looks at nothing", async () => {
  const desk = await openDesk();
  const url = linkFor(desk, "ana");
  const head = await fetch(url, { method: "HEAD" });
  expect([head.status, await head.text()]).toEqual([200, ""]);
  const viewed = async () => (await recordsOf(desk.crew)).filter(({ action }) => action === "approval.viewed");
  expect(await viewed()).toEqual([]);
  await fetch(url);
  expect(await viewed()).toMatchObject([{ actor: { kind: "person", id: "ana" }, channel: "link" }]);
});

test("a denial is told with its reason, and nothing runs", async () => {
  const desk = await openDesk();
  expect(await (await press(linkFor(desk, "bo"), "deny", "no receipt")).text()).toContain("denied by bo");
  expect((await desk.crew.approval(desk.id)).verdict).toMatchObject({ outcome: "denied", reason: "no receipt" });
  await desk.crew.settle(desk.run);
  expect(desk.ledger).toEqual([]);
});

test("a link is good for one word, also while others have to agree; another link of the same person counts once more for nobody", async () => {
  const desk = await openDesk({ policy: { quorum: 2 } });
  const url = linkFor(desk, "ana");
  expect(await (await press(url, "approve")).text()).toContain("1 of 2 people have agreed");
  const again = await press(url, "approve");
  expect([again.status, await again.text()]).toEqual([403, expect.stringContaining("has been used")]);
  const reminder = linkFor(desk, "ana", { delivery: "email/reminded/1" });
  expect(await (await press(reminder, "approve")).text()).toContain("1 of 2 people have agreed");
  expect((await desk.crew.approval(desk.id)).status).toBe("open");
  expect(await (await press(linkFor(desk, "bo"), "approve")).text()).toContain("approved by ana and bo");
});

test.each<[what: string, link: (desk: ServedDesk) => string]>([
  ["was altered", (desk) => linkFor(desk, "ana").replace(/.$/, (last) => (last === "A" ? "E" : "A"))],
  ["was cut off", (desk) => linkFor(desk, "ana").slice(0, -5)],
  ["has run out", (desk) => linkFor(desk, "ana", { expires: Date.now() - 1 })],
  ["is signed with another secret", (desk) => linkFor(desk, "ana", {}, "another secret of more than 32 characters")],
  ["is of somebody who is not known any more", (desk) => linkFor(desk, "gone")],
  ["is of somebody who may not decide", (desk) => linkFor(desk, "customer")],
  ["is of another tenant", (desk) => linkFor(desk, "ana", { tenant: "other" })],
  ["is about nothing", (desk) => linkFor({ ...desk, id: "run_0.1" }, "ana")],
  ["is nonsense", (desk) => `${desk.server.url}/v1/link/%3Cscript%3E`],
])("a link that %s shows nothing and decides nothing", async (_what, make) => {
  const desk = await openDesk();
  const url = make(desk);
  const shown = await fetch(url);
  expect(shown.status).toBeGreaterThanOrEqual(400);
  const html = await shown.text();
  expect(html).toMatch(/^<!doctype html>/);
  expect(html).not.toMatch(/<form|250|<script/);
  const { hash } = (await desk.crew.approval(desk.id)).request;
  const posted = await fetch(url, { method: "POST", body: new URLSearchParams({ decision: "approve", hash }) });
  expect(posted.status).toBeGreaterThanOrEqual(400);
  expect(await desk.crew.approval(desk.id)).toMatchObject({ status: "open", votes: [] });
});

test("whoever has lost the role since it was sent sees nothing more by it", async () => {
  const desk = await openDesk({ people: { ...people, ana: { email: "ana@example.com" } } });
  const shown = await fetch(linkFor(desk, "ana"));
  expect([shown.status, await shown.text()]).toEqual([403, expect.not.stringContaining("250")]);
});

test("whoever is not known any more decides nothing by it, also where the rules name them", async () => {
  const desk = await openDesk({ policy: { by: ["role:finance", "user:gone"] } });
  const { hash } = (await desk.crew.approval(desk.id)).request;
  const posted = await fetch(linkFor(desk, "gone"), { method: "POST", body: new URLSearchParams({ decision: "approve", hash }) });
  expect([posted.status, await posted.text()]).toEqual([403, expect.stringContaining("not any more")]);
  expect(await desk.crew.approval(desk.id)).toMatchObject({ status: "open", votes: [] });
});

test("what was edited since the page was opened is not agreed to by it", async () => {
  const desk = await openDesk({ policy: { quorum: 2 } });
  const url = linkFor(desk, "ana");
  const hash = hashOn(await (await fetch(url)).text());
  await desk.say("bo", "approve", { input: { order: "o1", amount: 9_000 } });
  const stale = await fetch(url, { method: "POST", body: new URLSearchParams({ decision: "approve", hash }) });
  expect([stale.status, await stale.text()]).toEqual([400, expect.stringContaining("edited since")]);
  expect(await (await fetch(url)).text()).toMatch(/edited since.*9000.*first asked for.*250/s);
  expect(await desk.crew.approval(desk.id)).toMatchObject({ status: "open", votes: [{ by: "bo" }] });
});

test("what is no decision is refused: no button, another word, no page before it, a reason without end", async () => {
  const desk = await openDesk();
  const url = linkFor(desk, "ana");
  const { hash } = (await desk.crew.approval(desk.id)).request;
  const post = (form: Record<string, string>) => fetch(url, { method: "POST", body: new URLSearchParams(form) });
  for (const form of [
    { hash },
    { hash, decision: "yes" },
    { decision: "approve" },
    { decision: "approve", hash: "" },
    { hash, decision: "delegate", to: "user:zoe" },
  ]) {
    expect((await post(form as Record<string, string>)).status, JSON.stringify(form)).toBe(400);
  }
  expect((await post({ hash, decision: "answer", reason: "42" })).status).toBe(400); // it is no question
  expect((await post({ hash, decision: "approve", reason: "x".repeat(2_001) })).status).toBe(400);
  expect((await post({ hash, decision: "approve", reason: "x".repeat(40_000) })).status).toBe(413);
  expect(await desk.crew.approval(desk.id)).toMatchObject({ status: "open", votes: [] });
});

test("hostile arguments, names and reasons are shown whole and do nothing", async () => {
  const order = `${Object.values(HOSTILE).join(" ")}${"x".repeat(10_000)}`;
  const desk = await openDesk({
    script: [{ calls: [{ tool: "refund", input: { order, amount: 1 } }] }, "no"],
    policy: { approve: () => `${HOSTILE.html} ${HOSTILE.bidi}` },
  });
  const response = await fetch(linkFor(desk, "ana"));
  const html = await response.text();
  expect(html).toContain("x".repeat(10_000));
  for (const active of ["<script", "<img", "\u202e", "\u2066", "\u200d", "\u001b"]) expect(html).not.toContain(active);
  expect(html).toContain("⟨U+202E⟩");
  const tags = new Set([...html.matchAll(/<([a-z]\w*)/g)].map(([, tag]) => tag));
  const ours = [
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "h1",
    "h2",
    "pre",
    "form",
    "input",
    "p",
    "label",
    "br",
    "textarea",
    "button",
    "table",
    "tr",
    "th",
    "td",
  ];
  expect([...tags].filter((tag) => !ours.includes(tag ?? ""))).toEqual([]);
  expect(Object.fromEntries(response.headers)).toMatchObject({
    "content-security-policy": expect.stringMatching(
      /^default-src 'none'; style-src 'sha256-[^']+'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'$/,
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-type": expect.stringContaining("text/html"),
  });
  expect(response.headers.get("set-cookie")).toBeNull();
});

test("a question is answered on its page", async () => {
  const model = scriptedModel([{ calls: [{ tool: "askHuman", input: { question: "May I?", findings: "nothing" } }] }, "Thanks."]);
  const lookup = tool({ inputSchema: z.object({}), execute: async () => "x" });
  const asking = agent("support", { model, tools: { lookup, askHuman: escalation({ to: "role:finance", within: "1d" }) } });
  await using crew = await testCrew([asking as never], { people, supervision: { secret: SECRET } });
  const run = await ask(crew);
  const [asked] = await crew.approvals();
  const { server } = await serveDesk(crew);
  const url = linkFor({ server, id: asked?.id ?? "" }, "ana");
  expect(await (await fetch(url)).text()).toContain("May I?");
  expect((await press(url, "approve")).status).toBe(400);
  expect((await press(url, "answer", "  ")).status).toBe(400);
  expect(await (await press(url, "answer", "Yes, but be quick")).text()).toContain("answered by ana");
  expect(await crew.settle(run)).toMatchObject({ output: "Thanks." });
});

test("without a secret there is no such door", async () => {
  const desk = await openDesk({ supervision: {} });
  expect((await fetch(linkFor(desk, "ana"))).status).toBe(401); // like any address that takes a key
});
