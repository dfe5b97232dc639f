import { describe, expect, test } from "vitest";
import { agent, type Flow, type FlowContext, flow } from "../../src/agent.ts";
import { isError } from "../../src/errors.ts";
import { MAX_CHILD_DEPTH } from "../../src/limits.ts";
import type { Crew, CrewOptions } from "../../src/runtime.ts";
import { JumpingClock } from "../support/clock.ts";
import { gate, makeCrew, reaches, readAll, tempStore } from "../support/crew.ts";
import { scripted } from "../support/model.ts";
import { until } from "../support/until.ts";

type Body = (ctx: FlowContext, input: unknown) => Promise<unknown>;

/** What reached the world: one line for each effect. */
type Ledger = string[];

const read = { effect: "read" } as const;

/** A crew on `store` that runs `body` under the name "f". */
function crewOf(store: string, body: Body, options: Partial<CrewOptions> = {}): Crew {
  return makeCrew([flow("f", body)], { store, ...options });
}

/** Runs `before` until it is parked, then goes on with `after`, as after a deploy. */
async function deploy(before: Body, after: Body, options: { wake?: "signal"; clock?: JumpingClock } = {}) {
  const store = tempStore();
  const old = crewOf(store, before);
  const { id } = await old.start("f", { input: null });
  await reaches(await old.run(id), "parked");
  await old.close();
  const crew = crewOf(store, after, { clock: options.clock ?? new JumpingClock(40) });
  await crew.work();
  const run = await crew.run(id);
  await run.signal("go", "on");
  return { run, crew, store };
}

describe("a flow that resumes", () => {
  test("runs no step twice, and gets from each what it gave the first time", async () => {
    const ledger: Ledger = [];
    const store = tempStore();
    const body: Body = async (ctx) => {
      const a = await ctx.step("a", () => {
        ledger.push("a");
        return { at: new Date(0), big: 2n ** 70n, map: new Map([[1, new Set([2])]]) };
      });
      const b = await ctx.step("b", () => {
        ledger.push("b");
      });
      await ctx.waitFor("go");
      const c = await ctx.step("c", () => {
        ledger.push("c");
        return [a, b];
      });
      return c;
    };
    const first = crewOf(store, body);
    const { id } = await first.start("f", { input: null });
    await reaches(await first.run(id), "signal");
    await first.close();
    const crew = crewOf(store, body);
    await crew.work();
    const run = await crew.run(id);
    await run.signal("go");
    expect(await run.result()).toEqual([{ at: new Date(0), big: 2n ** 70n, map: new Map([[1, new Set([2])]]) }, undefined]);
    expect(ledger).toEqual(["a", "b", "c"]);
  });

  test("finds each of many steps of one name by its place, also beside steps that are named like a place", async () => {
    const ledger: Ledger = [];
    const body: Body = async (ctx) => {
      const names = ["a", "a#2", "a", "a#2", "a", "a#2#2"];
      const said: string[] = [];
      for (const [n, name] of names.entries()) {
        said.push(
          await ctx.step(name, () => {
            ledger.push(`${n}`);
            return `${n}`;
          }),
        );
        if (n === 2) await ctx.waitFor("go");
      }
      return said;
    };
    const { run } = await deploy(body, body);
    expect(await run.result()).toEqual(["0", "1", "2", "3", "4", "5"]);
    expect(ledger).toEqual(["0", "1", "2", "3", "4", "5"]);
  });

  test("is thrown the recorded failure again, and the step does not run again", async () => {
    let ran = 0;
    const body: Body = async (ctx) => {
      const failure = await ctx
        .step("bad", () => {
          ran++;
          throw new RangeError("out of it");
        })
        .catch((error) => error);
      await ctx.waitFor("go");
      return { code: failure.code, message: failure.message, ours: isError(failure) };
    };
    const { run } = await deploy(body, body);
    expect(await run.result()).toEqual({ code: "STEP_FAILED", message: "out of it", ours: true });
    expect(ran).toBe(1);
  });

  test("sleeps until the moment it first chose, not once more from the start", async () => {
    const clock = new JumpingClock();
    const store = tempStore();
    const body: Body = async (ctx) => {
      await ctx.sleep("1h");
      return "awake";
    };
    const crew = crewOf(store, body, { clock, worker: { lease: "1d" } });
    const run = await crew.start("f", { input: null });
    const parked = await reaches(run, "timer");
    expect(parked.summary).toMatch(/^Asleep; goes on in (1h 0m|59m 59s)\.$/);
    await run.retry(); // wakes it, and it sleeps on
    clock.jump(30 * 60_000);
    await run.retry();
    await until("it sleeps again", async () => (await run.view()).status === "parked");
    expect(Math.abs(((await run.view()).dueAt ?? 0) - (parked.dueAt ?? 0))).toBe(0);
    clock.jump(31 * 60_000);
    expect(await run.result()).toBe("awake");
  });
});

