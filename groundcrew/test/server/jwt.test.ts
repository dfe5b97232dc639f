/** Tokens of an identity provider: a real one over HTTP, with real signatures, and everything that can be wrong with it. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, type GenerateKeyPairResult, generateKeyPair, type JSONWebKeySet, type JWTPayload, SignJWT } from "jose";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { isError } from "../../src/errors.ts";
import { type JwtOptions, serve } from "../../src/server/server.ts";
import { testCrew } from "../../src/testing/crew.ts";
import { supportAgent } from "../supervision/ground.ts";
import { errorOf, openDesk, serveDesk } from "./desk.ts";

const ISSUER = "https://id.example";
let pair: GenerateKeyPairResult;
let other: GenerateKeyPairResult;
let jwks: JSONWebKeySet;

beforeAll(async () => {
  [pair, other] = await Promise.all([generateKeyPair("ES256", { extractable: true }), generateKeyPair("ES256")]);
  jwks = { keys: [{ ...(await exportJWK(pair.publicKey)), kid: "k1", alg: "ES256", use: "sig" }] };
});

interface Making {
  claims?: JWTPayload;
  /** Seconds from now; undefined: none. */
  exp?: number | undefined;
  nbf?: number;
  by?: GenerateKeyPairResult;
  kid?: string;
}

const now = () => Math.floor(Date.now() / 1_000);

function tokenOf({ claims = {}, by = pair, kid = "k1", nbf, ...rest }: Making = {}): Promise<string> {
  const exp = "exp" in rest ? rest.exp : 300;
  const times = { ...(exp !== undefined && { exp: now() + exp }), ...(nbf !== undefined && { nbf: now() + nbf }) };
  const payload = { iss: ISSUER, aud: "crew", sub: "tess", groups: ["finance"], ...times, ...claims };
  return new SignJWT(payload).setProtectedHeader({ alg: "ES256", kid }).sign(by.privateKey);
}

const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

async function desk(more: Partial<JwtOptions> = {}) {
  return openDesk({ serve: { apiKeys: [], jwt: { issuer: ISSUER, audience: "crew", jwks, roles: "groups", ...more } } });
}

test("whoever has a token is that person, with the roles that it gives", async () => {
  const { say, crew, id, run, ledger } = await desk();
  expect((await say(await tokenOf({ claims: { groups: [] } }))).status).toBe(404);
  expect((await say(await tokenOf())).status).toBe(200);
  expect((await crew.approval(id)).verdict).toMatchObject({ by: ["tess"] });
  await crew.settle(run);
  expect(ledger).toHaveLength(1);
});

test("user, tenant and roles come from the claims that are named", async () => {
  const { get } = await desk({ user: "email", tenant: "org", roles: "scope" });
  const claims = { email: "tess@example.com", org: "acme", scope: "finance operator" };
  expect((await get("/v1/audit", await tokenOf({ claims }))).status).toBe(200);
  expect((await get("/v1/audit", await tokenOf({ claims: { ...claims, scope: "finance" } }))).status).toBe(403);
});

test.each<[what: string, make: () => Promise<string> | string]>([
  ["of another issuer", () => tokenOf({ claims: { iss: "https://evil.example" } })],
  ["for another audience", () => tokenOf({ claims: { aud: "other" } })],
  ["for no audience", () => tokenOf({ claims: { aud: undefined as never } })],
  ["that has run out", () => tokenOf({ exp: -31 })],
  ["that never runs out", () => tokenOf({ exp: undefined })],
  ["that is not good yet", () => tokenOf({ nbf: 60 })],
  ["signed by another key", () => tokenOf({ by: other })],
  ["signed by a key that is not known", () => tokenOf({ by: other, kid: "k2" })],
  ["of nobody", () => tokenOf({ claims: { sub: "" } })],
  ["of somebody with an endless name", () => tokenOf({ claims: { sub: "x".repeat(201) } })],
  ["whose user is no text", () => tokenOf({ claims: { sub: 7 as never } })],
  ["whose roles are no list", () => tokenOf({ claims: { groups: { operator: true } } })],
  ["that is not signed", () => `${encoded({ alg: "none" })}.${encoded({ iss: ISSUER, aud: "crew", sub: "tess", exp: now() + 60 })}.`],
  ["that is nonsense", () => `${"a".repeat(50)}.b.c`],
  ["that is too long", () => tokenOf({ claims: { more: "x".repeat(17_000) } })],
])("a token %s opens nothing, and is told to be none", async (_what, make) => {
  const { get, say, crew, id } = await desk();
  const token = await make();
  if (token.length < 16_000) {
    const refused = await get("/v1/runs", token);
    expect([refused.status, (await errorOf(refused)).code]).toEqual([401, "UNAUTHENTICATED"]);
    expect(refused.headers.get("www-authenticate")).toBe("Bearer");
    expect((await say(token)).status).toBe(401);
  } else expect((await get("/v1/runs", token).catch(() => ({ status: 431 }))).status).toBeGreaterThanOrEqual(401);
  expect((await crew.approval(id)).status).toBe("open");
});

