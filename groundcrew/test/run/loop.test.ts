import { hasToolCall, isStepCount, tool } from "ai";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { agent } from "../../src/agent.ts";
import { currentCall } from "../../src/call.ts";
import { isError } from "../../src/errors.ts";
import { MAX_VALUE_BYTES } from "../../src/limits.ts";
import { fold } from "../../src/persistence/fold.ts";
import { gate, makeCrew, reaches, readAll } from "../support/crew.ts";
import { type Answer, call, refusal, results, scripted, shown } from "../support/model.ts";

const anything = z.looseObject({});
const act = (
  execute: (input: Record<string, unknown>, options: { abortSignal?: AbortSignal | undefined; messages: unknown[] }) => unknown,
) => tool({ inputSchema: anything, execute: execute as never });

/** Runs an agent whose model calls `work` once with `input` and then says what it read. */
async function tellOf(execute: (input: Record<string, unknown>) => unknown, input: unknown = {}, policy = {}) {
  const model = scripted([{ calls: [call("work", input)] }, "done"]);
  const run = await makeCrew([agent("a", { model, tools: { work: act(execute) }, policy: { work: policy } })]).start("a", { prompt: "go" });
  const output = await run.result();
  return { run, output, told: results(model.doStreamCalls[1]?.prompt ?? [])["call-work"] };
}

describe("tool calls of one answer", () => {
  test("run side by side, and whatever order they end in, the model is shown the same", async () => {
    const prompts: string[] = [];
    for (const order of [
      ["a", "b", "c"],
      ["c", "a", "b"],
      ["b", "c", "a"],
    ]) {
      const gates = new Map(order.map((name) => [name, gate()]));
      let running = 0;
      const model = scripted([{ text: "three", calls: ["a", "b", "c"].map((name) => call("work", { name }, name)) }, "done"]);
      const work = act(async ({ name }) => {
        if (++running === 3) order.forEach((next, place) => void setTimeout(() => gates.get(next)?.open(), 5 * place));
        await gates.get(String(name))?.opened;
        return { of: name };
      });
      await (await makeCrew([agent("a", { model, tools: { work } })]).start("a", { prompt: "go" })).result();
      prompts.push(JSON.stringify(model.doStreamCalls[1]?.prompt));
    }
    expect(new Set(prompts).size).toBe(1);
    expect(prompts[0]).toMatch(/"of":"a".*"of":"b".*"of":"c"/);
  });

  test("an id used twice in one answer, and again in the next, is three calls and three results", async () => {
    const seen: unknown[] = [];
    const work = act(({ n }) => {
      seen.push(n);
      return `result ${n}`;
    });
    const model = scripted([
      { calls: [call("work", { n: 1 }, "x"), call("work", { n: 2 }, "x")] },
      { calls: [call("work", { n: 3 }, "x")] },
      "done",
    ]);
    const run = await makeCrew([agent("a", { model, tools: { work } })]).start("a", { prompt: "go" });
    expect(await run.result()).toBe("done");
    expect(seen.sort()).toEqual([1, 2, 3]);
    const told = results(model.doStreamCalls[2]?.prompt ?? []);
    expect(
      Object.values(told)
        .map(({ value }) => value)
        .sort(),
    ).toEqual(["result 1", "result 2", "result 3"]);
    const prompt = model.doStreamCalls[2]?.prompt ?? [];
    const asked = prompt
      .flatMap((message) => (message.role === "assistant" ? message.content : []))
      .flatMap((part) => (part.type === "tool-call" ? [part.toolCallId] : []));
    expect(asked).toEqual(Object.keys(told));
  });

  test("an id that a journal, an object or a path might trip over is an id like any other", async () => {
    const ids = ["__proto__", "constructor", "", "a/b#2", "a#2", "a", "a", "\u0000", "ü".repeat(500)];
    const model = scripted([{ calls: ids.map((id, n) => call("work", { n }, id)) }, "done"]);
    let count = 0;
    const run = await makeCrew([agent("a", { model, tools: { work: act(() => ++count) } })]).start("a", { prompt: "go" });
    expect(await run.result()).toBe("done");
    expect(count).toBe(ids.length);
  });

  test("more calls than run side by side all run, and never too many at once", async () => {
    let now = 0;
    let most = 0;
    const work = act(async () => {
      most = Math.max(most, ++now);
      await new Promise((tick) => setTimeout(tick, 2));
      now--;
      return "ok";
    });
    const model = scripted([{ calls: Array.from({ length: 60 }, (_, n) => call("work", { n }, `c${n}`)) }, "done"]);
    await (await makeCrew([agent("a", { model, tools: { work } })]).start("a", { prompt: "go" })).result();
    expect(Object.keys(results(model.doStreamCalls[1]?.prompt ?? []))).toHaveLength(60);
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(16);
  });
});

