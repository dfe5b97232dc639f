/** What a person has said of a call holds when the call begins, each time it does: after a crash, a failure, a fork, a deploy. */
import { tool } from "ai";
import { expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { type Agent, agent, flow } from "../../src/agent.ts";
import { systemClock } from "../../src/clock.ts";
import { GroundcrewError } from "../../src/errors.ts";
import type { Store } from "../../src/persistence/store.ts";
import type { ToolPolicy } from "../../src/policy.ts";
import type { Run } from "../../src/runtime.ts";
import { openSqlite } from "../../src/sqlite/open.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { type TestCrew, testCrew } from "../../src/testing/crew.ts";
import { type ScriptedAnswer, scriptedModel } from "../../src/testing/model.ts";
import { escalation } from "../../src/tool/escalation.ts";
import { makeCrew, reaches, tempStore } from "../support/crew.ts";
import { until } from "../support/until.ts";
import { actionsOf, ana, ask, customer, open, person, type Refund, refunds, toldOf } from "./ground.ts";

const operator = person("olga", "operator");
const inputSchema = z.object({ order: z.string(), amount: z.number() });

/** What the refund really did: `execute` fails as often as the test says. */
type Effect = (input: Refund) => unknown;

function support(script: Parameters<typeof scriptedModel>[0], execute: Effect, policy: ToolPolicy<Refund>, more: object = {}): Agent {
  return agent("support", {
    model: scriptedModel(script),
    tools: { refund: tool({ inputSchema, execute: async (input) => execute(input) }) },
    policy: { refund: policy as ToolPolicy<Refund, unknown> },
    ...more,
  }) as unknown as Agent;
}

async function crewOf(support: Agent): Promise<TestCrew> {
  const crew = await testCrew([support]);
  onTestFinished(() => crew.close());
  return crew;
}

const down = () => Object.assign(new Error("down"), { status: 503 });

async function decideAll(crew: Pick<TestCrew, "inbox" | "decide">, decision: Parameters<TestCrew["decide"]>[1]): Promise<void> {
  for (const { id } of await crew.inbox(ana)) await crew.decide(id, decision, ana);
}

/** The process that has it dies as soon as the first tool is on record as begun. */
async function dyingStore(path: string): Promise<{ store: Store; dead: Promise<void> }> {
  const store = await openSqlite(path, { clock: systemClock });
  const { promise: dead, resolve } = Promise.withResolvers<void>();
  let isDead = false;
  const append: Store["append"] = async (given) => {
    if (isDead) throw new GroundcrewError("STORE_UNAVAILABLE", "dead");
    isDead = given.events.some((event) => event.type === "step.started" && event.kind === "tool");
    try {
      return await store.append(given);
    } finally {
      if (isDead) resolve();
    }
  };
  const dying = new Proxy(store, {
    get(target, name) {
      if (name === "append") return append;
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return { store: dying, dead };
}

test("a call that was denied never runs, and an answer that was given is not lost, whatever dies before that is on record", async () => {
  const path = tempStore();
  const ran: number[] = [];
  let told = "";
  const make = (): Agent => {
    const answer: ScriptedAnswer = {
      calls: [
        { tool: "askHuman", input: { question: "Is it all right?" } },
        { tool: "refund", input: { order: "o1", amount: 9_000 } },
        { tool: "refund", input: { order: "o2", amount: 1 } },
      ],
    };
    const model = scriptedModel(({ prompt }) => {
      told = JSON.stringify(prompt.filter(({ role }) => role === "tool"));
      return prompt.length > 1 ? "Done." : answer;
    });
    const refund = tool({ inputSchema, execute: async ({ amount }) => void ran.push(amount) });
    const policy = { refund: { effect: "keyed", approve: true, by: "role:finance" } } as const;
    return agent("support", { model, tools: { refund, askHuman: escalation({ to: "role:finance" }) }, policy }) as unknown as Agent;
  };
  const first = makeCrew([make()], { store: path });
  const run = await first.start("support", { prompt: "Hi", principal: customer });
  await reaches(run as Run<unknown>, "parked");
  await first.close();
  const desk = makeCrew([make()], { store: path, worker: false });
  for (const { id, request } of await desk.inbox(ana)) {
    const { amount } = Object(request.input) as { amount?: number };
    const no = { do: "deny", reason: "fraud" } as const;
    const word =
      request.kind === "question" ? ({ do: "answer", answer: "forty-two" } as const) : amount === 1 ? ({ do: "approve" } as const) : no;
    await desk.decide(id, word, ana);
  }
  const { store, dead } = await dyingStore(path);
  const dying = makeCrew([make()], { store, worker: { lease: "1s" } });
  await dying.work();
  await dead;
  await dying.close().catch(() => {});
  await store.close();

  const last = makeCrew([make()], { store: path });
  await last.work();
  expect((await until("it has ended", async () => endOf(await (await last.run(run.id)).view()), 60_000)).status).toBe("succeeded");
  expect(ran).toEqual([1]);
  expect(told).toContain("forty-two");
  expect(told).toContain("fraud");
});

function endOf<T extends { status: string }>(view: T): T | undefined {
  return view.status === "succeeded" || view.status === "failed" ? view : undefined;
}

test("a run that is tried again is asked about anew: what another run was allowed is no leave for this one", async () => {
  const ran: number[] = [];
  const flaky: Effect = ({ amount }) => {
    if (ran.push(amount) === 1) throw down();
  };
  const crew = await crewOf(support([refunds(1_000), "Done."], flaky, { effect: "keyed", approve: true, by: "role:finance" }));
  const run = await ask(crew);
  await decideAll(crew, { do: "approve", input: { order: "o1", amount: 10 } });
  while (ran.length === 0) await crew.advance("1ms");
  await run.cancel("I want all of it", person("customer"));
  await crew.settle(run);
  const again = await run.retry(person("customer"));
  expect(await crew.settle(again)).toMatchObject({ status: "parked", reason: "approval" });
  expect(ran).toEqual([10]);
  expect(await crew.inbox(ana)).toMatchObject([{ run: again.id, request: { input: { amount: 1_000 } } }]);
  await decideAll(crew, { do: "deny", reason: "ten is enough" });
  await crew.settle(again);
  expect(ran).toEqual([10]);
});

test("so it is when nobody knew whether it had happened", async () => {
  const ran: number[] = [];
  const unsure: Effect = ({ amount }) => {
    if (ran.push(amount) === 1) throw new GroundcrewError("STEP_UNKNOWN", "no answer");
  };
  const crew = await crewOf(support([refunds(1_000), "Done."], unsure, { approve: true, by: "role:finance" }));
  const run = await ask(crew);
  await decideAll(crew, { do: "approve", input: { order: "o1", amount: 10 } });
  expect(await crew.settle(run)).toMatchObject({ reason: "unknown_outcome" });
  await run.cancel("enough");
  await crew.settle(run);
  const again = await run.retry(operator);
  expect(await crew.settle(again)).toMatchObject({ reason: "unknown_outcome" }); // that comes first
  await again.resolve("refund", { resolution: "did_not_happen", by: operator });
  expect(await crew.settle(again)).toMatchObject({ reason: "approval" });
  expect(ran).toEqual([10]);
});

test("what has become forbidden, or was allowed too long ago, is not tried again on an old yes", async () => {
  const ran: number[] = [];
  let ruling: true | { deny: string } = true;
  const policy: ToolPolicy<Refund> = {
    effect: "keyed",
    attempts: 1,
    optional: false,
    approve: () => ruling,
    by: "role:finance",
    within: "1h",
  };
  const failing: Effect = ({ amount }) => {
    ran.push(amount);
    throw down();
  };
  const script = ({ prompt }: { prompt: unknown[] }) => (prompt.length > 1 ? "Done." : refunds(1_000));
  const crew = await crewOf(support(script, failing, policy, { faults: { exhausted: "park" } }));
  const [late, stolen] = [await ask(crew), await ask(crew)];
  await decideAll(crew, { do: "approve" });
  for (const run of [late, stolen]) expect(await crew.settle(run)).toMatchObject({ code: "RETRIES_EXHAUSTED" });
  expect(ran).toHaveLength(2);

  await crew.advance("5d");
  await late.retry(operator);
  expect(await crew.settle(late)).toMatchObject({ reason: "approval" }); // asked anew
  ruling = { deny: "the account was stolen" };
  await stolen.retry(operator);
  expect(await crew.settle(stolen)).toMatchObject({ status: "succeeded" });
  expect(ran).toHaveLength(2);
});

test("so it is for one of which nobody knew whether it had happened", async () => {
  const ran: number[] = [];
  let ruling: true | { deny: string } = true;
  const unsure: Effect = ({ amount }) => {
    if (ran.push(amount) === 1) throw new GroundcrewError("STEP_UNKNOWN", "no answer");
  };
  const bot = support([refunds(1_000), "Done."], unsure, { approve: () => ruling, by: "role:finance" });
  const crew = await crewOf(bot);
  const run = await ask(crew);
  await decideAll(crew, { do: "approve" });
  expect(await crew.settle(run)).toMatchObject({ reason: "unknown_outcome" });
  ruling = { deny: "the account was stolen" };
  await run.resolve("refund", { resolution: "did_not_happen", by: operator });
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded" });
  expect(ran).toHaveLength(1);
  expect(JSON.stringify(toldOf(bot))).toContain("the account was stolen");
});

test("only what was done counts as the first use of a tool: no denial, no call that did not fit", async () => {
  const approve: ToolPolicy<Refund>["approve"] = (_input, { isFirstUse }) => isFirstUse;
  const denied = await open([refunds(500), refunds(500), refunds(500), "Done."], { approve });
  const run = await ask(denied.crew);
  await decideAll(denied.crew, { do: "deny", reason: "no" });
  await denied.crew.settle(run);
  expect(denied.ledger).toEqual([]);
  await decideAll(denied.crew, { do: "approve" });
  expect(await denied.crew.settle(run)).toMatchObject({ status: "succeeded" });
  expect(denied.ledger).toHaveLength(2); // the third needs nobody

  const unfit = await open([{ calls: [{ tool: "refund", input: { order: 5 } }] }, refunds(500), "Done."], { approve });
  expect(await (await ask(unfit.crew)).view()).toMatchObject({ reason: "approval" });
  expect(unfit.ledger).toEqual([]);
});

test("a rule that says no after somebody has said yes ends it: nobody is asked again and again", async () => {
  let isOver = false;
  const { crew, ledger } = await open([refunds(1, 2, 3), "Done."], { approve: () => (isOver ? { deny: "no more today" } : true) });
  const run = await ask(crew);
  const [one] = await crew.inbox(ana);
  isOver = true;
  await crew.decide(one?.id ?? "", { do: "approve", similar: { uses: 100, within: "1d" } }, ana);
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded" });
  expect(ledger).toEqual([]);
  expect((await crew.approvals({ run: run.id })).map(({ status }) => status).toSorted()).toEqual(["approved", "superseded", "superseded"]);
});

/** What a deploy makes of a call that somebody was asked about. */
const deploys = {
  "its rule forbids it now": { policy: { approve: () => ({ deny: "no more" }), by: "role:finance" }, runs: false },
  "nobody has to be asked any more": { policy: {}, runs: true },
  "its tool is gone": { policy: undefined, runs: false },
} as const satisfies Record<string, { policy: ToolPolicy<Refund> | undefined; runs: boolean }>;

test.each(Object.entries(deploys))("a request that a deploy has made idle is withdrawn: %s", async (_name, { policy, runs }) => {
  const store = tempStore();
  const ran: number[] = [];
  const hold = tool({ inputSchema: z.object({}), execute: async () => "held" });
  const make = (refund: ToolPolicy<Refund> | undefined): Agent => {
    const model = scriptedModel(({ prompt }) => (prompt.length > 1 ? { calls: [{ tool: "hold", input: {} }] } : refunds(9_000)));
    const pay = tool({ inputSchema, execute: async ({ amount }) => void ran.push(amount) });
    const tools = refund ? { hold, refund: pay } : { hold };
    const gates = { hold: { approve: true, by: "role:other" }, ...(refund && { refund }) };
    return agent("support", { model, tools, policy: gates } as never) as unknown as Agent;
  };
  const before = makeCrew([make({ approve: true, by: "role:finance" })], { store });
  const { id } = await before.start("support", { prompt: "Hi", principal: customer });
  await reaches((await before.run(id)) as Run<unknown>, "parked");
  const [asked] = await before.inbox(ana);
  await before.close();

  const after = makeCrew([make(policy)], { store });
  const run = await after.run(id);
  await run.retry();
  await after.work();
  await until("it waits for the other", async () => (await run.view()).approvals.some(({ name }) => name === "hold") || undefined);
  expect(ran).toEqual(runs ? [9_000] : []);
  expect((await after.approval(asked?.id ?? "")).status).toBe("superseded");
  expect(await after.inbox(ana)).toEqual([]);
});

test("in shadow mode a no that somebody has given counts all the same", async () => {
  const store = tempStore();
  const ran: number[] = [];
  const make = () => support([refunds(9_000), "Done."], ({ amount }) => ran.push(amount), { approve: true, by: "role:finance" });
  const before = makeCrew([make()], { store });
  const { id } = await before.start("support", { prompt: "Hi", principal: customer });
  await reaches((await before.run(id)) as Run<unknown>, "parked");
  await before.close();
  const desk = makeCrew([make()], { store, worker: false });
  await decideAll(desk, { do: "deny", reason: "fraud" });

  const after = makeCrew([support(["Done."], ({ amount }) => ran.push(amount), { approve: true, by: "role:finance" })], {
    store,
    supervision: { shadow: true },
  });
  await after.work();
  expect(await (await after.run(id)).result()).toBe("Done.");
  expect(ran).toEqual([]);
});

test.each(["too old", "forbidden since"])("what was agreed to and is void (%s) covers no other call, and not itself", async (why) => {
  const store = tempStore();
  const clock = new FakeClock();
  const ran: number[] = [];
  let ruling: true | { deny: string } = true;
  const make = () => {
    const model = scriptedModel(({ prompt }) => (prompt.length > 3 ? "Done." : refunds(prompt.length)));
    const refund = tool({ inputSchema, execute: async ({ amount }) => void ran.push(amount) });
    const approve = ({ amount }: Refund) => (amount === 5 ? ruling : true);
    return agent("support", { model, tools: { refund }, policy: { refund: { approve, by: "role:finance", within: "1h" } } });
  };
  const before = await testCrew([make()], { store, clock });
  const { id } = await ask(before);
  await before.close();
  const desk = await testCrew([make()], { store, clock, worker: false });
  await decideAll(desk, { do: "approve", input: { order: "o1", amount: 5 }, similar: { uses: 9, within: "1d" } });
  await desk.close();
  if (why === "too old") await clock.advance(2 * 60 * 60_000);
  else ruling = { deny: "the account was stolen" };

  await using after = await testCrew([make()], { store, clock });
  const run = await after.run(id);
  expect(await after.settle(run)).toMatchObject({ reason: "approval" }); // asked anew
  expect(ran).toEqual([]);
  await decideAll(after, { do: "approve" });
  expect(await after.settle(run)).toMatchObject({ reason: "approval" }); // and so is the next call
  expect(ran).toHaveLength(1);
  expect(await actionsOf(after)).not.toContain("approval.covered");
});

test.each(["open", "denied", "approved too long ago"] as const)(
  "in shadow mode a flow goes on past what nobody allows, except a no (%s)",
  async (said) => {
    const store = tempStore();
    const clock = new FakeClock();
    const published: string[] = [];
    const make = () =>
      flow("publish", async (ctx) => {
        await ctx.approval("publish", { by: "role:finance", within: "1h" });
        await ctx.step("publish", () => published.push("it"));
      }) as never;
    const before = await testCrew([make()], { store, clock });
    const { id } = await before.start("publish", { input: null, principal: customer });
    await before.settle(await before.run(id));
    const [asked] = await before.inbox(ana);
    await before.close();
    const desk = await testCrew([make()], { store, clock, worker: false });
    if (said === "denied") await decideAll(desk, { do: "deny", reason: "not true" });
    if (said === "approved too long ago") await decideAll(desk, { do: "approve" });
    await desk.close();
    if (said === "approved too long ago") await clock.advance(2 * 60 * 60_000);

    await using after = await testCrew([make()], { store, clock, supervision: { shadow: true } });
    const run = await after.run(id);
    if (said === "open") await run.retry(operator);
    const end = await after.settle(run);
    expect(published).toEqual(said === "denied" ? [] : ["it"]);
    expect(end).toMatchObject(said === "denied" ? { error: { code: "APPROVAL_DENIED" } } : { status: "succeeded" });
    expect(await after.inbox(ana)).toEqual([]);
    const status = { open: "superseded", denied: "denied", "approved too long ago": "approved" }[said];
    expect(await after.approvals()).toMatchObject([{ id: asked?.id, status }]); // nobody was asked again
  },
);
