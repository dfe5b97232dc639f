import { isStepCount, type ModelMessage, readUIMessageStream, streamText, tool, toUIMessageStream, type UIMessage } from "ai";
import { MockLanguageModelV4, simulateReadableStream } from "ai/test";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { systemClock } from "../../src/clock.ts";
import { callModel } from "../../src/model/model.ts";
import type { Fact } from "../../src/persistence/event.ts";
import type { ModelStep, ToolCall } from "../../src/persistence/model-step.ts";
import type { FeedItem } from "../../src/stream/feed.ts";
import type { UiChunk } from "../../src/stream/ui-chunk.ts";
import { type UiFrame, uiFrames } from "../../src/stream/ui-frame.ts";
import { UiProjection } from "../../src/stream/ui-message.ts";

const RUN = "run_1";
const principal = { tenant: "t", user: "u", roles: [] };
const created: Fact = { type: "run.created", agent: "support", principal, deadline: 0 };
const failure = {
  code: "MODEL_FAILED",
  name: "Error",
  message: "secret detail of the provider",
  user: "The AI model could not answer.",
} as const;

/** A journal with its chunks, as a feed. */
class Feed {
  readonly items: FeedItem[] = [];
  #seq = 0;
  #index = 0;

  add(...facts: Fact[]): this {
    for (const fact of facts) {
      this.#seq++;
      this.#index = 0;
      this.items.push({ ...fact, seq: this.#seq, at: 0, cursor: String(this.#seq) });
    }
    return this;
  }

  chunk(step: string, attempt: number, ...parts: UiChunk[]): this {
    for (const part of parts) {
      this.#index++;
      const place = { after: this.#seq, index: this.#index, at: 0, cursor: `${this.#seq}.${this.#index}` };
      this.items.push({ type: "chunk", step, attempt, part: part as never, ...place });
    }
    return this;
  }

  started(step: string, attempt = 1): this {
    const kind = step.startsWith("tool:") ? "tool" : step.startsWith("model:") ? "model" : "code";
    return this.add({ type: "step.started", step, kind, name: step, attempt });
  }

  succeeded(step: string, attempt: number, value: unknown): this {
    return this.add({ type: "step.succeeded", step, attempt, value: value as never });
  }

  /** As it is read after the chunks were cleaned up. */
  swept(): FeedItem[] {
    return this.items.filter((item) => item.type !== "chunk");
  }

  project(): UiChunk[] {
    return project(this.items);
  }
}

function project(items: readonly FeedItem[]): UiChunk[] {
  const projection = new UiProjection(RUN);
  return items.flatMap((item) => projection.project(item));
}

async function frames(items: readonly FeedItem[], after?: string): Promise<UiFrame[]> {
  return collect(uiFrames(asFeed(items), RUN, after));
}

async function* asFeed(items: readonly FeedItem[]): AsyncGenerator<FeedItem> {
  yield* items;
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** What a client of the AI SDK makes of it. */
async function read(chunks: readonly UiChunk[]): Promise<{ message: UIMessage | undefined; errors: unknown[] }> {
  const errors: unknown[] = [];
  let message: UIMessage | undefined;
  const stream = simulateReadableStream({ chunks: [...chunks], initialDelayInMs: null, chunkDelayInMs: null });
  for await (const next of readUIMessageStream({ stream, onError: (error) => errors.push(error) })) message = next;
  return { message, errors };
}

function textOf(message: UIMessage | undefined): string {
  return message?.parts.map((part) => (part.type === "text" ? part.text : "")).join("") ?? "";
}

function text(id: string, ...deltas: string[]): UiChunk[] {
  return [{ type: "text-start", id }, ...deltas.map((delta) => ({ type: "text-delta", id, delta }) as const), { type: "text-end", id }];
}

function answer(words: string, toolCalls: ToolCall[] = []): ModelStep {
  const calls = toolCalls.map(({ toolCallId, toolName, input }) => ({ type: "tool-call", toolCallId, toolName, input }) as const);
  const said = words === "" ? [] : [{ type: "text", text: words } as const];
  const finishReason = toolCalls.length > 0 ? "tool-calls" : "stop";
  return { messages: [{ role: "assistant", content: [...said, ...calls] }], finishReason };
}

const types = (chunks: readonly UiChunk[]) => chunks.map((chunk) => chunk.type);
const isEnd = (chunk: UiChunk) => chunk.type === "finish" || chunk.type === "abort";

describe("beside the AI SDK's own stream", () => {
  const usage = { inputTokens: { total: 1 }, outputTokens: { total: 1 } } as never;
  const say = (...words: string[]) => [
    { type: "reasoning-start", id: "r" } as const,
    { type: "reasoning-delta", id: "r", delta: "Hm." } as const,
    { type: "reasoning-end", id: "r" } as const,
    { type: "text-start", id: "t" } as const,
    ...words.map((delta) => ({ type: "text-delta", id: "t", delta }) as const),
    { type: "text-end", id: "t" } as const,
  ];
  const ask = (id: string, toolName: string, input: string) => [
    { type: "tool-input-start", id, toolName } as const,
    { type: "tool-input-delta", id, delta: input } as const,
    { type: "tool-input-end", id } as const,
    { type: "tool-call", toolCallId: id, toolName, input } as const,
  ];
  const end = (unified: "stop" | "tool-calls") => ({ type: "finish", finishReason: { unified, raw: unified }, usage }) as const;
  const tools = { add: tool({ inputSchema: z.object({ a: z.number() }), execute: async ({ a }) => ({ sum: a + 1 }) }) };
  type Part = ReturnType<typeof say>[number] | ReturnType<typeof ask>[number] | ReturnType<typeof end>;

  function model(...steps: Part[][]) {
    const queue = [...steps];
    return new MockLanguageModelV4({
      doStream: async () => ({
        stream: simulateReadableStream({ chunks: queue.shift() ?? [], initialDelayInMs: null, chunkDelayInMs: null }),
      }),
    });
  }

  async function sdk(...steps: Part[][]): Promise<UiChunk[]> {
    const result = streamText({ model: model(...steps), tools, stopWhen: isStepCount(5), prompt: "Add." });
    return collect(toUIMessageStream({ stream: result.stream, tools })) as Promise<UiChunk[]>;
  }

  /** The same conversation as a journal: model calls as the worker makes them, tools as their steps. */
  async function ours(toolSteps: (feed: Feed) => void, output: string, ...steps: Part[][]): Promise<UiChunk[]> {
    const feed = new Feed().add(created, { type: "run.claimed", worker: "w", epoch: 1, takeover: false });
    const settings = { model: model(...steps) };
    for (const number of steps.keys()) {
      const step = `model:${number + 1}`;
      feed.started(step);
      const messages: ModelMessage[] = [{ role: "user", content: "Add." }];
      const onChunk = (chunk: unknown) => feed.chunk(step, 1, chunk as UiChunk);
      const signal = new AbortController().signal;
      const bounds = { timeouts: {}, clock: systemClock, signal };
      const answered = await callModel({ agent: { settings, tools }, messages, steps: [], ...bounds, onChunk });
      feed.succeeded(step, 1, answered.step);
      if (number === 0) toolSteps(feed);
    }
    return feed.add({ type: "run.succeeded", output }).project();
  }

  /** Names of parts and of the message are each side's own. */
  const withoutIds = (chunks: UiChunk[]) =>
    chunks.map((chunk) => {
      const { messageId: _message, ...rest } = chunk as UiChunk & { messageId?: string };
      return "id" in rest ? { ...rest, id: "" } : rest;
    });

  test("a conversation of two steps with a tool is the same, chunk for chunk", async () => {
    const steps = [
      [...say("Let me ", "see."), ...ask("call_1", "add", '{"a":1}'), end("tool-calls")],
      [...say("It is ", "2."), end("stop")],
    ];
    const addTool = (feed: Feed) => feed.started("tool:call_1").succeeded("tool:call_1", 1, { sum: 2 });
    expect(withoutIds(await ours(addTool, "It is 2.", ...steps))).toEqual(withoutIds(await sdk(...steps)));
  });

  test("a call that does not fit its schema ends the same for a reader, but tells no user what a validator said", async () => {
    const steps = [
      [...ask("call_1", "add", '{"a":"x"}'), end("tool-calls")],
      [...say("Sorry."), end("stop")],
    ];
    const failTool = (feed: Feed) =>
      feed.started("tool:call_1").add({ type: "step.failed", step: "tool:call_1", attempt: 1, error: failure, final: true });
    const chunks = await ours(failTool, "Sorry.", ...steps);
    expect(types(chunks)).toEqual(types(await sdk(...steps)));
    expect(JSON.stringify(chunks)).not.toMatch(/AI_|expected|secret/);
  });
});

describe("an attempt that was given up", () => {
  const given = () =>
    new Feed()
      .add(created)
      .started("model:1")
      .chunk("model:1", 1, ...text("0", "Wrong ", "way."));
  const again = (feed: Feed) =>
    feed
      .started("model:1", 2)
      .chunk("model:1", 2, ...text("0", "Right."))
      .succeeded("model:1", 2, answer("Right."));

  test.each([
    ["abandoned", (feed: Feed) => feed.add({ type: "step.abandoned", step: "model:1", attempt: 1, why: "" })],
    ["failed", (feed: Feed) => feed.add({ type: "step.failed", step: "model:1", attempt: 1, error: failure, final: false })],
    ["taken over in silence", (feed: Feed) => feed.add({ type: "run.claimed", worker: "w2", epoch: 2, takeover: true })],
  ])("is taken back before the next one speaks: %s", async (_name, giveUp) => {
    const chunks = again(giveUp(given())).add({ type: "run.succeeded", output: "Right." }).project();
    const { message, errors } = await read(chunks);
    expect(textOf(message)).toBe("Right.");
    expect(errors).toEqual([]);
    expect(chunks.filter(({ type }) => type === "reset-step")).toHaveLength(1);
    expect(chunks.filter(({ type }) => type === "start-step")).toHaveLength(1);
  });

  test("takes nothing back when it had shown nothing", () => {
    const feed = new Feed().add(created).started("model:1").add({ type: "step.abandoned", step: "model:1", attempt: 1, why: "" });
    expect(types(again(feed).project())).not.toContain("reset-step");
  });

  test("leaves standing what a call beside it has shown in the same step", async () => {
    const feed = new Feed()
      .add(created)
      .add(
        { type: "step.started", step: "plan", kind: "model", name: "m", attempt: 1 },
        { type: "step.started", step: "title", kind: "model", name: "m", attempt: 1 },
      );
    feed.chunk("plan", 1, { type: "text-start", id: "0" }, { type: "text-delta", id: "0", delta: "Plan " });
    feed.chunk("title", 1, { type: "text-start", id: "0" }, { type: "text-delta", id: "0", delta: "Wrong" });
    feed.add({ type: "step.abandoned", step: "title", attempt: 1, why: "" });
    feed.chunk("plan", 1, { type: "text-delta", id: "0", delta: "A." }, { type: "text-end", id: "0" });
    feed.succeeded("plan", 1, { text: "Plan A." }).add({ type: "run.succeeded", output: { done: true } });
    const { message, errors } = await read(feed.project());
    expect(textOf(message)).toBe("Plan A.");
    expect(errors).toEqual([]);
  });

  test("says nothing more once it is over", () => {
    const feed = given().add({ type: "step.abandoned", step: "model:1", attempt: 1, why: "" });
    feed.chunk("model:1", 1, { type: "text-delta", id: "0", delta: "ghost" });
    expect(JSON.stringify(again(feed).project())).not.toContain("ghost");
  });

  test("keeps its words when the user stopped it, because nobody will say them again", async () => {
    const feed = given().add(
      { type: "cancel.requested", id: "c", why: "enough" },
      { type: "step.abandoned", step: "model:1", attempt: 1, why: "the run was stopped" },
      { type: "run.cancelled", why: "enough" },
    );
    const chunks = feed.project();
    expect(textOf((await read(chunks)).message)).toBe("Wrong way.");
    expect(chunks.at(-1)).toEqual({ type: "abort", reason: "The run was cancelled." });
  });
});

describe("chunks that are gone", () => {
  const whole = () =>
    new Feed()
      .add(created)
      .started("model:1")
      .chunk("model:1", 1, ...text("0", "Let me ", "see."), ...thought("Hm."), {
        type: "tool-input-start",
        toolCallId: "c",
        toolName: "add",
      })
      .succeeded("model:1", 1, {
        ...answer("Let me see.", calls),
        messages: [
          { role: "assistant", content: [{ type: "text", text: "Let me see." }, { type: "reasoning", text: "Hm." }, ...callParts] },
        ],
      })
      .started("tool:c")
      .succeeded("tool:c", 1, 2)
      .started("model:2")
      .chunk("model:2", 1, ...text("0", "It is ", "2."))
      .succeeded("model:2", 1, answer("It is 2."))
      .add({ type: "run.succeeded", output: "It is 2." });

  const calls = [{ toolCallId: "c", toolName: "add", input: { a: 1 } }];
  const callParts = calls.map((call) => ({ type: "tool-call", ...call }) as const);
  const thought = (delta: string): UiChunk[] => [
    { type: "reasoning-start", id: "1" },
    { type: "reasoning-delta", id: "1", delta },
    { type: "reasoning-end", id: "1" },
  ];

  /** Names of parts differ; what they say does not. */
  const withoutPartIds = (message: UIMessage | undefined) =>
    JSON.parse(JSON.stringify(message?.parts.map((part) => ({ ...part, id: undefined, rawInput: undefined }))));

  test("do not change the message a late reader gets", async () => {
    const late = await read(project(whole().swept()));
    expect(withoutPartIds(late.message)).toEqual(withoutPartIds((await read(whole().project())).message));
    expect(late.errors).toEqual([]);
  });

  test("do not give a reader who left in the middle of them the same words twice", async () => {
    const seen = await frames(whole().items.slice(0, 5)); // in the middle of the first answer
    const rest = await frames(whole().swept(), seen.at(-1)?.id);
    const { message, errors } = await read([...seen, ...rest].map(({ chunk }) => chunk));
    expect(textOf(message)).toBe("Let me see.It is 2.");
    expect(errors).toEqual([]);
  });

  test("do not break a reader when only some of them are gone", async () => {
    const { message: complete } = await read(whole().project());
    for (let from = 0; from < 9; from++) {
      const items = whole().items.filter((item, index) => item.type !== "chunk" || index > 2 + from);
      const { message, errors } = await read(project(items));
      expect(withoutPartIds(message)).toEqual(withoutPartIds(complete));
      expect(errors).toEqual([]);
    }
  });
});

test("a call id that the model used twice does not leave a call open under its old name", async () => {
  const feed = new Feed().add(created).started("model:1");
  feed.chunk("model:1", 1, { type: "tool-input-start", toolCallId: "c", toolName: "add" });
  feed.succeeded("model:1", 1, answer("", [{ toolCallId: "c#2", toolName: "add", input: {} }]));
  feed.started("tool:c#2").succeeded("tool:c#2", 1, undefined).add({ type: "run.succeeded", output: "" });
  const { message } = await read(feed.project());
  expect(message?.parts.filter((part) => part.type === "tool-add")).toMatchObject([
    { toolCallId: "c#2", state: "output-available", output: null },
  ]);
});

test("a dynamic tool stays one part of the message from its first letter to its output", async () => {
  const feed = new Feed().add(created).started("model:1");
  feed.chunk("model:1", 1, { type: "tool-input-start", toolCallId: "c", toolName: "mcp", dynamic: true, title: "MCP" });
  feed.succeeded("model:1", 1, answer("", [{ toolCallId: "c", toolName: "mcp", input: {} }]));
  const { message } = await read(feed.started("tool:c").succeeded("tool:c", 1, "ok").add({ type: "run.succeeded", output: "" }).project());
  expect(message?.parts).toMatchObject([{ type: "step-start" }, { type: "dynamic-tool", title: "MCP", state: "output-available" }]);
});

test("what a provider's own tool gave is shown with its call", async () => {
  const content = [
    { type: "tool-call", toolCallId: "s", toolName: "web_search", input: { q: "x" }, providerExecuted: true },
    { type: "tool-result", toolCallId: "s", toolName: "web_search", output: { type: "json", value: { hits: 3 } } },
    { type: "text", text: "Three." },
  ];
  const feed = new Feed().add(created).started("model:1");
  feed.chunk("model:1", 1, { type: "tool-input-start", toolCallId: "s", toolName: "web_search", providerExecuted: true });
  feed.chunk("model:1", 1, ...text("0", "Three."));
  feed.succeeded("model:1", 1, { messages: [{ role: "assistant", content }], finishReason: "stop" });
  const { message, errors } = await read(feed.add({ type: "run.succeeded", output: "Three." }).project());
  expect(message?.parts).toContainEqual(expect.objectContaining({ toolCallId: "s", state: "output-available", output: { hits: 3 } }));
  expect(errors).toEqual([]);
});

test("a message that steers stands where the model reads it: between two steps", () => {
  const feed = new Feed().add(created).started("model:1");
  feed.add({ type: "message.received", id: "m1", message: { role: "user", content: "Shorter!" } });
  feed.chunk("model:1", 1, ...text("0", "Long")).succeeded("model:1", 1, answer("Long"));
  feed.started("model:2").succeeded("model:2", 1, answer("Ok")).add({ type: "run.succeeded", output: "Ok" });
  const chunks = feed.project();
  const at = chunks.findIndex(({ type }) => type === "steering-message");
  expect(chunks[at]).toEqual({ type: "steering-message", id: "m1", parts: [{ type: "text", text: "Shorter!" }] });
  expect(types(chunks.slice(at - 1, at + 2))).toEqual(["finish-step", "steering-message", "start-step"]);
});

describe("where the run is", () => {
  test("is said in plain words, and leaves nothing behind in the message", async () => {
    const feed = new Feed().add(
      created,
      { type: "run.parked", reason: "retry", until: 5, detail: "secret detail of the provider" },
      { type: "run.claimed", worker: "w", epoch: 2, takeover: false },
      { type: "progress", fraction: 0.5, what: "half" },
      { type: "run.claimed", worker: "w", epoch: 3, takeover: true },
      { type: "run.succeeded" },
    );
    const chunks = feed.project();
    expect(chunks).toEqual([
      { type: "start", messageId: RUN },
      {
        type: "data-status",
        data: { status: "parked", text: "Something did not work. Trying again in a moment.", reason: "retry", until: 5 },
        transient: true,
      },
      { type: "data-status", data: { status: "running", text: "Going on." }, transient: true },
      { type: "data-progress", data: { fraction: 0.5, what: "half" }, transient: true },
      { type: "data-status", data: { status: "running", text: "Continued after an interruption." }, transient: true },
      { type: "finish", finishReason: "stop" },
    ]);
    expect((await read(chunks)).message?.parts ?? []).toEqual([]);
  });

  test("is said for a tool whose outcome nobody saw, and its output shows once somebody has told it", () => {
    const feed = new Feed().add(created).started("model:1");
    feed.succeeded("model:1", 1, answer("", [{ toolCallId: "c", toolName: "refund", input: {} }])).started("tool:c");
    feed.add({ type: "step.unknown", step: "tool:c", attempt: 1, why: "timeout" });
    expect(feed.project().at(-1)).toMatchObject({ type: "data-status", data: { status: "unknown" } });
    feed.add({ type: "step.resolved", step: "tool:c", resolution: "happened", value: "refunded", by: "ann" });
    expect(feed.project().at(-1)).toEqual({ type: "tool-output-available", toolCallId: "c", output: "refunded" });
  });
});

describe("trouble on the way", () => {
  const overloaded = { chance: "again", reason: "overloaded", status: 529 } as const;
  const failed = (step: string, attempt: number, rest: object): Fact => ({
    type: "step.failed",
    step,
    attempt,
    error: failure,
    final: false,
    failure: overloaded,
    ...rest,
  });
  const again = (until?: number) => ({
    type: "data-status",
    data: { status: "running", text: "Trying again…", ...(until !== undefined && { until }) },
    transient: true,
  });
  const statuses = (chunks: readonly UiChunk[]) => chunks.flatMap((chunk) => (chunk.type === "data-status" ? chunk.data.text : []));
  const degraded = (name: string, instead?: string): Fact => ({
    type: "step.degraded",
    step: `tool:${name}`,
    name,
    reason: "auth",
    ...(instead !== undefined && { instead }),
  });

  test("is told as another try and its time, behind what is taken back, and nothing of the cause", () => {
    const feed = new Feed()
      .add(created)
      .started("model:1")
      .chunk("model:1", 1, ...text("0", "Wro"))
      .add(failed("model:1", 1, { retryAt: 700 }));
    const chunks = feed.project();
    expect(chunks.slice(-2)).toEqual([{ type: "reset-step" }, again(700)]);
    expect(JSON.stringify(chunks)).not.toMatch(/secret|overloaded|529/);
  });

  test("is told of journals of earlier releases too, which have no verdict and no time", () => {
    const feed = new Feed().add(created).started("model:1");
    feed.add({ type: "step.failed", step: "model:1", attempt: 1, error: failure, final: false });
    expect(feed.project().at(-1)).toEqual(again());
  });

  test("promises no other try where there is none: without attempts left, for good, or stopped", () => {
    const begun = () => new Feed().add(created).started("model:1");
    const given = begun().add(failed("model:1", 1, { exhausted: true }), {
      type: "run.parked",
      reason: "attention",
      detail: "secret",
      code: "RETRIES_EXHAUSTED",
    });
    expect(statuses(given.project())).toEqual(["A service that is needed is not available. An operator has to look at it."]);
    expect(
      statuses(
        begun()
          .add(failed("model:1", 1, { final: true }))
          .project(),
      ),
    ).toEqual([]);
    const stopped = begun().add({ type: "cancel.requested", id: "c", why: "" }, failed("model:1", 1, { retryAt: 5 }));
    expect(statuses(stopped.project())).toEqual([]);
  });

  test("tells that another model goes on, once, and never which", () => {
    const asked = (step: string, attempt: number, name: string, candidate?: number): Fact => ({
      type: "step.started",
      step,
      kind: "model",
      name,
      attempt,
      ...(candidate !== undefined && { candidate }),
    });
    const feed = new Feed().add(created, asked("model:1", 1, "secret-big"), failed("model:1", 1, { retryAt: 0 }));
    feed.add(asked("model:1", 2, "secret-small", 1)).succeeded("model:1", 2, answer("Let me see."));
    feed.add(asked("model:2", 1, "secret-small", 1)).succeeded("model:2", 1, answer("Done."));
    const chunks = feed.add({ type: "run.succeeded", output: "Done." }).project();
    expect(statuses(chunks)).toEqual(["Trying again…", "Going on with another model."]);
    expect(JSON.stringify(chunks)).not.toContain("secret");
  });

  test("tells what the run goes on without, and leaves it in the message's metadata, each once and without a reason", async () => {
    const feed = new Feed().add(created).started("model:1");
    feed.succeeded("model:1", 1, answer("", [{ toolCallId: "search", toolName: "search", input: {} }]));
    feed.started("tool:search").add(failed("tool:search", 1, { final: true }), degraded("search"), degraded("rates", "yesterdaysRates"));
    feed.add(degraded("search"));
    feed.started("model:2").succeeded("model:2", 1, answer("Done.")).add({ type: "run.succeeded", output: "Done." });
    const chunks = feed.project();
    const missing = { degraded: [{ name: "search" }, { name: "rates", instead: "yesterdaysRates" }] };
    expect(statuses(chunks)).toEqual([
      "Going on without search.",
      "Going on with yesterdaysRates instead of rates.",
      "Going on without search.",
    ]);
    expect(chunks.at(-1)).toEqual({ type: "finish", finishReason: "stop", messageMetadata: missing });
    const { message, errors } = await read(chunks);
    expect(message?.metadata).toEqual(missing);
    expect(errors).toEqual([]);
    expect(JSON.stringify(chunks)).not.toContain("auth");
  });

  test("keeps what is missing in the metadata when output is taken back, and when the run is stopped or fails", async () => {
    for (const end of [
      { type: "run.cancelled", why: "" },
      { type: "run.failed", error: failure },
    ] as const) {
      const feed = new Feed().add(created).started("model:1").add(degraded("search"));
      feed.chunk("model:1", 1, ...text("0", "Wrong")).add(failed("model:1", 1, { retryAt: 0 }), end);
      expect((await read(feed.project())).message?.metadata).toEqual({ degraded: [{ name: "search" }] });
    }
  });

  test("says nothing about metadata where nothing is missing", () => {
    const chunks = new Feed().add(created).add({ type: "run.succeeded" }).project();
    expect(JSON.stringify(chunks)).not.toMatch(/etadata/);
  });

  test("keeps late results and a blocked process to itself", () => {
    const begun = () => new Feed().add(created).started("model:1");
    const late = begun().add(
      { type: "step.late", step: "model:1", attempt: 1, outcome: "succeeded", value: "secret" },
      { type: "step.late", step: "model:1", attempt: 1, outcome: "failed", error: failure },
      { type: "loop.blocked", ms: 30_000, steps: ["secret"] },
    );
    expect(late.project()).toEqual(begun().project());
  });
});

describe("the end", () => {
  test("of a run that failed tells the user what they may know, with the run to quote", async () => {
    const feed = new Feed()
      .add(created)
      .started("model:1")
      .add({ type: "step.failed", step: "model:1", attempt: 1, error: failure, final: true }, { type: "run.failed", error: failure });
    const chunks = feed.project();
    expect(chunks.slice(-3)).toEqual([
      { type: "error", errorText: `The AI model could not answer. (Reference: ${RUN})` },
      { type: "finish-step" },
      { type: "finish", finishReason: "error" },
    ]);
    expect(JSON.stringify(chunks)).not.toContain("secret");
  });

  test("of a flow shows its answer, unless a model step has said it", async () => {
    const flow = () => new Feed().add(created).started("fetch").succeeded("fetch", 1, { raw: true });
    const told = flow().add({ type: "run.succeeded", output: "Done: 3 pages." }).project();
    expect(textOf((await read(told)).message)).toBe("Done: 3 pages.");
    expect(told).toContainEqual({ type: "data-status", data: { status: "running", text: "fetch" }, transient: true });

    const said = flow().started("model:1").succeeded("model:1", 1, { text: "Done." }).add({ type: "run.succeeded", output: "Done." });
    expect(textOf((await read(said.project())).message)).toBe("Done.");
  });
});

describe("a place in the stream", () => {
  test.each(["x", "1/x", "1.2.3", "-1", "1/"])("that is none is refused: %s", async (after) => {
    await expect(frames([], after)).rejects.toMatchObject({ code: "CURSOR_INVALID" });
  });

  test("is unique for each frame", async () => {
    const feed = new Feed()
      .add(created)
      .started("model:1")
      .succeeded("model:1", 1, answer("One", [{ toolCallId: "c", toolName: "t", input: {} }]));
    const ids = (await frames(feed.items)).map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
  });
});

describe("any run", () => {
  interface Try {
    words: string[];
    /** How many of the attempt's chunks came before it ended. */
    cut: number;
    how: "abandoned" | "failed" | "silent";
  }
  interface Turn {
    lost: Try[];
    words: string[];
    calls: ("ok" | "fails" | "unknown")[];
    noise: Fact[];
  }

  const words = fc.array(fc.string({ minLength: 1, maxLength: 8 }), { maxLength: 4 });
  const noise = fc.array(
    fc.constantFrom<Fact>(
      { type: "progress", fraction: 0.5, what: "half" },
      { type: "run.parked", reason: "retry", detail: "" },
      { type: "run.claimed", worker: "w", epoch: 2, takeover: true },
      { type: "signal.received", id: "s", name: "n" },
      { type: "message.received", id: "m", message: { role: "user", content: "And?" } },
      { type: "step.degraded", step: "tool:x", name: "search", reason: "timeout" },
      { type: "step.late", step: "model:1", attempt: 1, outcome: "succeeded", value: "ghost" },
      { type: "loop.blocked", ms: 30_000, steps: ["x"] },
    ),
    { maxLength: 3 },
  );
  const attempt: fc.Arbitrary<Try> = fc.record({ words, cut: fc.nat(6), how: fc.constantFrom("abandoned", "failed", "silent") });
  const turn: fc.Arbitrary<Turn> = fc.record({
    lost: fc.array(attempt, { maxLength: 3 }),
    words,
    calls: fc.array(fc.constantFrom("ok", "fails", "unknown"), { maxLength: 3 }),
    noise,
  });
  const ending = fc.constantFrom<Fact>(
    { type: "run.succeeded", output: { some: "value" } },
    { type: "run.failed", error: failure },
    { type: "run.cancelled", why: "" },
    { type: "run.expired", deadline: 0 },
  );

  function feedOf(turns: Turn[], end: Fact): Feed {
    const feed = new Feed().add(created);
    for (const [index, { lost, words, calls, noise }] of turns.entries()) {
      const step = `model:${index + 1}`;
      for (const [number, { words, cut, how }] of lost.entries()) {
        feed.started(step, number + 1).chunk(step, number + 1, ...text("0", ...words).slice(0, cut));
        if (how === "abandoned") feed.add({ type: "step.abandoned", step, attempt: number + 1, why: "" });
        if (how === "failed") feed.add({ type: "step.failed", step, attempt: number + 1, error: failure, final: false });
      }
      const last = lost.length + 1;
      const chunks = words.length > 0 ? text("0", ...words) : [];
      const toolCalls = calls.map((_how, n) => ({ toolCallId: `${index}-${n}`, toolName: "t", input: {} }));
      feed
        .started(step, last)
        .chunk(step, last, ...chunks.slice(0, 2))
        .add(...noise)
        .chunk(step, last, ...chunks.slice(2));
      feed.succeeded(step, last, answer(words.join(""), toolCalls));
      for (const [n, how] of calls.entries()) {
        const key = `tool:${index}-${n}`;
        feed.started(key);
        if (how === "ok") feed.succeeded(key, 1, { n });
        if (how === "fails") feed.add({ type: "step.failed", step: key, attempt: 1, error: failure, final: true });
        if (how === "unknown") feed.add({ type: "step.unknown", step: key, attempt: 1, why: "" });
      }
    }
    return feed.add(end);
  }

  const run = fc.tuple(fc.array(turn, { maxLength: 4 }), ending);
  const seeded = { seed: 20_260_101, numRuns: 150 };

  test("read in any number of pieces gives the frames that one uninterrupted reader gets, with one end", async () => {
    const property = fc.asyncProperty(run, fc.array(fc.nat(40), { maxLength: 8 }), async ([turns, end], cuts) => {
      const { items } = feedOf(turns, end);
      const whole = await frames(items);
      const pieces: UiFrame[] = [];
      for (const cut of cuts) {
        for await (const frame of uiFrames(asFeed(items), RUN, pieces.at(-1)?.id)) {
          if (pieces.push(frame) >= cut) break;
        }
      }
      pieces.push(...(await frames(items, pieces.at(-1)?.id)));
      expect(pieces).toEqual(whole);
      expect(whole.filter(({ chunk }) => isEnd(chunk))).toHaveLength(1);
      expect(isEnd((whole.at(-1) as UiFrame).chunk)).toBe(true);
    });
    await fc.assert(property, seeded);
  });

  test("leaves in the message what its journal kept, with and without its chunks, and no word of what was given up", async () => {
    const property = fc.asyncProperty(run, async ([turns, end]) => {
      const feed = feedOf(turns, end);
      for (const items of [feed.items, feed.swept()]) {
        const { message, errors } = await read(project(items));
        expect(textOf(message)).toBe(turns.map((turn) => turn.words.join("")).join(""));
        expect(errors.filter((error) => !String(error).includes("Reference"))).toEqual([]);
      }
    });
    await fc.assert(property, seeded);
  });
});
