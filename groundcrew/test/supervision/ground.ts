/** A crew in which people decide: a refund that needs somebody, a ledger of what was really done, and some people. */
import { tool } from "ai";
import { onTestFinished } from "vitest";
import { z } from "zod";
import { type Agent, agent } from "../../src/agent.ts";
import { currentCall } from "../../src/call.ts";
import type { ToolPolicy } from "../../src/policy.ts";
import type { Actor } from "../../src/principal.ts";
import type { Run } from "../../src/runtime.ts";
import { type TestCrew, type TestCrewOptions, testCrew } from "../../src/testing/crew.ts";
import { type ScriptedAnswer, scriptedModel } from "../../src/testing/model.ts";

export interface Refund {
  order: string;
  amount: number;
}

/** What was really done, and under which key. */
export type Ledger = { order: string; amount: number; key: string }[];

export function person(user: string, ...roles: string[]): Actor {
  return { tenant: "default", user, roles, kind: "person", channel: "api" };
}

export const ana = person("ana", "finance");
export const bo = person("bo", "finance");
export const customer = { tenant: "default", user: "customer", roles: [] };

export type Script = Parameters<typeof scriptedModel>[0];

export interface Desk {
  crew: TestCrew;
  ledger: Ledger;
  support: Agent;
}

/** The agent refunds what `script` says; the policy of `refund` is its default with `policy` over it. */
export function supportAgent(ledger: Ledger, script: Script, policy: ToolPolicy<Refund> = {}, more: object = {}): Agent {
  const refund = tool({
    description: "Pays money back.",
    inputSchema: z.object({ order: z.string(), amount: z.number() }),
    execute: async ({ order, amount }) => {
      ledger.push({ order, amount, key: currentCall().key });
      return `refunded ${amount}`;
    },
  });
  const lookup = tool({ inputSchema: z.object({}), execute: async () => "an order" });
  const rules: ToolPolicy<Refund, string> = { approve: true, by: "role:finance", ...(policy as ToolPolicy<Refund, string>) };
  const tools = { refund, lookup };
  return agent("support", {
    model: scriptedModel(script),
    tools,
    policy: { refund: rules, lookup: { effect: "read" } },
    ...more,
  }) as unknown as Agent;
}

export async function open(script: readonly ScriptedAnswer[], policy?: ToolPolicy<Refund>, options: TestCrewOptions = {}): Promise<Desk> {
  const ledger: Ledger = [];
  const support = supportAgent(ledger, script, policy);
  const crew = await testCrew([support], options);
  onTestFinished(() => crew.close());
  return { crew, ledger, support };
}

export const refunds = (...amounts: number[]): ScriptedAnswer => ({
  calls: amounts.map((amount, i) => ({ tool: "refund", input: { order: `o${i + 1}`, amount } })),
});

/** Starts a run of the customer's and waits until it asks somebody, or ends. */
export async function ask(crew: TestCrew, more: object = {}): Promise<Run> {
  const run = await crew.start("support", { prompt: "My order is broken.", principal: customer, ...more });
  await crew.settle(run);
  return run;
}

/** What the model was told of its calls, in the last prompt. */
export function toldOf(support: Agent): unknown[] {
  const { calls } = support.settings.model as ReturnType<typeof scriptedModel>;
  return (calls.at(-1)?.prompt ?? []).flatMap((message) =>
    message.role === "tool" ? message.content.flatMap((part) => (part.type === "tool-result" ? [part.output] : [])) : [],
  );
}

/** What is in the audit log, in order. */
export async function actionsOf(crew: TestCrew, tenant = "default"): Promise<string[]> {
  return (await crew.audit(tenant, 0, 1_000)).map(({ record }) => (JSON.parse(record) as { action: string }).action);
}