describe("what a model gets wrong is told to the model, and runs nothing", () => {
  const strict = () => {
    const ran: unknown[] = [];
    const pay = tool({ inputSchema: z.object({ amount: z.number() }), execute: async (input) => ran.push(input) });
    return { ran, pay };
  };

  test.each<[string, ReturnType<typeof call>, RegExp]>([
    ["a tool that is not there", call("fly", {}, "c"), /fly/],
    ["a tool of a name every object has", call("constructor", {}, "c"), /constructor/],
    ["a tool named __proto__", call("__proto__", {}, "c"), /__proto__/],
    ["arguments of the wrong type", call("pay", { amount: "all" }, "c"), /amount|number/],
    ["arguments that are no JSON", call("pay", "{amount: 1", "c"), /JSON|parse|input/i],
    ["no arguments", call("pay", "", "c"), /amount|number|input/i],
    ["arguments with a prototype key", call("pay", '{"amount":1,"__proto__":{"admin":true}}', "c"), /prototype|input|JSON/i],
    [
      "arguments with a constructor key",
      call("pay", '{"amount":1,"constructor":{"prototype":{"admin":true}}}', "c"),
      /prototype|input|JSON/i,
    ],
  ])("%s", async (_what, said, tells) => {
    const { ran, pay } = strict();
    const model = scripted([{ calls: [said] }, "sorry"]);
    const run = await makeCrew([agent("a", { model, tools: { pay } })]).start("a", { prompt: "go" });
    expect(await run.result()).toBe("sorry");
    expect(ran).toEqual([]);
    const told = results(model.doStreamCalls[1]?.prompt ?? [])["c"];
    expect(told?.type).toBe("error-text");
    expect(String(told?.value)).toMatch(tells);
    expect((Object.prototype as { admin?: unknown }).admin).toBeUndefined();
  });

  test("one bad call among good ones stops none of them", async () => {
    const { ran, pay } = strict();
    const model = scripted([{ calls: [call("pay", { amount: 1 }, "a"), call("nope", {}, "b"), call("pay", { amount: 2 }, "c")] }, "done"]);
    await (await makeCrew([agent("a", { model, tools: { pay } })]).start("a", { prompt: "go" })).result();
    expect(ran).toHaveLength(2);
  });

  test("arguments too deep to keep end the run with a typed error; the worker lives on", async () => {
    const deep = `${'{"a":'.repeat(5_000)}1${"}".repeat(5_000)}`;
    const model = scripted(({ n }) => (n === 1 ? { calls: [call("work", deep)] } : "fine"));
    const crew = makeCrew([agent("a", { model, tools: { work: act(() => "ran") } })]);
    const first = await (await crew.start("a", { prompt: "go" })).result().catch((error) => error);
    expect(isError(first) || first === "fine").toBe(true);
    expect(await (await crew.start("a", { prompt: "go" })).result()).toBe("fine");
  });
});

