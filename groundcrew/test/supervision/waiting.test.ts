/** Ten thousand runs that wait for people, over a rolling restart: nothing is done again, no deadline is lost, and they cost no memory. */
import { tool } from "ai";
import { expect, test } from "vitest";
import { z } from "zod";
import { type Agent, agent } from "../../src/agent.ts";
import type { Crew } from "../../src/runtime.ts";
import { scriptedModel } from "../../src/testing/model.ts";
import { makeCrew, tempStore } from "../support/crew.ts";
import { until } from "../support/until.ts";
import { ana } from "./ground.ts";

const MANY = 10_000;
const DEADLINE_MS = 240_000;

/** Of nobody who decides here. */
const customer = { tenant: "default", user: "customer", roles: [] };

test("10,000 of them wait through a rolling restart", { timeout: 2 * DEADLINE_MS }, async () => {
  const store = tempStore();
  let looked = 0;
  const refunded: number[] = [];
  const look = tool({ inputSchema: z.object({}), execute: async () => ++looked });
  const refund = tool({ inputSchema: z.object({ amount: z.number() }), execute: async ({ amount }) => refunded.push(amount) });
  const model = scriptedModel(({ prompt }) => {
    const said = JSON.stringify(prompt.filter(({ role }) => role === "tool"));
    if (!said.includes('"look"')) return { calls: [{ tool: "look", input: {} }] };
    return said.includes('"refund"') ? "Done." : { calls: [{ tool: "refund", input: { amount: 250 } }] };
  });
  const policy = { look: { effect: "read" as const }, refund: { approve: true as const, by: "role:finance", within: "3d" as const } };
  const support = agent("support", { model, tools: { look, refund }, policy }) as unknown as Agent;
  const open = () => makeCrew([support], { store, worker: { concurrency: 64 }, retention: {} });

  const first = open();
  const ids: string[] = [];
  for (let n = 0; n < MANY; n += 500) {
    const some = await Promise.all(Array.from({ length: 500 }, () => first.start("support", { prompt: "Hi", principal: customer })));
    ids.push(...some.map(({ id }) => id));
  }
  const isAtWork = async () => (await first.runs({ status: ["queued", "running"], limit: 1 })).length > 0;
  await until("all of them wait", async () => !(await isAtWork()), DEADLINE_MS);
  expect(await waiting(first)).toBe(MANY);
  expect(looked).toBe(MANY);
  const asks = model.calls.length;
  const samples = ids.filter((_, n) => n % 1_000 === 0);
  const before = await Promise.all(samples.map((id) => first.approval(`${id}.1`)));

  const second = open();
  await second.work();
  await first.close();
  globalThis.gc?.();
  const heap = process.memoryUsage().heapUsed;
  const third = open();
  await third.work();
  await second.close();
  await new Promise((resolve) => setTimeout(resolve, 1_000)); // two polls of an idle worker
  globalThis.gc?.();
  expect(process.memoryUsage().heapUsed - heap).toBeLessThan(50 * 1024 * 1024);

  expect(await waiting(third)).toBe(MANY);
  expect(looked, "nothing is done again").toBe(MANY);
  expect(model.calls.length).toBe(asks);
  expect(await Promise.all(samples.map((id) => third.approval(`${id}.1`))), "no deadline is lost").toEqual(before);

  await third.decide(`${samples[3]}.1`, { do: "approve" }, ana);
  expect(await (await third.run(samples[3] ?? "")).result()).toBe("Done.");
  expect(refunded).toEqual([250]);
  expect(await waiting(third)).toBe(MANY - 1);
});

/** How many runs are parked for an approval. */
async function waiting(crew: Crew): Promise<number> {
  const rows = await crew.runs({ status: ["parked"], limit: MANY + 1 });
  return rows.filter(({ reason }) => reason === "approval").length;
}
