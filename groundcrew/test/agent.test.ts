import { once } from "node:events";
import { isStepCount, Output, ToolLoopAgent, type ToolLoopAgentSettings, tool } from "ai";
import { describe, expect, expectTypeOf, test } from "vitest";
import { z } from "zod";
import { agent, type Flow, flow } from "../src/agent.ts";
import { GroundcrewError } from "../src/errors.ts";
import { groundcrew, type Run } from "../src/runtime.ts";
import { escalation } from "../src/tool/escalation.ts";
import { scripted } from "./support/model.ts";

const model = scripted(["hello"]);
const refund = tool({
  inputSchema: z.object({ orderId: z.string(), amount: z.number() }),
  execute: async ({ orderId }) => ({ receipt: orderId }),
});

function refusalOf(define: () => unknown): GroundcrewError {
  try {
    define();
  } catch (error) {
    if (error instanceof GroundcrewError) return error;
    throw new Error(`Not one of ours: ${String(error)}`, { cause: error });
  }
  throw new Error("It was accepted.");
}

/** What types would refuse, as callers without types may write it. */
const untyped = (define: (...args: never[]) => unknown, ...args: unknown[]) => refusalOf(() => define(...(args as never[])));

describe("a definition that cannot work is refused before anything runs, naming field, value and fix", () => {
  test.each<[string, () => GroundcrewError, string, RegExp]>([
    [
      "a policy for a tool that is not there",
      () => untyped(agent, "a", { model, tools: { refund }, policy: { refnud: {} } }),
      "POLICY_INVALID",
      /"refnud".*Its tools are: refund/,
    ],
    [
      "a policy for a name every object inherits",
      () => untyped(agent, "a", { model, tools: { refund }, policy: { toString: {} } }),
      "POLICY_INVALID",
      /"toString"/,
    ],
    [
      "a timeout that is no duration",
      () => untyped(agent, "a", { model, tools: { refund }, policy: { refund: { timeout: "10 parsecs" } } }),
      "DURATION_INVALID",
      /policy\.refund\.timeout.*"10 parsecs".*"30s"/,
    ],
    [
      "a negative timeout",
      () => untyped(agent, "a", { model, tools: { refund }, policy: { refund: { timeout: -1 } } }),
      "DURATION_INVALID",
      /-1/,
    ],
    ["a deadline that is no number", () => untyped(agent, "a", { model, deadline: Number.NaN }), "DURATION_INVALID", /deadline/],
    [
      "an unknown effect",
      () => untyped(agent, "a", { model, tools: { refund }, policy: { refund: { effect: "twice" } } }),
      "POLICY_INVALID",
      /effect.*read, idempotent, keyed, once.*"twice"/,
    ],
    [
      "an unknown policy field",
      () => untyped(agent, "a", { model, tools: { refund }, policy: { refund: { retries: 3 } } }),
      "POLICY_INVALID",
      /retries.*Known fields: effect/,
    ],
    [
      "a policy that is no object",
      () => untyped(agent, "a", { model, tools: { refund }, policy: { refund: "once" } }),
      "POLICY_INVALID",
      /policy\.refund.*"once"/,
    ],
    ["a policy map that is no object", () => untyped(agent, "a", { model, tools: { refund }, policy: "once" }), "POLICY_INVALID", /policy/],
    [
      "a key without keyed",
      () => untyped(agent, "a", { model, tools: { refund }, policy: { refund: { key: () => "k" } } }),
      "POLICY_INVALID",
      /key.*"once".*effect: "keyed"/,
    ],
    [
      "a key that is no function",
      () => untyped(agent, "a", { model, tools: { refund }, policy: { refund: { effect: "keyed", key: "orderId" } } }),
      "POLICY_INVALID",
      /key.*function.*"orderId"/,
    ],
    [
      "a reconcile that is no function",
      () => untyped(agent, "a", { model, tools: { refund }, policy: { refund: { reconcile: true } } }),
      "POLICY_INVALID",
      /reconcile.*function/,
    ],
    [
      "a reconcile for a tool that is simply repeated",
      () => untyped(agent, "a", { model, tools: { refund }, policy: { refund: { effect: "read", reconcile: () => "unknown" } } }),
      "POLICY_INVALID",
      /reconcile.*"read".*effect: "once"/,
    ],
    [
      "a stand-in that people have to agree to: as one it would ask nobody",
      () =>
        untyped(agent, "a", {
          model,
          tools: { refund, pay: refund },
          policy: { refund: { effect: "idempotent", fallback: "pay" }, pay: { approve: () => ({ deny: "never" }), by: "role:finance" } },
        }),
      "POLICY_INVALID",
      /policy\.refund\.fallback.*"pay", which people have to agree to.*ask for "pay" by itself/,
    ],
    [
      "a stand-in that is a question to people",
      () =>
        untyped(agent, "a", {
          model,
          tools: { refund, askHuman: escalation({ to: "role:support" }) },
          policy: { refund: { effect: "read", fallback: "askHuman" } },
        }),
      "POLICY_INVALID",
      /policy\.refund\.fallback.*"askHuman", which is a question to people/,
    ],
    ["no model", () => untyped(agent, "a", {}), "AGENT_INVALID", /model/],
    ["no settings", () => untyped(agent, "a"), "AGENT_INVALID", /settings/],
    [
      "an agent object in place of its settings",
      () => untyped(agent, "a", new ToolLoopAgent({ model })),
      "AGENT_INVALID",
      /settings object.*new ToolLoopAgent/,
    ],
    [
      "a tool without execute",
      () => untyped(agent, "a", { model, tools: { ask: { inputSchema: z.object({}) } } }),
      "AGENT_INVALID",
      /"ask".*execute/,
    ],
    ["a tool that is null", () => untyped(agent, "a", { model, tools: { ask: null } }), "AGENT_INVALID", /tools\.ask.*null/],
    ["tools that are a list", () => untyped(agent, "a", { model, tools: "ask" }), "AGENT_INVALID", /tools/],
    [
      "a gate that would not be enforced",
      () => untyped(agent, "a", { model, toolApproval: { refund: "user-approval" } }),
      "AGENT_INVALID",
      /toolApproval.*Remove/,
    ],
    [
      "a tool's own gate that would not be enforced",
      () => untyped(agent, "a", { model, tools: { refund: { ...refund, needsApproval: true } } }),
      "AGENT_INVALID",
      /refund.*needsApproval/,
    ],
    ["no steps at all", () => untyped(agent, "a", { model, steps: 0 }), "AGENT_INVALID", /steps.*1 to 10000.*0/],
    ["half a step", () => untyped(agent, "a", { model, steps: 1.5 }), "AGENT_INVALID", /1\.5/],
    ["an empty name", () => untyped(agent, "", { model }), "AGENT_INVALID", /""/],
    ["a name with a line break", () => untyped(agent, "a\nb", { model }), "AGENT_INVALID", /agent name/],
    ["a name that is no text", () => untyped(agent, 7, { model }), "AGENT_INVALID", /7/],
    ["a flow without a body", () => untyped(flow, "f"), "AGENT_INVALID", /flow "f".*function/],
    ["a flow's deadline beyond ten years", () => untyped(flow, "f", async () => {}, { deadline: "11y" }), "DURATION_INVALID", /11y/],
    ["a flow's empty name", () => untyped(flow, "", async () => {}), "AGENT_INVALID", /flow name/],
    [
      "two agents of one name",
      () => untyped(groundcrew, { agents: [agent("a", { model }), flow("a", async () => 1)] }),
      "AGENT_DUPLICATE",
      /"a"/,
    ],
    ["agents that are no list", () => untyped(groundcrew, { agents: {} }), "CONFIG_INVALID", /agents/],
    ["no options", () => untyped(groundcrew), "CONFIG_INVALID", /options|agents/],
    [
      "an AI SDK agent among the agents",
      () => untyped(groundcrew, { agents: [new ToolLoopAgent({ model })] }),
      "CONFIG_INVALID",
      /agent\(\)/,
    ],
    ["a look-alike among the agents", () => untyped(groundcrew, { agents: [{ name: "a" }] }), "CONFIG_INVALID", /agent\(\)/],
    ["an option that does not exist", () => untyped(groundcrew, { agents: [], stroe: "x" }), "CONFIG_INVALID", /stroe.*store/],
    ["a store that is a number", () => untyped(groundcrew, { agents: [], store: 5 }), "CONFIG_INVALID", /store.*5/],
    [
      "a retention that does not parse",
      () => untyped(groundcrew, { agents: [], retention: { runs: "long" } }),
      "DURATION_INVALID",
      /retention\.runs.*"long"/,
    ],
    [
      "a retention of something unknown",
      () => untyped(groundcrew, { agents: [], retention: { run: "1d" } }),
      "CONFIG_INVALID",
      /retention\.run.*runs, sessions, chunks/,
    ],
    ["limits that are no object", () => untyped(agent, "a", { model, limits: 5 }), "AGENT_INVALID", /agent "a"\.limits.*concurrency.*5/],
    [
      "a limit that does not exist",
      () => untyped(agent, "a", { model, limits: { concurency: 5 } }),
      "AGENT_INVALID",
      /limits\.concurency.*concurrency, rate/,
    ],
    [
      "a concurrency of none",
      () => untyped(agent, "a", { model, limits: { concurrency: 0 } }),
      "AGENT_INVALID",
      /limits\.concurrency.*from 1.*0/,
    ],
    ["half a place", () => untyped(flow, "f", async () => 1, { limits: { concurrency: 1.5 } }), "AGENT_INVALID", /flow "f"\.limits.*1\.5/],
    [
      "a rate that is a number",
      () => untyped(agent, "a", { model, limits: { rate: 100 } }),
      "AGENT_INVALID",
      /limits\.rate.*runs.*per.*100/,
    ],
    ["a rate of nothing", () => untyped(agent, "a", { model, limits: { rate: { runs: 0, per: "1m" } } }), "AGENT_INVALID", /rate\.runs.*0/],
    ["a rate without a time", () => untyped(agent, "a", { model, limits: { rate: { runs: 1 } } }), "DURATION_INVALID", /limits\.rate\.per/],
    ["a rate per no time", () => untyped(agent, "a", { model, limits: { rate: { runs: 1, per: 0 } } }), "AGENT_INVALID", /rate\.per.*0/],
    ["limits of tenants that are none", () => untyped(groundcrew, { agents: [], tenants: "all" }), "CONFIG_INVALID", /tenants.*"all"/],
    [
      "a concurrency of tenants below zero",
      () => untyped(groundcrew, { agents: [], tenants: { concurrency: -1 } }),
      "CONFIG_INVALID",
      /tenants\.concurrency.*-1/,
    ],
    ["no concurrency", () => untyped(groundcrew, { agents: [], worker: { concurrency: 0 } }), "CONFIG_INVALID", /concurrency.*0/],
    ["a lease too short to keep", () => untyped(groundcrew, { agents: [], worker: { lease: 0 } }), "CONFIG_INVALID", /lease/],
    ["a class registered twice", () => untyped(groundcrew, { agents: [], classes: [codecOf("U"), codecOf("U")] }), "CONFIG_INVALID", /U/],
  ])("%s", (_what, define, code, says) => {
    const error = define();
    expect(error.code).toBe(code);
    expect(error.message).toMatch(says);
  });

  const codecOf = (name: string) => ({ name, class: class {}, encode: () => 0, decode: () => ({}) });

  test("a definition refused leaves nothing behind: the mended one is accepted", () => {
    untyped(agent, "a", { model, tools: { refund }, policy: { refund: { effect: "keyed", key: 1 } } });
    expect(agent("a", { model, tools: { refund }, policy: { refund: { effect: "keyed", key: ({ orderId }) => orderId } } }).name).toBe("a");
  });
});

