/**
 * The model, on the wire protocol of chat completions. What it says follows from the conversation alone, so a call that is
 * repeated after a crash gets the same answer. Written here because a run keeps it busy for hours with hundreds of calls a
 * second, and a mock that remembers each request would need all the memory there is.
 */
import type { ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { answerTo, idOf, summaryOf } from "./expected.ts";
import { type Act, agentOf, errandsOf, type Falter, type Order, toolFor } from "./programs.ts";
import type { Answer } from "./world.ts";

/** What the world's books are told of a model call. */
export interface Books {
  arrive: (id: string, answer: Answer) => void;
  isFirst: (id: string) => boolean;
  show: (conversation: string, tokens: string[]) => void;
}

interface Message {
  role: string;
  content: unknown;
  tool_calls?: { id: string; function: { name: string; arguments: string } }[];
  tool_call_id?: string;
}

interface Reply {
  id: string;
  text: string;
  calls: { id: string; tool: string; input: unknown }[];
  falters: Falter | undefined;
}

export async function answerModel(body: unknown, response: ServerResponse, books: Books): Promise<void> {
  const { messages } = body as { messages: Message[] };
  const reply = replyTo(messages, books);
  const falters = reply.falters !== undefined && books.isFirst(reply.id) ? reply.falters : undefined;
  books.arrive(reply.id, falters ? "failed" : "done");
  if (falters === "refuses") {
    response.writeHead(503, { "content-type": "application/json", "retry-after-ms": "20" });
    response.end(JSON.stringify({ error: { message: "overloaded", type: "server_error" } }));
    return;
  }
  await stream(reply, response, falters === "breaks off");
}

/** How people ask the model: with an order for an agent, with a token in a conversation, or plainly. */
export const PROMPTS = {
  order: (order: Order) => `order ${JSON.stringify(order)}`,
  remark: (token: string) => `remark ${token}`,
  ask: (id: string, falters: Falter | undefined) => `ask ${JSON.stringify({ id, falters })}`,
};

function replyTo(messages: Message[], books: Books): Reply {
  const users = messages.filter(({ role }) => role === "user").map(textOf);
  const [kind = "", rest = ""] = splitAt(users[0] ?? "", " ");
  if (kind === "order") return workOn(JSON.parse(rest), messages);
  if (kind === "remark")
    return talk(
      users.map((text) => splitAt(text, " ")[1]),
      messages,
      books,
    );
  const { id, falters } = JSON.parse(rest) as { id: string; falters?: Falter };
  return { id, text: answerTo(id), calls: [], falters };
}

function workOn(order: Order, messages: Message[]): Reply {
  const { label, rounds, falters } = agentOf(order);
  const n = messages.filter(({ role }) => role === "assistant").length;
  const reply = { id: idOf(label, `model:${n + 1}`), falters: falters[n] };
  const round = rounds[n];
  if (round) return { ...reply, text: `I have a look at ${label}, part ${n + 1}.`, calls: round.map((act) => callOf(label, act)) };
  const results = messages.filter(({ role }) => role === "tool");
  const outcomes = results.map(({ tool_call_id, content }): [string, string] => [String(tool_call_id), outcomeIn(String(content))]);
  return { ...reply, text: summaryOf(label, outcomes), calls: [] };
}

/** A remark is answered at once, or after some errands; the answer tells all that was said so far. */
function talk(tokens: string[], messages: Message[], books: Books): Reply {
  const token = tokens.at(-1) ?? "";
  const [conversation = ""] = token.split(":");
  books.show(conversation, tokens);
  const since = messages.slice(messages.findLastIndex(({ role }) => role === "user"));
  const n = since.filter(({ role }) => role === "assistant").length;
  const reply = { id: idOf(conversation, `${token.replaceAll(":", "-")}-model:${n + 1}`), falters: undefined };
  const errands = errandsOf(token);
  if (n > 0 || errands.length === 0) return { ...reply, text: heard(tokens), calls: [] };
  const calls = errands.map((act) => callOf(conversation, act));
  const note = { id: `note-${token}`, tool: "note", input: { token } };
  return { ...reply, text: "One moment, please, I look after it.", calls: [note, ...calls] };
}

/** What the model says in a conversation: everything that was said to it, in the order it was shown. */
export function heard(tokens: readonly string[]): string {
  return `I heard ${tokens.join(" ")}`;
}

const TOOLS = { read: "look", idempotent: "tag", keyed: "pay", once: "post" };

function callOf(label: string, act: Act): Reply["calls"][number] {
  const tool = act.effect === "once" && act.canLookUp ? "mail" : TOOLS[act.effect];
  return { id: act.name, tool: toolFor(tool, act.manner), input: { id: idOf(label, act.name), manner: act.manner, ms: act.ms } };
}

function outcomeIn(result: string): string {
  if (result.includes("declined")) return "declined";
  if (result.includes("took longer than")) return "late";
  return result;
}

async function stream(reply: Reply, response: ServerResponse, breaksOff: boolean): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream" });
  const write = (delta: object, finish: string | null = null) => {
    const choices = [{ index: 0, delta, finish_reason: finish }];
    response.write(`data: ${JSON.stringify({ id: "chat", object: "chat.completion.chunk", created: 0, model: "chaos", choices })}\n\n`);
  };
  const pauseMs = paceOf(reply.id);
  const words = reply.text.match(/.{1,16}/gs) ?? [];
  const said = breaksOff ? words.slice(0, 2) : words;
  write({ role: "assistant", content: "" });
  for (const content of said) {
    write({ content });
    if (pauseMs > 0) await sleep(pauseMs);
  }
  if (breaksOff) {
    await sleep(10); // so that what was said gets through
    response.destroy();
    return;
  }
  for (const [index, { id, tool, input }] of reply.calls.entries()) {
    write({ tool_calls: [{ index, id, type: "function", function: { name: tool, arguments: JSON.stringify(input) } }] });
  }
  write({}, reply.calls.length > 0 ? "tool_calls" : "stop");
  const usage = { prompt_tokens: 10, completion_tokens: words.length, total_tokens: 10 + words.length };
  response.write(
    `data: ${JSON.stringify({ id: "chat", object: "chat.completion.chunk", created: 0, model: "chaos", choices: [], usage })}\n\n`,
  );
  response.end("data: [DONE]\n\n");
}

/** One answer in four comes word by word. */
function paceOf(id: string): number {
  let hash = 0;
  for (const char of id) hash = (hash * 31 + char.charCodeAt(0)) >>> 0;
  return hash % 4 === 0 ? 10 + (hash % 50) : 0;
}

function textOf({ content }: Message): string {
  if (typeof content === "string") return content;
  return (content as { text?: string }[]).map(({ text }) => text ?? "").join("");
}

function splitAt(text: string, separator: string): [before: string, after: string] {
  const at = text.indexOf(separator);
  return at === -1 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}