describe("what a tool does wrong is the model's to know, never the end of the process", () => {
  test.each<[string, unknown, RegExp]>([
    ["a text", "plain words", /plain words/],
    ["null", null, /null/],
    ["undefined", undefined, /undefined/],
    ["a number", 7, /7/],
    ["a symbol", Symbol("s"), /Symbol\(s\)/],
    ["an object", { code: 1 }, /an object/],
    [
      "an object whose text cannot be had",
      {
        toString: () => {
          throw new Error("no");
        },
      },
      /an object/,
    ],
    ["an error with a cause", new Error("outer", { cause: new Error("inner") }), /outer/],
    ["an error with a very long message", new Error("x".repeat(1_000_000)), /^x{1000,}$/],
    ["an AbortError of its own making", new DOMException("gone", "AbortError"), /gone/],
  ])("it throws %s", async (_what, thrown, tells) => {
    const { output, told } = await tellOf(() => {
      throw thrown;
    });
    expect(output).toBe("done");
    expect(told?.type).toBe("error-text");
    expect(String(told?.value)).toMatch(tells);
  });

  test("it rejects with an error whose message cannot be read: the run ends with a typed error", async () => {
    const evil = Object.defineProperty(new Error(), "message", {
      get: () => {
        throw new Error("no");
      },
    });
    const outcome = await tellOf(() => Promise.reject(evil)).then(
      ({ output }) => output,
      (error) => error,
    );
    expect(outcome === "done" || isError(outcome)).toBe(true);
  });

  test.each<[string, () => unknown, RegExp]>([
    ["a function inside its result: the path is named", () => ({ rows: [{ id: 1 }, { id: 2, save: () => {} }] }), /rows\[1\]\.save/],
    ["a symbol", () => ({ kind: Symbol("x") }), /kind/],
    [
      "an instance of a class nobody registered",
      () => ({
        at: new (class Money {
          n = 1;
        })(),
      }),
      /at.*Money|Money.*at/,
    ],
    ["more than the bound", () => "x".repeat(MAX_VALUE_BYTES + 1), /bytes|MiB|MB|large/i],
    ["a prototype key", () => JSON.parse('{"rows":[{"__proto__":{"admin":true}}]}'), /rows\[0\].*__proto__/],
    ["a promise inside its result", () => ({ later: Promise.resolve(1) }), /later/],
    [
      "a proxy that throws",
      () =>
        new Proxy(
          {},
          {
            ownKeys: () => {
              throw new Error("no");
            },
          },
        ),
      /./,
    ],
    [
      "a getter that throws",
      () => ({
        get total() {
          throw new Error("no total");
        },
      }),
      /./,
    ],
  ])("it returns %s", async (_what, value, tells) => {
    const { output, told } = await tellOf(value);
    expect(output).toBe("done");
    expect(told?.type).toBe("error-text");
    expect(String(told?.value)).toMatch(tells);
  });

  test("its result could not be kept although it took effect: the model is told so, and not to repeat it", async () => {
    const { told } = await tellOf(() => ({ send: () => {} }));
    expect(String(told?.value)).toMatch(/took place|took effect|has happened/i);
  });

  test.each<[string, () => unknown, unknown]>([
    ["undefined", () => undefined, null],
    ["a Map", () => new Map([["a", 1]]), { a: 1 }],
    ["a Set", () => new Set([1, 2]), [1, 2]],
    ["a BigInt", () => ({ n: 12n }), { n: "12" }],
    ["a Date", () => ({ at: new Date(0) }), { at: "1970-01-01T00:00:00.000Z" }],
    ["an Error", () => ({ e: new TypeError("odd") }), { e: { name: "TypeError", message: "odd" } }],
    ["NaN", () => ({ n: Number.NaN }), { n: null }],
  ])("it returns %s, which the model can read", async (_what, value, read) => {
    const { output, told } = await tellOf(value);
    expect(output).toBe("done");
    expect(told).toEqual({ type: "json", value: read });
    expect(({} as { admin?: unknown }).admin).toBeUndefined();
  });

  test("it returns a value that contains itself: the model reads the rest", async () => {
    const { output, told } = await tellOf(() => {
      const node: Record<string, unknown> = { name: "root" };
      node["self"] = node;
      return node;
    });
    expect(output).toBe("done");
    expect(told?.type).toBe("json");
    expect(told?.value).toMatchObject({ name: "root" });
  });

  test("it returns an object twice: the second is not taken for a cycle", async () => {
    const { told } = await tellOf(() => {
      const one = { n: 1 };
      return { a: one, b: one };
    });
    expect(told?.value).toEqual({ a: { n: 1 }, b: { n: 1 } });
  });

  test("a toJSON that throws does not end the run", async () => {
    const { output } = await tellOf(() => ({ at: new Date(Number.NaN), u: new URL("http://a/") }));
    expect(output).toBe("done");
  });

  test("it changes its input: the transcript keeps what the model wrote", async () => {
    const model = scripted([{ calls: [call("work", { list: [1], a: 1 })] }, "done"]);
    const work = act((input) => {
      (input["list"] as number[]).push(2);
      delete input["a"];
      return "ok";
    });
    await (await makeCrew([agent("a", { model, tools: { work } })]).start("a", { prompt: "go" })).result();
    expect(shown(model.doStreamCalls[1]?.prompt ?? []).join("\n")).toContain('work({"list":[1],"a":1})');
  });

  test("it goes on changing what it returned: the model is shown what was recorded", async () => {
    const rows: number[] = [];
    const model = scripted([{ calls: [call("work", {}, "a")] }, { calls: [call("work", {}, "b")] }, "done"]);
    const run = await makeCrew([
      agent("a", {
        model,
        tools: {
          work: act(() => {
            rows.push(rows.length);
            return rows;
          }),
        },
      }),
    ]).start("a", {
      prompt: "go",
    });
    await run.result();
    expect(results(model.doStreamCalls[2]?.prompt ?? [])).toMatchObject({ a: { value: [0] }, b: { value: [0, 1] } });
    const recorded = (await run.journal()).flatMap((event) =>
      event.type === "step.succeeded" && event.step.startsWith("tool:") ? [event.value] : [],
    );
    expect(recorded).toEqual([[0], [0, 1]]);
  });

  test("it never settles: a read has failed and the model is told", async () => {
    const { output, told } = await tellOf(() => new Promise(() => {}), {}, { effect: "read", timeout: 30 });
    expect(output).toBe("done");
    expect(told).toMatchObject({ type: "error-text", value: expect.stringMatching(/30 ms/) });
  });

  test("it never settles and may not be repeated: the run waits for a person, and the model is told nothing it would repeat", async () => {
    let count = 0;
    const model = scripted([{ calls: [call("work", {})] }, "done"]);
    const work = act(() => {
      count++;
      return new Promise(() => {});
    });
    const run = await makeCrew([agent("a", { model, tools: { work }, policy: { work: { timeout: 30 } } })]).start("a", { prompt: "go" });
    const view = await reaches(run, "unknown_outcome");
    expect(view.summary).toMatch(/work.*groundcrew resolve/);
    expect(model.doStreamCalls).toHaveLength(1);
    expect(count).toBe(1);
  });

  test("it settles after its time was over: the late answer is on record as late, and changes nothing", async () => {
    const late = gate<string>();
    const next = gate();
    const model = scripted(async ({ n }): Promise<Answer> => {
      if (n === 1) return { calls: [call("work", {})] };
      late.open("too late");
      await next.opened;
      return "done";
    });
    const run = await makeCrew([
      agent("a", { model, tools: { work: act(() => late.opened) }, policy: { work: { effect: "read", timeout: 30, attempts: 1 } } }),
    ]).start("a", { prompt: "go" });
    await late.opened;
    next.open();
    expect(await run.result()).toBe("done");
    const journal = await run.journal();
    expect(journal.filter(({ type }) => type === "step.late")).toMatchObject([
      { step: "tool:call-work", outcome: "succeeded", value: "too late" },
    ]);
    expect(fold(journal).steps.get("tool:call-work")).toMatchObject({ status: "failed", error: { code: "STEP_TIMEOUT" } });
    expect(JSON.stringify(model.doStreamCalls.at(-1)?.prompt)).not.toContain("too late");
  });

  test("what it says of its progress after its time was over reaches nobody", async () => {
    const next = gate();
    const model = scripted(async ({ n }): Promise<Answer> => {
      if (n === 1) return { calls: [call("work", {})] };
      await next.opened;
      return "done";
    });
    const work = act(async () => {
      const { progress, signal } = currentCall();
      progress(0.1, "begun");
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      setTimeout(() => {
        progress(0.9, "I live on");
        next.open();
      }, 10);
      return new Promise(() => {});
    });
    const run = await makeCrew([agent("a", { model, tools: { work }, policy: { work: { effect: "read", timeout: 30 } } })]).start("a", {
      prompt: "go",
    });
    await run.result();
    const said = JSON.stringify(await run.journal());
    expect(said).toContain("begun");
    expect(said).not.toContain("I live on");
  });

  test("its signal fires when its time is over", async () => {
    let reason: unknown;
    await tellOf(
      () =>
        new Promise(() =>
          currentCall().signal.addEventListener("abort", () => {
            reason = currentCallReason();
          }),
        ),
      {},
      { effect: "read", timeout: 20 },
    );
    function currentCallReason() {
      return "fired";
    }
    expect(reason).toBe("fired");
  });

  test("it streams: the last value is the result, the others reach readers only", async () => {
    const model = scripted([{ calls: [call("work", {})] }, "done"]);
    const work = tool({
      inputSchema: anything,
      async *execute() {
        yield { state: "looking" };
        yield { state: "found" };
      },
    });
    const run = await makeCrew([agent("a", { model, tools: { work } })]).start("a", { prompt: "go" });
    await run.result();
    expect(results(model.doStreamCalls[1]?.prompt ?? [])["call-work"]?.value).toEqual({ state: "found" });
    expect(JSON.stringify(model.doStreamCalls[1]?.prompt)).not.toContain("looking");
    expect(JSON.stringify(await readAll(run))).toContain("looking");
  });

  test("it streams and fails in the middle: what came before is no result", async () => {
    const { told } = await tellOf(async function* () {
      yield "half";
      throw new Error("broke off");
    });
    expect(told).toMatchObject({ type: "error-text", value: expect.stringContaining("broke off") });
  });

  test("it streams nothing: the result is empty, not missing", async () => {
    const { output, told } = await tellOf(async function* () {});
    expect(output).toBe("done");
    expect(told).toEqual({ type: "json", value: null });
  });

  test("it says itself how the model reads its result; when that fails, the model is told", async () => {
    const model = scripted([{ calls: [call("good", {}), call("bad", {})] }, "done"]);
    const good = tool({
      inputSchema: anything,
      execute: () => ({ n: 1 }),
      toModelOutput: ({ output }) => ({ type: "text", value: `n is ${(output as { n: number }).n}` }),
    });
    const bad = tool({
      inputSchema: anything,
      execute: () => ({ n: 1 }),
      toModelOutput: () => {
        throw new Error("cannot say");
      },
    });
    await (await makeCrew([agent("a", { model, tools: { good, bad } })]).start("a", { prompt: "go" })).result();
    expect(results(model.doStreamCalls[1]?.prompt ?? [])).toMatchObject({
      "call-good": { type: "text", value: "n is 1" },
      "call-bad": { type: "error-text", value: expect.stringContaining("cannot say") },
    });
  });
});

