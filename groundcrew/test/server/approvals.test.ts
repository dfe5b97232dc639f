/** Approvals over HTTP: who sees and decides what, by a key; and what is refused, in which words. */
import { expect, test } from "vitest";
import { testCrew } from "../../src/testing/crew.ts";
import type { ApprovalsPage, ApprovalView } from "../../src/wire-approvals.ts";
import { HOSTILE } from "../notify/ground.ts";
import { ask, refunds, supportAgent } from "../supervision/ground.ts";
import { tempStore } from "../support/crew.ts";
import { codeOf, errorOf, openDesk, people, recordsOf, serveDesk } from "./desk.ts";

const view = async (response: Response) => (await response.json()) as ApprovalView;
const page = async (response: Response) => (await response.json()) as ApprovalsPage;

test("an inbox holds what one may decide, and nothing else", async () => {
  const { get, id } = await openDesk();
  expect(await page(await get("/v1/approvals", "ana"))).toMatchObject({
    approvals: [{ id, request: { input: { order: "o1", amount: 250 } } }],
    next: null,
  });
  for (const who of ["service", "agent", "customer", "zoe", "olga-abroad", "olga"]) {
    expect((await page(await get("/v1/approvals", who))).approvals, who).toEqual([]);
  }
});

test("operators see what others have to decide, of their own tenant; nobody else does", async () => {
  const { get, id } = await openDesk();
  expect(await codeOf(await get("/v1/approvals?all=true", "ana"))).toBe("FORBIDDEN");
  expect(await page(await get("/v1/approvals?all=true", "olga"))).toMatchObject({ approvals: [{ id }] });
  expect(await page(await get("/v1/approvals?all=true&status=denied", "olga"))).toMatchObject({ approvals: [] });
  expect(await page(await get("/v1/approvals?all=true", "olga-abroad"))).toMatchObject({ approvals: [] });
  expect(await codeOf(await get("/v1/approvals?status=open", "olga"))).toBe("INPUT_INVALID"); // it would be ignored
});

test("an inbox comes in pages, each request once, and a stranger's request is no place to go on behind", async () => {
  const { get, crew } = await openDesk({ script: [refunds(1, 2, 3, 4, 5), "Done."] });
  const all = (await crew.approvals()).map(({ id }) => id);
  const found: string[] = [];
  for (let next: string | null = ""; next !== null; ) {
    const one: ApprovalsPage = await page(await get(`/v1/approvals?limit=2${next && `&before=${next}`}`, "ana"));
    found.push(...one.approvals.map(({ id }) => id));
    next = one.next;
  }
  expect(found).toEqual(all);
  expect((await get(`/v1/approvals?before=${all[0]}`, "zoe")).status).toBe(404);
});

test("only those who are asked decide; a key that is nobody's never does, whatever its roles", async () => {
  const { say, crew, run, ledger } = await openDesk();
  for (const who of ["service", "agent", "customer", "olga"]) expect(await codeOf(await say(who)), who).toBe("FORBIDDEN");
  for (const who of ["zoe", "olga-abroad"]) expect(await codeOf(await say(who)), who).toBe("APPROVAL_NOT_FOUND");
  expect(ledger).toEqual([]);
  expect((await say("ana")).status).toBe(200);
  await crew.settle(run);
  expect(ledger).toHaveLength(1);
  expect((await crew.approval((await crew.approvals())[0]?.id ?? "")).verdict).toMatchObject({ by: ["ana"], channel: "api" });
});

test("whoever tried and was not allowed is on record, each in the log of their own tenant", async () => {
  const { say, crew } = await openDesk();
  for (const who of ["agent", "customer", "zoe", "olga-abroad"]) await say(who);
  const refused = async (tenant?: string) => (await recordsOf(crew, tenant)).filter(({ action }) => action === "approval.refused");
  expect((await refused()).map(({ actor }) => actor)).toEqual([
    { kind: "service", id: "agent" },
    { kind: "person", id: "customer" },
    { kind: "person", id: "zoe" },
  ]);
  expect(await refused("other")).toMatchObject([{ actor: { id: "olga-abroad" } }]);
});

test("of many who decide at once one wins, and everybody else is told who, and when", async () => {
  const { say, crew, run, ledger, id } = await openDesk();
  const before = Date.now();
  const all = await Promise.all(
    Array.from({ length: 20 }, (_, n) =>
      say(n % 2 === 0 ? "ana" : "bo", n % 3 === 0 ? "deny" : "approve", n % 3 === 0 ? { reason: "no" } : {}),
    ),
  );
  const won = all.filter(({ status }) => status === 200);
  const lost = all.filter(({ status }) => status === 409);
  expect([won.length, lost.length]).toEqual([1, 19]);
  const { status, verdict } = await crew.approval(id);
  for (const response of lost) {
    const error = await errorOf(response);
    expect(error).toMatchObject({ code: "APPROVAL_ENDED", decided: { status, by: verdict?.by, at: verdict?.at } });
    expect(error.detail).toContain(`is ${status} by ${verdict?.by[0]} at 20`);
  }
  expect(verdict?.at).toBeGreaterThanOrEqual(before - 60_000);
  await crew.settle(run);
  expect(ledger).toHaveLength(status === "approved" ? 1 : 0);
});