describe("what a definition says is taken as it is", () => {
  test("an agent always has a step cap and a deadline", () => {
    const plain = agent("a", { model });
    expect(plain.steps).toBe(20);
    expect(plain.deadlineMs).toBeGreaterThan(0);
    expect(flow("f", async () => 1).deadlineMs).toBeGreaterThan(0);
  });

  test("the settings of a ToolLoopAgent are accepted as they are, and are not changed", () => {
    const settings = { model, instructions: "be kind", tools: { refund }, stopWhen: isStepCount(3), temperature: 0 };
    const before = { ...settings };
    const taken = agent("a", settings);
    expect(settings).toEqual(before);
    expect(taken.settings).toMatchObject({ instructions: "be kind", temperature: 0 });
    expect(taken.settings.stopWhen).toBe(settings.stopWhen);
    expect(new ToolLoopAgent(settings)).toBeInstanceOf(ToolLoopAgent);
  });

  test("limits are the runtime's own and not a setting of the model", () => {
    const taken = agent("a", { model, limits: { concurrency: 2, rate: { runs: 10, per: "1m" } } });
    expect(taken.limits).toEqual({ concurrency: 2, rate: { runs: 10, perMs: 60_000 } });
    expect(taken.settings).not.toHaveProperty("limits");
    expect(flow("f", async () => 1, { limits: { rate: { runs: 1, per: 500 } } }).limits).toEqual({ rate: { runs: 1, perMs: 500 } });
    expect(flow("f", async () => 1).limits).toBeUndefined();
  });

  test("a tool without a policy happens once; no policy is inherited from a name that every object has", () => {
    const named = agent("a", { model, tools: { constructor: refund, valueOf: refund } });
    expect(named.policy.get("constructor")).toMatchObject({ effect: "once" });
    expect(named.policy.get("valueOf")).toMatchObject({ effect: "once", key: undefined });
  });

  test("settings that have no meaning in a durable loop are named, not swallowed", () => {
    expect(agent("a", { model, onFinish: () => {} }).ignored).toEqual(["onFinish"]);
    expect(agent("a", { model }).ignored).toEqual([]);
  });

  test("a definition cannot be changed after it was checked", () => {
    const frozen = agent("a", { model }) as { steps: number };
    expect(() => {
      frozen.steps = 1_000_000;
    }).toThrow(TypeError);
  });
});