describe("a keyed tool", () => {
  test("is given the key its author made of the input, in every run the same", async () => {
    const keys: string[] = [];
    const model = scripted(({ n }) => (n % 2 === 1 ? { calls: [call("work", { order: "7" })] } : "done"));
    const work = act(() => keys.push(currentCall().key));
    const crew = makeCrew([
      agent("a", { model, tools: { work }, policy: { work: { effect: "keyed", key: (input) => String(input["order"]) } } }),
    ]);
    await (await crew.start("a", { prompt: "go" })).result();
    await (await crew.start("a", { prompt: "go" })).result();
    expect(keys).toHaveLength(2);
    expect(keys[0]).toBe(keys[1]);
  });

  test("never shares a key between tenants: another's order of the same number is another action", async () => {
    const keys: string[] = [];
    const model = scripted(({ n }) => (n % 2 === 1 ? { calls: [call("work", { order: "7" })] } : "done"));
    const crew = makeCrew([
      agent("a", {
        model,
        tools: { work: act(() => keys.push(currentCall().key)) },
        policy: { work: { effect: "keyed", key: (input) => String(input["order"]) } },
      }),
    ]);
    await (await crew.start("a", { prompt: "go", principal: { tenant: "one" } })).result();
    await (await crew.start("a", { prompt: "go", principal: { tenant: "two" } })).result();
    expect(new Set(keys).size).toBe(2);
  });

  test.each<[string, () => unknown]>([
    ["undefined", () => undefined],
    ["an empty text", () => ""],
    ["an object", () => ({ id: 7 })],
    [
      "a failure",
      () => {
        throw new Error("no order id");
      },
    ],
  ])("whose key comes out as %s does not run: two actions would be taken for one", async (_what, key) => {
    let ran = 0;
    const { output, told } = await tellOf(() => ran++, {}, { effect: "keyed", key });
    expect(ran).toBe(0);
    expect(output).toBe("done");
    expect(told?.type).toBe("error-text");
  });
});

