/** What people do to runs beside approving: hold them, guide them, give them more, speak in their place, and stop everything. */
import { tool } from "ai";
import { expect, test } from "vitest";
import { z } from "zod";
import { type Agent, agent, flow } from "../../src/agent.ts";
import { isError } from "../../src/errors.ts";
import type { Run } from "../../src/runtime.ts";
import { testCrew } from "../../src/testing/crew.ts";
import { scriptedModel } from "../../src/testing/model.ts";
import { gate, makeCrew, reaches, tempStore } from "../support/crew.ts";
import { until } from "../support/until.ts";
import { actionsOf, ana, ask, customer, open, person, refunds } from "./ground.ts";

const operator = person("olga", "operator");
const code = (error: unknown) => (isError(error) ? error.code : String(error));

/** An agent whose tool waits for the test. */
function slow(script = [{ calls: [{ tool: "work", input: {} }] }, "Done."]) {
  const working = gate();
  const release = gate();
  let times = 0;
  const work = tool({
    inputSchema: z.object({}),
    execute: async () => {
      times++;
      working.open(undefined);
      await release.opened;
      return "worked";
    },
  });
  const model = scriptedModel(script);
  return { agent: agent("slow", { model, tools: { work } }) as unknown as Agent, working, release, model, times: () => times };
}

type Gate = ReturnType<typeof gate<void>>;

/** Tells that it has begun, and ends when it is let. */
async function opening(begun: Gate, release: Gate): Promise<void> {
  begun.open(undefined);
  await release.opened;
}

test("a paused run begins nothing more, lets what is in flight end, and goes on when somebody says so", async () => {
  const { agent: slowly, working, release, model } = slow();
  const crew = makeCrew([slowly]);
  const run = await crew.start("slow", { prompt: "Hi" });
  await working.opened;
  await run.pause("look at this first", operator);
  release.open();
  const view = await reaches(run as Run<unknown>, "parked");
  expect(view).toMatchObject({ reason: "attention", code: "PAUSED", paused: { by: "olga", why: "look at this first" } });
  expect(model.calls).toHaveLength(1);
  await run.resume(operator);
  expect(await run.result()).toBe("Done.");
  const actions = (await crew.audit("default", 0, 100)).map(({ record }) => JSON.parse(record).action);
  expect(actions).toEqual(["run.paused", "run.resumed"]);
});

test("guidance is read at the next step", async () => {
  const { agent: slowly, working, release, model } = slow();
  const crew = makeCrew([slowly]);
  const run = await crew.start("slow", { prompt: "Hi" });
  await working.opened;
  await run.say("Be brief.", operator);
  release.open();
  await run.result();
  expect(JSON.stringify(model.calls[1]?.prompt)).toContain("Be brief.");
});

test("a run is given more steps than its agent has", async () => {
  const working = gate();
  const release = gate();
  const work = tool({ inputSchema: z.object({}), execute: () => opening(working, release) });
  const model = scriptedModel([{ calls: [{ tool: "work", input: {} }] }, "Done."]);
  const crew = makeCrew([agent("short", { model, tools: { work }, steps: 1 })]);
  const run = await crew.start("short", { prompt: "Hi" });
  await working.opened;
  await expect(run.raise({ steps: 0 }, operator)).rejects.toMatchObject({ code: "INPUT_INVALID" });
  await run.raise({ steps: 1 }, operator);
  release.open();
  expect(await run.result()).toBe("Done.");
});

test("a person takes the conversation, answers in it, and hands it back; the user's words go to them meanwhile", async () => {
  const model = scriptedModel([{ calls: [{ tool: "look", input: {} }] }, "I go on."]);
  const looking = gate();
  const looked = gate();
  const look = tool({ inputSchema: z.object({}), execute: () => opening(looking, looked) });
  const other = makeCrew([agent("support", { model, tools: { look } })]);
  const turn = await other.start("support", { prompt: "Help!", principal: customer, session: "s1" });
  await looking.opened;
  await turn.takeOver(ana);
  looked.open();
  await until("it waits for the person", async () => (await turn.view()).summary.includes("ana has taken over") || undefined);
  expect(model.calls).toHaveLength(1);
  const same = await other.start("support", { prompt: "Anybody there?", principal: customer, session: "s1" });
  expect(same.id).toBe(turn.id);
  await turn.speak("Yes, I am Ana.", ana);
  await until("her words are there", async () => (await turn.journal()).some(({ type }) => type === "handover.said") || undefined);
  expect(model.calls).toHaveLength(1);
  await turn.handBack(ana);
  expect(await turn.result()).toBe("I go on.");
  const prompt = JSON.stringify(model.calls[1]?.prompt);
  expect(prompt.indexOf("Anybody there?")).toBeLessThan(prompt.indexOf("Yes, I am Ana."));
  expect(prompt).toContain("handed back to you now");
});

