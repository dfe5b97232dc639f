/** The agent under test, as a function of what a test wants to replace: its model, and tools with faults. */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { type LanguageModel, tool } from "ai";
import { agent, currentCall } from "groundcrew";
import { z } from "zod";

/** The world outside, which no crash of ours rolls back: what was done stands in a file. @param world its path */
export function toolsOf(world: string) {
  const act = (what: string) => appendFileSync(world, `${what} ${currentCall().key}\n`);
  return {
    lookupOrder: tool({ inputSchema: z.object({ orderId: z.string() }), execute: ({ orderId }) => ({ orderId, total: 84.5 }) }),
    refund: tool({ inputSchema: z.object({ orderId: z.string() }), execute: () => act("refund") }),
    sendEmail: tool({ inputSchema: z.object({ text: z.string() }), execute: () => act("email") }),
  };
}

/** What was done, in order. */
export function done(world: string): string[] {
  return existsSync(world) ? readFileSync(world, "utf8").trimEnd().split("\n") : [];
}

export function supportAgent(model: LanguageModel, world: string, tools = toolsOf(world)) {
  return agent("support", {
    model,
    tools,
    policy: {
      lookupOrder: { effect: "read", optional: true },
      refund: { effect: "keyed", key: ({ orderId }) => orderId },
      sendEmail: {
        effect: "once",
        timeout: "10s",
        reconcile: (_email, { key }) => ({ happened: done(world).includes(`email ${key}`) }),
      },
    },
  });
}
