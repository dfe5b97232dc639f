/** Every named fault, over a real connection and through the AI SDK: what the runtime calls it. */
import { createAnthropic } from "@ai-sdk/anthropic";
import { type ModelMessage, tool } from "ai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { systemClock } from "../../src/clock.ts";
import type { Failure } from "../../src/failure.ts";
import { classify } from "../../src/fault/classify.ts";
import type { ModelAnswer } from "../../src/model/answer.ts";
import { callModel, type ModelCall } from "../../src/model/model.ts";
import { ANSWER, faults, type NamedFault } from "../support/faults.ts";
import { call } from "../support/model.ts";
import { type Provider, type Reply, startProvider } from "../support/provider.ts";
import { until, within } from "../support/until.ts";

const NOW = Date.UTC(2026, 0, 1);

/** Each run of the tests takes other bytes; a few of them take all. */
const STRIDE = 5;

let provider: Provider;
beforeAll(async () => {
  provider = await startProvider();
});
afterAll(() => provider.close());

const pay = tool({ inputSchema: z.object({ to: z.string(), amount: z.number() }) });

function callOf(settings: ModelCall["agent"]["settings"], signal = new AbortController().signal): ModelCall {
  const messages: ModelMessage[] = [{ role: "user", content: "hi" }];
  return { agent: { settings, tools: { pay } }, messages, steps: [], timeouts: {}, clock: systemClock, signal, onChunk: () => {} };
}

async function callWith(reply: Reply, signal?: AbortSignal): Promise<ModelAnswer> {
  provider.script([reply]);
  return callModel(callOf({ model: provider.model("m") }, signal));
}

async function failureOf(call: Promise<unknown>): Promise<Failure | "none"> {
  return call.then(
    () => "none" as const,
    (error) => classify(error, NOW),
  );
}

const said = ({ step }: ModelAnswer) => JSON.stringify(step.messages);
const named = ({ name, where }: NamedFault) => [name, where] as const;

describe.each(faults(NOW).map((fault) => [...named(fault), fault] as const))("%s (%s)", (_name, _where, { reply, is }) => {
  if (is === "answer") {
    test("is borne: the answer comes whole", async () => expect(said(await callWith(reply))).toContain(ANSWER));
    return;
  }
  if (is === "deadline") {
    test("lasts until somebody stops waiting, and the provider hears of it", async () => {
      const asked = provider.requests.length;
      const stop = new AbortController();
      let isOver = false;
      const call = failureOf(callWith(reply, stop.signal)).finally(() => {
        isOver = true;
      });
      await until("the request is there", () => provider.requests.length > asked);
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(isOver).toBe(false);
      stop.abort(new DOMException("too long", "TimeoutError"));
      expect(await within("the call ends", call)).toEqual({ chance: "again", reason: "timeout" });
      await until("the provider hears of it", () => provider.requests.at(-1)?.isLeft);
    });
    return;
  }
  test(`is ${is.reason}, to be tried ${is.chance}`, async () => {
    const { inMs, ...expected } = is;
    const failure = await within("the call ends", failureOf(callWith(reply)));
    expect(failure).toMatchObject({ ...expected, ...(inMs !== undefined && { at: NOW + inMs }) });
    if (inMs === undefined) expect(failure).not.toHaveProperty("at");
  });
});

describe("an answer that is cut at any byte", () => {
  const text = "Crème brûlée costs 5 €.";
  const calls = [call("pay", { to: "Zoë", amount: 5 })];

  test.each(["endAt", "resetAt"] as const)("(%s) is never taken for a whole one, and never for our mistake", async (how) => {
    provider.script([{ text, calls }]);
    const { length } = Buffer.from(await (await fetch(`${provider.url}/chat/completions`, { method: "POST", body: "{}" })).arrayBuffer());
    const first = Math.floor(Math.random() * STRIDE);
    for (let at = first; at <= length; at += STRIDE) {
      const what = `byte ${at} of ${length}`;
      const outcome = await callWith({ text, calls, [how]: at }).catch((error: unknown) => classify(error, NOW));
      if ("step" in outcome) {
        expect(outcome.step, what).toMatchObject({ finishReason: "tool-calls" });
        expect(said(outcome), what).toContain(text);
        expect(outcome.step.invalid, what).toBeUndefined();
      } else {
        expect(outcome, what).toMatchObject({
          chance: "again",
          reason: expect.stringMatching(how === "endAt" ? "bad_response" : "network"),
        });
      }
    }
  });
});

test("an answer that the provider's filter took away is refused, and not an empty success", async () => {
  for (const text of ["", "It says this and"]) {
    expect(await failureOf(callWith({ text, finish: "content_filter" }))).toMatchObject({ chance: "never", reason: "refused" });
  }
});

test.each<[string, object, Partial<Failure>]>([
  [
    "of OpenAI, out of requests",
    { message: "Please try again in 6m0s.", type: "requests", code: "rate_limit_exceeded" },
    { at: NOW + 360_000 },
  ],
  ["of OpenAI, in trouble", { message: "The server had an error.", type: "server_error", code: null }, { reason: "server_error" }],
  ["of a gateway, with the status as its code", { message: "Provider is down", code: 502 }, { reason: "server_error" }],
  ["of Anthropic behind it", { message: "Overloaded", type: "overloaded_error" }, { chance: "again", reason: "overloaded" }],
  ["of a server that only says a sentence", { message: "Request timed out", param: null }, { chance: "again" }],
  ["of a filter", { message: "no", type: "x", code: "content_policy_violation" }, { chance: "never", reason: "refused" }],
  [
    "of a prompt that is too long",
    { message: "no", type: "x", code: "context_length_exceeded" },
    { chance: "never", reason: "context_length" },
  ],
  ["of an account that is empty", { message: "no", type: "insufficient_quota", code: null }, { chance: "never", reason: "quota" }],
])("an error in a stream %s is understood before and after the first token", async (_what, error, expected) => {
  for (const at of ["before", "middle"] as const) {
    expect(await failureOf(callWith({ text: "one two", error: { at, frame: { error } } })), at).toMatchObject(expected);
  }
});

test.each([
  ["before the first token", []],
  ["after it", [{ type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "one" } }]],
])("an overloaded Anthropic says so behind a 200, %s", async (_when, deltas) => {
  const usage = { input_tokens: 1, output_tokens: 1 };
  const message = { id: "a", type: "message", role: "assistant", model: "m", content: [], stop_reason: null, stop_sequence: null, usage };
  const begun = [
    { type: "message_start", message },
    { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
  ];
  const error = { type: "error", error: { type: "overloaded_error", message: "Overloaded" } };
  const events = [...(deltas.length > 0 ? begun : []), ...deltas, error];
  const body = events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join("");
  provider.script([{ status: 200, headers: { "content-type": "text/event-stream" }, body }]);
  const anthropic = createAnthropic({ baseURL: provider.url, apiKey: "a key" });
  const failure = await failureOf(callModel(callOf({ model: anthropic("m"), maxOutputTokens: 10 })));
  expect(failure).toEqual({ chance: "again", reason: "overloaded", status: 529 });
});

test("the server tells what it was asked, when, and with which key", async () => {
  provider.script(["yes"]);
  await callModel(callOf({ model: provider.model("m"), headers: { "idempotency-key": "k1" } }));
  expect(provider.requests.at(-1)).toMatchObject({
    headers: { "idempotency-key": "k1" },
    body: { model: "m", stream: true, messages: [{ role: "user", content: "hi" }] },
    isLeft: false,
  });
});