test("a double click is told that it is decided, also by oneself", async () => {
  const { say } = await openDesk();
  expect((await say("ana")).status).toBe(200);
  const again = await say("ana");
  expect([again.status, (await errorOf(again)).decided]).toEqual([409, { status: "approved", by: ["ana"], at: expect.any(Number) }]);
});

test("what has expired, was cancelled or is finished cannot be decided any more", async () => {
  const expired = await openDesk({ policy: { within: "1h" } });
  expired.crew.clock.jump(2 * 3_600_000); // nobody has looked at it yet
  expect(await errorOf(await expired.say("ana"))).toMatchObject({ code: "APPROVAL_ENDED", decided: { status: "expired", by: [] } });
  await expired.crew.settle(expired.run);
  expect(await errorOf(await expired.say("ana"))).toMatchObject({ code: "APPROVAL_ENDED", decided: { status: "expired", by: [] } });
  expect(expired.ledger).toEqual([]);

  const cancelled = await openDesk();
  expect((await cancelled.post(`/v1/runs/${cancelled.run.id}/cancel`, "olga", { why: "not needed" })).status).toBe(202);
  expect([200, 409]).toContain((await cancelled.say("ana")).status); // whichever came first: it is cancelled all the same
  await cancelled.crew.settle(cancelled.run);
  expect(await errorOf(await cancelled.say("ana"))).toMatchObject({ code: "APPROVAL_ENDED", decided: { status: expect.any(String) } });
  expect(cancelled.ledger).toEqual([]);

  const finished = await openDesk();
  await finished.say("bo");
  await finished.crew.settle(finished.run);
  expect(await errorOf(await finished.say("ana", "deny", { reason: "late" }))).toMatchObject({
    decided: { status: "approved", by: ["bo"] },
  });
  expect(finished.ledger).toHaveLength(1);
});

test("what is no decision is refused before anything is asked of it", async () => {
  const { say, post, crew, id, ledger } = await openDesk();
  const bad: [what: string, body: unknown, status: number][] = [
    ["deny", {}, 400],
    ["deny", { reason: " " }, 400],
    ["deny", { reason: "x".repeat(2_001) }, 400],
    ["answer", { answer: "yes" }, 400], // it is no question
    ["delegate", { to: [] }, 400],
    ["delegate", { to: "everybody" }, 400],
    ["delegate", { to: "requester" }, 403],
    ["approve", { input: { order: 1, amount: "x" } }, 400],
    ["approve", { input: { order: "o1", amount: 1, more: true } }, 400],
    ["approve", { input: null }, 400],
    ["approve", { aproved: true }, 400],
    ["approve", { similar: { uses: 0, within: "1h" } }, 400],
    ["approve", { similar: { uses: 5, within: "soon" } }, 400],
    ["approve", { input: { order: "x".repeat(5_000_000), amount: 1 } }, 413],
    ["approve", { input: { order: "x".repeat(200_000), amount: 1 } }, 413],
    ["deny", { reason: "x".repeat(1_200_000) }, 413], // a decision has nothing to say in so many words
    ["approve", [], 400],
    ["forget", {}, 404],
  ];
  for (const [what, body, status] of bad) {
    expect((await say("ana", what, body)).status, `${what} ${JSON.stringify(body).slice(0, 80)}`).toBe(status);
  }
  for (const other of ["nonsense", `${id}0`, "run_0.1", "%00.1", "..%2F1"]) {
    expect((await post(`/v1/approvals/${other}/approve`, "ana")).status, other).toBe(404);
  }
  expect(await crew.approval(id)).toMatchObject({ status: "open", votes: [] });
  expect(ledger).toEqual([]);
});

test("edited arguments are what runs, and both versions are on record", async () => {
  const { say, crew, run, ledger, id } = await openDesk();
  const asked = (await crew.approval(id)).request.hash;
  const decided = await view(await say("ana", "approve", { input: { order: "o1", amount: 100 }, reason: "half of it" }));
  expect(decided.verdict).toMatchObject({ outcome: "approved", input: { order: "o1", amount: 100 } });
  await crew.settle(run);
  expect(ledger).toEqual([{ order: "o1", amount: 100, key: id }]);
  const record = (await recordsOf(crew)).find(({ action }) => action === "approval.approved");
  expect(record).toMatchObject({ reason: "half of it", detail: { asked, input: { order: "o1", amount: 100 } } });
  expect(record?.detail?.["hash"]).not.toBe(asked);
});

