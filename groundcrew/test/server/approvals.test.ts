/** Approvals over HTTP: who may see and decide what, by keys, tokens, Slack and links; and what is refused. */
import { createHmac } from "node:crypto";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { makeLink } from "../../src/notify/link.ts";
import { slack } from "../../src/notify/slack.ts";
import { buttonValue } from "../../src/notify/slack-message.ts";
import type { Run } from "../../src/runtime.ts";
import { type AccessOptions, type Serving, serve } from "../../src/server/server.ts";
import type { TestCrew } from "../../src/testing/crew.ts";
import { ask, type Desk, open, refunds } from "../supervision/ground.ts";

const SECRET = "a secret of more than 32 characters, for links";
const SIGNING = "slacks-signing-secret";
const key = (name: string) => `${name}-`.padEnd(40, "0");

const people = {
  ana: { roles: ["finance"], slack: "U0ANA", email: "ana@example.com" },
  bo: { roles: ["finance"], slack: "U0BO" },
};
const apiKeys = [
  key("service"),
  { key: key("ana"), user: "ana", person: true },
  { key: key("bo"), user: "bo", person: true },
  { key: key("agent"), user: "agent", roles: ["finance", "operator"] },
  { key: key("reader"), user: "ana", person: true, scopes: ["read"] as const },
  { key: key("customer"), user: "customer", person: true },
  { key: key("stranger"), user: "zoe", person: true },
  { key: key("abroad"), user: "olga", person: true, tenant: "other", roles: ["operator", "finance"] },
  { key: key("olga"), user: "olga", person: true, roles: ["operator"] },
];

let desk: Desk;
let crew: TestCrew;
let server: Serving;
let run: Run;
let id: string;
let jwks: { keys: object[] };
let privateKey: Parameters<SignJWT["sign"]>[0];

beforeAll(async () => {
  const pair = await generateKeyPair("RS256");
  privateKey = pair.privateKey;
  jwks = { keys: [{ ...(await exportJWK(pair.publicKey)), kid: "k1", alg: "RS256" }] };
});

async function begin(access: AccessOptions = {}): Promise<void> {
  const channels = [slack({ token: "xoxb-none", signingSecret: SIGNING, channel: "C1", apiUrl: "http://127.0.0.1:9/" })];
  desk = await open([refunds(250), "Done."], {}, { people, supervision: { channels, secret: SECRET }, onTrouble: () => {} });
  crew = desk.crew;
  const jwt = { issuer: "https://id.example", audience: "crew", jwks: jwks as never, roles: "groups" };
  server = await serve(crew, { port: 0, apiKeys: apiKeys as never, jwt, report: () => {}, ...access });
  run = await ask(crew);
  id = (await crew.approvals())[0]?.id ?? "";
}

beforeEach(() => begin());
afterEach(() => server.close());

function send(path: string, who: string, body?: unknown, headers: Record<string, string> = {}): Promise<Response> {
  const authorization = { authorization: `Bearer ${who.includes(".") ? who : key(who)}` };
  const init = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  return fetch(`${server.url}${path}`, { ...init, headers: { "content-type": "application/json", ...authorization, ...headers } });
}

const approve = (who: string, body: unknown = {}) => send(`/v1/approvals/${id}/approve`, who, body);
const codeOf = async (response: Response) => ((await response.json()) as { error: { code: string } }).error.code;

