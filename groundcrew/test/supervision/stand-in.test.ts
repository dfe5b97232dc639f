/** What runs in the place of a gated call that is down: only after somebody has agreed, with what they agreed to, and by its name on record. */
import { tool } from "ai";
import { expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { agent } from "../../src/agent.ts";
import { testCrew } from "../../src/testing/crew.ts";
import { scriptedModel } from "../../src/testing/model.ts";
import { ana, ask, toldOf } from "./ground.ts";

const inputSchema = z.object({ order: z.string(), amount: z.number() });

/** Its `book` needs somebody and is down; `note` needs nobody and stands in for it. */
async function open() {
  const noted: unknown[] = [];
  const refusal = Object.assign(new Error("no such account"), { status: 401 });
  const book = tool({ inputSchema, execute: async (): Promise<string> => Promise.reject(refusal) });
  const note = tool({
    inputSchema,
    execute: async (input) => {
      noted.push(input);
      return "noted for later";
    },
  });
  const support = agent("support", {
    model: scriptedModel([{ calls: [{ tool: "book", input: { order: "o1", amount: 500 } }] }, "Done."]),
    tools: { book, note },
    policy: { book: { effect: "idempotent", approve: true, by: "role:finance", fallback: "note" } },
  });
  const crew = await testCrew([support]);
  onTestFinished(() => crew.close());
  const run = await ask(crew);
  const id = (await crew.inbox(ana))[0]?.id ?? "";
  const records = async () => (await crew.audit("default", 0, 100)).map(({ record }) => JSON.parse(record));
  return { support, crew, run, id, noted, records };
}

test("it runs with the arguments that somebody agreed to, and is on record by its name", async () => {
  const { crew, run, id, noted, records } = await open();
  expect(noted).toEqual([]);
  await crew.decide(id, { do: "approve", input: { order: "o1", amount: 5 } }, ana);
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded" });
  expect(noted).toEqual([{ order: "o1", amount: 5 }]);
  const begun = (await records()).filter(({ action }) => action === "approval.execution.begun").map(({ detail }) => detail.standIn);
  expect(begun).toEqual([undefined, "note"]);
});

test("it does not run where somebody has said no", async () => {
  const { support, crew, run, id, noted, records } = await open();
  await crew.decide(id, { do: "deny", reason: "wrong order" }, ana);
  expect(await crew.settle(run)).toMatchObject({ status: "succeeded" });
  expect(noted).toEqual([]);
  expect(toldOf(support as never)).toEqual([{ type: "execution-denied", reason: expect.stringContaining("wrong order") }]);
  expect((await records()).map(({ action }) => action)).toEqual(["approval.requested", "approval.denied"]);
});
