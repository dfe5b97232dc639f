/** A tool, or a call, may have a name that every object inherits: it is a name like any other, through the whole run. */
import { tool } from "ai";
import { expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { type Agent, agent } from "../../src/agent.ts";
import { testCrew } from "../../src/testing/crew.ts";
import { scriptedModel } from "../../src/testing/model.ts";
import { ana, ask, open, refunds, toldOf } from "./ground.ts";

const NAMES = ["constructor", "__proto__", "toString", "hasOwnProperty", "valueOf"];

test.each(NAMES)('a gated tool "%s" waits for somebody, runs once, and gets no context that is another\'s', async (name) => {
  const contexts: unknown[] = [];
  const inputSchema = z.object({ amount: z.number() });
  const named = tool({ inputSchema, execute: async (_input, { context }: { context?: unknown }) => `paid ${contexts.push(context)}` });
  const support = agent("support", {
    model: scriptedModel([
      { calls: [{ tool: name, input: { amount: "many" } }] },
      { calls: [{ tool: name, input: { amount: 1 } }] },
      "Done.",
    ]),
    tools: Object.fromEntries([[name, named]]),
    policy: Object.fromEntries([[name, { approve: true, by: "role:finance" }]]),
    toolsContext: {},
  } as never) as unknown as Agent;
  const crew = await testCrew([support]);
  onTestFinished(() => crew.close());
  const run = await ask(crew);
  expect(JSON.stringify(toldOf(support))).toContain(`Invalid input for tool ${name}`);
  const asked = await crew.inbox(ana);
  expect(asked).toMatchObject([{ request: { name, input: { amount: 1 } } }]);
  expect(contexts).toEqual([]);
  await crew.decide(asked[0]?.id ?? "", { do: "approve" }, ana);
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded", output: "Done." });
  expect(contexts).toEqual([undefined]);
  expect(toldOf(support).at(-1)).toEqual({ type: "text", value: "paid 1" });
});

test.each(NAMES)(
  'a call with the id "%s" is asked for and runs, or is refused for its arguments, beside others that are refused',
  async (id) => {
    const wrong = { tool: "refund", input: { order: 7, amount: "many" } };
    const right = { tool: "refund", input: { order: "o1", amount: 1 } };
    const other = { tool: "nope", input: {}, id: "b" };
    const { crew, support, ledger } = await open([
      { calls: [{ ...wrong, id }, other] },
      {
        calls: [
          { ...right, id },
          { ...other, id: "c" },
        ],
      },
      "Done.",
    ]);
    const run = await ask(crew);
    const [first] = toldOf(support);
    expect(first).toEqual({ type: "error-text", value: expect.stringContaining("Invalid input for tool refund") });
    const asked = await crew.inbox(ana);
    expect(asked).toMatchObject([{ request: { name: "refund", input: { amount: 1 } } }]);
    await crew.decide(asked[0]?.id ?? "", { do: "approve" }, ana);
    expect(await crew.settle(run)).toMatchObject({ status: "succeeded", output: "Done." });
    expect(ledger.map(({ amount }) => amount)).toEqual([1]);
    expect(toldOf(support).map((output) => (output as { type: string }).type)).toEqual(["error-text", "error-text", "text", "error-text"]);
  },
);

test.each(NAMES)('"%s" is no tool of an agent that has none of that name', async (name) => {
  const { crew, support, ledger } = await open([{ calls: [{ tool: name, input: {} }] }, refunds(1), "Done."], { approve: () => false });
  expect(await (await ask(crew)).result()).toBe("Done.");
  expect(ledger).toHaveLength(1);
  expect(JSON.stringify(toldOf(support)[0])).toContain(`no tool \\"${name}\\"`);
});
