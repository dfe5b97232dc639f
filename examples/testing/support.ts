/**
 * Tests of a support agent under faults. They take no real waiting, no network and no key:
 *
 *     node --test examples/testing/support.ts
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { failingTool, fault, killAt, scriptedModel, testCrew, withFaults } from "groundcrew/testing";
import { done, supportAgent, toolsOf } from "./agent.ts";
import { model as decidingModel } from "./worker.ts";

const refunds = { calls: [{ tool: "refund", input: { orderId: "A-1042" } }] };
const mails = { calls: [{ tool: "sendEmail", input: { text: "Your money is on its way." } }] };
const answer = "Your money is on its way.";
const prompt = "I want my money back.";

const kinds = (lines: readonly string[]) => lines.map((line) => line.split(" ")[0]);

let folder: string;
let world: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "support-"));
  world = join(folder, "world.txt");
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("whatever the provider does, the customer is refunded once and gets the answer", async () => {
  const model = scriptedModel([fault.status(429, { retryAfter: "300" }), refunds, fault.cut("Your money"), fault.reset(), answer]);
  const support = supportAgent(model, world);
  await using crew = await testCrew([support]);
  const began = crew.clock.now();
  const view = await crew.settle(await crew.start(support, { prompt }));
  assert.equal(view.output, answer);
  assert.deepEqual(kinds(done(world)), ["refund"]);
  assert.equal(model.calls.length, 5);
  assert.ok(crew.clock.now() - began >= 300_000, "it came back before the provider wanted it to");
});

test("without the order service the agent goes on, and it is said what was missing", async () => {
  const model = scriptedModel([{ calls: [{ tool: "lookupOrder", input: { orderId: "A-1042" } }] }, "I cannot see your order."]);
  const tools = { ...toolsOf(world), lookupOrder: failingTool(new Error("The order service is down.")) as never };
  const support = supportAgent(model, world, tools);
  await using crew = await testCrew([support]);
  const view = await crew.settle(await crew.start(support, { prompt }));
  assert.equal(view.status, "succeeded");
  assert.deepEqual(
    view.degraded.map(({ name }) => name),
    ["lookupOrder"],
  );
});

test("an e-mail that may still go out is not sent again before somebody has said that it did not", async () => {
  const tools = toolsOf(world);
  const sendEmail = withFaults(tools.sendEmail, ["hang, ignoring its signal"]);
  const support = supportAgent(scriptedModel([mails, answer]), world, { ...tools, sendEmail });
  await using crew = await testCrew([support]);
  const run = await crew.start(support, { prompt });
  assert.equal((await crew.settle(run)).reason, "unknown_outcome");
  assert.equal(sendEmail.executions, 1);
  await run.resolve("sendEmail", { resolution: "did_not_happen" });
  assert.equal((await crew.settle(run)).output, answer);
  assert.deepEqual(kinds(done(world)), ["email"]);
});

for (const nth of [2, 3, 4]) {
  test(`killed when effect ${nth} has happened and nobody knows: one refund, one e-mail`, async () => {
    const store = join(folder, "crew.db");
    await killAt("effect.after", new URL("./worker.ts", import.meta.url), { nth, args: [store, world] });
    const support = supportAgent(decidingModel(), world);
    await using crew = await testCrew([support], { store });
    const [row] = await crew.runs();
    const view = await crew.settle(await crew.run(row?.id ?? ""));
    assert.equal(view.output, answer);
    assert.deepEqual(kinds([...new Set(done(world))]), ["refund", "email"]); // the bank pays once what it is asked for twice with one key
    assert.equal(kinds(done(world)).filter((kind) => kind === "email").length, 1);
  });
}
