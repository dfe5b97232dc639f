/** Approvals of tool calls, from the model's wish to its result: who may decide, what exactly runs, and how often. */
import { tool } from "ai";
import { expect, test } from "vitest";
import { z } from "zod";
import { type Agent, agent } from "../../src/agent.ts";
import { isError } from "../../src/errors.ts";
import type { NotifyChannel } from "../../src/notify/channel.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { testCrew } from "../../src/testing/crew.ts";
import { scriptedModel } from "../../src/testing/model.ts";
import { escalation } from "../../src/tool/escalation.ts";
import { tempStore } from "../support/crew.ts";
import { until } from "../support/until.ts";
import { actionsOf, ana, ask, bo, customer, type Ledger, open, person, refunds, supportAgent, toldOf } from "./ground.ts";

const code = async (promise: Promise<unknown>) =>
  promise.then(
    () => "none",
    (error: unknown) => (isError(error) ? error.code : String(error)),
  );

test("a gated call does not run before somebody has agreed, and then once, with the approval's id as its key", async () => {
  const { crew, ledger } = await open([refunds(250), "Done."]);
  const run = await ask(crew);
  const [asked] = await crew.inbox(ana);
  expect(asked).toMatchObject({
    run: run.id,
    status: "open",
    to: ["role:finance"],
    request: { name: "refund", input: { order: "o1", amount: 250 }, user: "customer" },
  });
  expect(asked?.request.context).toEqual(["user: My order is broken."]);
  expect(asked?.request.spent).toEqual({ modelSteps: 1, inputTokens: 10, outputTokens: 5 });
  expect(ledger).toEqual([]);
  expect(await run.view()).toMatchObject({ status: "parked", reason: "approval", approvals: [{ id: asked?.id, name: "refund" }] });

  await crew.decide(asked?.id ?? "", { do: "approve", reason: "fair enough" }, ana);
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded", output: "Done." });
  expect(ledger).toEqual([{ order: "o1", amount: 250, key: asked?.id }]);
  expect(await actionsOf(crew)).toEqual([
    "approval.requested",
    "approval.approved",
    "approval.execution.begun",
    "approval.execution.succeeded",
  ]);
});

test("a rule that says no asks nobody; one that throws, or says nothing, asks", async () => {
  const { crew, ledger } = await open([refunds(10), "Done."], { approve: ({ amount }) => amount > 100 });
  const run = await ask(crew);
  expect(await run.result()).toBe("Done.");
  expect(ledger).toHaveLength(1);
  for (const rule of [
    () => {
      throw new Error("oops");
    },
    () => undefined as never,
  ]) {
    const other = await open([refunds(10), "Done."], { approve: rule });
    await ask(other.crew);
    expect(await other.crew.inbox(ana)).toHaveLength(1);
    expect(other.ledger).toEqual([]);
  }
});

test("what a rule never allows is refused without asking anybody, and nobody can edit it into being", async () => {
  const never = await open([refunds(9_000), "Sorry."], {
    approve: ({ amount }) => (amount > 1_000 ? { deny: "over 1,000 is never refunded" } : true),
  });
  const run = await ask(never.crew);
  expect(await run.result()).toBe("Sorry.");
  expect(toldOf(never.support)).toEqual([{ type: "execution-denied", reason: expect.stringContaining("over 1,000 is never refunded") }]);
  expect(await never.crew.approvals()).toEqual([]);

  const { crew, ledger } = await open([refunds(500), "Done."], { approve: ({ amount }) => (amount > 1_000 ? { deny: "too much" } : true) });
  await ask(crew);
  const [asked] = await crew.inbox(ana);
  expect(await code(crew.decide(asked?.id ?? "", { do: "approve", input: { order: "o1", amount: 5_000 } }, ana))).toBe("INPUT_INVALID");
  expect((await crew.approval(asked?.id ?? "")).status).toBe("open");
  expect(ledger).toEqual([]);
});

test("edited arguments are what runs, and the model is told of the change", async () => {
  const { crew, ledger, support } = await open([refunds(500), "Done."]);
  const run = await ask(crew);
  const [asked] = await crew.inbox(ana);
  const id = asked?.id ?? "";
  for (const input of [{ order: "o1", amount: "100" }, { order: "o1", amount: 100, tip: 5 }, { order: "o1" }, "100", null]) {
    expect(await code(crew.decide(id, { do: "approve", input }, ana)), JSON.stringify(input)).toBe("INPUT_INVALID");
  }
  expect(await code(crew.decide(id, { do: "approve", input: { order: "x".repeat(5_000_000), amount: 1 } }, ana))).toBe("LIMIT_EXCEEDED");
  await crew.decide(id, { do: "approve", input: { order: "o1", amount: 100 } }, ana);
  await crew.settle(run);
  expect(ledger).toEqual([{ order: "o1", amount: 100, key: id }]);
  expect(JSON.stringify(toldOf(support))).toContain(
    'a person changed the arguments of this call to {\\"order\\":\\"o1\\",\\"amount\\":100}',
  );
});