describe("the loop ends where its author says", () => {
  const endless = () => scripted(({ n }) => ({ text: `thinking ${n}`, calls: [call("work", { n }, `c${n}`)] }));

  test("at the step cap, with a reason that a person can act on", async () => {
    const model = endless();
    const run = await makeCrew([agent("a", { model, tools: { work: act(() => "ok") }, steps: 3 })]).start("a", { prompt: "go" });
    const error = await run.result().catch((thrown) => thrown);
    expect(error).toMatchObject({
      code: "STEP_CAP_REACHED",
      run: run.id,
      message: expect.stringMatching(/"a".*3 model steps.*raise `steps`/),
    });
    expect(model.doStreamCalls).toHaveLength(3);
    expect((await run.view()).summary).toMatch(/^Failed: .*3 model steps/);
  });

  test("at `stopWhen`, with the text so far, and without another model call", async () => {
    const model = endless();
    const run = await makeCrew([agent("a", { model, tools: { work: act(() => "ok") }, stopWhen: isStepCount(2) })]).start("a", {
      prompt: "go",
    });
    expect(await run.result()).toBe("thinking 2");
    expect(model.doStreamCalls).toHaveLength(2);
  });

  test("at any of several conditions; the calls of the last answer have run", async () => {
    let ran = 0;
    const model = scripted([{ calls: [call("other", {})] }, { text: "bye", calls: [call("hangUp", {})] }]);
    const tools = { other: act(() => "ok"), hangUp: act(() => ++ran) };
    const run = await makeCrew([agent("a", { model, tools, stopWhen: [isStepCount(9), hasToolCall("hangUp")] })]).start("a", {
      prompt: "go",
    });
    expect(await run.result()).toBe("bye");
    expect(ran).toBe(1);
  });

  test("a condition of the author's own sees the steps as the AI SDK shows them", async () => {
    const model = endless();
    const seen: unknown[] = [];
    const run = await makeCrew([
      agent("a", {
        model,
        tools: { work: act(({ n }) => `found ${n}`) },
        stopWhen: ({ steps }) => {
          const last = steps.at(-1);
          seen.push({
            text: last?.text,
            calls: last?.toolCalls.map(({ toolName }) => toolName),
            results: last?.toolResults.map(({ output }) => output),
            finish: last?.finishReason,
          });
          return steps.length === 2;
        },
      }),
    ]).start("a", { prompt: "go" });
    await run.result();
    expect(seen).toEqual([
      { text: "thinking 1", calls: ["work"], results: ["found 1"], finish: "tool-calls" },
      { text: "thinking 2", calls: ["work"], results: ["found 2"], finish: "tool-calls" },
    ]);
  });

  test("a condition that throws ends the run with a typed error", async () => {
    const run = await makeCrew([
      agent("a", {
        model: endless(),
        tools: { work: act(() => "ok") },
        stopWhen: () => {
          throw new Error("bad condition");
        },
      }),
    ]).start("a", { prompt: "go" });
    await expect(run.result()).rejects.toMatchObject({ name: "GroundcrewError", message: expect.stringContaining("bad condition") });
  });
});