test("nobody speaks in a conversation that nobody has taken over", async () => {
  const { crew } = await open([refunds(1)]);
  const run = await ask(crew);
  await expect(run.speak("Hello", ana)).rejects.toMatchObject({ code: "INPUT_INVALID" });
});

test("a stop lets nothing of the agent begin anywhere within a second, tells what is in flight, and loses nothing", async () => {
  const store = tempStore();
  const one = slow();
  const crew = makeCrew([one.agent], { store });
  const run = await crew.start("slow", { prompt: "Hi" });
  await one.working.opened;
  const elsewhere = makeCrew([slow().agent], { store, worker: false });
  const { inFlight } = await elsewhere.stop({ why: "it does harm" }, operator);
  expect(inFlight).toMatchObject([{ run: run.id, agent: "slow", name: "work" }]);
  await new Promise((resolve) => setTimeout(resolve, 600)); // what a process knows of stops may be half a second old
  one.release.open();
  await reaches(run as Run<unknown>, "queued");
  expect(one.model.calls).toHaveLength(1);
  const late = await elsewhere.start("slow", { prompt: "Hi again" });
  expect((await late.view()).status).toBe("queued");
  await late.cancel("its script is another's");
  expect(await elsewhere.lift("*", operator)).toBe(true);
  expect(await run.result()).toBe("Done.");
  expect(one.times()).toBe(1);
  const tools = (await run.journal()).filter((event) => event.type === "step.started" && event.kind === "tool");
  expect(tools).toHaveLength(1);
});

test("only who runs the service stops it, and a stop of one agent stops no other", async () => {
  const quick = agent("quick", { model: scriptedModel(["Done."]) }) as unknown as Agent;
  const crew = makeCrew([quick, slow().agent], { people: { oscar: { roles: ["operator"] } } });
  const namesake = { ...person("oscar"), kind: "service" } as const; // a key that is no person's
  for (const actor of [ana, { ...operator, tenant: "other" }, namesake]) {
    expect(await crew.stop({ why: "no" }, actor).catch(code)).toBe("FORBIDDEN");
  }
  expect(await crew.stop({ why: " " }, operator).catch(code)).toBe("INPUT_INVALID");
  await crew.stop({ agent: "slow", why: "careful" }, operator);
  expect(await (await crew.start("quick", { prompt: "Hi" })).result()).toBe("Done.");
  const held = await crew.start("slow", { prompt: "Hi" });
  await held.cancel("not needed");
  await expect(held.result()).rejects.toMatchObject({ code: "RUN_CANCELLED" }); // a stop holds no cancel back
});

test("a flow waits for an approval of what it shows, and is told who gave it or why not", async () => {
  const publish = flow("publish", async (ctx, input: { title: string }) => {
    const plan = await ctx.step("plan", { effect: "read" }, () => input.title);
    const { by } = await ctx.approval("publish", { show: { plan }, by: "role:editor", within: "1d", why: "it goes to everybody" });
    return `published ${plan} by ${by.join()}`;
  });
  await using crew = await testCrew([publish as never]);
  const run = await crew.start("publish", { input: { title: "News" } });
  await crew.settle(run);
  const editor = person("ed", "editor");
  const [asked] = await crew.inbox(editor);
  expect(asked?.request).toMatchObject({ kind: "checkpoint", name: "publish", input: { plan: "News" }, why: "it goes to everybody" });
  await crew.decide(asked?.id ?? "", { do: "approve" }, editor);
  expect(await crew.settle(run)).toMatchObject({ output: "published News by ed" });

  const denied = await crew.start("publish", { input: { title: "Lies" } });
  await crew.settle(denied);
  await crew.decide((await crew.inbox(editor))[0]?.id ?? "", { do: "deny", reason: "it is not true" }, editor);
  expect(await crew.settle(denied)).toMatchObject({ status: "failed", error: { code: "APPROVAL_DENIED" } });
  const late = await crew.start("publish", { input: { title: "Old" } });
  await crew.settle(late);
  await crew.advance("25h");
  expect(await crew.settle(late)).toMatchObject({ status: "failed", error: { code: "APPROVAL_EXPIRED" } });
});

test("every command of a person is in the audit log, in the name of whoever gave it", async () => {
  const { crew } = await open([refunds(1), "Done."]);
  const run = await ask(crew);
  await run.pause("wait", operator);
  await run.resume(operator);
  await crew.settle(run);
  await run.retry(operator);
  await run.cancel("enough", operator);
  await crew.settle(run);
  expect(await actionsOf(crew)).toEqual([
    "approval.requested",
    "run.paused",
    "run.resumed",
    "run.retried",
    "run.cancelled",
    "approval.cancelled",
  ]);
  const [, paused] = await crew.audit("default", 0, 10);
  expect(JSON.parse(paused?.record ?? "")).toMatchObject({
    actor: { kind: "person", id: "olga" },
    onBehalfOf: "customer",
    reason: "wait",
    run: run.id,
  });
});

