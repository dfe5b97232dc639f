/** What is an answer and what is none, over a real connection and through the provider's own package. */
import { type ModelMessage, tool } from "ai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { type Call, currentCall, withCall } from "../../src/call.ts";
import { systemClock } from "../../src/clock.ts";
import { classify } from "../../src/fault/classify.ts";
import type { ModelAnswer } from "../../src/model/answer.ts";
import { callModel, type ModelCall } from "../../src/model/model.ts";
import { contentOf, textOf, toolCallsOf } from "../../src/persistence/model-step.ts";
import { call as says, scripted } from "../support/model.ts";
import { type Provider, type Reply, startProvider } from "../support/provider.ts";

let provider: Provider;
beforeAll(async () => {
  provider = await startProvider();
});
afterAll(() => provider.close());

const add = tool({ inputSchema: z.object({ a: z.number() }), execute: () => 1 });
const messages: ModelMessage[] = [{ role: "user", content: "hi" }];

function ask(settings: ModelCall["agent"]["settings"], more: Partial<ModelCall> = {}): Promise<ModelAnswer> {
  const signal = new AbortController().signal;
  return callModel({
    agent: { settings, tools: { add } },
    messages,
    steps: [],
    timeouts: {},
    clock: systemClock,
    signal,
    onChunk: () => {},
    ...more,
  });
}

function answerTo(reply: Reply): Promise<ModelAnswer> {
  provider.script([reply]);
  return ask({ model: provider.model("m") });
}

const text = ({ step }: ModelAnswer) => textOf(contentOf(step));

describe("an answer that is none is a failure, and may be tried again:", () => {
  test.each<[string, Reply, string]>([
    ["a page of HTML with 200", { status: 200, body: "<html>busy</html>" }, "text/html"],
    ["an empty body", { status: 200 }, "text/html"],
    ["JSON of something else", { status: 200, body: { ok: true } }, "application/json"],
    ["a stream that ends before its first word", { text: "one two", endAt: "before" }, "text/event-stream"],
    ["a stream that ends half way", { text: "one two", endAt: "middle" }, "text/event-stream"],
    ["a stream that ends without saying that it does", { text: "one two", endAt: "after" }, "text/event-stream"],
    ["a tool call that is whole, in a stream that is not", { calls: [says("add", { a: 1 })], endAt: "after" }, "text/event-stream"],
    ["a tool call that is cut", { calls: [says("add", '{"a": 1')], endAt: "after" }, "text/event-stream"],
    ["nothing, and an end that nobody knows", { finish: "whatever" }, "empty"],
  ])("%s", async (_what, reply, says) => {
    const error = await answerTo(reply).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "MODEL_FAILED", message: expect.stringContaining(says) });
    expect(classify(error, 0)).toMatchObject({ chance: "again", reason: "bad_response" });
  });

  test("an end with `error`, whatever was said before", async () => {
    const error = await ask({ model: endsWith("error") }).catch((thrown: unknown) => thrown);
    expect(classify(error, 0)).toMatchObject({ chance: "again", reason: "bad_response" });
  });
});

/** A model of an older package: its stream is not of the kind that tells a cut from another end. */
function endsWith(unified: "error" | "other", raw?: string) {
  const model = scripted(["hi"]);
  const { doStream } = model;
  model.doStream = async (options) => {
    const { stream, ...rest } = await doStream(options);
    const change = new TransformStream({
      transform: (part, controller) => controller.enqueue(part.type === "finish" ? { ...part, finishReason: { unified, raw } } : part),
    });
    return { ...rest, stream: stream.pipeThrough(change) };
  };
  return model;
}

test("an end that gives no reason at all is a cut, one whose reason nobody knows is an end", async () => {
  const error = await ask({ model: endsWith("other") }).catch((thrown: unknown) => thrown);
  expect(classify(error, 0)).toMatchObject({ chance: "again", reason: "bad_response" });
  expect(text(await ask({ model: endsWith("other", "whatever") }))).toBe("hi");
});

test("what the provider's filter took away is refused, also when a part of it was shown", async () => {
  for (const said of ["", "one two"]) {
    const error = await answerTo({ text: said, finish: "content_filter" }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "MODEL_FAILED", message: expect.stringContaining("filter") });
    expect(classify(error, 0)).toMatchObject({ chance: "never", reason: "refused" });
  }
});

describe("what stays an answer:", () => {
  test("one that its length cut short", async () => {
    const answer = await answerTo({ text: "one two", finish: "length" });
    expect(answer.step.finishReason).toBe("length");
    expect(text(answer)).toBe("one two");
  });

  test("one that does not say what it cost", async () => {
    const answer = await answerTo({ text: "one two", usage: false });
    expect(text(answer)).toBe("one two");
    expect(answer.usage.totalTokens).toBeUndefined();
  });

  test("one that says nothing and ends well", async () => expect(text(await answerTo({ finish: "stop" }))).toBe(""));

  test("a tool call with `stop` for a reason", async () => {
    const answer = await answerTo({ calls: [says("add", { a: 1 })], finish: "stop" });
    expect(toolCallsOf(answer.step)).toMatchObject([{ toolName: "add", input: { a: 1 } }]);
  });
});

describe("a fallback", () => {
  test("answers instead of the agent's model, and instead of the one that `prepareStep` chooses", async () => {
    const silent = scripted([]);
    const settings = { model: silent, prepareStep: () => ({ model: silent }) };
    expect(text(await ask(settings, { model: scripted(["the other"]) }))).toBe("the other");
    expect(silent.doStreamCalls).toEqual([]);
  });

  test("is none when it is the agent's own: `prepareStep` chooses", async () => {
    const own = scripted([]);
    const settings = { model: own, prepareStep: () => ({ model: scripted(["chosen"]) }) };
    expect(text(await ask(settings, { model: own }))).toBe("chosen");
  });
});

test("an author can send the step's idempotency key to a gateway that takes one", async () => {
  provider.script(["yes"]);
  const settings: ModelCall["agent"]["settings"] = {
    model: provider.model("m"),
    prepareCall: (call) => ({ ...call, headers: { "idempotency-key": currentCall().key } }) as never,
  };
  await withCall({ key: "run/model:1" } as Call, () => ask(settings));
  expect(provider.requests.at(-1)?.headers).toMatchObject({ "idempotency-key": "run/model:1" });
});