describe("the author's AI SDK settings reach the model", () => {
  test("instructions, temperature, and what `prepareCall` and `prepareStep` make of each step", async () => {
    const numbers: number[] = [];
    const model = scripted([{ calls: [call("work", {})] }, "done"]);
    const run = await makeCrew([
      agent("a", {
        model,
        instructions: "be kind",
        temperature: 0.5,
        tools: { work: act(() => "ok") },
        prepareCall: (options) => ({ ...options, instructions: `${String(options.instructions)} and brief` }),
        prepareStep: ({ stepNumber, steps }) => {
          numbers.push(stepNumber);
          expect(steps).toHaveLength(stepNumber);
          return stepNumber === 1 ? { toolChoice: "none" } : {};
        },
      }),
    ]).start("a", { prompt: "go" });
    await run.result();
    const [first, second] = model.doStreamCalls;
    expect(shown(first?.prompt ?? [])).toEqual(["system: be kind and brief", "user: go"]);
    expect(shown(second?.prompt ?? []).filter((line) => line.startsWith("system"))).toHaveLength(1);
    expect(first?.temperature).toBe(0.5);
    expect(second?.toolChoice).toEqual({ type: "none" });
    expect(numbers).toEqual([0, 1]);
  });
});

describe("structured output", async () => {
  const { Output } = await import("ai");
  const output = Output.object({ schema: z.object({ total: z.number() }) });

  test("is parsed and is the run's output, also when tools came first", async () => {
    const model = scripted([{ text: "let me see", calls: [call("work", {})] }, '{"total": 7}']);
    const run = await makeCrew([agent("a", { model, output, tools: { work: act(() => "ok") } })]).start("a", { prompt: "go" });
    expect(await run.result()).toEqual({ total: 7 });
  });

  test.each([
    ["no JSON", "seven"],
    ["JSON of another shape", '{"total":"seven"}'],
    ["nothing", ""],
  ])("that comes as %s is a typed failure, not an output", async (_what, text) => {
    const run = await makeCrew([agent("a", { model: scripted([{ text }]), output })]).start("a", { prompt: "go" });
    await expect(run.result()).rejects.toMatchObject({ code: "OUTPUT_INVALID" });
    expect(await run.view()).not.toHaveProperty("output");
  });

  test("that never came because `stopWhen` ended the run is a typed failure, not undefined", async () => {
    const model = scripted([{ calls: [call("work", {})] }]);
    const run = await makeCrew([agent("a", { model, output, tools: { work: act(() => "ok") }, stopWhen: isStepCount(1) })]).start("a", {
      prompt: "go",
    });
    await expect(run.result()).rejects.toMatchObject({ code: "OUTPUT_INVALID" });
  });
});