test("arguments that are 'edited' into what they were are no edit", async () => {
  const { crew } = await open([refunds(500), "Done."]);
  await ask(crew);
  const [asked] = await crew.inbox(ana);
  const row = await crew.decide(asked?.id ?? "", { do: "approve", input: { amount: 500, order: "o1" } }, ana);
  expect(row.verdict?.input).toBeUndefined();
});

test("a denial reaches the model as a denial with its reason, and nothing runs", async () => {
  const { crew, ledger, support } = await open([refunds(500), "Sorry."]);
  const run = await ask(crew);
  const [asked] = await crew.inbox(ana);
  expect(await code(crew.decide(asked?.id ?? "", { do: "deny", reason: " " }, ana))).toBe("INPUT_INVALID");
  await crew.decide(asked?.id ?? "", { do: "deny", reason: "no receipt" }, ana);
  expect(await crew.settle(run)).toMatchObject({ output: "Sorry." });
  expect(ledger).toEqual([]);
  expect(toldOf(support)).toEqual([{ type: "execution-denied", reason: expect.stringContaining("no receipt") }]);
});

test("what nobody has decided in time has expired, which the model is not told as a denial; deciding it then is refused", async () => {
  const { crew, ledger, support } = await open([refunds(500), "Later."], { within: "4h" });
  const run = await ask(crew);
  const [asked] = await crew.inbox(ana);
  await crew.advance("3h");
  expect((await run.view()).status).toBe("parked");
  await crew.advance("2h");
  expect(await crew.settle(run)).toMatchObject({ output: "Later." });
  expect((await crew.approval(asked?.id ?? "")).status).toBe("expired");
  expect(await code(crew.decide(asked?.id ?? "", { do: "approve" }, ana))).toBe("APPROVAL_ENDED");
  expect(toldOf(support)).toEqual([{ type: "error-text", value: expect.stringContaining("not a refusal") }]);
  expect(ledger).toEqual([]);
});

test("an expired request fails the run where its author says so, and waits for ever where its author says that", async () => {
  const failing = await open([refunds(500), "no"], { within: "1h", onExpire: "fail" });
  const run = await ask(failing.crew);
  await failing.crew.advance("2h");
  expect(await failing.crew.settle(run)).toMatchObject({ status: "failed", error: { code: "APPROVAL_EXPIRED" } });
  const waiting = await open([refunds(500), "Done."], { within: "1h", onExpire: "wait" });
  const patient = await ask(waiting.crew);
  await waiting.crew.advance("5d");
  const [asked] = await waiting.crew.inbox(ana);
  await waiting.crew.decide(asked?.id ?? "", { do: "approve" }, ana);
  expect(await waiting.crew.settle(patient)).toMatchObject({ status: "succeeded" });
});

test("only those who are asked decide: no stranger, no key, no other tenant, nobody for themselves", async () => {
  const { crew, ledger } = await open([refunds(500), "Done."]);
  await ask(crew);
  const [asked] = await crew.inbox(ana);
  const id = asked?.id ?? "";
  const own = { ...customer, roles: ["finance"], kind: "person" as const, channel: "api" as const };
  const strangers = [person("zoe", "support"), { ...ana, kind: "service" as const }, { ...ana, tenant: "other" }, own];
  for (const actor of strangers) {
    expect(await code(crew.decide(id, { do: "approve" }, actor)), actor.user).toBe("FORBIDDEN");
    expect(await crew.inbox(actor)).toEqual([]);
  }
  expect((await crew.approval(id)).status).toBe("open");
  expect(ledger).toEqual([]);
  expect((await actionsOf(crew)).filter((action) => action === "approval.refused")).toHaveLength(3);
  expect(await actionsOf(crew, "other")).toEqual(["approval.refused"]);
});

test("the requester decides where the author says so, and only then", async () => {
  const { crew, ledger } = await open([refunds(500), "Done."], { by: "requester" });
  const run = await ask(crew);
  const own = { ...customer, kind: "person" as const, channel: "chat" as const };
  expect(await code(crew.decide((await crew.inbox(own))[0]?.id ?? "", { do: "approve" }, ana))).toBe("FORBIDDEN");
  await crew.decide((await crew.inbox(own))[0]?.id ?? "", { do: "approve" }, own);
  await crew.settle(run);
  expect(ledger).toHaveLength(1);
});

