/** Tools that fail: what the model is told, what the run becomes, what the user sees; and that nothing is done twice. */
import { tool } from "ai";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { agent } from "../../src/agent.ts";
import { callOrUndefined, currentCall } from "../../src/call.ts";
import { MAX_BACKOFF_MS } from "../../src/limits.ts";
import type { EventOf } from "../../src/persistence/event.ts";
import type { ToolPolicy } from "../../src/policy.ts";
import type { CrewOptions, Run } from "../../src/runtime.ts";
import { openSqlite } from "../../src/sqlite/open.ts";
import { uiFrames } from "../../src/stream/ui-frame.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { gate, makeCrew, reaches, tempStore } from "../support/crew.ts";
import { call, refusal, results, scripted } from "../support/model.ts";
import { until } from "../support/until.ts";

const inputSchema = z.object({}).loose();
const down = () => {
  throw refusal(400);
};

type Execute = (input: object) => unknown;

/** An agent that calls `search` and then answers. */
function finder(execute: Execute, policy: ToolPolicy, more: { faults?: object; tools?: Record<string, Execute>; timeout?: object } = {}) {
  const model = scripted([{ calls: [call("search", { q: "x" })] }, "The answer.", "Another answer."]);
  const given = Object.entries({ search: execute, ...more.tools });
  const tools = Object.fromEntries(given.map(([name, act]) => [name, tool({ inputSchema, execute: async (input) => act(input) })]));
  const definition = agent("finder", {
    model,
    tools,
    policy: { search: policy as never },
    ...(more.faults && { faults: more.faults }),
    ...(more.timeout && { timeout: more.timeout }),
  });
  const told = (n = 1) => results(model.doStreamCalls[n]?.prompt ?? [])["call-search"];
  return { definition, model, told };
}

async function found(f: ReturnType<typeof finder>, options: Partial<CrewOptions> = {}) {
  const crew = makeCrew([f.definition], options);
  return { ...f, crew, run: await crew.start("finder", { prompt: "Find it." }) };
}

async function eventsOf<T extends string>(run: Run<unknown>, type: T) {
  return (await run.journal()).filter((event) => event.type === type) as unknown as EventOf<T & "step.started">[];
}

/** Waits for the run in ticks of a clock that is the test's. */
async function drive(clock: FakeClock, isOver: () => Promise<unknown> | unknown, ms = 100): Promise<void> {
  await until("it is over", async () => {
    clock.jump(ms);
    return isOver();
  });
}

async function streamOf(run: Run<unknown>): Promise<string> {
  let text = "";
  for await (const { chunk } of uiFrames(run.events(), run.id)) text += JSON.stringify(chunk);
  return text;
}