describe("code that no longer fits what is recorded parks the run, runs nothing, and goes on once it is mended", () => {
  const ledger: Ledger = [];
  const say = (name: string) => () => {
    ledger.push(name);
    return name;
  };
  const original: Body = async (ctx) => {
    const a = await ctx.step("charge", { args: { amount: 5 } }, say("charge"));
    await ctx.sleep(1);
    await ctx.waitFor("go");
    const z = await ctx.step("ship", say("ship"));
    return [a, z];
  };

  test.each<[string, Body, RegExp]>([
    [
      "a step renamed",
      async (ctx) => {
        await ctx.step("pay", say("pay"));
        await ctx.waitFor("go");
        return ctx.step("ship", say("ship"));
      },
      /begins "pay" and has not come by "charge"/,
    ],
    [
      "a step removed",
      async (ctx) => {
        await ctx.sleep(1);
        await ctx.waitFor("go");
        return ctx.step("ship", say("ship"));
      },
      /"charge"/,
    ],
    [
      "a step put before the recorded ones",
      async (ctx) => {
        await ctx.step("check", say("check"));
        return original(ctx, null);
      },
      /begins "check" and has not come by "charge"/,
    ],
    [
      "other arguments",
      async (ctx) => {
        await ctx.step("charge", { args: { amount: 500 } }, say("charge"));
        return original(ctx, null);
      },
      /"charge" was recorded as a step with other arguments/,
    ],
    [
      "arguments left out",
      async (ctx) => {
        await ctx.step("charge", say("charge"));
        return original(ctx, null);
      },
      /other arguments/,
    ],
    [
      "a step that became a child run",
      async (ctx) => {
        await ctx.generate("charge", { model: scripted(["hi"]), prompt: "x" });
        return "no";
      },
      /recorded as a code step.*model step/,
    ],
    ["a body that ends at once", async () => "nothing to do", /ends without having come by.*"charge"/],
  ])("%s", async (_what, changed, says) => {
    ledger.length = 0;
    const { run, crew, store } = await deploy(original, changed);
    const view = await reaches(run, "attention");
    expect(view.summary).toMatch(says);
    expect(view.summary).toMatch(/does not fit what run .* has recorded.*new name; then `groundcrew retry`/);
    expect(ledger).toEqual(["charge"]);
    await crew.close();
    const mended = crewOf(store, original);
    await mended.work();
    const again = await mended.run(run.id);
    await again.retry();
    expect(await again.result()).toEqual(["charge", "ship"]);
    expect(ledger).toEqual(["charge", "ship"]);
  });

  test("a child run renamed while it is at work does not start a second child", async () => {
    const started: string[] = [];
    const store = tempStore();
    const child = (name: string) =>
      flow(name, async (ctx) => {
        started.push(name);
        return ctx.waitFor("never");
      });
    const parent = (name: string) => flow("f", async (ctx) => ctx.call(child(name), { input: null }));
    const old = makeCrew([parent("one"), child("one"), child("two")], { store });
    const { id } = await old.start("f", { input: null });
    await reaches(await old.run(id), "child");
    await until("the child has begun", () => started.length === 1);
    await old.close();
    const crew = makeCrew([parent("two"), child("one"), child("two")], { store, clock: new JumpingClock(40) });
    await crew.work();
    await (await crew.run(id)).retry();
    await reaches(await crew.run(id), "attention");
    expect(new Set(started)).toEqual(new Set(["one"]));
    expect(await crew.runs({ agent: "two" })).toEqual([]);
  });

  test("a step in doubt that was renamed is not run under its new name", async () => {
    const ran: string[] = [];
    const act =
      (name: string): Body =>
      async (ctx) =>
        ctx.step(name, { timeout: 30 }, () => {
          ran.push(name);
          return new Promise(() => {});
        });
    const store = tempStore();
    const old = crewOf(store, act("charge"));
    const { id } = await old.start("f", { input: null });
    await reaches(await old.run(id), "unknown_outcome");
    await old.close();
    const crew = crewOf(store, act("pay"), { clock: new JumpingClock(40) });
    await crew.work();
    await (await crew.run(id)).retry();
    await reaches(await crew.run(id), "attention");
    expect(ran).toEqual(["charge"]);
  });
});

