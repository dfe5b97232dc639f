/** How long a model may say nothing, over a real connection. What is waited for is named; nothing is left behind. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Clock, systemClock } from "../../src/clock.ts";
import { callModel } from "../../src/model/model.ts";
import { type Ear, listen, type Silence } from "../../src/model/silence.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { scripted } from "../support/model.ts";
import { type Provider, startProvider } from "../support/provider.ts";
import { until, within } from "../support/until.ts";

let provider: Provider;
beforeAll(async () => {
  provider = await startProvider();
});
afterAll(() => provider.close());

/** A fake clock that knows how many of its timers are still set. */
class CountingClock extends FakeClock {
  set = 0;

  override after(delayMs: number, task: () => void): () => void {
    this.set++;
    let isSet = true;
    const unset = () => {
      if (isSet) this.set--;
      isSet = false;
    };
    const cancel = super.after(delayMs, () => {
      unset();
      task();
    });
    return () => {
      unset();
      cancel();
    };
  }
}

function call(timeouts: Silence, clock: Clock, { signal = new AbortController().signal, model = provider.model("m") } = {}) {
  const chunks: string[] = [];
  const asked = {
    agent: { settings: { model }, tools: {} },
    messages: [{ role: "user" as const, content: "hi" }],
    steps: [],
    onChunk: ({ type }: { type: string }) => chunks.push(type),
  };
  const answer = callModel({ ...asked, timeouts, clock, signal });
  answer.catch(() => {}); // looked at later
  return { answer, chunks };
}

const requestNumber = (n: number) => until("the request is there", () => provider.requests.length >= n);

describe("the first chunk", () => {
  test.each([
    ["headers that never come", { wait: () => new Promise(() => {}) }],
    ["a stream without a word", { text: "hi", hangAt: "before" as const }],
  ])("is given up on in time: %s", async (_what, reply) => {
    provider.script([reply]);
    const clock = new CountingClock();
    const asked = provider.requests.length;
    const { answer } = call({ firstChunkMs: 1_000, chunkMs: 50 }, clock);
    await requestNumber(asked + 1);
    clock.jump(999);
    expect(clock.set).toBe(1);
    clock.jump(1);
    await expect(within("it gives up", answer)).rejects.toMatchObject({
      code: "STEP_TIMEOUT",
      message: expect.stringContaining("first chunk"),
    });
    await until("the provider hears of it", () => provider.requests.at(-1)?.isLeft);
    expect(clock.set).toBe(0);
  });

  test("has no limit when none is set, and sets no timer", async () => {
    const open = Promise.withResolvers<void>();
    provider.script([{ text: "hi there", wait: () => open.promise }]);
    const clock = new CountingClock();
    const asked = provider.requests.length;
    const { answer } = call({}, clock);
    await requestNumber(asked + 1);
    clock.jump(3_600_000);
    expect(clock.set).toBe(0);
    open.resolve();
    await within("the answer", answer);
  });
});

describe("the next chunk", () => {
  test("is given up on when it does not come, and not before, however long the whole takes", async () => {
    const frames: (() => void)[] = [];
    provider.script([{ text: "one two three four", between: () => new Promise<void>((resolve) => frames.push(resolve)) }]);
    const clock = new CountingClock();
    const { answer, chunks } = call({ firstChunkMs: 1_000, chunkMs: 1_000 }, clock);
    const deltas = () => chunks.filter((type) => type === "text-delta").length;
    const next = async () => (await until("the next frame waits", () => frames.shift()))();
    await next(); // the role: no content
    for (const n of [1, 2, 3]) {
      await next();
      await until("it is heard", () => deltas() === n);
      clock.jump(999);
    }
    clock.jump(1);
    await expect(within("it gives up", answer)).rejects.toMatchObject({
      code: "STEP_TIMEOUT",
      message: expect.stringContaining("next chunk"),
    });
    await until("the provider hears of it", () => provider.requests.at(-1)?.isLeft);
    expect(clock.set).toBe(0);
    expect(deltas()).toBe(3);
  });

  test("is not waited for once the answer is over", async () => {
    provider.script(["hi there"]);
    const clock = new CountingClock();
    const { answer } = call({ firstChunkMs: 1_000, chunkMs: 1_000 }, clock);
    await within("the answer", answer);
    expect(clock.set).toBe(0);
    clock.jump(10_000);
    expect(await answer).toMatchObject({ step: { finishReason: "stop" } });
  });
});

