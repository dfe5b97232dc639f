import { openai } from "@ai-sdk/openai";
import { tool } from "ai";
import { agent, currentCall, groundcrew } from "groundcrew";
import { z } from "zod";

const lookupOrder = tool({
  inputSchema: z.object({ orderId: z.string() }),
  execute: async () => ({ customer: "Dana Whitfield", email: "dana@example.com", item: "teapot", total: 84.5, delivered: "yesterday" }),
});

const refund = tool({
  inputSchema: z.object({ orderId: z.string(), amount: z.number() }),
  execute: async ({ amount }) => {
    console.log(`Here you would pay back $${amount}, with the idempotency key ${currentCall().key}`);
    return { refundId: "RF-0001", amount };
  },
});

const support = agent("support", {
  model: openai("gpt-5.4-mini"), // any AI SDK model; tools and settings are the AI SDK's too
  instructions: "You are the support agent of a shop. Look an order up first, then refund broken items in full.",
  tools: { lookupOrder, refund },
  policy: {
    lookupOrder: { effect: "read" }, // after a crash: just do it again
    refund: { effect: "keyed", key: ({ orderId }) => orderId }, // again, with the same key; undeclared tools are never repeated on a guess
  },
});

const crew = groundcrew({ agents: [support], store: "crew.db" }); // a SQLite file
const run = await crew.start(support, { prompt: "My order A-1042 arrived broken. I want my money back.", session: "dana" });
for await (const event of run.events()) console.log(event.cursor, event.type); // any process can follow, from any cursor
console.log(await run.result());
await crew.close();