test("a token that is signed with the public key as a secret opens nothing", async () => {
  const { get } = await desk();
  for (const secret of [JSON.stringify(jwks.keys[0]), jwks.keys[0]?.x ?? "", JSON.stringify(jwks)]) {
    const token = await new SignJWT({ groups: ["finance"], sub: "tess", iss: ISSUER, aud: "crew" })
      .setProtectedHeader({ alg: "HS256", kid: "k1" })
      .setExpirationTime("5m")
      .sign(new TextEncoder().encode(secret.padEnd(32, " ")));
    expect((await get("/v1/runs", token)).status).toBe(401);
  }
});

test("clocks may differ by half a minute", async () => {
  const { get } = await desk();
  expect((await get("/v1/runs", await tokenOf({ exp: -20 }))).status).toBe(200);
  expect((await get("/v1/runs", await tokenOf({ nbf: 20 }))).status).toBe(200);
});

test("a token without the tenant's claim, or without a role's, is of no other tenant, and of no role", async () => {
  const { get } = await desk({ tenant: "org" });
  expect((await get("/v1/runs", await tokenOf())).status).toBe(401);
  const plain = await desk();
  expect((await plain.get("/v1/approvals?all=true", await tokenOf({ claims: { groups: undefined as never } }))).status).toBe(403);
});

test("the hook is asked for those who bring no token, and not for those whose token is refused", async () => {
  const { crew } = await openDesk();
  const asked: string[] = [];
  const authenticate = (request: Request) => {
    asked.push(request.headers.get("authorization") ?? "none");
    return { tenant: "default", user: "hook", roles: [] };
  };
  const { server, get } = await serveDesk(crew, { apiKeys: [], authenticate, jwt: { issuer: ISSUER, audience: "crew", jwks } });
  expect((await fetch(`${server.url}/v1/runs`)).status).toBe(200);
  expect((await get("/v1/runs", await tokenOf({ by: other }))).status).toBe(401);
  expect(asked).toEqual(["none"]);
});

/** An identity provider whose keys are read over HTTP. */
async function provider() {
  const state = { status: 200, body: JSON.stringify(jwks), asked: 0, isSilent: false };
  const server = createServer((_request, response) => {
    state.asked++;
    if (!state.isSilent) response.writeHead(state.status, { "content-type": "application/json" }).end(state.body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  onTestFinished(close);
  return { state, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`, close };
}

describe("keys that are read from the provider", () => {
  test("are read once, for all who come at the same time, and kept", async () => {
    const { state, url } = await provider();
    const { get } = await desk({ jwks: url });
    const token = await tokenOf();
    const all = await Promise.all(Array.from({ length: 20 }, () => get("/v1/runs", token)));
    expect(all.map(({ status }) => status)).toEqual(Array(20).fill(200));
    expect((await get("/v1/runs", token)).status).toBe(200);
    expect(state.asked).toBe(1);
  });

  test("are not asked for again for each key that somebody makes up", async () => {
    const { state, url } = await provider();
    const { get } = await desk({ jwks: url });
    for (let n = 0; n < 10; n++) expect((await get("/v1/runs", await tokenOf({ by: other, kid: `made-up-${n}` }))).status).toBe(401);
    expect(state.asked).toBe(1);
  });

  test.each<[what: string, state: object]>([
    ["fails", { status: 500 }],
    ["sends somebody elsewhere", { status: 302 }],
    ["answers with a page", { body: "<html>sign in</html>" }],
    ["answers with something else", { body: "{}" }],
    ["does not answer", { isSilent: true }],
  ])("when it %s are nobody's fault who asks: 503, and told to come again", { timeout: 20_000 }, async (_what, broken) => {
    const { state, url } = await provider();
    Object.assign(state, broken);
    const { get } = await desk({ jwks: url });
    const refused = await get("/v1/runs", await tokenOf());
    expect([refused.status, (await errorOf(refused)).code]).toEqual([503, "UNREACHABLE"]);
    expect(refused.headers.get("retry-after")).toBe("1");
    Object.assign(state, { status: 200, body: JSON.stringify(jwks), isSilent: false });
    expect((await get("/v1/runs", await tokenOf())).status).toBe(200); // and it is asked again
  });

  test("when it is gone altogether are a 503 as well", async () => {
    const { url, close } = await provider();
    await close();
    const { get } = await desk({ jwks: url });
    expect((await get("/v1/runs", await tokenOf())).status).toBe(503);
  });
});

test.each<[string, object]>([
  ["issuer", { issuer: "" }],
  ["audience", { audience: undefined }],
  ["jwks", { jwks: "not an address" }],
  ["jwks", { jwks: undefined }],
])("without a proper %s nothing listens", async (_field, wrong) => {
  await using crew = await testCrew([supportAgent([], [])]);
  const jwt = { issuer: ISSUER, audience: "crew", jwks, ...wrong } as JwtOptions;
  await expect(serve(crew, { port: 0, jwt })).rejects.toSatisfy((error) => isError(error, "CONFIG_INVALID"));
});