test("of two decisions one wins, and the other is told who and when", async () => {
  const { crew, ledger } = await open([refunds(500), "Done."]);
  const run = await ask(crew);
  const [asked] = await crew.inbox(ana);
  const id = asked?.id ?? "";
  const both = await Promise.allSettled([crew.decide(id, { do: "approve" }, ana), crew.decide(id, { do: "deny", reason: "no" }, bo)]);
  const lost = both.filter((one) => one.status === "rejected");
  expect(lost).toHaveLength(1);
  expect(lost[0]?.reason).toMatchObject({ code: "APPROVAL_ENDED", status: 409 });
  expect(lost[0]?.reason.message).toMatch(/is (approved|denied) by (ana|bo) at 20/);
  await crew.settle(run);
  expect(ledger.length).toBe((await crew.approval(id)).status === "approved" ? 1 : 0);
});

test("a quorum counts people: one person twice, by two channels, is one; whoever has lost the role meanwhile is none", async () => {
  const people = { ana: { roles: ["finance"] }, bo: { roles: ["finance"] }, cy: { roles: ["finance"] } };
  const { crew, ledger } = await open([refunds(500), "Done."], { quorum: 2 }, { people });
  const run = await ask(crew);
  const [asked] = await crew.inbox(ana);
  const id = asked?.id ?? "";
  await crew.decide(id, { do: "approve" }, person("ana"));
  const again = await crew.decide(id, { do: "approve" }, { ...person("ana"), channel: "slack" });
  expect(again.status).toBe("open");
  expect(again.votes).toHaveLength(1);
  expect(ledger).toEqual([]);
  await crew.decide(id, { do: "approve" }, person("bo"));
  await crew.settle(run);
  expect(ledger).toHaveLength(1);
  expect((await crew.approval(id)).verdict?.by).toEqual(["ana", "bo"]);
});

test("one who denies is enough, and edited arguments begin the count anew", async () => {
  const { crew } = await open([refunds(500), "Done."], { quorum: 2 });
  await ask(crew);
  const id = (await crew.inbox(ana))[0]?.id ?? "";
  await crew.decide(id, { do: "approve" }, ana);
  const edited = await crew.decide(id, { do: "approve", input: { order: "o1", amount: 5 } }, bo);
  expect(edited.status).toBe("open");
  const denied = await crew.decide(id, { do: "deny", reason: "neither" }, person("cy", "finance"));
  expect(denied.status).toBe("denied");
});

test("parallel calls have an approval each, and what needs none does not wait", async () => {
  const call = {
    calls: [
      { tool: "refund", input: { order: "a", amount: 1 } },
      { tool: "refund", input: { order: "b", amount: 2 } },
      { tool: "lookup", input: {} },
    ],
  };
  const { crew, ledger, support } = await open([call, "Done."]);
  const run = await ask(crew);
  const asked = await crew.inbox(ana);
  expect(asked.map(({ request }) => request.input)).toEqual(
    expect.arrayContaining([
      { order: "a", amount: 1 },
      { order: "b", amount: 2 },
    ]),
  );
  expect((await run.journal()).some((event) => event.type === "step.succeeded" && event.step.startsWith("tool:"))).toBe(true);
  const ofB = asked.find(({ request }) => JSON.stringify(request.input).includes('"b"'));
  await crew.decide(ofB?.id ?? "", { do: "approve" }, ana);
  await crew.settle(run);
  expect(ledger.map(({ order }) => order)).toEqual(["b"]);
  await crew.decide(asked.find(({ id }) => id !== ofB?.id)?.id ?? "", { do: "deny", reason: "not this one" }, ana);
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded" });
  expect(ledger.map(({ order }) => order)).toEqual(["b"]);
  expect(toldOf(support).map((output) => (output as { type: string }).type)).toEqual(["execution-denied", "text", "text"]);
});

test("nobody is asked for similar calls as long as somebody has said, and then again", async () => {
  const { crew, ledger } = await open([refunds(1), refunds(2), refunds(3), refunds(4), "Done."]);
  const run = await ask(crew);
  const id = (await crew.inbox(ana))[0]?.id ?? "";
  await crew.decide(id, { do: "approve", similar: { uses: 2, within: "1h" } }, ana);
  await crew.settle(run);
  expect(ledger.map(({ amount }) => amount)).toEqual([1, 2, 3]);
  const [next] = await crew.inbox(ana);
  expect(next?.request.input).toEqual({ order: "o1", amount: 4 });
  expect((await crew.approvals({ run: run.id })).map(({ status }) => status)).toEqual(["open", "approved", "approved", "approved"]);
  expect((await actionsOf(crew)).filter((action) => action === "approval.covered")).toHaveLength(2);
  expect(new Set(ledger.map(({ key }) => key)).size).toBe(3);
});

