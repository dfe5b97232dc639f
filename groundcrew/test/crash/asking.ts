/** An agent whose refund needs somebody, and whose ledger is another process's: what it has been asked for is known whoever dies. */
import { tool } from "ai";
import { z } from "zod";
import { type Agent, agent, currentCall } from "../../src/index.ts";
import { scriptedModel } from "../../src/testing/testing.ts";

/** What the ledger is asked, and how often. */
export interface Payment {
  key: string;
  amount: number;
}

export const WITHIN_MS = 60 * 60 * 1_000;

/** @param ledger its address */
export function asking(ledger: string): Agent {
  const refund = tool({
    inputSchema: z.object({ amount: z.number() }),
    execute: async ({ amount }) => {
      const { key } = currentCall();
      await fetch(`${ledger}/pay`, { method: "POST", body: JSON.stringify({ key, amount }) });
      return `refunded ${amount}`;
    },
  });
  const model = scriptedModel(({ prompt }) => {
    const said = prompt.flatMap((message) => (message.role === "tool" ? message.content : []));
    if (said.length === 0) return { calls: [{ tool: "refund", input: { amount: 250 }, id: "c1" }] };
    return `It ended as ${said.map((part) => (part.type === "tool-result" ? part.output.type : "")).join()}.`;
  });
  const reconcile = async (_input: unknown, { key }: { key: string }) => {
    const paid = (await (await fetch(`${ledger}/paid?key=${encodeURIComponent(key)}`)).json()) as Payment | null;
    return paid ? { happened: true as const, result: `refunded ${paid.amount}` } : { happened: false as const };
  };
  return agent("asking", {
    model,
    tools: { refund },
    policy: { refund: { effect: "once", reconcile, approve: true, by: "role:finance", within: WITHIN_MS } },
  }) as unknown as Agent;
}