describe("`ctx.all`", () => {
  test("gives results in the order asked, whatever order they come in", async () => {
    const slow = gate<string>();
    const run = await crewOf(tempStore(), async (ctx) =>
      ctx.all([
        ctx.step("slow", read, () => slow.opened),
        ctx.step("quick", read, () => {
          slow.open("slow");
          return "quick";
        }),
        "plain",
      ]),
    ).start("f", { input: null });
    expect(await run.result()).toEqual(["slow", "quick", "plain"]);
  });

  test("lets the others end before it throws: nothing goes on behind a failed run", async () => {
    const ledger: Ledger = [];
    const slow = gate();
    const crew = crewOf(tempStore(), async (ctx) =>
      ctx.all([
        ctx.step("bad", () => {
          setTimeout(() => slow.open(), 30);
          throw new Error("bad luck");
        }),
        ctx.step("slow", async () => {
          await slow.opened;
          ledger.push("slow");
        }),
      ]),
    );
    const run = await crew.start("f", { input: null });
    await expect(run.result()).rejects.toMatchObject({ code: "STEP_FAILED", message: "bad luck" });
    expect(ledger).toEqual(["slow"]);
    expect((await run.journal()).filter((event) => event.type === "step.succeeded")).toMatchObject([{ step: "slow" }]);
  });

  test("a body that does not use it, and fails while a step is in flight, still has that step's outcome recorded", async () => {
    const slow = gate();
    const run = await crewOf(tempStore(), async (ctx) =>
      Promise.all([
        ctx.step("slow", async () => {
          await slow.opened;
          return "sent";
        }),
        ctx.step("bad", () => {
          setTimeout(() => slow.open(), 30);
          throw new Error("bad luck");
        }),
      ]),
    ).start("f", { input: null });
    await expect(run.result()).rejects.toThrow("bad luck");
    const ends = (await run.journal()).filter((event) => event.type.startsWith("step.") && event.type !== "step.started");
    expect(ends).toContainEqual(expect.objectContaining({ type: "step.succeeded", step: "slow", value: "sent" }));
  });

  test("a body that forgets to wait for a step has its outcome recorded all the same", async () => {
    let sent = 0;
    const run = await crewOf(tempStore(), async (ctx) => {
      void ctx.step("mail", async () => {
        await new Promise((tick) => setTimeout(tick, 30));
        sent++;
      });
      await ctx.step("other", read, () => 1);
      return "done";
    }).start("f", { input: null });
    expect(await run.result()).toBe("done");
    expect(sent).toBe(1);
    expect(await run.journal()).toContainEqual(expect.objectContaining({ type: "step.succeeded", step: "mail" }));
  });
});

