/** Models that take over: in which order, from which failures, whether they can, for how long, and who is told. */
import { type LanguageModel, tool } from "ai";
import type { MockLanguageModelV4 } from "ai/test";
import { expect, test } from "vitest";
import { z } from "zod";
import { type AgentOptions, agent } from "../../src/agent.ts";
import type { CrewOptions, Run } from "../../src/runtime.ts";
import { uiFrames } from "../../src/stream/ui-frame.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { makeCrew, reaches, readAll, tempStore } from "../support/crew.ts";
import { type Answer, call, refusal, scripted } from "../support/model.ts";
import { until } from "../support/until.ts";
import { openAt } from "./handed-store.ts";

/** A model with a name, and a provider, of its own. */
function model(modelId: string, script: Parameters<typeof scripted>[0]): MockLanguageModelV4 {
  return Object.assign(scripted(script), { modelId, provider: `provider of ${modelId}` });
}

const always = (answer: Answer) => () => answer;
const look = tool({ inputSchema: z.object({}), execute: async () => "seen" });
const LIMIT = { on: ["context_length"] as const };

interface Given extends Pick<AgentOptions<never>, "fallback" | "faults"> {
  model: LanguageModel;
  tools?: Record<string, typeof look>;
}

function start({ tools = {}, ...given }: Given, prompt: object = { prompt: "Hello?" }, options: Partial<CrewOptions> = {}) {
  const policy = Object.fromEntries(Object.keys(tools).map((name) => [name, { effect: "read" as const }]));
  const crew = makeCrew([agent("asking", { ...given, tools, policy } as never)], options);
  return crew.start("asking", prompt as { prompt: string });
}

/** Who was asked, attempt by attempt: as the journal has it. */
async function askedOf(run: Run<unknown>): Promise<string[]> {
  return (await run.journal()).flatMap((event) =>
    event.type === "step.started" && event.kind === "model" ? `${event.step} ${event.name}` : [],
  );
}

const names = async (run: Run<unknown>) => (await askedOf(run)).map((asked) => asked.split(" ")[1]);

test("they are asked in their order, the first twice, and journal, feed and stream say who answered", async () => {
  const run = await start({
    model: model("first", always(refusal(503))),
    fallback: [model("second", always(refusal(500))), model("third", ["From the third."])],
  });
  expect(await run.result()).toBe("From the third.");
  expect(await names(run)).toEqual(["first", "first", "second", "second", "third"]);
  const feed = (await readAll(run)).flatMap((item) => (item.type === "step.started" ? [[item.name, item.candidate, item.attempt]] : []));
  expect(feed.at(-1)).toEqual(["third", 2, 5]);
  const status: string[] = [];
  for await (const { chunk } of uiFrames(run.events(), run.id)) if (chunk.type === "data-status") status.push(chunk.data.text);
  expect(status.filter((text) => text === "Going on with another model.")).toHaveLength(2);
});

test("the next one is asked at once: whoever waits has waited enough", async () => {
  const clock = new FakeClock();
  const store = await openAt(tempStore(), clock);
  const times: number[] = [];
  const timed = (answer: Answer) => () => {
    times.push(clock.now());
    return answer;
  };
  const given = { model: model("first", timed(refusal(429, { "retry-after": "60" }))), fallback: [model("second", timed("ok"))] };
  const run = await start(given, undefined, { store, clock, worker: { lease: "1d" } });
  expect(await run.result()).toBe("ok");
  expect(await names(run)).toEqual(["first", "second"]); // one that asks for a minute is not asked a second time
  expect(times[1]).toBe(times[0]);
  await store.close();
});

test.each<[string, number, readonly string[], string]>([
  ["that it is for", 400, ["first", "second"], "ok"],
  ["that it is not for", 500, [], ""],
])("with `on` a fallback takes over from failures %s, and from no others", async (_what, status, asked, answer) => {
  const fallback = [{ model: model("second", ["ok"]), on: ["invalid_request" as const] }];
  const run = await start({ model: model("first", always(refusal(status))), fallback, faults: { attempts: 2 } });
  if (answer !== "") expect(await run.result()).toBe(answer);
  else expect(await reaches(run, "attention")).toMatchObject({ code: "RETRIES_EXHAUSTED" });
  expect(await names(run)).toEqual(answer === "" ? ["first", "first"] : asked);
});

test("a request that is wrong in itself goes to no fallback that was not named for it", async () => {
  const second = model("second", ["ok"]);
  const run = await start({ model: model("first", always(refusal(400))), fallback: [second] });
  await expect(run.result()).rejects.toMatchObject({ code: "MODEL_FAILED" });
  expect(second.doStreamCalls).toHaveLength(0);
});

const image = { messages: [{ role: "user", content: [{ type: "file", mediaType: "image/png", data: "iVBORw0KGgo=" }] }] };

