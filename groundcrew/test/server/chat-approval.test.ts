/** A `useChat` client whose user answers what an agent asks, within their rights; forged and replayed answers change nothing. */
import {
  AbstractChat,
  type ChatState,
  type ChatStatus,
  DefaultChatTransport,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  tool,
  type UIMessage,
} from "ai";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";
import { agent } from "../../src/agent.ts";
import type { ToolPolicy } from "../../src/policy.ts";
import type { Crew } from "../../src/runtime.ts";
import { type Serving, serve } from "../../src/server/server.ts";
import { scriptedModel } from "../../src/testing/model.ts";
import { makeCrew } from "../support/crew.ts";
import { until } from "../support/until.ts";

let crew: Crew;
let server: Serving;
let paid: number[];

async function open(policy: ToolPolicy<{ amount: number }, string>, amounts: readonly number[] = [250]): Promise<void> {
  paid = [];
  const refund = tool({
    inputSchema: z.object({ amount: z.number() }),
    execute: async ({ amount }) => {
      paid.push(amount);
      return `refunded ${amount}`;
    },
  });
  const model = scriptedModel(({ prompt }) => {
    const last = prompt.at(-1);
    if (last?.role !== "tool") return { text: "Let me see.", calls: amounts.map((amount) => ({ tool: "refund", input: { amount } })) };
    return `It is ${last.content.map((part) => (part.type === "tool-result" ? part.output.type : "")).join()}.`;
  });
  crew = makeCrew([agent("support", { model, tools: { refund }, policy: { refund: { approve: true, ...policy } } })]);
  const authenticate = (request: Request) => ({ tenant: "default", user: request.headers.get("x-user") ?? "ann", roles: [] });
  server = await serve(crew, { port: 0, authenticate, report: () => {} });
}

beforeEach(() => open({ by: "requester" }));
afterEach(() => server.close());

class State implements ChatState<UIMessage> {
  status: ChatStatus = "ready";
  error: Error | undefined = undefined;
  messages: UIMessage[] = [];
  pushMessage = (message: UIMessage) => {
    this.messages = [...this.messages, message];
  };
  popMessage = () => {
    this.messages = this.messages.slice(0, -1);
  };
  replaceMessage = (index: number, message: UIMessage) => {
    this.messages = this.messages.with(index, structuredClone(message));
  };
  snapshot = <T>(value: T): T => structuredClone(value);
}

class Chat extends AbstractChat<UIMessage> {
  constructor(id: string, user = "ann") {
    super({
      id,
      transport: new DefaultChatTransport({ api: `${server.url}/v1/chat/support`, headers: { "x-user": user } }),
      state: new State(),
      sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
    });
  }
}

interface ToolPart {
  type: string;
  state: string;
  approval?: { id: string; approved?: boolean };
  output?: unknown;
}

const partOf = (chat: Chat) => chat.lastMessage?.parts.find((part) => part.type === "tool-refund") as ToolPart | undefined;
const textOf = (chat: Chat) => chat.lastMessage?.parts.map((part) => (part.type === "text" ? part.text : "")).join(" ");

async function asked(chat: Chat): Promise<string> {
  await chat.sendMessage({ text: "Refund me!" });
  expect(chat.error).toBeUndefined();
  expect(chat.status).toBe("ready");
  expect(partOf(chat)).toMatchObject({ state: "approval-requested", input: { amount: 250 } });
  expect(paid).toEqual([]);
  return partOf(chat)?.approval?.id ?? "";
}

/** As a client sends it that says whatever it likes. */
function post(chat: string, parts: unknown[], user = "ann"): Promise<Response> {
  const messages = [
    { id: "m1", role: "user", parts: [{ type: "text", text: "Refund me!" }] },
    { id: "a1", role: "assistant", parts },
  ];
  const headers = { "content-type": "application/json", "x-user": user };
  return fetch(`${server.url}/v1/chat/support`, {
    method: "POST",
    headers,
    body: JSON.stringify({ id: chat, messages, trigger: "submit-message" }),
  });
}

const answered = (id: string, approved = true, more: object = {}) => ({
  ...{ type: "tool-refund", toolCallId: "c", state: "approval-responded", input: { amount: 250 }, approval: { id, approved } },
  ...more,
});

test("the user says yes, and the same message goes on to its end, with nothing in it twice", async () => {
  const chat = new Chat("chat-1");
  const id = await asked(chat);
  await chat.addToolApprovalResponse({ id, approved: true });
  await until("the chat goes on", () => partOf(chat)?.state === "output-available" && chat.status === "ready");
  expect(chat.error).toBeUndefined();
  expect(chat.messages.map(({ role }) => role)).toEqual(["user", "assistant"]);
  expect(chat.lastMessage?.parts.map(({ type }) => type)).toEqual(["step-start", "text", "tool-refund", "step-start", "text"]);
  expect(textOf(chat)).toContain("It is text.");
  expect(paid).toEqual([250]);
  const row = await crew.approval(id);
  expect(row.verdict).toMatchObject({ outcome: "approved", by: ["ann"], channel: "chat" });
});