describe("signals", () => {
  test("that come before anyone waits are kept, in order, each taken once", async () => {
    const hold = gate();
    const run = await crewOf(tempStore(), async (ctx) => {
      await ctx.step("hold", read, () => hold.opened);
      const [a, b] = await ctx.all([ctx.waitFor("go"), ctx.waitFor("go")]);
      return [a, b, await ctx.waitFor("go")];
    }).start("f", { input: null });
    await run.signal("other", 0);
    for (const n of [1, 2, 3]) await run.signal("go", n);
    hold.open();
    expect(await run.result()).toEqual([1, 2, 3]);
  });

  test("the same id twice is one signal", async () => {
    const run = await crewOf(tempStore(), async (ctx) => [await ctx.waitFor("go"), await ctx.waitFor("go", { within: 50 })]).start("f", {
      input: null,
    });
    await run.signal("go", 1, { id: "s" });
    await run.signal("go", 1, { id: "s" });
    expect(await run.result()).toEqual([1, undefined]);
  });

  test("that do not come in time give nothing; one that comes later is for the next wait", async () => {
    const run = await crewOf(tempStore(), async (ctx) => {
      const first = await ctx.waitFor("go", { within: 20 });
      return [first, await ctx.waitFor("go")];
    }).start("f", { input: null });
    await until("the second wait has begun", async () =>
      (await run.journal()).some((event) => event.type === "step.started" && event.step === "signal:go#2"),
    );
    await run.signal("go", "late");
    expect(await run.result()).toEqual([undefined, "late"]);
  });

  test("nobody can pass for the end of a child run, or for the answer to a step in doubt", async () => {
    const crew = makeCrew([
      flow("child", async (ctx) => ctx.waitFor("go")),
      flow("f", async (ctx) =>
        ctx.call(
          flow("child", async () => "real"),
          { input: null },
        ),
      ),
    ]);
    const run = await crew.start("f", { input: null });
    await reaches(run, "child");
    for (const name of ["child:call:child", "resolve:call:child", "@child:call:child", ""])
      await run.signal(name, { run: "x" }).catch((error) => expect(error).toMatchObject({ code: "INPUT_INVALID" }));
    await until("the forged signals were looked at", async () => (await run.view()).status === "parked");
    const [child] = await crew.runs({ agent: "child" });
    await (await crew.run(child?.id ?? "")).signal("go", "real");
    expect(await run.result()).toBe("real");
  });

  test("for a run that is over, or never was, are refused with a code of their own", async () => {
    const crew = crewOf(tempStore(), async () => 1);
    const run = await crew.start("f", { input: null });
    await run.result();
    await expect(run.signal("go")).rejects.toMatchObject({ code: "RUN_FINISHED", run: run.id });
    await expect(crew.run("run_missing")).rejects.toMatchObject({ code: "RUN_NOT_FOUND" });
  });

  test("with a value that cannot be stored, or is too large, are refused and nothing is delivered", async () => {
    const run = await crewOf(tempStore(), async (ctx) => ctx.waitFor("go")).start("f", { input: null });
    await expect(run.signal("go", () => {})).rejects.toMatchObject({ code: "VALUE_UNSERIALIZABLE" });
    await expect(run.signal("go", "x".repeat(1_000_000))).rejects.toMatchObject({ code: "LIMIT_EXCEEDED" });
    await run.signal("go", { at: new Date(0), odd: "\ud800\u0000" });
    expect(await run.result()).toEqual({ at: new Date(0), odd: "\ud800\u0000" });
  });
});