test("what an author does with a step that is over is not the model's silence", async () => {
  const open = Promise.withResolvers<void>();
  let isAsked = false;
  const onStepEnd = () => {
    isAsked = true;
    return open.promise;
  };
  const clock = new CountingClock();
  const agent = { settings: { model: scripted(["hi"]), onStepEnd }, tools: {} };
  const signal = new AbortController().signal;
  const messages = [{ role: "user" as const, content: "hi" }];
  const answer = callModel({
    agent,
    messages,
    steps: [],
    timeouts: { firstChunkMs: 1_000, chunkMs: 1_000 },
    clock,
    signal,
    onChunk: () => {},
  });
  await until("the step is over", () => isAsked);
  clock.jump(5_000);
  open.resolve();
  expect(await within("the answer", answer)).toMatchObject({ step: { finishReason: "stop" } });
});

test("what was on its way when the call had to stop is told to nobody, and sets no timer", async () => {
  const clock = new CountingClock();
  const stop = new AbortController();
  const agent = { settings: { model: scripted([{ text: Array.from({ length: 50 }, () => "word ") }]) }, tools: {} };
  const chunks: string[] = [];
  const onChunk = ({ type }: { type: string }) => {
    chunks.push(type);
    if (type === "text-delta") stop.abort(new Error("stop"));
  };
  const messages = [{ role: "user" as const, content: "hi" }];
  const answer = callModel({ agent, messages, steps: [], timeouts: { chunkMs: 1_000 }, clock, signal: stop.signal, onChunk });
  await expect(within("it ends", answer)).rejects.toThrow("stop");
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(chunks).toEqual(["text-start", "text-delta"]);
  expect(clock.set).toBe(0);
});

test("a model that does not heed its signal is left alone, and what it says later is told to nobody", async () => {
  const open = Promise.withResolvers<void>();
  const clock = new CountingClock();
  const model = scripted([{ text: "late", gate: open.promise }]);
  const { answer, chunks } = call({ firstChunkMs: 5_000, chunkMs: 1_000 }, clock, { model });
  await until("it has begun", () => chunks.includes("text-delta"));
  clock.jump(1_000);
  await expect(within("it gives up", answer)).rejects.toMatchObject({ code: "STEP_TIMEOUT" });
  const told = chunks.length;
  open.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  expect(chunks.length).toBe(told);
  expect(clock.set).toBe(0);
});

test("a call that has to stop ends with the reason for it, and asks nobody when it has to before it begins", async () => {
  provider.script([{ text: "hi there", hangAt: "middle" }, "never asked for"]);
  const clock = new CountingClock();
  const stop = new AbortController();
  const { answer, chunks } = call({ chunkMs: 1_000 }, clock, { signal: stop.signal });
  await until("it has begun", () => chunks.includes("text-delta"));
  stop.abort(new Error("stop"));
  await expect(within("it ends", answer)).rejects.toThrow("stop");
  const asked = provider.requests.length;
  await expect(call({}, clock, { signal: stop.signal }).answer).rejects.toThrow("stop");
  expect(provider.requests.length).toBe(asked);
  expect(clock.set).toBe(0);
});

test("time-outs and stream retries that settings ask the SDK for do not reach it", async () => {
  const open = Promise.withResolvers<void>();
  provider.script([{ text: "hi there", wait: () => open.promise }]);
  const asked = provider.requests.length;
  const settings = { model: provider.model("m"), timeout: { totalMs: 1, stepMs: 1, firstChunkMs: 1, chunkMs: 1 }, streamRetries: 5 };
  const agent = { settings, tools: {} };
  const signal = new AbortController().signal;
  const messages = [{ role: "user" as const, content: "hi" }];
  const answer = callModel({ agent, messages, steps: [], timeouts: {}, clock: systemClock, signal, onChunk: () => {} });
  await requestNumber(asked + 1);
  await new Promise((resolve) => setTimeout(resolve, 30));
  open.resolve();
  expect(await within("the answer", answer)).toMatchObject({ step: { finishReason: "stop" } });
  provider.script([{ text: "hi there", error: { at: "middle", frame: { error: { message: "no", type: "server_error" } } } }, "again"]);
  await expect(callModel({ agent, messages, steps: [], timeouts: {}, clock: systemClock, signal, onChunk: () => {} })).rejects.toThrow(
    "no",
  );
  expect(provider.requests.length).toBe(asked + 2);
});

test("an ear that nobody holds any more sets no timer, however long the model goes on", async () => {
  const clock = new CountingClock();
  const stop = new AbortController();
  let ear: Ear | undefined;
  const call = (given: Ear) => {
    ear = given;
    return new Promise<never>(() => {});
  };
  const listening = listen({ firstChunkMs: 1_000, chunkMs: 1_000 }, clock, stop.signal, call);
  stop.abort(new Error("stop"));
  await expect(listening).rejects.toThrow("stop");
  expect(ear?.signal.reason).toBe(stop.signal.reason);
  ear?.heard();
  expect(clock.set).toBe(0);
});