test("a rule for similar calls ends with its time", async () => {
  const { crew, ledger } = await open([refunds(1), refunds(2), "Done."], { effect: "keyed", key: ({ amount }) => String(amount) });
  const run = await ask(crew);
  const id = (await crew.inbox(ana))[0]?.id ?? "";
  await crew.decide(id, { do: "approve", similar: { uses: 5, within: 1 } }, ana);
  crew.clock.jump(10);
  await crew.settle(run);
  expect(ledger).toHaveLength(1);
  expect(await crew.inbox(ana)).toHaveLength(1);
});

test("it reminds, escalates to more people, and tells who may decide then", async () => {
  const { crew, ledger } = await open([refunds(500), "Done."], {
    within: "4h",
    remind: "30m",
    escalate: [
      { to: "role:lead", after: "1h" },
      { to: "user:cto", after: "1h", times: 2 },
    ],
  });
  const run = await ask(crew);
  const lead = person("lou", "lead");
  expect(await crew.inbox(lead)).toEqual([]);
  await crew.advance("61m");
  const [asked] = await crew.inbox(lead);
  expect(asked).toMatchObject({ level: 1, to: ["role:finance", "role:lead"] });
  await crew.advance("61m");
  await crew.advance("61m");
  expect(await crew.inbox(person("cto"))).toMatchObject([{ level: 3 }]);
  const events = (await run.journal()).map(({ type }) => type);
  expect(events.filter((type) => type === "approval.escalated")).toHaveLength(3);
  expect(events.filter((type) => type === "approval.reminded").length).toBeGreaterThanOrEqual(5);
  await crew.decide(asked?.id ?? "", { do: "approve" }, lead);
  await crew.settle(run);
  expect(ledger).toHaveLength(1);
});

test("a request can be handed to others, but not to whoever the run works for", async () => {
  const told: string[] = [];
  const hook = {
    name: "hook",
    address: "email",
    send: async ({ people }) => void told.push(...people.map(({ user }) => user)),
  } as const satisfies NotifyChannel;
  const people = { ana: { roles: ["finance"], email: "ana@example.com" }, dee: { email: "dee@example.com" } };
  const { crew, ledger } = await open([refunds(500), "Done."], {}, { people, supervision: { channels: [hook] } });
  const run = await ask(crew);
  const id = (await crew.inbox(ana))[0]?.id ?? "";
  expect(await code(crew.decide(id, { do: "delegate", to: "requester" }, ana))).toBe("FORBIDDEN");
  const passing = async (what: string, times: number) =>
    until(what, async () => {
      await crew.advance("1s");
      return told.length >= times || undefined;
    });
  await passing("ana is told", 1);
  await crew.decide(id, { do: "delegate", to: ["user:dee", "role:finance"] }, ana);
  await passing("the other is told", 2);
  expect(told).toEqual(["ana", "dee"]); // and not those who were asked before
  await crew.decide(id, { do: "approve" }, person("dee"));
  await crew.settle(run);
  expect(ledger).toHaveLength(1);
});

test("a run that is cancelled takes its requests along: deciding one then changes nothing", async () => {
  const { crew, ledger } = await open([refunds(500), "Done."]);
  const run = await ask(crew);
  const id = (await crew.inbox(ana))[0]?.id ?? "";
  await run.cancel("not needed");
  await crew.settle(run);
  expect(await crew.approval(id)).toMatchObject({ status: "cancelled" });
  expect(await code(crew.decide(id, { do: "approve" }, ana))).toBe("APPROVAL_ENDED");
  expect(ledger).toEqual([]);
  expect(await actionsOf(crew)).toContain("approval.cancelled");
});