describe("child runs", () => {
  test("give their output, run once, and name their parent", async () => {
    let ran = 0;
    const child = flow("child", async (_ctx, input: number) => {
      ran++;
      return { doubled: BigInt(input) * 2n };
    });
    const crew = makeCrew([child, flow("f", async (ctx) => [await ctx.call(child, { input: 4 }), await ctx.call(child, { input: 5 })])]);
    const run = await crew.start("f", { input: null });
    expect(await run.result()).toEqual([{ doubled: 8n }, { doubled: 10n }]);
    expect(ran).toBe(2);
    expect((await crew.runs({ parent: run.id })).map(({ parent }) => parent)).toEqual([run.id, run.id]);
  });

  test("that fail are a failure that the flow can catch", async () => {
    const child = flow("child", async () => {
      throw new Error("child trouble");
    });
    const body = async (ctx: FlowContext) => ctx.call(child, { input: null }).catch((error) => [error.code, error.message]);
    const crew = makeCrew([child, flow("f", body)]);
    const [code, message] = (await (await crew.start("f", { input: null })).result()) as string[];
    expect(code).toBe("CHILD_FAILED");
    expect(message).toMatch(/"child" did not succeed: child trouble/);
  });

  test("are cancelled with their parent, down to the last", async () => {
    const leaf = flow("leaf", async (ctx) => ctx.waitFor("never"));
    const middle = flow("middle", async (ctx) => ctx.call(leaf, { input: null }));
    const crew = makeCrew([leaf, middle, flow("f", async (ctx) => ctx.call(middle, { input: null }))]);
    const run = await crew.start("f", { input: null });
    await until("the leaf waits", async () => (await crew.runs({ agent: "leaf" }))[0]?.status === "parked");
    await run.cancel("enough");
    await expect(run.result()).rejects.toMatchObject({ code: "RUN_CANCELLED" });
    await until("all are cancelled", async () => (await crew.runs()).every(({ status }) => status === "cancelled"));
  });

  test("may not go on without end: at the depth limit the innermost call fails, and no more runs are started", async () => {
    const deep: Flow<number, number> = flow("deep", async (ctx, level: number): Promise<number> => ctx.call(deep, { input: level + 1 }));
    const crew = makeCrew([deep]);
    const run = await crew.start(deep, { input: 1 });
    await expect(run.result()).rejects.toMatchObject({ code: "CHILD_FAILED", message: expect.stringMatching(/level of child runs/) });
    expect(await crew.runs({ limit: 100 })).toHaveLength(MAX_CHILD_DEPTH + 1);
  });

  test("of what this crew does not know are refused at once, not left waiting for a worker that never comes", async () => {
    const stranger = flow("stranger", async () => 1);
    const run = await makeCrew([flow("f", async (ctx) => ctx.call(stranger, { input: null }))]).start("f", { input: null });
    await expect(run.result()).rejects.toMatchObject({ code: "AGENT_NOT_FOUND", message: expect.stringContaining('"stranger"') });
  });

  test("are not started with what their agent could not take", async () => {
    const child = agent("child", { model: scripted(["hi"]) });
    const crew = makeCrew([child, flow("f", async (ctx) => ctx.call(child, { prompt: "" }))]);
    await expect((await crew.start("f", { input: null })).result()).rejects.toMatchObject({ code: "INPUT_INVALID" });
    expect(await crew.runs({ agent: "child" })).toEqual([]);
  });
});

describe("progress", () => {
  test("from a flow and from a step reaches readers and the view; odd numbers end nothing", async () => {
    const hold = gate();
    const run = await crewOf(tempStore(), async (ctx) => {
      ctx.progress(0.25, "begun");
      for (const odd of [Number.NaN, -4, 7, Number.POSITIVE_INFINITY]) ctx.progress(odd, `odd ${odd}`);
      ctx.progress(0.5, "x".repeat(100_000));
      await ctx.step("hold", read, () => hold.opened);
      ctx.progress(1, "all done");
      return 1;
    }).start("f", { input: null });
    await until("progress shows", async () => (await run.view()).progress?.fraction === 0.5);
    expect((await run.view()).progress?.what.length).toBeLessThan(1000);
    hold.open();
    await run.result();
    const said = (await readAll(run)).filter((item) => item.type === "progress");
    expect(said.at(-1)).toMatchObject({ fraction: 1, what: "all done" });
    for (const item of said) expect(item.type === "progress" && item.fraction >= 0 && item.fraction <= 1).toBe(true);
  });
});

