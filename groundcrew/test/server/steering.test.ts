/** What operators do to runs over HTTP: hold them, guide them, take them over, stop everything; and read what is on record of it. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { STOP_LOOK_MS } from "../../src/limits.ts";
import type { StoredAudit } from "../../src/persistence/audit.ts";
import { verifyAudit } from "../../src/supervision/verify.ts";
import type { RunView } from "../../src/wire.ts";
import type { AuditPage } from "../../src/wire-approvals.ts";
import { refunds } from "../supervision/ground.ts";
import { apiKeys, codeOf, keyOf, openDesk, people, recordsOf, type ServedDesk } from "./desk.ts";

const viewOf = async ({ get, run }: ServedDesk, who = "olga") => (await (await get(`/v1/runs/${run.id}`, who)).json()) as RunView;

const commands: [command: string, body: object][] = [
  ["pause", { why: "look" }],
  ["resume", {}],
  ["say", { text: "Be kind." }],
  ["raise", { steps: 5 }],
  ["takeover", {}],
  ["speak", { text: "A person here." }],
  ["handback", {}],
];

test.each(commands)("`%s` is for operators of the run's tenant", async (command, body) => {
  const { post, run } = await openDesk();
  const path = `/v1/runs/${run.id}/${command}`;
  for (const [who, status] of [
    ["customer", 403],
    ["zoe", 404],
    ["olga-abroad", 404],
  ] as const) {
    expect((await post(path, who, body)).status, who).toBe(status);
  }
  expect((await post(path, "olga", { ...body, more: 1 })).status).toBe(400);
});

test("a run that is held goes on when it is let go, and who held it, and why, is on record", async () => {
  const desk = await openDesk();
  const { post, run, crew, say } = desk;
  expect((await post(`/v1/runs/${run.id}/pause`, "olga", { why: "is this fraud?" })).status).toBe(202);
  await say("ana");
  await crew.settle(run);
  expect(await viewOf(desk)).toMatchObject({ status: "parked", paused: { by: "olga", why: "is this fraud?" } });
  expect(await viewOf(desk, "customer")).toMatchObject({ paused: { by: null, why: "" } });
  expect(desk.ledger).toEqual([]);
  await post(`/v1/runs/${run.id}/resume`, "olga");
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded" });
  expect(desk.ledger).toHaveLength(1);
  const held = (await recordsOf(crew)).filter(({ action }) => action === "run.paused" || action === "run.resumed");
  expect(held).toMatchObject([{ actor: { kind: "person", id: "olga" }, reason: "is this fraud?" }, { actor: { id: "olga" } }]);
});

test("only a person takes over, speaks to the user, and hands back", async () => {
  const desk = await openDesk();
  const { post, run, crew } = desk;
  for (const command of ["takeover", "handback"])
    expect(await codeOf(await post(`/v1/runs/${run.id}/${command}`, "service"))).toBe("FORBIDDEN");
  expect(await codeOf(await post(`/v1/runs/${run.id}/speak`, "service", { text: "Hi" }))).toBe("FORBIDDEN");
  expect(await codeOf(await post(`/v1/runs/${run.id}/speak`, "olga", { text: "Hi" }))).toBe("INPUT_INVALID"); // nobody has taken it over
  expect((await post(`/v1/runs/${run.id}/takeover`, "olga")).status).toBe(202);
  await crew.advance("1s");
  expect(await viewOf(desk)).toMatchObject({ handover: "olga" });
  expect((await post(`/v1/runs/${run.id}/speak`, "olga", { text: "I am looking at it." })).status).toBe(202);
  await crew.advance("1s");
  expect((await post(`/v1/runs/${run.id}/handback`, "olga")).status).toBe(202);
  await crew.advance("1s");
  expect(await viewOf(desk)).toMatchObject({ handover: null });
});

test("a run that was stopped because it asks and asks is let go on by an operator, and not by its owner", async () => {
  const many = { calls: Array.from({ length: 40 }, (_, n) => ({ tool: "refund", input: { order: `o${n}`, amount: n } })) };
  const { post, run, crew } = await openDesk({ script: [many, "Done."] });
  expect(await run.view()).toMatchObject({ reason: "attention", code: "APPROVALS_FLOODED" });
  expect((await post(`/v1/runs/${run.id}/retry`, "customer")).status).toBe(403);
  expect(await run.view()).toMatchObject({ reason: "attention" });
  expect((await post(`/v1/runs/${run.id}/retry`, "olga")).status).toBe(202);
  await crew.settle(run);
  expect(await crew.approvals({ run: run.id, limit: 100 })).toHaveLength(40);
});

describe("stops", () => {
  test("are set and lifted by operators of the service, who are told what is in flight", async () => {
    const { get, post, crew } = await openDesk();
    for (const who of ["ana", "customer", "olga-abroad"]) {
      expect((await post("/v1/stops", who, { why: "x" })).status, who).toBe(403);
      expect((await post("/v1/stops/lift", who)).status, who).toBe(403);
      expect((await get("/v1/stops", who)).status, who).toBe(403);
    }
    for (const body of [{}, { why: "" }, { why: "x".repeat(2_001) }, { why: "x", agent: "" }, { why: "x", agents: ["support"] }]) {
      expect((await post("/v1/stops", "olga", body)).status, JSON.stringify(body).slice(0, 50)).toBe(400);
    }
    expect(await (await post("/v1/stops", "olga", { agent: "support", why: "harm" })).json()).toMatchObject({
      stop: { agent: "support", why: "harm", by: "olga" },
      inFlight: [],
    });
    expect(await (await post("/v1/stops", "service", { why: "all of it" })).json()).toMatchObject({ stop: { agent: "*", by: "api" } });
    expect(await (await get("/v1/stops", "olga")).json()).toMatchObject({
      stops: expect.arrayContaining([{ agent: "*", why: "all of it", by: "api", at: expect.any(Number) }]),
    });
    expect(await (await post("/v1/stops/lift", "olga")).json()).toEqual({ lifted: true });
    expect(await (await post("/v1/stops/lift", "olga")).json()).toEqual({ lifted: false });
    expect(await (await post("/v1/stops/lift", "olga", { agent: "support" })).json()).toEqual({ lifted: true });
    expect((await recordsOf(crew)).map(({ action }) => action)).toEqual([
      "approval.requested",
      "stop.set",
      "stop.set",
      "stop.lifted",
      "stop.lifted",
    ]);
  });

  test("are set and lifted by no key that is only called like an operator", async () => {
    const namesake = { key: keyOf("namesake"), user: "oscar" };
    const { post, id } = await openDesk({
      people: { ...people, oscar: { roles: ["operator", "finance"] } },
      serve: { apiKeys: [...apiKeys, namesake] },
    });
    expect((await post("/v1/stops", "namesake", { why: "x" })).status).toBe(403);
    expect((await post("/v1/stops/lift", "namesake")).status).toBe(403);
    expect((await post(`/v1/approvals/${id}/approve`, "namesake")).status).toBe(404);
  });

  test("hold back what is approved meanwhile, until they are lifted", async () => {
    const { post, say, crew, run, ledger } = await openDesk();
    await post("/v1/stops", "olga", { why: "harm" });
    await sleep(STOP_LOOK_MS); // what a worker knows of stops may be that old
    expect((await say("ana")).status).toBe(200);
    await crew.advance("5s");
    expect(ledger).toEqual([]);
    await post("/v1/stops/lift", "olga");
    await crew.settle(run);
    expect(ledger).toHaveLength(1);
  });
});

describe("the audit log", () => {
  const lines = async (response: Response) =>
    (await response.text())
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line) as StoredAudit);
  const NDJSON = { accept: "application/x-ndjson" };

  test("is read page by page, or whole, a record a line; both are what is stored, and whole", async () => {
    const { get, say, crew, run } = await openDesk();
    for (let n = 0; n < 600; n++)
      await crew.viewed((await crew.approvals())[0]?.id ?? "", {
        tenant: "default",
        user: "ana",
        roles: [],
        kind: "person",
        channel: "cli",
      });
    await say("ana");
    await crew.settle(run);
    const stored = await crew.audit("default", 0, 10_000);
    const found: StoredAudit[] = [];
    for (let after = 0; ; after = found.at(-1)?.seq ?? 0) {
      const { records, head } = (await (await get(`/v1/audit?after=${after}&limit=200`, "olga")).json()) as AuditPage;
      expect(head?.seq).toBe(stored.at(-1)?.seq);
      if (records.length === 0) break;
      found.push(...records);
    }
    expect(found).toEqual(stored);
    const exported = await get("/v1/audit", "olga", NDJSON);
    expect(exported.headers.get("content-type")).toBe("application/x-ndjson");
    const all = await lines(exported);
    expect(all).toEqual(stored);
    expect((await lines(await get(`/v1/audit?after=${stored.length - 2}`, "olga", NDJSON))).map(({ seq }) => seq)).toEqual([
      stored.length - 1,
      stored.length,
    ]);
    async function* each() {
      yield* all;
    }
    expect(await verifyAudit(each(), {})).toMatchObject({ ok: true, records: stored.length });
  });

  test("is for operators, each of their own tenant", async () => {
    const { get, say } = await openDesk();
    await say("olga-abroad"); // refused, which stands in their own log
    for (const who of ["ana", "customer", "zoe"]) expect((await get("/v1/audit", who)).status, who).toBe(403);
    const theirs = (await (await get("/v1/audit", "olga-abroad")).json()) as AuditPage;
    expect(theirs.records.map(({ tenant }) => tenant)).toEqual(["other"]);
    expect(theirs.head?.tenant).toBe("other");
    expect((await lines(await get("/v1/audit", "olga-abroad", NDJSON))).map(({ tenant }) => tenant)).toEqual(["other"]);
    for (const query of ["after=-1", "after=x", "limit=0", "limit=100000", "tenant=default"]) {
      expect((await get(`/v1/audit?${query}`, "olga")).status, query).toBe(400);
    }
  });
});

test("the feed tells an operator who paused and asked; what it is about is told to nobody else", async () => {
  const { post, run, get, crew, say } = await openDesk({ script: [refunds(250), "Done."] });
  await post(`/v1/runs/${run.id}/pause`, "olga", { why: "a secret suspicion" });
  await post(`/v1/runs/${run.id}/resume`, "olga");
  await say("ana");
  await crew.settle(run);
  const feed = async (who: string) => (await get(`/v1/runs/${run.id}/events`, who)).text();
  for (const told of ["a secret suspicion", '"from":"olga"']) {
    expect(await feed("olga")).toContain(told);
    expect(await feed("customer")).not.toContain(told);
  }
});
