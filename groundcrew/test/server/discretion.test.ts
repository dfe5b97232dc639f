/** What a run's owner gets to read over HTTP of those who decide about it and steer it: that it happened, and nothing of who and why. */
import { tool } from "ai";
import { expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { type Agent, agent, flow } from "../../src/agent.ts";
import type { Run } from "../../src/runtime.ts";
import { testCrew } from "../../src/testing/crew.ts";
import { scriptedModel } from "../../src/testing/model.ts";
import { escalation } from "../../src/tool/escalation.ts";
import { customer, open, person, refunds } from "../supervision/ground.ts";
import { people, serveDesk } from "./desk.ts";

/** Unmistakable, so that it is found wherever it turns up. */
const WHY = "between-us";
const anabel = person("anabel", "finance");
const olivier = person("olivier", "operator");
const STAFF = /anabel|olivier|between-us/;

async function staged() {
  const refund = tool({ inputSchema: z.object({ order: z.string(), amount: z.number() }), execute: async () => "refunded" });
  const support = agent("support", {
    model: scriptedModel([{ calls: [{ tool: "askHuman", input: { question: "May I?" } }] }, refunds(100), refunds(200), "Done."]),
    tools: { refund, askHuman: escalation({ to: "role:finance" }) },
    policy: { refund: { approve: true, by: "role:finance", quorum: 1 } },
  }) as unknown as Agent;
  const publish = flow("publish", async (ctx) => {
    await ctx.approval("publish", { by: "role:finance", why: WHY });
    return "published";
  }) as never;
  const crew = await testCrew([support, publish], { people, onTrouble: () => {} });
  onTestFinished(() => crew.close());
  const next = async () => (await crew.inbox(anabel))[0]?.id ?? "";
  return { crew, next, ...(await serveDesk(crew)) };
}

test("neither the feed, nor the view, nor the list, nor the chat tells an owner who decided and steered, or why; operators are told", async () => {
  const { crew, next, get } = await staged();
  const run = await crew.start("support", { prompt: "Help", principal: customer, session: "s1" });
  await crew.settle(run);
  await run.pause(WHY, olivier);
  await run.resume(olivier);
  await run.raise({ steps: 3 }, olivier);
  await run.say(WHY, olivier);
  await run.takeOver(olivier);
  await crew.advance("1m");
  await run.speak("A colleague looks into it.", olivier);
  await run.handBack(olivier);
  await crew.settle(run);
  await crew.decide(await next(), { do: "answer", answer: "Yes" }, anabel);
  await crew.settle(run);
  await crew.decide(await next(), { do: "approve", input: { order: "o1", amount: 50 }, reason: WHY }, anabel);
  await crew.settle(run);
  await crew.decide(await next(), { do: "delegate", to: "user:anabel", reason: WHY }, anabel);
  await crew.decide(await next(), { do: "deny", reason: "Too much" }, anabel);
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded" });
  const checked = await crew.start("publish", { input: null, principal: customer });
  await crew.settle(checked);
  await crew.decide(await next(), { do: "approve", reason: WHY }, anabel);
  expect(await crew.settle(checked)).toMatchObject({ status: "succeeded" });
  const ended = await crew.start("publish", { input: null, principal: customer });
  await crew.settle(ended);
  await ended.cancel(WHY, olivier);
  await crew.settle(ended);
  const again = (await ended.retry(olivier)) as Run<unknown>;
  await crew.settle(again);
  await again.cancel(WHY, olivier);
  await crew.settle(again);

  const runs = [run, checked, ended, again] as Run<unknown>[];
  const paths = [
    ...runs.flatMap(({ id }) => [`/v1/runs/${id}`, `/v1/runs/${id}/events`, `/v1/runs/${id}/result`]),
    `/v1/runs/${run.id}/ui`,
    "/v1/runs",
    "/v1/sessions",
    "/v1/sessions/s1",
    "/v1/sessions/s1/messages",
  ];
  for (const path of paths) {
    const response = await get(path, "customer");
    const text = await response.text();
    expect([200, 204, 404], path).toContain(response.status);
    expect(
      text.match(STAFF)?.[0],
      `${path}: ${text.slice(Math.max(0, text.search(STAFF) - 200), text.search(STAFF) + 100)}`,
    ).toBeUndefined();
  }
  expect(await (await get(`/v1/runs/${run.id}/events`, "olga")).text()).toMatch(/olivier[\s\S]*anabel/);
});

test("one who may decide for others, and not for themselves, does not see what others say of their own", async () => {
  const { crew } = await open(
    [refunds(1), "Done."],
    { quorum: 2 },
    { people: { ...people, customer: { roles: ["finance"] } }, onTrouble: () => {} },
  );
  const run = await crew.start("support", { prompt: "Help", principal: customer });
  await crew.settle(run);
  const { get } = await serveDesk(crew);
  const [asked] = await crew.inbox(anabel);
  await crew.decide(asked?.id ?? "", { do: "approve", reason: WHY }, anabel);
  expect(await (await get(`/v1/approvals/${asked?.id}`, "customer")).text()).not.toMatch(STAFF);
  expect(await (await get(`/v1/approvals/${asked?.id}`, "ana")).text()).toMatch(STAFF);
});
