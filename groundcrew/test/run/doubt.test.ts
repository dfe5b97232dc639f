/** G3: a step whose outcome nobody saw is neither repeated nor skipped in silence. */
import { tool } from "ai";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { agent, flow, type StepOptions } from "../../src/agent.ts";
import type { Run } from "../../src/runtime.ts";
import { gate, makeCrew, reaches, tempStore } from "../support/crew.ts";
import { call, results, scripted } from "../support/model.ts";
import { until } from "../support/until.ts";

const TIMEOUT = 30;

/** An effect that is given up, and heeds it. */
function untilAborted(signal: AbortSignal | undefined): Promise<string> {
  return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
}

/** A flow whose one step takes too long at its first try. */
async function inDoubt(options: StepOptions<unknown> = {}) {
  const tries: string[] = [];
  const crew = makeCrew([
    flow("f", async (ctx) => ({
      got: await ctx.step("pay", { timeout: TIMEOUT, ...options }, ({ key, attempt, signal }) => {
        tries.push(key);
        return attempt === 1 ? untilAborted(signal) : "paid on the second try";
      }),
    })),
  ]);
  return { crew, tries, run: await crew.start("f", { input: null }) };
}

describe("a `reconcile` hook", () => {
  test("that knows it happened, and what came of it, lets the run go on; nothing runs twice", async () => {
    const { run, tries } = await inDoubt({ reconcile: () => ({ happened: true, result: { receipt: 7n } }) });
    expect(await run.result()).toEqual({ got: { receipt: 7n } });
    expect(tries).toHaveLength(1);
  });

  test("that knows it happened and no more gives no value, and nothing runs twice", async () => {
    const { run, tries } = await inDoubt({ reconcile: () => ({ happened: true }) });
    expect(await run.result()).toEqual({ got: undefined });
    expect(tries).toHaveLength(1);
  });

  test("that knows it did not happen lets it run again, with the same key", async () => {
    const { run, tries } = await inDoubt({ reconcile: () => ({ happened: false }) });
    expect(await run.result()).toEqual({ got: "paid on the second try" });
    expect(tries).toHaveLength(2);
    expect(tries[0]).toBe(tries[1]);
  });

  test("that says it did not happen is not believed while the effect is still at work in this process", async () => {
    const work = gate();
    let tries = 0;
    const crew = makeCrew([
      flow("f", async (ctx) =>
        ctx.step("pay", { timeout: TIMEOUT, reconcile: () => ({ happened: false }) }, async () => {
          tries++;
          await work.opened;
        }),
      ),
    ]);
    const run = await crew.start("f", { input: null });
    await reaches(run, "unknown_outcome");
    expect((await run.view()).summary).toMatch(/still at work/);
    expect(tries).toBe(1);
    work.open();
  });

  test("is given the key that the step was given", async () => {
    const asked: string[] = [];
    const { run, tries } = await inDoubt({
      reconcile: ({ key }) => {
        asked.push(key);
        return { happened: true };
      },
    });
    await run.result();
    expect(asked).toEqual(tries);
  });

  test.each<[string, () => unknown]>([
    ["does not know", () => "unknown"],
    [
      "throws",
      () => {
        throw new Error("provider is down");
      },
    ],
    [
      "throws nothing that is an Error",
      () => {
        throw null;
      },
    ],
    ["answers nothing", () => undefined],
    ["answers null", () => null],
    ["answers an empty object", () => ({})],
    ["answers a text that is no answer", () => "happened"],
    ["answers true", () => true],
    ["answers with a text where a fact belongs", () => ({ happened: "no" })],
    ["answers with what cannot be kept", () => ({ happened: true, result: () => {} })],
  ])("that %s leaves the question to a person: nothing is repeated on a guess, and the run does not fail", async (_what, reconcile) => {
    const { run, tries } = await inDoubt({ reconcile: reconcile as never });
    const view = await reaches(run, "unknown_outcome", "succeeded", "failed");
    expect(view.reason).toBe("unknown_outcome");
    expect(tries).toHaveLength(1);
    await run.resolve("pay", { resolution: "happened", result: "by hand" });
    expect(await run.result()).toEqual({ got: "by hand" });
    expect(tries).toHaveLength(1);
  });

  test("that answers while a person answers too: one of them counts, and nothing runs twice", async () => {
    const hook = gate<{ happened: true; result: string }>();
    let asked = 0;
    const { run, tries } = await inDoubt({
      reconcile: () => {
        asked++;
        return hook.opened as never;
      },
    });
    await until("the hook is asked", () => asked === 1);
    await run.resolve("pay", { resolution: "happened", result: "by hand" });
    await until("the answer has arrived", async () => (await run.journal()).some(({ type }) => type === "step.resolved"));
    hook.open({ happened: true, result: "by hook" });
    expect(await run.result()).toEqual({ got: "by hand" });
    expect(tries).toHaveLength(1);
    expect((await run.journal()).filter(({ type }) => type === "step.resolved")).toHaveLength(1);
  });

  test("that hangs does not keep a cancelled run alive", async () => {
    let asked = 0;
    const { run } = await inDoubt({
      reconcile: () => {
        asked++;
        return new Promise(() => {}) as never;
      },
    });
    await until("the hook is asked", () => asked === 1);
    await run.cancel("enough");
    await expect(run.result()).rejects.toMatchObject({ code: "RUN_CANCELLED" });
  });
});

