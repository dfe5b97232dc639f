/** Who somebody is taken for: by a key, by the application's hook, at this machine; and what a key is for. */
import { describe, expect, test } from "vitest";
import { isError } from "../../src/errors.ts";
import { type ApiKey, type Scope, serve } from "../../src/server/server.ts";
import { testCrew } from "../../src/testing/crew.ts";
import { supportAgent } from "../supervision/ground.ts";
import { apiKeys, codeOf, errorOf, keyOf, openDesk, people, recordsOf, serveDesk } from "./desk.ts";
import { byHeader } from "./fixture.ts";

describe("a key", () => {
  const key = (more: object): (string | ApiKey)[] => [{ key: keyOf("k"), user: "u", ...more } as ApiKey];

  test.each<[what: string, keys: unknown]>([
    ["that is short", [{ key: "short", user: "u" }]],
    ["without a name", [{ key: keyOf("k") }]],
    ["of an empty tenant", key({ tenant: "" })],
    ["with roles that are no list", key({ roles: "operator" })],
    ["with a scope that there is not", key({ scopes: ["read", "write"] })],
    ["with a misspelt field", key({ persn: true })],
    ["that is perhaps a person's", key({ person: "yes" })],
    ["that is there twice", [...key({}), { key: keyOf("k"), user: "another" }]],
    ["that is there twice, once as a bare text", [...key({}), keyOf("k")]],
    ["that is nothing", [null]],
  ])("%s is refused before anything listens, and not told", async (_what, keys) => {
    await using crew = await testCrew([supportAgent([], [])]);
    const refused = await serve(crew, { port: 0, apiKeys: keys as ApiKey[] }).catch((error: unknown) => error);
    expect(isError(refused, "CONFIG_INVALID")).toBe(true);
    expect(String(refused)).not.toContain(keyOf("k"));
  });

  test("is a person's when it says so, and what is done by it stands under that name", async () => {
    const { say, crew } = await openDesk();
    await say("bo", "deny", { reason: "no receipt" });
    expect((await recordsOf(crew)).at(-1)).toMatchObject({
      action: "approval.denied",
      actor: { kind: "person", id: "bo" },
      channel: "api",
      reason: "no receipt",
    });
  });

  test("of a program has the roles that it was given, and none of a person's of the same name", async () => {
    const { say, get } = await openDesk({ serve: { apiKeys: [{ key: keyOf("program"), user: "ana" }, ...apiKeys] } });
    expect(await codeOf(await say("program"))).toMatch(/FORBIDDEN|NOT_FOUND/);
    expect(await (await get("/v1/approvals", "program")).json()).toMatchObject({ approvals: [] });
  });

  test("without a role sees its own runs only", async () => {
    const { get, run, post } = await openDesk({ serve: { apiKeys: [{ key: keyOf("program"), user: "shop" }, ...apiKeys] } });
    expect((await get(`/v1/runs/${run.id}`, "program")).status).toBe(404);
    const own = (await (await post("/v1/agents/support/runs", "program", { prompt: "Hi" })).json()) as { id: string };
    expect((await get(`/v1/runs/${own.id}`, "program")).status).toBe(200);
  });
});