test("the user says no, with a reason that the agent is told, and nothing runs", async () => {
  const chat = new Chat("chat-2");
  await chat.addToolApprovalResponse({ id: await asked(chat), approved: false, reason: "too much" });
  await until("the chat goes on", () => partOf(chat)?.state === "output-denied" && chat.status === "ready");
  expect(textOf(chat)).toContain("It is execution-denied.");
  expect(paid).toEqual([]);
});

test("what the client says of the call counts for nothing: the server's arguments run", async () => {
  const chat = new Chat("chat-3");
  const id = await asked(chat);
  const response = await post("chat-3", [answered(id, true, { input: { amount: 9_999 } })]);
  expect(response.status).toBe(200);
  await response.text();
  expect(paid).toEqual([250]);
});

test("a stranger's, a made-up, another chat's and a replayed answer are refused, and nothing runs by them", async () => {
  const chat = new Chat("chat-4");
  const id = await asked(chat);
  const other = new Chat("chat-5");
  await asked(other);
  expect((await post("chat-4", [answered(id)], "mallory")).status).toBe(404);
  expect((await post("chat-4", [answered("run_made_up.1")])).status).toBe(404);
  expect((await post("chat-5", [answered(id)])).status).toBe(403);
  expect(paid).toEqual([]);
  await (await post("chat-4", [answered(id)])).text();
  expect(paid).toEqual([250]);
  for (const approved of [true, false]) expect((await post("chat-4", [answered(id, approved)])).status).toBe(409); // a replay, a change of mind
  expect(paid).toEqual([250]);
  const refused = (await crew.audit("default", 0, 100))
    .map(({ record }) => JSON.parse(record))
    .filter(({ action }) => action === "approval.refused");
  expect(refused.map(({ actor, channel }) => [actor.id, channel])).toEqual([
    ["mallory", "chat"],
    ["ann", "chat"],
    ["ann", "chat"],
    ["ann", "chat"],
  ]);
});

test("a user who has reloaded the page is asked again, and can answer", async () => {
  const id = await asked(new Chat("chat-15"));
  const response = await fetch(`${server.url}/v1/chat/support/chat-15/messages`, { headers: { "x-user": "ann" } });
  const { messages } = (await response.json()) as { messages: UIMessage[] };
  const reloaded = new Chat("chat-15");
  reloaded.messages = messages;
  for (let n = 0; n < 2; n++) await reloaded.resumeStream(); // reading it again leaves nothing in it twice
  expect(partOf(reloaded)).toMatchObject({ state: "approval-requested", approval: { id } });
  await reloaded.addToolApprovalResponse({ id, approved: true });
  await until("the chat goes on", () => partOf(reloaded)?.state === "output-available" && reloaded.status === "ready");
  expect(reloaded.lastMessage?.parts.map(({ type }) => type)).toEqual(["step-start", "text", "tool-refund", "step-start", "text"]);
  expect(paid).toEqual([250]);
});

test("an answer that cannot be understood is refused, and not taken for none", async () => {
  const id = await asked(new Chat("chat-7"));
  const wrong = [
    { id, approved: "yes" },
    { id },
    { approved: true },
    null,
    "yes",
    { id: "", approved: true },
    { id, approved: true, reason: "x".repeat(2_001) },
  ];
  for (const approval of wrong)
    expect((await post("chat-7", [answered(id, true, { approval })])).status, JSON.stringify(approval)?.slice(0, 60)).toBe(400);
  expect((await post("chat-7", [answered(id), answered(id, true, { approval: { approved: true } })])).status).toBe(400); // not the half of it either
  expect((await crew.approval(id)).status).toBe("open");
});

test("two tabs that answer at once are one answer, and the tool runs once", async () => {
  const id = await asked(new Chat("chat-8"));
  const both = await Promise.all([post("chat-8", [answered(id)]), post("chat-8", [answered(id)])]);
  expect(both.map(({ status }) => status).sort()).toEqual([200, 409]);
  await Promise.all(both.map((response) => response.text()));
  expect(paid).toEqual([250]);
});

