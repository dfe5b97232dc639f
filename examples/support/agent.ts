import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { type LanguageModel, type ToolLoopAgentSettings, tool } from "ai";
import { z } from "zod";
import type { Entry } from "./ledger.ts";

const order = z.object({
  id: z.string(),
  customer: z.string(),
  email: z.string(),
  item: z.string(),
  total: z.number(),
  delivered: z.string(),
});

const lookupOrder = tool({
  description: "Look up an order: what it was, what it cost, who bought it.",
  inputSchema: z.object({ orderId: z.string() }),
  outputSchema: order,
  execute: ({ orderId }, { abortSignal }) => findOrder(orderId, abortSignal),
});

const refund = tool({
  description: "Pay an order's money back to the card it was paid with.",
  inputSchema: z.object({ orderId: z.string(), amount: z.number().positive() }),
  outputSchema: z.object({ refundId: z.string(), orderId: z.string(), amount: z.number() }),
  execute: (input, { abortSignal, toolCallId }) =>
    ask("/refunds", { method: "POST", body: input, headers: { "idempotency-key": toolCallId }, signal: abortSignal }),
});

const sendEmail = tool({
  description: "Send the customer an e-mail.",
  inputSchema: z.object({ to: z.email(), subject: z.string(), body: z.string() }),
  outputSchema: z.object({ emailId: z.string() }),
  execute: (input, { abortSignal }) => ask("/emails", { method: "POST", body: input, signal: abortSignal }),
});

const tools = { lookupOrder, refund, sendEmail };

/** The support agent: settings as the AI SDK's `ToolLoopAgent` takes them. */
export const settings = {
  id: "support",
  model: chooseModel(),
  instructions: [
    "You are the support agent of a shop for household goods. Be brief and kind, and say what you are about to do before you do it.",
    "Look an order up before you promise anything about it. For a broken item, refund exactly what the order cost, without asking again.",
    "After a refund, send one e-mail to the address in the order, with the order's number in its subject.",
    "At the end tell the customer the refund's reference.",
    "Refunds reach a card in three to five business days.",
  ].join("\n"),
  tools,
} satisfies ToolLoopAgentSettings<never, typeof tools>;

export function findOrder(orderId: string, signal: AbortSignal | undefined): Promise<z.infer<typeof order>> {
  return ask(`/orders/${encodeURIComponent(orderId)}`, { signal });
}

/** Looks in the mail service's outbox for this very e-mail. */
export async function findEmail(sought: { to: string; subject: string; body: string }, signal: AbortSignal): Promise<string | undefined> {
  const entries = await ask<Entry[]>("/entries", { signal });
  const found = entries.find(
    (entry) => entry.kind === "email" && entry.to === sought.to && entry.subject === sought.subject && entry.body === sought.body,
  );
  return found?.kind === "email" ? found.id : undefined;
}

/** A real provider when its key is set, otherwise the scripted model server. */
function chooseModel(): LanguageModel {
  const { ANTHROPIC_API_KEY, OPENAI_API_KEY, OPENAI_BASE_URL, GROUNDCREW_DEMO_MODEL, GROUNDCREW_DEMO_MODEL_URL } = process.env;
  const openaiModel = GROUNDCREW_DEMO_MODEL ?? "gpt-5.4-mini";
  if (ANTHROPIC_API_KEY) return createAnthropic({ apiKey: ANTHROPIC_API_KEY })(GROUNDCREW_DEMO_MODEL ?? "claude-haiku-4-5");
  // Servers that are compatible with OpenAI's speak Chat Completions; only OpenAI itself surely speaks Responses.
  if (OPENAI_BASE_URL) return createOpenAI({ baseURL: OPENAI_BASE_URL, apiKey: OPENAI_API_KEY ?? "none" }).chat(openaiModel);
  if (OPENAI_API_KEY) return createOpenAI({ apiKey: OPENAI_API_KEY })(openaiModel);
  if (GROUNDCREW_DEMO_MODEL_URL) return createOpenAI({ baseURL: GROUNDCREW_DEMO_MODEL_URL, apiKey: "none" }).chat(openaiModel);
  throw new Error("No model: set OPENAI_API_KEY, ANTHROPIC_API_KEY or OPENAI_BASE_URL (or GROUNDCREW_DEMO_MODEL_URL to a scripted one).");
}

interface Ask {
  method?: "POST";
  body?: object;
  headers?: Record<string, string>;
  signal: AbortSignal | undefined;
}

/** Calls the payments and mail service. */
async function ask<Answer>(path: string, { method, body, headers, signal }: Ask): Promise<Answer> {
  const base = process.env["GROUNDCREW_DEMO_LEDGER_URL"];
  if (!base) throw new Error("Set GROUNDCREW_DEMO_LEDGER_URL to the payments and mail service.");
  const response = await fetch(base + path, {
    method: method ?? "GET",
    headers: { "content-type": "application/json", ...headers },
    body: body ? JSON.stringify(body) : null,
    signal: signal ?? null,
  });
  if (!response.ok) throw new Error(`The payments and mail service answered ${response.status}: ${await response.text()}`);
  return (await response.json()) as Answer;
}