test.each([false, true])("a tool that a deploy has changed is asked for anew (decided before: %s)", async (isDecided) => {
  const store = tempStore();
  const clock = new FakeClock();
  const ledger: Ledger = [];
  const before = await testCrew([supportAgent(ledger, [refunds(500)])], { store, clock });
  const run = await ask(before);
  const old = (await before.inbox(ana))[0]?.id ?? "";
  await before.close();
  const changed = tool({
    description: "Pays money back, and tells the press.",
    inputSchema: z.object({ order: z.string(), amount: z.number() }),
    execute: async ({ order, amount }) => void ledger.push({ order, amount, key: "" }),
  });
  const model = scriptedModel(() => "Done.");
  const support = agent("support", {
    model,
    tools: { refund: changed },
    policy: { refund: { approve: true, by: "role:finance" } },
  }) as unknown as Agent;
  await using deciding = await testCrew([support], { store, clock, worker: false });
  if (isDecided) await deciding.decide(old, { do: "approve" }, ana);
  await using after = await testCrew([support], { store, clock });
  if (!isDecided) await (await after.run(run.id)).retry("a deploy");
  await after.advance("1m");
  expect(ledger).toEqual([]);
  expect((await after.approvals({ run: run.id })).map(({ status }) => status)).toEqual(["open", isDecided ? "approved" : "superseded"]);
  await after.decide((await after.inbox(ana))[0]?.id ?? "", { do: "approve" }, ana);
  await after.settle(await after.run(run.id));
  expect(ledger).toHaveLength(1);
});

test("a run that asks and asks stops after 30 in a minute, until an operator says so", async () => {
  const many = { calls: Array.from({ length: 45 }, (_, i) => ({ tool: "refund", input: { order: `o${i}`, amount: i } })) };
  const { crew } = await open([many, "Done."]);
  const run = await crew.start("support", { prompt: "Hi", principal: customer });
  expect(await crew.settle(run)).toMatchObject({ status: "parked", reason: "attention", code: "APPROVALS_FLOODED" });
  expect(await crew.approvals({ run: run.id, limit: 100 })).toHaveLength(30);
  await run.retry("operator");
  await crew.settle(run);
  expect(await crew.approvals({ run: run.id, limit: 100 })).toHaveLength(45);
});

test("a run that was stopped for asking too much does what needs nobody, and asks no more however long it waits or what it is sent", async () => {
  const calls = [
    ...Array.from({ length: 31 }, (_, i) => ({ tool: "refund", input: { order: `o${i}`, amount: i } })),
    { tool: "lookup", input: {} },
  ];
  const { crew } = await open([{ calls }, "Done."], { within: "2m" });
  const run = await ask(crew);
  expect(await crew.settle(run)).toMatchObject({ code: "APPROVALS_FLOODED", stepsDone: 2 }); // the model's, and `lookup`
  await crew.advance("10m");
  await run.signal("anything", 1, { by: "customer" });
  expect(await crew.settle(run)).toMatchObject({ code: "APPROVALS_FLOODED" });
  expect((await crew.approvals({ run: run.id, limit: 100 })).map(({ status }) => status)).toEqual(Array(30).fill("expired"));
});

test("arguments that nobody could read are refused, not cut", async () => {
  const { crew, ledger, support } = await open([
    { calls: [{ tool: "refund", input: { order: "x".repeat(200_000), amount: 1 } }] },
    "Too long.",
  ]);
  const run = await ask(crew);
  expect(await run.result()).toBe("Too long.");
  expect(ledger).toEqual([]);
  expect(JSON.stringify(toldOf(support))).toContain("bytes");
});

test("in shadow mode nobody is asked, and what would have been asked is on record", async () => {
  const { crew, ledger } = await open([refunds(500), "Done."], {}, { supervision: { shadow: true } });
  const run = await ask(crew);
  expect(await run.result()).toBe("Done.");
  expect(ledger).toHaveLength(1);
  expect(await crew.approvals()).toEqual([]);
  expect(await actionsOf(crew)).toEqual(["approval.skipped"]);
});

test("a question to people waits for an answer, which the model reads as a person's", async () => {
  const model = scriptedModel([{ calls: [{ tool: "askHuman", input: { question: "May I?", findings: "nothing" } }] }, "Thanks."]);
  const asking = agent("support", { model, tools: { askHuman: escalation({ to: "role:finance", within: "1d" }) } });
  await using crew = await testCrew([asking as never]);
  const run = await ask(crew);
  const [asked] = await crew.inbox(ana);
  expect(asked?.request).toMatchObject({ kind: "question", input: { question: "May I?" } });
  expect(await code(crew.decide(asked?.id ?? "", { do: "approve" }, ana))).toBe("INPUT_INVALID");
  await crew.decide(asked?.id ?? "", { do: "answer", answer: "Yes, but be quick" }, ana);
  expect(await crew.settle(run)).toMatchObject({ output: "Thanks." });
  expect(toldOf(asking as never)).toEqual([{ type: "json", value: { answeredBy: "a person", answer: "Yes, but be quick" } }]);
});