test("a run that was paused or stopped calls no other run, and does not end, before it is let", async () => {
  for (const hold of ["pause", "stop"] as const) {
    const acted: string[] = [];
    const begun = gate();
    const release = gate();
    const child = flow("child", (ctx) => ctx.step("act", () => acted.push("child")));
    const parent = flow("parent", async (ctx) => {
      await ctx.step("first", () => opening(begun, release));
      await ctx.call(child, { input: null });
    });
    const crew = makeCrew([parent as never, child as never]);
    const run = await crew.start("parent", { input: null });
    await begun.opened;
    if (hold === "pause") await run.pause("hold it", operator);
    else await crew.stop({ agent: "parent", why: "hold it" }, operator);
    if (hold === "stop") await new Promise((resolve) => setTimeout(resolve, 600)); // as above
    release.open();
    await reaches(run as Run<unknown>, hold === "pause" ? "attention" : "queued");
    expect(await crew.runs({ agent: "child" })).toEqual([]);
    expect(acted).toEqual([]);
    if (hold === "pause") await run.resume(operator);
    else await crew.lift("parent", operator);
    await run.result();
    expect(acted).toEqual(["child"]);
  }
});

test("a flow that is paused in its last step does not succeed before it is let", async () => {
  const begun = gate();
  const release = gate();
  const only = flow("only", async (ctx) => ctx.step("last", () => opening(begun, release).then(() => "over")));
  const crew = makeCrew([only as never]);
  const run = await crew.start("only", { input: null });
  await begun.opened;
  await run.pause("look first", operator);
  release.open();
  expect(await reaches(run as Run<unknown>, "parked")).toMatchObject({ code: "PAUSED" });
  await run.resume(operator);
  expect(await run.result()).toBe("over");
});

test("a call that waits for its next attempt does not begin it while its run is paused", async () => {
  const working = gate();
  const release = gate();
  let times = 0;
  const slowly = tool({ inputSchema: z.object({}), execute: () => opening(working, release) });
  const flaky = tool({
    inputSchema: z.object({}),
    execute: async () => {
      if (++times === 1) throw Object.assign(new Error("down"), { status: 503, headers: { "retry-after": "1" } });
    },
  });
  const answer = {
    calls: [
      { tool: "slowly", input: {} },
      { tool: "flaky", input: {} },
    ],
  };
  const crew = makeCrew([
    agent("pair", {
      model: scriptedModel([answer, "Done."]),
      tools: { slowly, flaky },
      policy: { slowly: { effect: "read" }, flaky: { effect: "idempotent" } },
    }),
  ]);
  const run = await crew.start("pair", { prompt: "Hi" });
  const failed = await until("it has failed once", async () => (await run.journal()).find(({ type }) => type === "step.failed"));
  await run.pause("hold it", operator);
  await until("it is paused", async () => (await run.view()).paused ?? undefined);
  const due = Object(failed).retryAt as number;
  await until("its next attempt is due, and a while more", async () => Date.now() > due + 300 || undefined);
  expect(times).toBe(1);
  release.open();
  await reaches(run as Run<unknown>, "parked");
  await run.resume(operator);
  expect(await run.result()).toBe("Done.");
  expect(times).toBe(2);
});

test("nobody shakes off a pause by cancelling the run and trying it again", async () => {
  const { agent: slowly, working, release } = slow();
  const crew = makeCrew([slowly]);
  const run = await crew.start("slow", { prompt: "Hi", principal: customer });
  await working.opened;
  await run.pause("this may be fraud", operator);
  await run.cancel("then not", person("customer"));
  release.open();
  await reaches(run as Run<unknown>, "cancelled");
  const again = await run.retry(person("customer"));
  expect(await reaches(again as Run<unknown>, "parked")).toMatchObject({ code: "PAUSED", paused: { why: "this may be fraud" } });
  await again.resume(operator);
  expect(await again.result()).toBe("Done.");
});

test.each(["pause", "takeOver"] as const)(
  "what is asked expires while a person holds the run (%s), and nobody is reminded of it",
  async (how) => {
    const { crew, ledger } = await open([refunds(500), "Done."], { within: "4h", remind: "1h", escalate: "role:lead" });
    const run = await ask(crew);
    const [asked] = await crew.inbox(ana);
    if (how === "pause") await run.pause("look first", operator);
    else await run.takeOver(operator);
    await crew.advance("3h");
    expect((await crew.approval(asked?.id ?? "")).status).toBe("open");
    await crew.advance("2h");
    expect(await crew.approval(asked?.id ?? "")).toMatchObject({ status: "expired", level: 0 });
    expect(await actionsOf(crew)).not.toContain("approval.reminded");
    expect(await run.view()).toMatchObject({ status: "parked" });
    expect(ledger).toEqual([]);
  },
);