describe("types flow from what the author wrote", () => {
  test("a tool's input types its policy callbacks", () => {
    agent("a", {
      model,
      tools: { refund },
      policy: {
        refund: {
          effect: "keyed",
          key: (input) => {
            expectTypeOf(input).toEqualTypeOf<{ orderId: string; amount: number }>();
            return input.orderId;
          },
        },
      },
    });
    agent("b", {
      model,
      tools: { refund },
      policy: {
        refund: {
          reconcile: (input, call) => {
            expectTypeOf(input).toEqualTypeOf<{ orderId: string; amount: number }>();
            expectTypeOf(call.signal).toEqualTypeOf<AbortSignal>();
            return { happened: true, result: { receipt: input.orderId } };
          },
        },
      },
    });
    // @ts-expect-error a policy for a tool that is not there
    untyped(() => agent("c", { model, tools: { refund }, policy: { refnud: {} } }));
    // @ts-expect-error a result that the tool could not have given
    agent("d", { model, tools: { refund }, policy: { refund: { reconcile: () => ({ happened: true, result: { receipt: 7 } }) } } });
  });

  test("settings with the AI SDK's own annotation are taken as they are", () => {
    const plain: ToolLoopAgentSettings = { model };
    const tools = { refund };
    const withTools: ToolLoopAgentSettings<never, typeof tools> = { model, tools };
    expectTypeOf<NonNullable<ReturnType<typeof taken>["output"]>>().toEqualTypeOf<string>();
    function taken() {
      return agent("a", plain);
    }
    taken();
    agent("a", { ...withTools, policy: { refund: { effect: "keyed", key: (input) => input.orderId } } });
  });

  test("callbacks around a whole call, which a durable run has not, are named at once", async () => {
    const warned = once(process, "warning");
    expect(agent("a", { model, onFinish: () => {} }).ignored).toEqual(["onFinish"]);
    const [warning] = (await warned) as [Error];
    expect(warning.message).toMatch(/"a" sets onFinish.*events/);
  });

  test("a run's output is text, or what the agent's output schema says", () => {
    const text = agent("a", { model });
    expectTypeOf<NonNullable<typeof text.output>>().toEqualTypeOf<string>();
    const typed = agent("b", { model, output: Output.object({ schema: z.object({ total: z.number() }) }) });
    expectTypeOf<NonNullable<typeof typed.output>>().toEqualTypeOf<{ total: number }>();
    const crew = groundcrew({ agents: [text, typed], worker: false });
    expectTypeOf(() => crew.start(text, { prompt: "x" })).returns.resolves.toEqualTypeOf<Run<string>>();
    expectTypeOf(() => crew.start(typed, { prompt: "x" })).returns.resolves.toEqualTypeOf<Run<{ total: number }>>();
  });

  test("a flow's input and output are those of its function", () => {
    const sum = flow("sum", async (_ctx, input: { a: number; b: number }) => ({ total: input.a + input.b }));
    expectTypeOf(sum).toEqualTypeOf<Flow<{ a: number; b: number }, { total: number }>>();
    const crew = groundcrew({ agents: [sum], worker: false });
    expectTypeOf(() => crew.start(sum, { input: { a: 1, b: 2 } })).returns.resolves.toEqualTypeOf<Run<{ total: number }>>();
    // @ts-expect-error the input lacks a field
    expectTypeOf(() => crew.start(sum, { input: { a: 1 } })).toBeFunction();
    flow("outer", async (ctx) => {
      expectTypeOf(await ctx.call(sum, { input: { a: 1, b: 2 } })).toEqualTypeOf<{ total: number }>();
      expectTypeOf(await ctx.step("s", () => 1n)).toEqualTypeOf<bigint>();
      expectTypeOf(await ctx.all([ctx.step("a", () => "a"), ctx.step("b", () => 1)])).toEqualTypeOf<[string, number]>();
    });
  });
});