describe("over HTTP", () => {
  test("an inbox holds what one may decide, and nothing else", async () => {
    const inbox = async (who: string) => ((await (await send("/v1/approvals", who)).json()) as { approvals: { id: string }[] }).approvals;
    expect(await inbox("ana")).toMatchObject([{ id, request: { input: { order: "o1", amount: 250 } } }]);
    for (const who of ["service", "agent", "customer", "stranger", "abroad", "olga"]) expect(await inbox(who), who).toEqual([]);
    expect((await send("/v1/approvals?all=true", "ana")).status).toBe(403);
    expect(await (await send("/v1/approvals?all=true", "olga")).json()).toMatchObject({ approvals: [{ id }] });
  });

  test("only those who are asked decide; a key that is nobody's never does, whatever its roles", async () => {
    expect(await codeOf(await approve("service"))).toBe("FORBIDDEN");
    expect(await codeOf(await approve("agent"))).toBe("FORBIDDEN");
    expect(await codeOf(await approve("customer"))).toBe("FORBIDDEN");
    expect(await codeOf(await approve("reader"))).toBe("FORBIDDEN");
    expect(await codeOf(await approve("olga"))).toBe("FORBIDDEN");
    for (const who of ["stranger", "abroad"]) expect((await approve(who)).status, who).toBe(404);
    expect(desk.ledger).toEqual([]);
    expect((await approve("ana")).status).toBe(200);
    await crew.settle(run);
    expect(desk.ledger).toHaveLength(1);
  });

  test("the second to decide is told who was first, and when", async () => {
    const both = await Promise.all([approve("ana"), approve("bo")]);
    expect(both.map(({ status }) => status).sort()).toEqual([200, 409]);
    const late = both.find(({ status }) => status === 409);
    expect(await late?.json()).toMatchObject({
      error: { code: "APPROVAL_ENDED", detail: expect.stringMatching(/approved by (ana|bo) at 20\d\d-/) },
    });
    expect((await approve("ana")).status).toBe(409); // a double click
  });

  test("what is no decision is refused before anything is asked of it", async () => {
    expect((await send(`/v1/approvals/${id}/deny`, "ana", {})).status).toBe(400);
    expect((await approve("ana", { input: { order: 1, amount: "x" } })).status).toBe(400);
    expect((await approve("ana", { input: { order: "o1", amount: 1, more: true } })).status).toBe(400);
    expect((await approve("ana", { aproved: true })).status).toBe(400);
    expect((await approve("ana", { input: { order: "x".repeat(5_000_000), amount: 1 } })).status).toBe(413);
    expect((await approve("ana", { similar: { uses: 0, within: "1h" } })).status).toBe(400);
    expect((await send("/v1/approvals/nonsense/approve", "ana", {})).status).toBe(404);
    expect((await crew.approval(id)).status).toBe("open");
  });

  test("an owner who may not decide sees what is asked, and not who is, nor what they said", async () => {
    const view = (await (await send(`/v1/approvals/${id}`, "customer")).json()) as {
      to: string[];
      request: { why: string; input: unknown };
    };
    expect(view).toMatchObject({ to: [], votes: [], request: { why: "", input: { order: "o1", amount: 250 } } });
    const told = await (await send(`/v1/runs/${run.id}`, "customer")).text();
    expect(told).not.toContain("finance");
  });

  test("somebody with a token is that person, with the roles that it gives", async () => {
    const token = (claims: object, more: Partial<{ iss: string; aud: string; exp: string }> = {}) =>
      new SignJWT({ groups: ["finance"], ...claims })
        .setProtectedHeader({ alg: "RS256", kid: "k1" })
        .setIssuer(more.iss ?? "https://id.example")
        .setAudience(more.aud ?? "crew")
        .setSubject("tess")
        .setExpirationTime(more.exp ?? "5m")
        .sign(privateKey);
    const none = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${Buffer.from('{"sub":"tess","groups":["finance"]}').toString("base64url")}.`;
    const bad = [
      await token({}, { iss: "https://evil.example" }),
      await token({}, { aud: "other" }),
      await token({}, { exp: "-5m" }),
      none,
    ];
    for (const one of bad) expect((await send(`/v1/approvals/${id}/approve`, one, {})).status).toBe(401);
    const hs = await new SignJWT({ groups: ["finance"] })
      .setProtectedHeader({ alg: "HS256" })
      .setIssuer("https://id.example")
      .setAudience("crew")
      .setSubject("tess")
      .setExpirationTime("5m")
      .sign(Buffer.from(JSON.stringify(jwks.keys[0])));
    expect((await send(`/v1/approvals/${id}/approve`, hs, {})).status).toBe(401);
    expect((await send(`/v1/approvals/${id}/approve`, await token({ groups: [] }), {})).status).toBe(404);
    const approved = await send(`/v1/approvals/${id}/approve`, await token({}), {});
    expect(await approved.json()).toMatchObject({ verdict: { by: ["tess"] } });
  });

  test("steering, stops and the audit log are for operators, and stops for those who run the service", async () => {
    expect((await send(`/v1/runs/${run.id}/pause`, "customer", { why: "x" })).status).toBe(403);
    expect((await send(`/v1/runs/${run.id}/pause`, "olga", { why: "look" })).status).toBe(202);
    expect((await send(`/v1/runs/${run.id}/resume`, "olga", {})).status).toBe(202);
    expect((await send("/v1/stops", "abroad", { why: "x" })).status).toBe(403);
    expect(await (await send("/v1/stops", "olga", { why: "harm" })).json()).toMatchObject({ stop: { agent: "*", by: "olga" } });
    expect(await (await send("/v1/stops", "olga")).json()).toMatchObject({ stops: [{ why: "harm" }] });
    expect(await (await send("/v1/stops/lift", "olga", {})).json()).toEqual({ lifted: true });
    expect((await send("/v1/audit", "ana")).status).toBe(403);
    const { records } = (await (await send("/v1/audit", "olga")).json()) as { records: { record: string }[] };
    expect(records.map(({ record }) => JSON.parse(record).action)).toEqual([
      "approval.requested",
      "run.paused",
      "run.resumed",
      "stop.set",
      "stop.lifted",
    ]);
  });
});

describe("in Slack", () => {
  function click(user: string, { action = "approve", value = "", at = Date.now(), secret = SIGNING } = {}): Promise<Response> {
    const payload = { type: "block_actions", user: { id: user }, actions: [{ action_id: action, value }] };
    const body = new URLSearchParams({ payload: JSON.stringify(payload) }).toString();
    const timestamp = String(Math.floor(at / 1_000));
    const signature = `v0=${createHmac("sha256", secret).update(`v0:${timestamp}:${body}`).digest("hex")}`;
    const headers = {
      "content-type": "application/x-www-form-urlencoded",
      "x-slack-request-timestamp": timestamp,
      "x-slack-signature": signature,
    };
    return fetch(`${server.url}/v1/channels/slack`, { method: "POST", headers, body });
  }
  const button = async () => buttonValue(id, (await crew.approval(id)).request.hash);
  const textOf = async (response: Response) => ((await response.json()) as { text: string }).text;

  test("a click decides, and every click gets an answer, also of those who may not, or come too late", async () => {
    const value = await button();
    expect(await textOf(await click("U0NOBODY", { value }))).toContain("not known");
    expect(await textOf(await click("U0ANA", { value: "forged" }))).toContain("not one of ours");
    expect(await textOf(await click("U0ANA", { value }))).toMatch(/^approved by ana at /);
    expect(await textOf(await click("U0BO", { value }))).toMatch(/is approved by ana at /);
    await crew.settle(run);
    expect(desk.ledger).toHaveLength(1);
  });

  test("what Slack has not signed, or has signed long ago, changes nothing", async () => {
    const value = await button();
    expect((await click("U0ANA", { value, secret: "another" })).status).toBe(401);
    expect((await click("U0ANA", { value, at: Date.now() - 10 * 60_000 })).status).toBe(401);
    expect((await click("U0ANA", { value, at: Date.now() + 10 * 60_000 })).status).toBe(401);
    expect((await crew.approval(id)).status).toBe("open");
  });

  test("a button beside other arguments than those on the table decides nothing", async () => {
    const value = buttonValue(id, "0".repeat(64));
    expect(await textOf(await click("U0ANA", { value }))).toContain("edited since");
    expect((await crew.approval(id)).status).toBe("open");
  });
});

describe("by a link", () => {
  const linkFor = (user: string, more: object = {}) =>
    `${server.url}/v1/link/${makeLink(SECRET, { approval: id, user, tenant: "default", delivery: `email/${user}`, expires: Date.now() + 60_000, ...more })}`;
  const post = async (url: string, decision: string, reason = "") => {
    const { hash } = (await crew.approval(id)).request;
    return fetch(url, { method: "POST", body: new URLSearchParams({ decision, reason, hash }) });
  };

  test("a scanner that opens it, however often, changes nothing; the form decides, once", async () => {
    const url = linkFor("ana");
    for (let n = 0; n < 3; n++) expect(await (await fetch(url)).text()).toContain("support asks to call refund");
    await fetch(url, { method: "HEAD" });
    expect((await crew.approval(id)).status).toBe("open");
    expect(await (await post(url, "approve")).text()).toContain("approved by ana");
    await post(url, "deny");
    expect((await crew.approval(id)).status).toBe("approved");
    expect(await (await fetch(url)).text()).toContain("Already decided");
    await crew.settle(run);
    expect(desk.ledger).toHaveLength(1);
  });

  test("one that was altered, has run out, or is somebody's who lost the role, decides nothing", async () => {
    const url = linkFor("ana");
    const altered = url.replace(/.$/, (last) => (last === "A" ? "B" : "A"));
    expect((await fetch(altered)).status).toBeGreaterThanOrEqual(400);
    expect((await post(linkFor("ana", { expires: Date.now() - 1 }), "approve")).status).toBeGreaterThanOrEqual(400);
    expect((await post(linkFor("gone"), "approve")).status).toBeGreaterThanOrEqual(400);
    expect((await post(linkFor("customer"), "approve")).status).toBeGreaterThanOrEqual(400);
    expect((await crew.approval(id)).status).toBe("open");
  });

  test("hostile arguments are shown complete, and do nothing", async () => {
    const nasty = `<script>alert(1)</script>\u202eevil <!channel> ${"x".repeat(10_000)}`;
    const { crew: other } = await open(
      [{ calls: [{ tool: "refund", input: { order: nasty, amount: 1 } }] }, "no"],
      {},
      { people, supervision: { secret: SECRET } },
    );
    const served = await serve(other, { port: 0, apiKeys: [key("service")], report: () => {} });
    await ask(other);
    const approval = (await other.approvals())[0]?.id ?? "";
    const token = makeLink(SECRET, { approval, user: "ana", tenant: "default", delivery: "d", expires: Date.now() + 60_000 });
    const response = await fetch(`${served.url}/v1/link/${token}`);
    const html = await response.text();
    await served.close();
    expect(html).not.toContain("<script>alert");
    expect(html).not.toContain("\u202e");
    expect(html).toContain("x".repeat(10_000));
    expect(response.headers.get("content-security-policy")).toContain("default-src 'none'");
  });
});