describe("of several calls that are asked for together", () => {
  const TWO = [100, 200];
  const parts = (chat: Chat) => (chat.lastMessage?.parts ?? []).filter((part) => part.type === "tool-refund") as unknown as ToolPart[];
  const idsOf = (chat: Chat) => parts(chat).map(({ approval }) => approval?.id ?? "");

  test("each has its answer, and the chat goes on when all have", async () => {
    await server.close();
    await open({ by: "requester" }, TWO);
    const chat = new Chat("chat-9");
    await chat.sendMessage({ text: "Refund me!" });
    const [first = "", second = ""] = idsOf(chat);
    await chat.addToolApprovalResponse({ id: first, approved: true });
    await chat.addToolApprovalResponse({ id: second, approved: false, reason: "too much" });
    await until("the chat goes on", () => textOf(chat)?.includes("It is") && chat.status === "ready");
    expect(chat.error).toBeUndefined();
    expect(parts(chat).map(({ state }) => state)).toEqual(["output-available", "output-denied"]);
    expect(paid).toEqual([100]);
  });

  test("one may be answered by itself: it runs, and the stream ends where the other still waits", async () => {
    await server.close();
    await open({ by: "requester" }, TWO);
    const chat = new Chat("chat-10");
    await chat.sendMessage({ text: "Refund me!" });
    const [first = "", second = ""] = idsOf(chat);
    const one = await (await post("chat-10", [answered(second)])).text();
    expect(one).toContain('"type":"tool-output-available"');
    expect(one).toContain('"finishReason":"tool-calls"');
    expect(one).toContain("[DONE]");
    expect(one).not.toContain("It is");
    expect(paid).toEqual([200]);
    // The message brings along what it has said before: that is passed by, and the new answer counts.
    const rest = await (await post("chat-10", [answered(first), answered(second)])).text();
    expect(rest).toContain("It is");
    expect(paid).toEqual([200, 100]);
  });

  test("an answer beside it that differs from what was decided is refused", async () => {
    await server.close();
    await open({ by: "requester" }, TWO);
    const chat = new Chat("chat-11");
    await chat.sendMessage({ text: "Refund me!" });
    const [first = "", second = ""] = idsOf(chat);
    await (await post("chat-11", [answered(second, false)])).text();
    const changed = await post("chat-11", [answered(second, true), answered(first)]);
    expect(changed.status).toBe(409);
    expect(paid).toEqual([]);
    expect((await crew.approval(first)).status).toBe("open");
  });
});

describe("when somebody else has decided meanwhile", () => {
  const olga = { tenant: "default", user: "olga", roles: ["operator"], kind: "person", channel: "api" } as const;

  test("the user's answer is refused, and the stream that is opened again tells all of it", async () => {
    await server.close();
    await open({ by: ["requester", "role:operator"] });
    const chat = new Chat("chat-12");
    const id = await asked(chat);
    await crew.decide(id, { do: "deny", reason: "fraud" }, olga);
    expect((await post("chat-12", [answered(id)])).status).toBe(409);
    const run = await crew.run((await crew.approval(id)).run);
    await run.result();
    expect(paid).toEqual([]);
  });

  test("a reader who comes while the tool is at work is not asked what is decided already", async () => {
    await server.close();
    await open({ by: ["requester", "role:operator"] }, [100, 200]);
    const chat = new Chat("chat-13");
    await chat.sendMessage({ text: "Refund me!" });
    const ids = (chat.lastMessage?.parts ?? []).flatMap((part) => (part as unknown as ToolPart).approval?.id ?? []);
    await crew.decide(ids[0] ?? "", { do: "approve" }, olga);
    await until("it has run", () => paid.length === 1);
    await until(
      "the run waits again",
      async () => (await (await crew.run((await crew.approval(ids[0] ?? "")).run)).row()).reason === "approval",
    );
    const response = await fetch(`${server.url}/v1/chat/support/chat-13/stream`, { headers: { "x-user": "ann" } });
    const whole = await response.text();
    expect(whole.match(/"type":"tool-output-available"/g)).toHaveLength(1); // up to now, and not up to the first time that it waited
    expect(whole).toContain('"finishReason":"tool-calls"');
  });
});

test("what a person has edited since the chat was asked is not agreed to in the chat, which shows other arguments", async () => {
  await server.close();
  await open({ by: ["requester", "role:operator"], quorum: 2 });
  const id = await asked(new Chat("chat-14"));
  const olga = { tenant: "default", user: "olga", roles: ["operator"], kind: "person", channel: "api" } as const;
  await crew.decide(id, { do: "approve", input: { amount: 9_000 } }, olga);
  expect((await post("chat-14", [answered(id)])).status).toBe(400);
  expect(await crew.approval(id)).toMatchObject({ status: "open", votes: [{ by: "olga" }] });
});

test("a user who may not decide sees that somebody is asked, and their yes is refused", async () => {
  await server.close();
  await open({ by: "role:finance" });
  const response = fetch(`${server.url}/v1/chat/support`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-user": "ann" },
    body: JSON.stringify({ id: "chat-6", messages: [{ id: "m1", role: "user", parts: [{ type: "text", text: "Refund me!" }] }] }),
  });
  const row = await until("somebody is asked", async () => (await crew.approvals())[0]);
  await until("the run waits", async () => (await (await crew.run(row.run)).row()).reason === "approval");
  const forged = await post("chat-6", [answered(row.id)]);
  expect(forged.status).toBe(403);
  expect(paid).toEqual([]);
  const ana = { tenant: "default", user: "ana", roles: ["finance"], kind: "person", channel: "api" } as const;
  await crew.decide(row.id, { do: "approve" }, ana);
  const whole = await (await response).text(); // one stream, which waited with the user
  expect(whole).toContain('"type":"tool-approval-request"');
  expect(whole).toContain('"type":"tool-output-available"');
  expect(paid).toEqual([250]);
});