test.each<[string, object, object, boolean]>([
  ["a prompt that is longer than it takes", { contextTokens: 10 }, { prompt: "word ".repeat(20) }, false],
  ["a prompt that it takes", { contextTokens: 100 }, { prompt: "word ".repeat(20) }, true],
  ["images, which it cannot see", { images: false }, image, false],
  ["no images", { images: false }, { prompt: "Hello?" }, true],
  ["tools, which it cannot call", { tools: false }, { prompt: "Hello?" }, false],
])("one that is offered %s is passed by when it cannot, and only then", async (what, can, prompt, takesIt) => {
  const second = model("second", ["from the second"]);
  const given = { model: model("first", always(refusal(500))), fallback: [{ model: second, ...can }, model("third", ["from the third"])] };
  const run = await start({ ...given, ...(what.startsWith("tools") && { tools: { look } }) }, prompt);
  expect(await run.result()).toBe(takesIt ? "from the second" : "from the third");
  expect(second.doStreamCalls).toHaveLength(takesIt ? 1 : 0);
});

test("context that has grown too long for the first goes to one with more room, and not to one with less", async () => {
  const long = { prompt: "word ".repeat(1_000) };
  const tooLong = Object.assign(refusal(400), { data: { error: { code: "context_length_exceeded" } } });
  Object.assign(tooLong, { responseBody: JSON.stringify(tooLong.data) });
  const small = model("small", ["from the small"]);
  const run = await start(
    {
      model: model("first", always(tooLong)),
      fallback: [
        { model: small, contextTokens: 100, ...LIMIT },
        { model: model("big", ["from the big"]), ...LIMIT },
      ],
    },
    long,
  );
  expect(await run.result()).toBe("from the big");
  expect(small.doStreamCalls).toHaveLength(0);
});

test.each<["run" | "step", string[]]>([
  ["run", ["model:1 first", "model:1 first", "model:1 second", "model:2 second"]],
  ["step", ["model:1 first", "model:1 first", "model:1 second", "model:2 first"]],
])("one that has answered is kept for the %s", async (sticky, asked) => {
  const first = model("first", ({ n }) => (n <= 2 ? refusal(500) : "from the first"));
  const second = model("second", ({ n }) => (n === 1 ? { calls: [call("look", {})] } : "from the second"));
  const run = await start({ model: first, fallback: [second], faults: { sticky }, tools: { look } });
  expect(await run.result()).toBe(sticky === "run" ? "from the second" : "from the first");
  expect(await askedOf(run)).toEqual(asked);
});

test("behind a sticky fallback comes the first again: a run is not lost because one model that it has changed to is down", async () => {
  const first = model("first", ({ n }) => (n <= 2 ? refusal(500) : "from the first"));
  const second = model("second", ({ n }) => (n === 1 ? { calls: [call("look", {})] } : refusal(500)));
  const run = await start({ model: first, fallback: [second], tools: { look } });
  expect(await run.result()).toBe("from the first");
});

test.each<[string, (model: MockLanguageModelV4) => Given]>([
  ["a fallback that was being tried", (next) => ({ model: next })],
  ["the first, and the fallback is the only one left", (next) => ({ model: next })],
])("a deploy that takes away %s between two attempts leaves the run to those that there are", async (_what, after) => {
  const path = tempStore();
  const clock = new FakeClock();
  const open = () => openAt(path, clock);
  const before = await open();
  const options = { clock, worker: { lease: "1d" as const } };
  const limited = () => refusal(429, { "retry-after": "4" });
  const old = makeCrew([agent("asking", { model: model("gone", always(refusal(503))), fallback: [model("gone too", limited)] })], {
    ...options,
    store: before,
  });
  const started = await old.start("asking", { prompt: "Hello?" });
  await until("a fallback has failed", async () => {
    clock.jump(50);
    return (
      (await names(started)).includes("gone") &&
      (await started.journal()).some((event) => event.type === "step.failed" && event.failure?.reason === "rate_limited")
    );
  });
  await old.close();
  await before.close();

  const next = model("new", ["From the new one."]);
  const store = await open();
  const crew = makeCrew([agent("asking", after(next) as never)], { ...options, store });
  await crew.work();
  const run = await crew.run(started.id);
  await until("it is over, or waits for somebody", async () => {
    clock.jump(500);
    const { status, reason } = await run.row();
    return status === "succeeded" || reason === "attention";
  });
  expect((await run.view()).summary).toBe("Done.");
  expect(await run.result()).toBe("From the new one.");
  const attempts = (await run.journal()).flatMap((event) => (event.type === "step.started" ? event.attempt : []));
  expect(attempts).toEqual(attempts.map((_, index) => index + 1));
  await crew.close();
  await store.close();
});