describe("a provider that fails", () => {
  test("and may be asked again is, after the time it names; the wait is the run's stated reason", async () => {
    const model = scripted([refusal(429, { "retry-after-ms": "150" }), "hello"]);
    const run = await makeCrew([agent("a", { model })]).start("a", { prompt: "go" });
    const began = performance.now();
    const view = await reaches(run, "retry", "succeeded");
    if (view.status === "parked") expect(view.summary).toMatch(/refused with 429.*next attempt/);
    expect(await run.result()).toBe("hello");
    expect(performance.now() - began).toBeGreaterThan(100);
  });

  test("again and again parks the run after a bounded number of tries, and `retry` gives it as many again", async () => {
    const model = scripted(({ n }) => (n <= 4 ? refusal(503, { "retry-after-ms": "1" }) : "at last"));
    const run = await makeCrew([agent("a", { model, faults: { attempts: 2 } })]).start("a", { prompt: "go" });
    for (const asked of [2, 4]) {
      const view = await reaches(run, "attention");
      expect(view.summary).toMatch(/has failed 2 times.*503.*retry/);
      expect(model.doStreamCalls).toHaveLength(asked);
      await run.retry();
    }
    expect(await run.result()).toBe("at last");
  });

  test("again and again fails the run if its author wants that", async () => {
    const model = scripted(() => refusal(503, { "retry-after-ms": "1" }));
    const run = await makeCrew([agent("a", { model, faults: { attempts: 3, exhausted: "fail" } })]).start("a", { prompt: "go" });
    await expect(run.result()).rejects.toMatchObject({ code: "MODEL_FAILED", message: expect.stringContaining("503") });
    expect(model.doStreamCalls).toHaveLength(3);
  });

  test.each([401, 403, 404])("with a refusal that a person can mend (%i) is not asked again before somebody says so", async (status) => {
    const model = scripted([refusal(status), "mended"]);
    const run = await makeCrew([agent("a", { model })]).start("a", { prompt: "go" });
    await reaches(run, "attention");
    expect(model.doStreamCalls).toHaveLength(1);
    await run.retry();
    expect(await run.result()).toBe("mended");
  });

  test.each([
    ["a mistake in the request", refusal(400)],
    ["what is no API error", new TypeError("bad")],
  ])("with %s is not asked again", async (_what, error) => {
    const model = scripted([error, "never said"]);
    const run = await makeCrew([agent("a", { model })]).start("a", { prompt: "go" });
    await expect(run.result()).rejects.toMatchObject({ code: "MODEL_FAILED" });
    expect(model.doStreamCalls).toHaveLength(1);
  });

  test("after text was shown: readers are told that the text is taken back before the new text comes", async () => {
    const model = scripted([{ text: "Half an ans", breaks: refusal(503, { "retry-after-ms": "1" }) }, "The whole answer"]);
    const run = await makeCrew([agent("a", { model })]).start("a", { prompt: "go" });
    expect(await run.result()).toBe("The whole answer");
    const items = await readAll(run);
    const told = items.flatMap((item) => {
      if (item.type === "chunk") return [`${item.attempt}: ${(item.part as { delta?: string }).delta ?? ""}`];
      return item.type === "step.failed" || item.type === "step.abandoned" ? [`${item.attempt} is over`] : [];
    });
    const first = told.findIndex((line) => line.startsWith("1: Half"));
    const over = told.indexOf("1 is over");
    const second = told.findIndex((line) => line.startsWith("2: The"));
    expect([first, over, second].every((at) => at >= 0)).toBe(true);
    expect(first).toBeLessThan(over);
    expect(over).toBeLessThan(second);
    expect(told.slice(over).some((line) => line.startsWith("1:"))).toBe(false);
  });

  test("whose stream ends without a word is a failure, not an empty answer", async () => {
    const { MockLanguageModelV4 } = await import("ai/test");
    const model = new MockLanguageModelV4({
      doStream: async () => ({ stream: new ReadableStream({ start: (controller) => controller.close() }) }),
    });
    const faults = { attempts: 1, exhausted: "fail" } as const;
    const run = await makeCrew([agent("a", { model, faults })]).start("a", { prompt: "go" });
    await expect(run.result()).rejects.toMatchObject({ code: "MODEL_FAILED" });
  });

  test("an empty conversation part, NUL, lone surrogates and megabytes in a prompt reach the model as they were given", async () => {
    const model = scripted(() => "read");
    const crew = makeCrew([agent("a", { model })]);
    for (const prompt of ["a\u0000b", "\ud800 alone \udc00", `${"ä".repeat(1_500_000)}!`, "\u2028\ufeff"]) {
      expect(await (await crew.start("a", { prompt })).result()).toBe("read");
      const content = model.doStreamCalls.at(-1)?.prompt.at(-1)?.content ?? [];
      expect(JSON.stringify(content) === JSON.stringify([{ type: "text", text: prompt }])).toBe(true);
    }
  });
});