describe("a flow's mistakes end the run with a typed error and nothing else", () => {
  test.each<[string, Body, string, RegExp]>([
    [
      "throws no Error",
      async () => {
        throw "plain words";
      },
      "FLOW_FAILED",
      /plain words/,
    ],
    [
      "throws undefined",
      async () => {
        throw undefined;
      },
      "FLOW_FAILED",
      /undefined/,
    ],
    ["returns a function", async () => ({ go: () => {} }), "VALUE_UNSERIALIZABLE", /go/],
    ["sleeps for a text that is no duration", async (ctx) => ctx.sleep("soon" as never), "DURATION_INVALID", /sleep.*"soon"/],
    ["sleeps a negative time", async (ctx) => ctx.sleep(-5), "DURATION_INVALID", /-5/],
    ["has a step without a function", async (ctx) => ctx.step("a", undefined as never), "INPUT_INVALID", /"a".*function/],
    ["has a step without a name", async (ctx) => ctx.step("" as never, () => 1), "INPUT_INVALID", /name/],
    ["has a step whose name is a function", async (ctx) => ctx.step((() => 1) as never, undefined as never), "INPUT_INVALID", /name/],
    [
      "has a step of an effect that does not exist",
      async (ctx) => ctx.step("a", { effect: "maybe" as never }, () => 1),
      "POLICY_INVALID",
      /effect.*maybe/,
    ],
    ["waits for a signal without a name", async (ctx) => ctx.waitFor(""), "INPUT_INVALID", /signal name/],
    [
      "returns from a step what cannot be kept",
      async (ctx) => ctx.step("a", () => ({ deep: [() => {}] })),
      "VALUE_UNSERIALIZABLE",
      /deep\[0\]/,
    ],
    ["has arguments that cannot be kept", async (ctx) => ctx.step("a", { args: { f: () => {} } }, () => 1), "VALUE_UNSERIALIZABLE", /f/],
    [
      "is no async function and throws",
      (() => {
        throw new Error("at once");
      }) as never,
      "FLOW_FAILED",
      /at once/,
    ],
  ])("it %s", async (_what, body, code, says) => {
    const crew = crewOf(tempStore(), body);
    const run = await crew.start("f", { input: null });
    await expect(run.result()).rejects.toMatchObject({ code, message: expect.stringMatching(says) });
    expect((await crew.health()).ready).toBe(true);
  });

  test("a flow that changes its input changes it for nobody", async () => {
    const store = tempStore();
    const seen: unknown[] = [];
    const body: Body = async (ctx, input) => {
      seen.push(structuredClone(input));
      (input as { list: number[] }).list.push(9);
      await ctx.waitFor("go");
      return input;
    };
    const crew = crewOf(store, body);
    const given = { list: [1] };
    const run = await crew.start("f", { input: given });
    await reaches(run, "signal");
    await run.signal("go");
    await run.result();
    expect(seen).toEqual([{ list: [1] }, { list: [1] }]);
    expect(given).toEqual({ list: [1] });
    expect((await run.journal())[0]).toMatchObject({ input: { list: [1] } });
  });

  test("what is done to an input after `start` has returned, or to a value after its step, changes no record", async () => {
    const given = { list: [1] };
    const run = await crewOf(tempStore(), async (ctx, input) => {
      const value = await ctx.step("a", () => ({ n: 1 }));
      value.n = 2;
      await ctx.step("b", read, () => 1);
      return input;
    }).start("f", { input: given });
    given.list.push(2);
    expect(await run.result()).toEqual({ list: [1] });
    expect(await run.journal()).toContainEqual(expect.objectContaining({ type: "step.succeeded", step: "a", value: { n: 1 } }));
  });
});
