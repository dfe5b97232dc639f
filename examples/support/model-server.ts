import { type ChatMessage, isChatCompletionBody, LLMock, type ToolCall } from "@copilotkit/aimock";
import { z } from "zod";

/** One call that reached the model. */
export interface ModelRequest {
  at: number;
  path: string;
  status: number;
  messages: ChatMessage[];
}

export interface ModelServer {
  /** Base URL of the OpenAI-compatible API. */
  url: string;
  requests(): ModelRequest[];
  stop(): Promise<void>;
}

export interface ModelServerOptions {
  port?: number;
  tokensPerSecond?: number;
}

/** Characters in one streamed chunk: about a token. */
const CHUNK_CHARS = 5;

/**
 * A model that needs no key: a real HTTP server with the real streaming protocol, and a script in place of a mind. What it
 * says follows from the conversation alone, so a call that is repeated after a crash gets the same answer.
 */
export async function startModelServer({ port = 0, tokensPerSecond = 30 }: ModelServerOptions = {}): Promise<ModelServer> {
  const server = new LLMock({ host: "127.0.0.1", port });
  server.addFixture({
    match: { predicate: () => true },
    response: ({ messages, tools }) => withUsage(reply(messages, offered(tools)), messages),
    chunkSize: CHUNK_CHARS,
    streamingProfile: { ttft: 150, tps: tokensPerSecond },
  });
  await server.start();
  return {
    url: `${server.url}/v1`,
    requests: () =>
      server.getRequests().map(({ timestamp, path, body, response }) => ({
        at: timestamp,
        path,
        status: response.status,
        messages: isChatCompletionBody(body) ? body.messages : [],
      })),
    stop: () => server.stop(),
  };
}

type Reply = { content: string; toolCalls?: ToolCall[] };

/** What a tool answered about the order in question: `undefined` when it was not asked yet, text when it failed. */
type ResultOf = (tool: string) => unknown;

const order = z.object({ customer: z.string(), email: z.string(), item: z.string(), total: z.number(), delivered: z.string() });
const refund = z.object({ refundId: z.string(), amount: z.number() });
const email = z.object({ emailId: z.string() });

/** Whether the agent came with this tool. */
type Offered = (tool: string) => boolean;

function offered(tools: { function: { name: string } }[] = []): Offered {
  return (name) => tools.some((tool) => tool.function.name === name);
}

/** The script: what a good support agent says next, given the conversation so far. */
function reply(messages: ChatMessage[], has: Offered): Reply {
  const asked = messages.filter(({ role }) => role === "user").map(textOf);
  const orderId = asked
    .join("\n")
    .match(/\bA-\d{4}\b/g)
    ?.at(-1);
  if (!orderId) return say("I can help with orders and refunds. Which order is it about? Its number begins with A- and has four digits.");
  const result: ResultOf = (tool) => resultOf(messages, tool, orderId);
  return /\bwhen\b/i.test(asked.at(-1) ?? "") ? tellWhen(orderId, result) : nextStep(orderId, result, has);
}

function tellWhen(orderId: string, result: ResultOf): Reply {
  const paid = refund.safeParse(result("refund"));
  if (!paid.success) return say(`I see no refund for order ${orderId} in our conversation. Would you like one?`);
  return say(
    `The ${dollars(paid.data.amount)} will be back on your card in three to five business days. ` +
      `If it is not there by then, just write to us again and give the reference ${paid.data.refundId}.`,
  );
}

/** Look up, refund, write, report: whichever the conversation does not show yet. */
function nextStep(orderId: string, result: ResultOf, has: Offered): Reply {
  const looked = result("lookupOrder");
  if (looked === undefined) return say("I'm sorry about that. Let me look up your order first.", call("lookupOrder", { orderId }));
  const found = order.safeParse(looked);
  if (!found.success) return say(`I could not find order ${orderId}. Could you check the number on your receipt?`);
  const { customer, email: to, item, total, delivered } = found.data;
  const [name] = customer.split(" ");

  const refunded = result("refund");
  if (refunded === undefined) {
    const what = `I found it: one ${item} for ${dollars(total)}, delivered on ${delivered}.`;
    return say(`${what} I'm refunding the full amount now.`, call("refund", { orderId, amount: total }));
  }
  const paid = refund.safeParse(refunded);
  if (!paid.success) return say(`I could not book the refund for order ${orderId}, ${name}. A colleague will look at it and write to you.`);
  const { refundId, amount } = paid.data;

  const mailed = result("sendEmail");
  if (mailed === undefined && has("sendEmail")) {
    const subject = `Your refund for order ${orderId}`;
    const body = `Dear ${name}, we have refunded ${dollars(amount)} for your ${item}. Your reference is ${refundId}.`;
    return say("The refund is booked. I'm sending you a confirmation.", call("sendEmail", { to, subject, body }));
  }
  const went = email.safeParse(mailed).success ? `A confirmation is on its way to ${to}.` : `My e-mail to ${to} did not go out.`;
  const confirmation = has("sendEmail") ? `${went} ` : "";
  return say(
    `All done, ${name}. I refunded ${dollars(amount)} for the ${item} of order ${orderId} to the card you paid with; ` +
      `the reference is ${refundId}. ${confirmation}There is no need to send the broken one back. ` +
      "I'm sorry for the trouble, and thank you for telling us right away!",
  );
}

function say(content: string, ...toolCalls: ToolCall[]): Reply {
  return toolCalls.length > 0 ? { content, toolCalls } : { content };
}

function dollars(amount: number): string {
  return `$${amount.toFixed(2)}`;
}

function call(name: string, input: object): ToolCall {
  return { name, arguments: JSON.stringify(input) };
}

function resultOf(messages: ChatMessage[], tool: string, orderId: string): unknown {
  const calls = messages.flatMap(({ tool_calls = [] }) => tool_calls);
  const ids = calls.filter(({ function: made }) => made.name === tool && made.arguments.includes(orderId)).map(({ id }) => id);
  const result = messages.findLast(({ role, tool_call_id = "" }) => role === "tool" && ids.includes(tool_call_id));
  if (!result) return undefined;
  try {
    return JSON.parse(textOf(result));
  } catch {
    return textOf(result);
  }
}

function textOf({ content }: ChatMessage): string {
  if (typeof content === "string") return content;
  return (content ?? []).map(({ text = "" }) => text).join("");
}

/** Token counts in both spellings, since each protocol reads its own. */
function withUsage(answer: Reply, messages: ChatMessage[]) {
  const input = tokens(JSON.stringify(messages));
  const output = tokens(JSON.stringify(answer));
  return { ...answer, usage: { prompt_tokens: input, completion_tokens: output, input_tokens: input, output_tokens: output } };
}

function tokens(text: string): number {
  return Math.ceil(text.length / 4);
}