describe("a person", () => {
  const steps: [string, Parameters<Run["resolve"]>[1], unknown, number][] = [
    ["that it happened", { resolution: "happened" }, undefined, 1],
    ["that it happened, and what came of it", { resolution: "happened", result: { receipt: new Date(0) } }, { receipt: new Date(0) }, 1],
    ["that it did not happen", { resolution: "did_not_happen" }, "paid on the second try", 2],
  ];
  test.each(steps)("says %s", async (_what, answer, got, tries) => {
    const doubt = await inDoubt();
    await reaches(doubt.run, "unknown_outcome");
    await doubt.run.resolve("pay", { ...answer, by: "olga" });
    expect(await doubt.run.result()).toEqual({ got });
    expect(doubt.tries).toHaveLength(tries);
    expect(await doubt.run.journal()).toContainEqual(expect.objectContaining({ type: "step.resolved", by: "olga" }));
  });

  test("who answers for a step that is not there, is not in doubt, or of a run that is over, is told so", async () => {
    const { run } = await inDoubt();
    await reaches(run, "unknown_outcome");
    await expect(run.resolve("other", { resolution: "happened" })).rejects.toMatchObject({
      code: "STEP_NOT_FOUND",
      message: expect.stringMatching(/Steps in doubt: pay/),
    });
    await run.resolve("pay", { resolution: "happened" });
    await run.result();
    await expect(run.resolve("pay", { resolution: "happened" })).rejects.toMatchObject({ code: "STEP_NOT_UNKNOWN" });
  });

  test("who answers what is no answer is refused, and nothing is repeated", async () => {
    const { run, tries } = await inDoubt();
    await reaches(run, "unknown_outcome");
    for (const resolution of ["maybe", undefined, null, true]) {
      await expect(run.resolve("pay", { resolution: resolution as never })).rejects.toMatchObject({ code: "INPUT_INVALID" });
    }
    await expect(run.resolve("pay", { resolution: "did_not_happen", result: 1 })).rejects.toMatchObject({ code: "INPUT_INVALID" });
    await expect(run.resolve("pay", { resolution: "happened", result: () => {} })).rejects.toMatchObject({ code: "VALUE_UNSERIALIZABLE" });
    await expect(run.resolve("pay", { resolution: "happened", result: "x".repeat(1_000_000) })).rejects.toMatchObject({
      code: "LIMIT_EXCEEDED",
    });
    expect((await run.view()).reason).toBe("unknown_outcome");
    expect(tries).toHaveLength(1);
  });

  test("two people who answer differently at once: one is taken, the other is told that it was not", async () => {
    const { run, tries } = await inDoubt();
    await reaches(run, "unknown_outcome");
    const answers = await Promise.allSettled([
      run.resolve("pay", { resolution: "happened", result: "one" }),
      run.resolve("pay", { resolution: "did_not_happen" }),
    ]);
    const refused = answers.filter((answer) => answer.status === "rejected");
    expect(refused).toHaveLength(1);
    expect(refused[0]?.reason).toMatchObject({ code: "STEP_NOT_UNKNOWN" });
    const taken = answers[0]?.status === "fulfilled";
    expect(await run.result()).toEqual({ got: taken ? "one" : "paid on the second try" });
    expect(tries).toHaveLength(taken ? 1 : 2);
  });

  test("says that it did not happen, and the second try is in doubt too: it is asked again, never assumed", async () => {
    let tries = 0;
    const crew = makeCrew([
      flow("f", async (ctx) =>
        ctx.step("pay", { timeout: TIMEOUT }, () => {
          tries++;
          return new Promise(() => {});
        }),
      ),
    ]);
    const run = await crew.start("f", { input: null });
    for (let n = 1; n <= 3; n++) {
      await until(`try ${n} is in doubt`, async () =>
        (await run.view()).current.some((step) => step.attempt === n && step.status === "unknown"),
      );
      await run.resolve("pay", { resolution: n < 3 ? "did_not_happen" : "happened" });
    }
    await run.result();
    expect(tries).toBe(3);
  });
});

