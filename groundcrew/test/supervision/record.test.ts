/** The audit log says what was done: once, and not what was only meant to be done. */
import { tool } from "ai";
import { expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { type Agent, agent, flow } from "../../src/agent.ts";
import { BREAKER_FAILURES } from "../../src/limits.ts";
import { openSqlite } from "../../src/sqlite/open.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { type TestCrew, type TestCrewOptions, testCrew } from "../../src/testing/crew.ts";
import { scriptedModel } from "../../src/testing/model.ts";
import { tempStore } from "../support/crew.ts";
import { ana, ask, bo, customer, refunds, toldOf } from "./ground.ts";

const inputSchema = z.object({ order: z.string(), amount: z.number() });

async function crewOf(one: unknown, options: TestCrewOptions = {}): Promise<TestCrew> {
  const crew = await testCrew([one as Agent], options);
  onTestFinished(() => crew.close());
  return crew;
}

async function recordsOf(crew: TestCrew) {
  return (await crew.audit("default", 0, 1_000)).map(({ record }) => JSON.parse(record));
}

const failing = flow("failing", async (ctx) => {
  await ctx.step("look", { effect: "read" }, () => "seen");
  throw new Error("no");
});

test("a run that two people try again at once is tried again once, and that is on record once, with the new run", async () => {
  const crew = await crewOf(failing);
  const run = await crew.start(failing, { input: undefined });
  await crew.settle(run);
  const [one, two] = await Promise.all([run.retry(ana), run.retry(bo)]);
  await run.retry(ana);
  expect(one.id).toBe(two.id);
  const forked = (await recordsOf(crew)).filter(({ action }) => action === "run.forked");
  expect(forked).toMatchObject([{ run: run.id, actor: { kind: "person" }, detail: { from: "the end", fork: one.id } }]);
});

test("each fork of a run is on record, with the run that it is", async () => {
  const crew = await crewOf(failing);
  const run = await crew.start(failing, { input: undefined });
  await crew.settle(run);
  const forks = [await run.fork({ from: "look", by: ana }), await run.fork({ from: "look", by: bo })];
  const forked = (await recordsOf(crew)).filter(({ action }) => action === "run.forked");
  expect(forked.map(({ actor, detail }) => [actor.id, detail.from, detail.fork])).toEqual([
    ["ana", "look", forks[0]?.id],
    ["bo", "look", forks[1]?.id],
  ]);
});

test("a fork that could not be made is not on record as made", async () => {
  const store = await openSqlite(tempStore(), { clock: new FakeClock() });
  onTestFinished(() => store.close());
  const crew = await crewOf(failing, { store });
  const run = await crew.start(failing, { input: undefined });
  await crew.settle(run);
  store.create = async () => Promise.reject(new Error("the disk is full"));
  await expect(run.fork({ from: "look", by: ana })).rejects.toThrow("the disk is full");
  await expect(run.retry(ana)).rejects.toThrow("the disk is full");
  expect(await recordsOf(crew)).toEqual([]);
});

test("an approved call whose idempotency key cannot be told has not begun: the approval is void, with the reason", async () => {
  const ran: unknown[] = [];
  const refund = tool({ inputSchema, execute: async (input) => ran.push(input) });
  const support = agent("support", {
    model: scriptedModel([refunds(1), "Done."]),
    tools: { refund },
    policy: { refund: { effect: "keyed", key: () => "", approve: true, by: "role:finance" } },
  });
  const crew = await crewOf(support);
  const run = await ask(crew);
  await crew.decide((await crew.inbox(ana))[0]?.id ?? "", { do: "approve" }, ana);
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded" });
  expect(ran).toEqual([]);
  expect(JSON.stringify(toldOf(support as never))).toContain("policy.refund.key");
  const records = await recordsOf(crew);
  expect(records.map(({ action }) => action)).toEqual(["approval.requested", "approval.approved", "approval.voided"]);
  expect(records.at(-1)).toMatchObject({ reason: expect.stringContaining("policy.refund.key") });
});

test("an approved call whose tool was removed meanwhile has not begun", async () => {
  const store = tempStore();
  const clock = new FakeClock();
  const refund = tool({ inputSchema, execute: async () => "refunded" });
  const model = () => scriptedModel(({ prompt }) => (prompt.some(({ role }) => role === "tool") ? "Done." : refunds(1)));
  const policy = { refund: { approve: true, by: "role:finance" } } as const;
  const before = await testCrew([agent("support", { model: model(), tools: { refund }, policy }) as unknown as Agent], { store, clock });
  const { id } = await ask(before);
  await before.decide((await before.inbox(ana))[0]?.id ?? "", { do: "approve" }, ana);
  await before.close();
  const after = await crewOf(agent("support", { model: model() }), { store, clock });
  expect(await after.settle(await after.run(id))).toMatchObject({ status: "succeeded" });
  const records = await recordsOf(after);
  expect(records.map(({ action }) => action)).toEqual(["approval.requested", "approval.approved", "approval.execution.refused"]);
  expect(records.at(-1)).toMatchObject({ reason: expect.stringContaining('no tool "refund" any more') });
});

test("an approved call of what is known to be down has not begun: it was refused, with the reason", async () => {
  let calls = 0;
  const search = tool({
    inputSchema: z.object({}),
    execute: async (): Promise<string> => {
      calls++;
      throw Object.assign(new Error("down"), { status: 503 });
    },
  });
  const support = agent("support", {
    model: scriptedModel(({ prompt }) =>
      prompt.some(({ role }) => role === "tool") ? "Done." : { calls: [{ tool: "search", input: {} }] },
    ),
    tools: { search },
    policy: {
      search: { effect: "read", attempts: 1, approve: (_input, { principal }) => principal.user === "customer", by: "role:finance" },
    },
  });
  const crew = await crewOf(support);
  const run = await ask(crew);
  for (let n = 0; n < BREAKER_FAILURES; n++) await (await crew.start("support", { prompt: "Search." })).result();
  expect(calls).toBe(BREAKER_FAILURES);
  await crew.decide((await crew.inbox(ana))[0]?.id ?? "", { do: "approve" }, ana);
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded" });
  expect(calls).toBe(BREAKER_FAILURES);
  const records = (await recordsOf(crew)).filter(({ onBehalfOf }) => onBehalfOf === customer.user);
  expect(records.map(({ action }) => action)).toEqual(["approval.requested", "approval.approved", "approval.execution.refused"]);
  expect(records.at(-1)).toMatchObject({ reason: expect.stringContaining('"search" was not asked'), detail: { attempt: 1 } });
});