describe("a tool that is down", () => {
  test("and optional: the model is told in a structure, the run goes on, and status and stream say what is missing", async () => {
    const { run, told } = await found(finder(down, { effect: "read", optional: true }));
    expect(await run.result()).toBe("The answer.");
    expect(told()).toEqual({
      type: "json",
      value: { unavailable: true, tool: "search", reason: "invalid_request", message: "refused with 400" },
    });
    expect(await eventsOf(run, "step.degraded")).toMatchObject([{ step: "tool:call-search", name: "search", reason: "invalid_request" }]);
    expect(await run.view()).toMatchObject({ summary: "Done, without search.", degraded: [{ name: "search" }] });
    const stream = await streamOf(run);
    expect(stream).toContain("Going on without search.");
    expect(stream).toContain('"degraded":[{"name":"search"}]');
  });

  test("and not said to be either: the model reads its error, and nothing counts as missing", async () => {
    const { run, told } = await found(finder(down, { effect: "read" }));
    expect(await run.result()).toBe("The answer.");
    expect(told()).toMatchObject({ type: "error-text", value: expect.stringContaining("refused with 400") });
    expect((await run.view()).degraded).toEqual([]);
    expect(await eventsOf(run, "step.degraded")).toEqual([]);
  });

  test("and required: the run waits for somebody; after `retry` it goes on with nothing else repeated", async () => {
    let isUp = false;
    let counted = 0;
    const f = finder(() => (isUp ? "found" : down()), { effect: "read", optional: false }, { tools: { count: () => ++counted } });
    const { run, model, told } = await found(f);
    expect(await reaches(run, "attention")).toMatchObject({ code: "RETRIES_EXHAUSTED", dueAt: null });
    expect(model.doStreamCalls).toHaveLength(1);
    isUp = true;
    await run.retry();
    expect(await run.result()).toBe("The answer.");
    expect(told()).toMatchObject({ value: "found" });
    expect(model.doStreamCalls).toHaveLength(2);
    const tries = await eventsOf(run, "step.started");
    expect(tries.filter(({ kind }) => kind === "tool").map(({ attempt }) => attempt)).toEqual([1, 2]);
  });

  test("and required, where the author wants no waiting: the run fails, and the model is not asked again", async () => {
    const { run, model } = await found(finder(down, { effect: "read", optional: false }, { faults: { exhausted: "fail" } }));
    await expect(run.result()).rejects.toMatchObject({ message: expect.stringContaining("refused with 400") });
    expect(await run.view()).toMatchObject({ status: "failed" });
    expect(model.doStreamCalls).toHaveLength(1);
  });

  test("and required, in a run whose worker dies between the step's failure and the run's end: it fails all the same", async () => {
    const path = tempStore();
    const store = await openSqlite(path);
    const { append } = store;
    // The process is gone after the step's failure: what it would have written of the run's end is not taken.
    let isDead = false;
    const dying = new Proxy(store, {
      get: (target, name) => {
        if (name !== "append") {
          const member: unknown = Reflect.get(target, name);
          return typeof member === "function" ? member.bind(target) : member;
        }
        return async (what: Parameters<typeof append>[0]) => {
          if (isDead) return new Promise(() => {});
          isDead = what.events.some((event) => event.type === "step.failed");
          return append.call(store, what);
        };
      },
    });
    const options = { effect: "read", optional: false } as const;
    const first = finder(down, options, { faults: { exhausted: "fail" } });
    const crew = makeCrew([first.definition], { store: dying, worker: { lease: 300 } });
    const started = await crew.start("finder", { prompt: "Find it." });
    await until("the step has failed", () => isDead);
    await store.close();

    const second = finder(() => "up again", options, { faults: { exhausted: "fail" } });
    const next = makeCrew([second.definition], { store: path });
    await next.work();
    const run = await next.run(started.id);
    await expect(run.result()).rejects.toMatchObject({ message: expect.stringContaining("refused with 400") });
    expect(second.model.doStreamCalls).toHaveLength(0);
    expect((await eventsOf(run, "step.started")).filter(({ kind }) => kind === "tool")).toHaveLength(1);
  });

  test.each<[string, ToolPolicy["fallback"], string]>([
    ["another tool", "archive", "archive"],
    ["a function", () => "from a function", "a stand-in"],
  ])("is stood in for by %s: the model reads that, and the call counts as degraded", async (_what, fallback, instead) => {
    const given: object[] = [];
    const archive = (input: object) => {
      given.push(input);
      return "from the archive";
    };
    const { run, told } = await found(
      finder(down, { effect: "read", optional: false, fallback: fallback as never }, { tools: { archive } }),
    );
    expect(await run.result()).toBe("The answer.");
    expect(told()).toMatchObject({ value: expect.stringMatching(/^from/) });
    if (typeof fallback === "string") expect(given).toEqual([{ q: "x" }]);
    expect((await run.view()).degraded).toEqual([{ name: "search", reason: "invalid_request", instead }]);
    expect(await streamOf(run)).toContain(`with ${instead} instead of search`);
  });

  test("and whose stand-in is down as well is without an answer, and the run goes on without it", async () => {
    const { run, told } = await found(finder(down, { effect: "read", optional: true, fallback: down as never }));
    expect(await run.result()).toBe("The answer.");
    expect(told()).toMatchObject({ value: { unavailable: true, tool: "search" } });
    expect((await run.view()).degraded).toEqual([{ name: "search", reason: "invalid_request" }]);
  });

  test("for a moment is tried again with the same key, three times at most, each after its back-off", async () => {
    const clock = new FakeClock();
    const tries: { at: number; key: string; attempt: number }[] = [];
    const busy = () => {
      const { key, attempt } = currentCall();
      tries.push({ at: clock.now(), key, attempt });
      throw refusal(503);
    };
    const store = await openSqlite(tempStore(), { clock });
    const { run, told } = await found(finder(busy, { effect: "read", optional: true }), { store, clock, worker: { lease: "1d" } });
    await drive(clock, async () => (await run.row()).status === "succeeded");
    expect(tries.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    expect(new Set(tries.map(({ key }) => key)).size).toBe(1);
    expect(told()).toMatchObject({ value: { unavailable: true, reason: "overloaded" } });
    expect((tries[2]?.at ?? 0) - (tries[0]?.at ?? 0)).toBeLessThan(MAX_BACKOFF_MS);
  });

  test("so often that its breaker is open is not called any more, and the model is told so", async () => {
    let calls = 0;
    const busy = (): string => {
      calls++;
      throw refusal(503);
    };
    const searching = agent("searching", {
      model: scripted(({ n }) => (n % 2 === 1 ? { calls: [call("search", {}, `call-${n}`)] } : "Without it, then.")),
      tools: { search: tool({ inputSchema, execute: async () => busy() }) },
      policy: { search: { effect: "read", attempts: 1 } },
    });
    const crew = makeCrew([searching]);
    for (let n = 1; n <= 5; n++) await (await crew.start(searching, { prompt: "x" })).result();
    expect(calls).toBe(5);
    const run = await crew.start(searching, { prompt: "x" });
    expect(await run.result()).toBe("Without it, then.");
    expect(calls).toBe(5);
    const [failed] = await eventsOf(run, "step.failed");
    expect(failed).toMatchObject({ failure: { reason: "unavailable" }, error: { message: expect.stringContaining("was not asked") } });
  });
});

describe("a `once` tool whose response is lost", () => {
  /** It acts, and its answer never comes. */
  function lost(policy: ToolPolicy = {}) {
    const acted: string[] = [];
    const looked: string[] = [];
    const act = () => {
      acted.push(currentCall().key);
      return new Promise(() => {});
    };
    const f = finder(act, { effect: "once", timeout: 30, ...policy }, { tools: { look: () => looked.push("looked") } });
    const doStream = f.model.doStream;
    let asked = 0;
    f.model.doStream = async (options) => {
      asked++;
      return doStream(options);
    };
    return { f, acted, looked, asked: () => asked };
  }

  test("is called once, is unknown, and its `reconcile` hook finds out", async () => {
    const keys: string[] = [];
    const { f, acted, asked } = lost({
      reconcile: (_input, { key }) => {
        keys.push(key);
        return { happened: true, result: "found out" };
      },
    });
    // The hook is not asked before the call is over, or has had its moment: five seconds of the test's time.
    const clock = new FakeClock();
    const store = await openSqlite(tempStore(), { clock });
    const { run, told } = await found(f, { store, clock, worker: { lease: "1d" } });
    await drive(clock, async () => (await run.row()).status === "succeeded");
    expect(told()).toMatchObject({ value: "found out" });
    expect(acted).toHaveLength(1);
    expect(keys).toEqual(acted);
    expect(asked()).toBe(2);
    const types = (await run.journal()).map(({ type }) => type);
    expect(types.filter((type) => type === "step.unknown" || type === "step.resolved")).toEqual(["step.unknown", "step.resolved"]);
    expect(types).not.toContain("step.failed");
  });

  test("is called once, is reported as unknown, and a person says what became of it; nothing else is repeated", async () => {
    const { f, acted, asked } = lost();
    const { run, told } = await found(f);
    expect(await reaches(run, "unknown_outcome")).toMatchObject({ status: "parked", dueAt: null });
    await run.retry(); // says nothing about what happened, and repeats nothing
    await reaches(run, "unknown_outcome");
    await run.resolve("tool:call-search", { resolution: "happened", result: "I have seen it" });
    expect(await run.result()).toBe("The answer.");
    expect(told()).toMatchObject({ value: "I have seen it" });
    expect(acted).toHaveLength(1);
    expect(asked()).toBe(2);
  });
});

describe("a tool that throws", () => {
  test.each<[string, unknown]>([
    ["a text", "just a text"],
    ["null", null],
    ["undefined", undefined],
    ["an object", { code: 42 }],
    ["an object that cannot be looked at", Object.create(null)],
    ["a number", 0],
  ])("%s is an answer for the model, and not the end of the run", async (_what, thrown) => {
    const throwing = () => {
      throw thrown;
    };
    const { run, told } = await found(finder(throwing, { effect: "read" }));
    expect(await run.result()).toBe("The answer.");
    expect(told()).toMatchObject({ type: "error-text", value: expect.any(String) });
    expect(await eventsOf(run, "step.failed")).toMatchObject([{ failure: { chance: "never", reason: "error" }, final: true }]);
  });
});

describe("a tool that does not heed its time", () => {
  test.each<[string, (open: Promise<unknown>) => Promise<unknown>, object]>([
    ["and then answers", (open) => open.then(() => "too late"), { outcome: "succeeded", value: "too late" }],
    [
      "and then fails",
      (open) => open.then(() => Promise.reject(new Error("too late"))),
      { outcome: "failed", error: expect.objectContaining({ message: "too late" }) },
    ],
  ])("%s: the run went on without it, and what came late is on record and changes nothing", async (_what, act, late) => {
    const over = gate();
    const answered = gate();
    const f = finder(() => act(over.opened), { effect: "read", attempts: 1, timeout: 30 });
    const model = scripted(async ({ n }) => {
      if (n === 2) {
        over.open();
        await answered.opened;
      }
      return n === 1 ? { calls: [call("search", {})] } : "The answer.";
    });
    const { run } = await found({
      ...f,
      definition: agent("finder", {
        ...f.definition.settings,
        tools: f.definition.tools,
        model,
        policy: { search: { effect: "read", attempts: 1, timeout: 30 } },
      }) as never,
    });
    await until("it is on record", async () => (await eventsOf(run, "step.late")).length > 0);
    answered.open();
    expect(await run.result()).toBe("The answer.");
    expect(await eventsOf(run, "step.late")).toMatchObject([{ step: "tool:call-search", attempt: 1, ...late }]);
    expect(results(model.doStreamCalls[1]?.prompt ?? [])["call-search"]).toMatchObject({
      type: "error-text",
      value: expect.stringContaining("30 ms"),
    });
  });

  test("and never ends holds neither its run nor the closing of the crew", async () => {
    const { run, crew } = await found(finder(() => new Promise(() => {}), { effect: "read", attempts: 1, timeout: 30 }));
    expect(await run.result()).toBe("The answer.");
    const begun = performance.now();
    await crew.close();
    expect(performance.now() - begun).toBeLessThan(2_000);
  });

  test("and leaves a timer behind that throws nowhere and says something changes nothing of a run that is over", async () => {
    let fired = 0;
    const leaking = () => {
      const { progress } = currentCall();
      const timer = setInterval(() => {
        fired++;
        expect(callOrUndefined()).toBeDefined(); // a timer keeps the call that it was set in
        progress(0.5, "still here");
      }, 1);
      setTimeout(() => clearInterval(timer), 150);
      return "found";
    };
    const { run } = await found(finder(leaking, { effect: "read" }));
    expect(await run.result()).toBe("The answer.");
    const { length } = await run.journal();
    const before = fired;
    await until("the timer has gone off again", () => fired > before + 20);
    expect(await run.journal()).toHaveLength(length);
    expect((await run.view()).status).toBe("succeeded");
  });
});