describe("a scope", () => {
  const SCOPES: Scope[] = ["read", "start", "steer", "decide", "stop", "audit"];
  const keys = SCOPES.map((scope) => ({ key: keyOf(scope), user: "ana", person: true, roles: ["operator"], scopes: [scope] }));

  test("opens what it is for, and nothing else", async () => {
    const { get, post, run, id } = await openDesk({ serve: { apiKeys: keys } });
    const chat = { id: "c", messages: [{ id: "m", role: "user", parts: [{ type: "text", text: "Hi" }] }] };
    const asked: [scope: Scope, ask: (who: string) => Promise<Response>][] = [
      ["read", (who) => get("/v1/runs", who)],
      ["read", (who) => get(`/v1/runs/${run.id}`, who)],
      ["read", (who) => get("/v1/approvals", who)],
      ["read", (who) => get(`/v1/approvals/${id}`, who)],
      ["read", (who) => get("/v1/stops", who)],
      ["read", (who) => get("/v1/agents", who)],
      ["audit", (who) => get("/v1/audit", who)],
      ["audit", (who) => get("/v1/audit", who, { accept: "application/x-ndjson" })],
      ["start", (who) => post("/v1/agents/support/runs", who, {})],
      ["start", (who) => post("/v1/chat/nobody", who, chat)],
      ["steer", (who) => post(`/v1/runs/${run.id}/pause`, who, {})],
      ["steer", (who) => post(`/v1/runs/${run.id}/cancel`, who, { wrong: 1 })],
      ["steer", (who) => post(`/v1/runs/${run.id}/takeover`, who, { wrong: 1 })],
      ["steer", (who) => post(`/v1/runs/${run.id}/signal`, who, {})],
      ["steer", (who) => post(`/v1/runs/${run.id}/retry`, who, { wrong: 1 })],
      ["decide", (who) => post(`/v1/approvals/${id}/approve`, who, { wrong: 1 })],
      ["decide", (who) => post(`/v1/approvals/${id}/delegate`, who, {})],
      ["stop", (who) => post("/v1/stops", who, {})],
      ["stop", (who) => post("/v1/stops/lift", who, { wrong: 1 })],
    ];
    for (const [index, [needed, ask]] of asked.entries()) {
      for (const scope of SCOPES) {
        const response = await ask(scope);
        if (scope === needed) expect(response.status, `${index} ${scope}`).not.toBe(403);
        else
          expect([response.status, (await errorOf(response)).detail], `${index} ${scope}`).toEqual([403, expect.stringContaining(needed)]);
      }
    }
  });

  test("to begin a chat is none to answer what it asks", async () => {
    const { post, crew, id } = await openDesk({ policy: { by: "requester" }, serve: { apiKeys: keys } });
    const part = { type: "tool-refund", toolCallId: "c", state: "approval-responded", input: {}, approval: { id, approved: true } };
    const answer = { id: "c", messages: [{ id: "m", role: "assistant", parts: [part] }] };
    expect((await errorOf(await post("/v1/chat/support", "start", answer))).detail).toContain("decide");
    expect((await crew.approval(id)).status).toBe("open");
  });
});

describe("the application's own users", () => {
  const desk = () => openDesk({ serve: { apiKeys: [], authenticate: byHeader } });
  const as = (user: string) => ({ "x-user": user });

  test("are people, and decide with the roles that the application gives", async () => {
    const { server, id, crew, run, ledger } = await desk();
    const approve = (user: string) =>
      fetch(`${server.url}/v1/approvals/${id}/approve`, {
        method: "POST",
        body: "{}",
        headers: { "content-type": "application/json", ...as(user) },
      });
    expect((await approve("default/tess")).status).toBe(404);
    expect((await approve("other/tess/finance")).status).toBe(404);
    expect((await approve("default/customer/finance")).status).toBe(403); // nobody for themselves
    expect((await approve("default/tess/finance")).status).toBe(200);
    await crew.settle(run);
    expect(ledger).toHaveLength(1);
  });

  test("have the configuration's roles as well, also to be operators; and both count when they decide", async () => {
    const named = { ...people, tess: { slack: "U0TESS" }, olga: { roles: ["operator"] } };
    const { server, id, crew } = await openDesk({ people: named, serve: { apiKeys: [], authenticate: byHeader } });
    expect((await fetch(`${server.url}/v1/approvals?all=true`, { headers: as("default/olga") })).status).toBe(200);
    expect((await fetch(`${server.url}/v1/approvals?all=true`, { headers: as("other/olga") })).status).toBe(403); // another olga
    const headers = { "content-type": "application/json", ...as("default/tess/finance") };
    await fetch(`${server.url}/v1/approvals/${id}/approve`, { method: "POST", body: "{}", headers });
    expect((await crew.approval(id)).verdict).toMatchObject({ outcome: "approved", by: ["tess"] }); // known by Slack, a role by the token
  });
});

test("without keys whoever sits at this machine is a person, and still nobody for themselves", async () => {
  const { crew, id } = await openDesk();
  const { server } = await serveDesk(crew, { apiKeys: [] });
  const approve = (one: string) =>
    fetch(`${server.url}/v1/approvals/${one}/approve`, { method: "POST", body: "{}", headers: { "content-type": "application/json" } });
  expect((await approve(id)).status).toBe(403); // an operator, and not of finance
  const own = await openDesk({ policy: { by: "role:operator" } });
  const local = await serveDesk(own.crew, { apiKeys: [] });
  const url = `${local.server.url}/v1/approvals/${own.id}/approve`;
  expect((await fetch(url, { method: "POST", body: "{}", headers: { "content-type": "application/json" } })).status).toBe(200);
  const started = await fetch(`${local.server.url}/v1/agents/support/runs`, {
    method: "POST",
    body: JSON.stringify({ prompt: "Hi" }),
    headers: { "content-type": "application/json" },
  });
  expect(started.status).toBe(202);
});