test("a yes is about what was shown: when somebody has edited it since, it counts for nothing", async () => {
  const { say, crew, id, ledger, run } = await openDesk({ policy: { quorum: 2 } });
  const { hash } = (await crew.approval(id)).request;
  await say("bo", "approve", { input: { order: "o1", amount: 9_000 } });
  const stale = await say("ana", "approve", { hash });
  expect([stale.status, (await errorOf(stale)).detail]).toEqual([400, expect.stringContaining("edited since")]);
  // The arguments as first asked for, named as such, are a proposal of their own.
  expect(await view(await say("ana", "approve", { input: { order: "o1", amount: 250 } }))).toMatchObject({ status: "open" });
  expect(await view(await say("bo", "approve", { hash }))).toMatchObject({ status: "approved" });
  await crew.settle(run);
  expect(ledger).toMatchObject([{ order: "o1", amount: 250 }]);
});

test("whoever lost the role since the request, or since the vote, does not count", async () => {
  const store = tempStore();
  const agents = [supportAgent([], [refunds(250), "Done."], { quorum: 2 })];
  const before = await testCrew(agents, { store, people });
  await ask(before);
  const id = (await before.approvals())[0]?.id ?? "";
  const { post } = await serveDesk(before);
  expect((await post(`/v1/approvals/${id}/approve`, "ana")).status).toBe(200);
  await before.close();

  await using after = await testCrew(agents, { store, people: { ...people, ana: {}, cy: { roles: ["finance"] } } });
  const served = await serveDesk(after);
  expect((await served.post(`/v1/approvals/${id}/approve`, "ana")).status).toBe(404);
  expect(await view(await served.post(`/v1/approvals/${id}/approve`, "bo"))).toMatchObject({ status: "open" }); // ana's vote is none any more
});

test("a request that is none of one's business answers exactly like one that is not there", async () => {
  const { get, id } = await openDesk();
  const missing = `${id.slice(0, -1)}9`;
  for (const who of ["zoe", "olga-abroad"]) {
    const [theirs, none] = [await get(`/v1/approvals/${id}`, who), await get(`/v1/approvals/${missing}`, who)];
    expect([theirs.status, none.status]).toEqual([404, 404]);
    expect((await theirs.text()).replaceAll(id, "ID")).toBe((await none.text()).replaceAll(missing, "ID"));
  }
});

test("an owner who may not decide sees what is asked, and not who is, by which rule, or what they said", async () => {
  const { get, say, run, id, crew } = await openDesk({ policy: { quorum: 2 } });
  await say("ana", "approve", { reason: "a friend of mine" });
  const asked = await view(await get(`/v1/approvals/${id}`, "customer"));
  expect(asked).toMatchObject({
    status: "open",
    to: [],
    votes: [],
    request: { name: "refund", why: "", input: { order: "o1", amount: 250 } },
  });
  await say("bo", "deny", { reason: "looks like fraud" });
  const seen = async (path: string) => (await get(path, "customer")).text();
  for (const path of [`/v1/approvals/${id}`, `/v1/runs/${run.id}`]) expect(await seen(path)).not.toMatch(/finance|ana|"bo"|fraud|friend/);
  expect(await errorOf(await say("customer"))).toMatchObject({ code: "APPROVAL_ENDED", decided: { status: "denied", by: [] } });
  await crew.settle(run);
  expect(await seen(`/v1/runs/${run.id}/events`)).not.toMatch(/role:finance|friend of mine|"by":\["bo"\]/);
});

test("who looked at a request before deciding is on record; an owner who looks all day, and a HEAD, are not", async () => {
  const { get, crew, id, server } = await openDesk();
  await get(`/v1/approvals/${id}`, "ana");
  for (let n = 0; n < 3; n++) await get(`/v1/approvals/${id}`, "customer");
  const authorization = `Bearer ${"bo-".padEnd(40, "0")}`;
  expect((await fetch(`${server.url}/v1/approvals/${id}`, { method: "HEAD", headers: { authorization } })).status).toBe(200);
  const viewed = (await recordsOf(crew)).filter(({ action }) => action === "approval.viewed");
  expect(viewed).toMatchObject([{ actor: { kind: "person", id: "ana" }, channel: "api" }]);
});

test("hostile arguments are data: JSON that no browser takes for anything else, whole, and the same that runs", async () => {
  const order = `${Object.values(HOSTILE).join(" ")}${"x".repeat(10_000)}`;
  const { get, id, say, crew, run, ledger } = await openDesk({
    script: [{ calls: [{ tool: "refund", input: { order, amount: 1 } }] }, "Done."],
  });
  for (const path of ["/v1/approvals", `/v1/approvals/${id}`, `/v1/runs/${run.id}`]) {
    const response = await get(path, "olga");
    expect(response.headers.get("content-type")).toBe("application/json");
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
  }
  expect((await view(await get(`/v1/approvals/${id}`, "ana"))).request.input).toEqual({ order, amount: 1 });
  await say("ana");
  await crew.settle(run);
  expect(ledger).toMatchObject([{ order, amount: 1 }]);
});

test("others can be let in on a request, and decide it then", async () => {
  const { say, crew, id } = await openDesk();
  expect(await view(await say("ana", "delegate", { to: "user:zoe", reason: "she knows" }))).toMatchObject({
    to: ["role:finance", "user:zoe"],
  });
  expect((await say("zoe")).status).toBe(200);
  expect((await crew.approval(id)).verdict).toMatchObject({ by: ["zoe"] });
});