describe("a tool in doubt", () => {
  test("among others: they end, the model is asked nothing until the doubt is over, and then sees every result in order", async () => {
    const ran: string[] = [];
    const model = scripted([{ calls: [call("pay", {}, "p"), call("look", {}, "l")] }, "done"]);
    const crew = makeCrew([
      agent("a", {
        model,
        tools: {
          pay: tool({
            inputSchema: z.object({}),
            execute: () => {
              ran.push("pay");
              return new Promise<string>(() => {});
            },
          }),
          look: tool({
            inputSchema: z.object({}),
            execute: async () => {
              ran.push("look");
              return "seen";
            },
          }),
        },
        policy: { pay: { timeout: TIMEOUT }, look: { effect: "read" } },
      }),
    ]);
    const run = await crew.start("a", { prompt: "go" });
    await reaches(run, "unknown_outcome");
    expect(model.doStreamCalls).toHaveLength(1);
    await run.resolve("tool:p", { resolution: "happened" });
    expect(await run.result()).toBe("done");
    expect(ran.sort()).toEqual(["look", "pay"]);
    const told = results(model.doStreamCalls[1]?.prompt ?? []);
    expect(Object.keys(told)).toEqual(["p", "l"]);
    expect(String(told["p"]?.value)).toMatch(/took effect.*do not repeat/);
  });

  test("is found out by its hook, which sees the model's arguments and cannot change them", async () => {
    const seen: unknown[] = [];
    const model = scripted([{ calls: [call("pay", { amount: 3 }, "p")] }, "done"]);
    const crew = makeCrew([
      agent("a", {
        model,
        tools: {
          pay: tool({ inputSchema: z.object({ amount: z.number() }), execute: (_input, { abortSignal }) => untilAborted(abortSignal) }),
        },
        policy: {
          pay: {
            timeout: TIMEOUT,
            reconcile: (input) => {
              seen.push({ ...input });
              input.amount = 0;
              return { happened: true, result: "receipt 3" };
            },
          },
        },
      }),
    ]);
    await (await crew.start("a", { prompt: "go" })).result();
    expect(seen).toEqual([{ amount: 3 }]);
    expect(JSON.stringify(model.doStreamCalls[1]?.prompt)).toContain('{"amount":3}');
    expect(results(model.doStreamCalls[1]?.prompt ?? [])["p"]?.value).toBe("receipt 3");
  });
});

describe("a cancel while a step is in flight", () => {
  test("of a step that heeds its signal and says what became of it: that is recorded", async () => {
    const began = gate();
    const crew = makeCrew([
      flow("f", async (ctx) =>
        ctx.step("send", async ({ signal }) => {
          began.open();
          await new Promise((resolve) => signal.addEventListener("abort", resolve));
          return "half sent";
        }),
      ),
    ]);
    const run = await crew.start("f", { input: null });
    await began.opened;
    await run.cancel("stop");
    await expect(run.result()).rejects.toMatchObject({ code: "RUN_CANCELLED", message: expect.stringContaining("stop") });
    expect(await run.journal()).toContainEqual(expect.objectContaining({ type: "step.succeeded", step: "send", value: "half sent" }));
  });

  test("of a `once` step that fails because of it: its outcome is called unknown, not failed", async () => {
    const began = gate();
    const crew = makeCrew([
      flow("f", async (ctx) =>
        ctx.step(
          "send",
          ({ signal }) =>
            new Promise((_resolve, reject) => {
              began.open();
              signal.addEventListener("abort", () => reject(signal.reason));
            }),
        ),
      ),
    ]);
    const run = await crew.start("f", { input: null });
    await began.opened;
    await run.cancel();
    await expect(run.result()).rejects.toMatchObject({ code: "RUN_CANCELLED" });
    expect(await run.journal()).toContainEqual(expect.objectContaining({ type: "step.unknown", step: "send" }));
  });

  test("of a read that ignores it: the run ends without waiting for it", async () => {
    const began = gate();
    const crew = makeCrew([
      flow("f", async (ctx) =>
        ctx.step("look", { effect: "read" }, () => {
          began.open();
          return new Promise(() => {});
        }),
      ),
    ]);
    const run = await crew.start("f", { input: null });
    await began.opened;
    const asked = performance.now();
    await run.cancel();
    await expect(run.result()).rejects.toMatchObject({ code: "RUN_CANCELLED" });
    expect(performance.now() - asked).toBeLessThan(3_000);
  });

  test("of a tool of an agent: no further step begins, and the model is not asked again", async () => {
    const began = gate();
    const model = scripted([{ calls: [call("look", {})] }, "never"]);
    const look = tool({
      inputSchema: z.object({}),
      execute: (_input, { abortSignal }) => {
        began.open();
        return new Promise<string>((resolve) => abortSignal?.addEventListener("abort", () => resolve("late")));
      },
    });
    const crew = makeCrew([agent("a", { model, tools: { look }, policy: { look: { effect: "read" } } })]);
    const run = await crew.start("a", { prompt: "go" });
    await began.opened;
    await run.cancel();
    await expect(run.result()).rejects.toMatchObject({ code: "RUN_CANCELLED" });
    expect(model.doStreamCalls).toHaveLength(1);
  });
});

test("a step that runs no matter how often the run is looked at again runs once", async () => {
  const store = tempStore();
  let ran = 0;
  const crew = makeCrew(
    [
      flow("f", async (ctx) => {
        await ctx.step("pay", () => ran++);
        await ctx.waitFor("go");
        await ctx.waitFor("go");
        return ran;
      }),
    ],
    { store },
  );
  const run = await crew.start("f", { input: null });
  for (let n = 0; n < 5; n++) {
    await reaches(run, "signal");
    await run.retry();
  }
  await run.signal("go");
  await run.signal("go");
  expect(await run.result()).toBe(1);
});
