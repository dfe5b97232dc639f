/** How runs begin, wait, end, and begin again. */
import { tool } from "ai";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { agent, type FlowContext, flow } from "../../src/agent.ts";
import { sessionState } from "../../src/call.ts";
import { MAX_VALUE_BYTES } from "../../src/limits.ts";
import type { Crew, CrewOptions } from "../../src/runtime.ts";
import { JumpingClock } from "../support/clock.ts";
import { gate, makeCrew, reaches, readAll, tempStore } from "../support/crew.ts";
import { type Answer, call, results, scripted, shown } from "../support/model.ts";
import { until } from "../support/until.ts";

const HOUR = 3_600_000;
const read = { effect: "read" } as const;
type Body = (ctx: FlowContext, input: unknown) => Promise<unknown>;
const crewOf = (body: Body, options: Partial<CrewOptions> = {}): Crew => makeCrew([flow("f", body)], options);

describe("`start`", () => {
  test("with the same key and the same input is one run, however many ask at once", async () => {
    let ran = 0;
    const crew = crewOf(async (_ctx, input) => {
      ran++;
      return input;
    });
    const runs = await Promise.all(Array.from({ length: 40 }, () => crew.start("f", { input: { a: 1, b: [2] }, key: "k" })));
    expect(new Set(runs.map(({ id }) => id)).size).toBe(1);
    await runs[0]?.result();
    expect((await crew.start("f", { input: { b: [2], a: 1 }, key: "k" })).id).toBe(runs[0]?.id);
    expect(ran).toBe(1);
  });

  test("with the same key and another input, session or user is refused, and starts nothing", async () => {
    const model = scripted(() => "ok");
    const crew = makeCrew([agent("a", { model })]);
    await crew.start("a", { prompt: "one", key: "k", principal: { user: "ann" } });
    for (const other of [{ prompt: "two" }, { prompt: "one", session: "s" }, { prompt: "one", principal: { user: "bob" } }]) {
      await expect(crew.start("a", { principal: { user: "ann" }, ...other, key: "k" })).rejects.toMatchObject({
        code: "START_CONFLICT",
        message: expect.stringContaining('"k"'),
      });
    }
    expect(await crew.runs()).toHaveLength(1);
  });

  test("with the same key in another tenant, or of another agent, is another run", async () => {
    const crew = makeCrew([flow("f", async () => 1), flow("g", async () => 1)]);
    const ids = [
      await crew.start("f", { input: 1, key: "k" }),
      await crew.start("g", { input: 1, key: "k" }),
      await crew.start("f", { input: 1, key: "k", principal: { tenant: "u" } }),
    ].map(({ id }) => id);
    expect(new Set(ids).size).toBe(3);
  });

  test.each<[string, string, unknown, string, RegExp]>([
    ["of nobody", "nobody", { input: 1 }, "AGENT_NOT_FOUND", /"nobody".*Known: a, f/],
    ["of a name every object has", "constructor", { input: 1 }, "AGENT_NOT_FOUND", /constructor/],
    ["with nothing", "a", undefined, "INPUT_INVALID", /request/],
    ["of an agent without a prompt", "a", {}, "INPUT_INVALID", /prompt/],
    ["with an empty prompt", "a", { prompt: "" }, "INPUT_INVALID", /prompt/],
    ["with a prompt that is no text", "a", { prompt: 7 }, "INPUT_INVALID", /prompt/],
    ["with a prompt and messages", "a", { prompt: "x", messages: [{ role: "user", content: "x" }] }, "INPUT_INVALID", /prompt/],
    ["with no messages", "a", { messages: [] }, "INPUT_INVALID", /messages/],
    ["with a message of no known role", "a", { messages: [{ role: "wizard", content: "x" }] }, "INPUT_INVALID", /messages\.0/],
    ["of an agent with an input", "a", { input: 1, prompt: "x" }, "INPUT_INVALID", /input/],
    ["of a flow with a prompt", "f", { prompt: "x" }, "INPUT_INVALID", /prompt/],
    ["of a flow in a session", "f", { input: 1, session: "s" }, "INPUT_INVALID", /session/],
    ["with a session name that is none", "a", { prompt: "x", session: "../../etc" }, "INPUT_INVALID", /session/],
    ["with an empty key", "a", { prompt: "x", key: "" }, "INPUT_INVALID", /key/],
    ["with a key that is too long", "a", { prompt: "x", key: "k".repeat(1000) }, "INPUT_INVALID", /key/],
    ["with a deadline that does not parse", "f", { input: 1, deadline: "tomorrow" }, "DURATION_INVALID", /deadline.*"tomorrow"/],
    ["with a wait that does not parse", "f", { input: 1, after: {} }, "DURATION_INVALID", /after/],
    ["for a user who is no text", "f", { input: 1, principal: { user: 7 } }, "INPUT_INVALID", /principal\.user/],
    ["for a tenant without a name", "f", { input: 1, principal: { tenant: "" } }, "INPUT_INVALID", /principal\.tenant/],
    ["with roles that are no list", "f", { input: 1, principal: { roles: "operator" } }, "INPUT_INVALID", /principal\.roles/],
    ["with a function", "f", { input: { on: { done: () => {} } } }, "VALUE_UNSERIALIZABLE", /on\.done/],
    ["with more than the bound", "f", { input: "x".repeat(MAX_VALUE_BYTES + 1) }, "LIMIT_EXCEEDED", /input/],
  ])("%s is refused at the edge, and nothing is started", async (_what, name, request, code, says) => {
    const crew = makeCrew([agent("a", { model: scripted(["ok"]) }), flow("f", async () => 1)]);
    await expect(crew.start(name, request as never)).rejects.toMatchObject({ code, message: expect.stringMatching(says) });
    expect(await crew.runs()).toEqual([]);
  });

  test("for somebody gives them no role that was not named", async () => {
    const crew = crewOf(async () => 1);
    expect((await (await crew.start("f", { input: 1, principal: { user: "bob" } })).view()).principal).toEqual({
      tenant: "default",
      user: "bob",
      roles: [],
    });
    expect((await (await crew.start("f", { input: 1, principal: { user: undefined as never } })).view()).principal.user).toBe("local");
    expect((await (await crew.start("f", { input: 1 })).view()).principal.roles).toEqual(["operator"]);
  });

  test("not before its time: nothing runs until then", async () => {
    const clock = new JumpingClock();
    let ran = 0;
    const crew = crewOf(async () => ran++, { clock, worker: { lease: "30d" } });
    const run = await crew.start("f", { input: 1, after: "1h" });
    const other = await crew.start("f", { input: 1 });
    await other.result();
    expect((await run.view()).summary).toMatch(/^Starts in (1h 0m|59m 59s)/);
    expect(ran).toBe(1);
    clock.jump(HOUR);
    await run.result();
    expect(ran).toBe(2);
  });

  test("is durable when it returns: another process on the same store runs what this one only took in", async () => {
    const store = tempStore();
    const front = crewOf(async () => "front", { store, worker: false });
    const { id } = await front.start("f", { input: 1 });
    await front.close();
    const back = crewOf(async () => "back", { store });
    await back.work();
    expect(await (await back.run(id)).result()).toBe("back");
  });
});

describe("cancel", () => {
  test("of a run that has not begun: it never begins", async () => {
    const store = tempStore();
    let ran = 0;
    const front = crewOf(async () => ran++, { store, worker: false });
    const { id } = await front.start("f", { input: 1, after: "1h" });
    await (await front.run(id)).cancel("not needed", "olga");
    expect((await (await front.run(id)).view()).status).toBe("queued");
    const back = crewOf(async () => ran++, { store });
    await back.work();
    await expect((await back.run(id)).result()).rejects.toMatchObject({
      code: "RUN_CANCELLED",
      message: expect.stringContaining("not needed"),
    });
    expect(ran).toBe(0);
    expect((await (await back.run(id)).view()).summary).toBe("Cancelled: not needed.");
  });

  test("of a run that sleeps or waits ends it at once, without its time having come", async () => {
    for (const body of [async (ctx: FlowContext) => ctx.sleep("1h"), async (ctx: FlowContext) => ctx.waitFor("never")]) {
      const run = await crewOf(body).start("f", { input: 1 });
      await reaches(run, "parked");
      await run.cancel();
      await expect(run.result()).rejects.toMatchObject({ code: "RUN_CANCELLED" });
    }
  });

  test("is seen by a running step in another process, through its signal", async () => {
    const store = tempStore();
    const began = gate();
    const back = crewOf(
      async (ctx) =>
        ctx.step(
          "slow",
          read,
          ({ signal }) =>
            new Promise((resolve) => {
              began.open();
              signal.addEventListener("abort", () => resolve("heard"));
            }),
        ),
      { store },
    );
    const front = crewOf(async () => 1, { store, worker: false });
    await back.work();
    const run = await front.start("f", { input: 1 });
    await began.opened;
    await run.cancel();
    await expect(run.result()).rejects.toMatchObject({ code: "RUN_CANCELLED" });
  });

  test("twice is one cancel; of a run that is over it is refused", async () => {
    const run = await crewOf(async (ctx) => ctx.waitFor("never")).start("f", { input: 1 });
    await reaches(run, "signal");
    await Promise.all([run.cancel("first"), run.cancel("second").catch((error) => expect(error).toMatchObject({ code: "RUN_FINISHED" }))]);
    await expect(run.result()).rejects.toMatchObject({ code: "RUN_CANCELLED" });
    await expect(run.cancel()).rejects.toMatchObject({ code: "RUN_FINISHED" });
    expect((await readAll(run)).filter(({ type }) => type === "run.cancelled")).toHaveLength(1);
  });

  test("as the run ends: it ends once, one way or the other", async () => {
    const crew = crewOf(async (ctx) => ctx.step("a", read, () => 1));
    for (let n = 0; n < 30; n++) {
      const run = await crew.start("f", { input: n });
      for (let turn = 0; turn < n % 6; turn++) await new Promise((tick) => setImmediate(tick));
      await run.cancel().catch((error) => expect(error).toMatchObject({ code: "RUN_FINISHED" }));
      await run.result().catch((error) => expect(error).toMatchObject({ code: "RUN_CANCELLED" }));
      expect((await run.journal()).filter(({ type }) => /^run\.(succeeded|failed|cancelled|expired)$/.test(type))).toHaveLength(1);
    }
  });
});

describe("a deadline", () => {
  test("ends a run that waits, whatever it waits for, and counts the waiting", async () => {
    const clock = new JumpingClock();
    const bodies: Body[] = [
      async (ctx) => ctx.sleep("1d"),
      async (ctx) => ctx.waitFor("never"),
      async (ctx) => ctx.waitFor("never", { within: "1d" }),
      async (ctx) => ctx.step("pay", { timeout: 20 }, () => new Promise(() => {})),
    ];
    const crew = makeCrew(
      bodies.map((body, n) => flow(`f${n}`, body)),
      { clock, worker: { lease: "30d" } },
    );
    const runs = await Promise.all(bodies.map((_, n) => crew.start(`f${n}`, { input: 1, deadline: "1h" })));
    for (const run of runs) await reaches(run, "parked");
    clock.jump(HOUR + 1);
    for (const run of runs) await expect(run.result()).rejects.toMatchObject({ code: "RUN_EXPIRED" });
    expect((await runs[0]?.view())?.summary).toMatch(/passed its deadline/);
  });

  test("stops a step in flight, and tells its signal", async () => {
    let aborted = false;
    const run = await crewOf(
      async (ctx) =>
        ctx.step(
          "slow",
          read,
          ({ signal }) =>
            new Promise(() =>
              signal.addEventListener("abort", () => {
                aborted = true;
              }),
            ),
        ),
      { worker: { lease: 300 } },
    ).start("f", { input: 1, deadline: 150 });
    await expect(run.result()).rejects.toMatchObject({ code: "RUN_EXPIRED" });
    expect(aborted).toBe(true);
  });

  test("of a parent is its child's too", async () => {
    const clock = new JumpingClock();
    const child = flow("child", async (ctx) => ctx.waitFor("never"), { deadline: "7d" });
    const crew = makeCrew([child, flow("f", async (ctx) => ctx.call(child, { input: 1 }))], { clock, worker: { lease: "30d" } });
    const run = await crew.start("f", { input: 1, deadline: "1h" });
    await until("the child waits", async () => (await crew.runs({ agent: "child" }))[0]?.reason === "signal");
    clock.jump(HOUR + 1);
    await expect(run.result()).rejects.toMatchObject({ code: "RUN_EXPIRED" });
    await until("the child has ended", async () => /expired|cancelled/.test((await crew.runs({ agent: "child" }))[0]?.status ?? ""));
  });
});

describe("a clock that jumps back an hour", () => {
  test("under a running step, a sleeping run and a waiting one: none is lost, none is done twice, none is stuck", async () => {
    const clock = new JumpingClock();
    const ledger: string[] = [];
    const hold = gate();
    const crew = makeCrew(
      [
        flow("runs", async (ctx) => {
          await ctx.step("slow", async () => {
            ledger.push("slow");
            await hold.opened;
          });
          return ctx.step("after", () => ledger.push("after"));
        }),
        flow("sleeps", async (ctx) => {
          await ctx.sleep("10m");
          return ctx.step("woke", () => ledger.push("woke"));
        }),
        flow("waits", async (ctx) => ctx.waitFor("go")),
        flow("quick", async (ctx) => ctx.step("quick", () => ledger.push("quick"))),
      ],
      { clock, worker: { lease: 1_000 } },
    );
    const [runs, sleeps, waits] = [
      await crew.start("runs", { input: 1 }),
      await crew.start("sleeps", { input: 1 }),
      await crew.start("waits", { input: 1 }),
    ];
    await reaches(sleeps, "timer");
    await reaches(waits, "signal");
    clock.jump(-HOUR);
    expect(await (await crew.start("quick", { input: 1 })).result()).toBe(2);
    await new Promise((wait) => setTimeout(wait, 1_500)); // past the lease: whoever reckons with wall-clock time has given up by now
    hold.open();
    await runs.result();
    await waits.signal("go", "on");
    expect(await waits.result()).toBe("on");
    expect((await sleeps.view()).status).toBe("parked");
    clock.jump(HOUR + 10 * 60_000);
    await sleeps.result();
    expect(ledger).toEqual(["slow", "quick", "after", "woke"]);
    expect((await runs.view()).takeovers).toBe(0);
  });
});

describe("a fork", () => {
  test("from a step shares what was before, does the rest anew, and changes nothing of the old run", async () => {
    const ledger: string[] = [];
    const crew = crewOf(async (ctx) => {
      const a = await ctx.step("a", () => {
        ledger.push("a");
        return { list: [1] };
      });
      const b = await ctx.step("b", () => {
        ledger.push("b");
        return ledger.length;
      });
      a.list.push(b);
      return a;
    });
    const run = await crew.start("f", { input: 1 });
    expect(await run.result()).toEqual({ list: [1, 2] });
    const before = JSON.stringify(await run.journal());
    const fork = await run.fork({ from: "b" });
    expect(await fork.result()).toEqual({ list: [1, 3] });
    expect(ledger).toEqual(["a", "b", "b"]);
    expect(JSON.stringify(await run.journal())).toBe(before);
    expect((await fork.view()).forkedFrom).toBe(run.id);
  });

  test("keeps how the steps ended that were in flight beside it: none of them runs again or is in doubt", async () => {
    const ledger: string[] = [];
    const slow = gate();
    const crew = crewOf(async (ctx) =>
      ctx.all([
        ctx.step("slow", async () => {
          ledger.push("slow");
          await slow.opened;
          return "slow";
        }),
        ctx.step("quick", async () => {
          ledger.push("quick");
          slow.open();
          return "quick";
        }),
      ]),
    );
    const run = await crew.start("f", { input: 1 });
    await run.result();
    expect(await (await run.fork({ from: "quick" })).result()).toEqual(["slow", "quick"]);
    expect(ledger).toEqual(["slow", "quick", "quick"]);
  });

  test("of a turn takes along what had been said before, and does not enter the session", async () => {
    const model = scripted(({ n }) => `answer ${n}`);
    const crew = makeCrew([agent("a", { model })]);
    await (await crew.start("a", { prompt: "one", session: "s" })).result();
    const second = await crew.start("a", { prompt: "two", session: "s" });
    await second.result();
    const fork = await second.fork({ from: "model:1" });
    expect(await fork.result()).toBe("answer 3");
    expect(shown(model.doStreamCalls[2]?.prompt ?? [])).toEqual(["user: one", "assistant: answer 1", "user: two"]);
    expect(await (await crew.session("s")).messages()).toHaveLength(4);
  });

  test("from a step that is not there names those that are", async () => {
    const run = await crewOf(async (ctx) => ctx.step("a", () => 1)).start("f", { input: 1 });
    await run.result();
    await expect(run.fork({ from: "b" })).rejects.toMatchObject({
      code: "STEP_NOT_FOUND",
      message: expect.stringContaining("Its steps: a"),
    });
  });

  test("of values that stand beside the journal survives the end of the old run", async () => {
    const clock = new JumpingClock();
    const big = "x".repeat(200_000);
    const crew = crewOf(
      async (ctx) => {
        const a = await ctx.step("a", () => big);
        await ctx.step("b", () => 1);
        await ctx.waitFor("go");
        return a.length;
      },
      { clock, worker: { lease: "365d" }, retention: { runs: "1d" } },
    );
    const run = await crew.start("f", { input: big, deadline: "30d" });
    await reaches(run, "signal");
    const fork = await run.fork({ from: "b" });
    await reaches(fork, "signal");
    await run.cancel();
    await run.result().catch(() => {});
    clock.jump(48 * HOUR);
    expect((await crew.cleanup()).runs).toBe(1);
    await fork.signal("go");
    expect(await fork.result()).toBe(200_000);
  });
});

describe("a retry", () => {
  test("of a run that failed does the failed step anew, and nothing that ended well", async () => {
    const ledger: string[] = [];
    let isBroken = true;
    const crew = crewOf(async (ctx) => {
      await ctx.step("a", () => ledger.push("a"));
      return ctx.step("b", () => {
        ledger.push("b");
        if (isBroken) throw new Error("broken");
        return "mended";
      });
    });
    const run = await crew.start("f", { input: 1 });
    await expect(run.result()).rejects.toThrow("broken");
    expect((await run.view()).summary).toMatch(/^Failed: broken `retry` continues/);
    isBroken = false;
    const again = await run.retry();
    expect(again.id).not.toBe(run.id);
    expect(await again.result()).toBe("mended");
    expect(ledger).toEqual(["a", "b", "b"]);
    expect((await run.view()).status).toBe("failed");
  });

  test("repeats no step that went well beside the one that failed, or after one that failed and was caught", async () => {
    const ledger: string[] = [];
    let isBroken = true;
    const crew = crewOf(async (ctx) => {
      await ctx
        .step("optional", () => {
          ledger.push("optional");
          throw new Error("never mind");
        })
        .catch(() => {});
      await ctx.step("charge", () => ledger.push("charge"));
      return ctx.all([
        ctx.step("bad", () => {
          ledger.push("bad");
          if (isBroken) throw new Error("broken");
          return "mended";
        }),
        ctx.step("worse", () => {
          ledger.push("worse");
          if (isBroken) throw new Error("broken too");
          return "mended too";
        }),
        ctx.step("send", async () => {
          await new Promise((tick) => setTimeout(tick, 20));
          ledger.push("send");
          return "sent";
        }),
      ]);
    });
    const run = await crew.start("f", { input: 1 });
    await expect(run.result()).rejects.toThrow("broken");
    isBroken = false;
    expect(await (await run.retry()).result()).toEqual(["mended", "mended too", "sent"]);
    expect(ledger).toEqual(["optional", "charge", "bad", "worse", "send", "bad", "worse"]);
  });

  test("of a run that was cancelled or expired repeats nothing, also not behind a failure that was caught", async () => {
    const ledger: string[] = [];
    const crew = crewOf(async (ctx) => {
      await ctx
        .step("optional", () => {
          ledger.push("optional");
          throw new Error("never mind");
        })
        .catch(() => {});
      await ctx.step("charge", () => ledger.push("charge"));
      return ctx.waitFor("go");
    });
    const run = await crew.start("f", { input: 1 });
    await reaches(run, "signal");
    await run.cancel();
    await run.result().catch(() => {});
    const again = await run.retry();
    await reaches(again, "signal");
    await again.signal("go", "on");
    expect(await again.result()).toBe("on");
    expect(ledger).toEqual(["optional", "charge"]);
  });

  test("of a run that cleaned up behind its failure need not clean up again when all goes well", async () => {
    const ledger: string[] = [];
    let isBroken = true;
    const crew = crewOf(
      async (ctx) => {
        try {
          await ctx.step("book", () => {
            ledger.push("book");
            if (isBroken) throw new Error("full");
          });
          await ctx.step("pay", () => ledger.push("pay"));
          return ctx.step("mail", () => ledger.push("mail"));
        } catch (error) {
          await ctx.step("apologise", () => ledger.push("apologise"));
          throw error;
        }
      },
      { clock: new JumpingClock(40) },
    );
    const run = await crew.start("f", { input: 1 });
    await expect(run.result()).rejects.toThrow("full");
    isBroken = false;
    await (await run.retry()).result();
    expect(ledger).toEqual(["book", "apologise", "book", "pay", "mail"]);
  });

  test("of a parent that was cancelled while its child was at work starts a child of its own", async () => {
    const child = flow("child", async (ctx) => ctx.waitFor("go"));
    const crew = makeCrew([child, flow("f", async (ctx) => ctx.call(child, { input: 1 }))]);
    const run = await crew.start("f", { input: 1 });
    await until("the child waits", async () => (await crew.runs({ parent: run.id }))[0]?.reason === "signal");
    await run.cancel();
    await run.result().catch(() => {});
    const again = await run.retry();
    const [heir] = await until("the new child waits", async () => {
      const found = await crew.runs({ parent: again.id });
      return found[0]?.reason === "signal" ? found : undefined;
    });
    await (await crew.run(heir?.id ?? "")).signal("go", "on");
    expect(await again.result()).toBe("on");
  });

  test("of an agent's run whose model failed asks the model again, and runs no tool again", async () => {
    let ran = 0;
    const model = scripted(({ n }): Answer => (n === 1 ? { calls: [call("work", {})] } : n === 2 ? new TypeError("broken") : "done"));
    const work = tool({ inputSchema: z.object({}), execute: async () => `ran ${++ran}` });
    const run = await makeCrew([agent("a", { model, tools: { work } })]).start("a", { prompt: "go" });
    await expect(run.result()).rejects.toMatchObject({ code: "MODEL_FAILED" });
    expect(await (await run.retry()).result()).toBe("done");
    expect(ran).toBe(1);
    expect(results(model.doStreamCalls[2]?.prompt ?? [])["call-work"]?.value).toBe("ran 1");
  });

  test("of a run that succeeded is refused; of one that waits for a retry it is now", async () => {
    const crew = crewOf(async () => 1);
    const run = await crew.start("f", { input: 1 });
    await run.result();
    await expect(run.retry()).rejects.toMatchObject({ code: "RUN_FINISHED" });
    const { refusal } = await import("../support/model.ts");
    const model = scripted([refusal(503, { "retry-after": "500" }), "hello"]);
    const waiting = await makeCrew([agent("a", { model })]).start("a", { prompt: "go" });
    expect((await reaches(waiting, "retry")).summary).toMatch(/next attempt is in [89]m \d+s; `retry` makes it now/);
    await waiting.retry();
    expect(await waiting.result()).toBe("hello");
  });
});

describe("a parent that fails", () => {
  test("takes its children along that nobody waits for any more", async () => {
    const child = flow("child", async (ctx) => ctx.waitFor("never"));
    const crew = makeCrew([
      child,
      flow("f", async (ctx) =>
        Promise.all([
          ctx.call(child, { input: 1 }),
          ctx.sleep(200).then(() => {
            throw new Error("gave up");
          }),
        ]),
      ),
    ]);
    const run = await crew.start("f", { input: 1 });
    await expect(run.result()).rejects.toThrow("gave up");
    await until("the child has ended", async () => (await crew.runs({ agent: "child" }))[0]?.status === "cancelled");
  });
});

describe("waiting is free (G12)", () => {
  test("five hundred parked runs hold no place in the worker, and each goes on when its signal comes", async () => {
    const crew = crewOf(async (ctx, input) => [input, await ctx.waitFor("go")], { worker: { concurrency: 8 } });
    const runs = await Promise.all(Array.from({ length: 500 }, (_, n) => crew.start("f", { input: n })));
    await until("all are parked", async () => (await crew.runs({ status: ["queued", "running"], limit: 1 })).length === 0);
    await until("the worker holds none", async () => (await crew.health()).worker?.runs === 0);
    await Promise.all(runs.map((run, n) => run.signal("go", n)));
    expect(await Promise.all(runs.map((run) => run.result()))).toEqual(Array.from({ length: 500 }, (_, n) => [n, n]));
  });
});

describe("a reader's cursor", () => {
  const done = async () => {
    const crew = crewOf(async (ctx) => [await ctx.step("a", read, () => 1), await ctx.step("b", read, () => 2)]);
    const run = await crew.start("f", { input: 1 });
    await run.result();
    return { crew, run };
  };

  test("anywhere gives exactly the rest", async () => {
    const { run } = await done();
    const all = await readAll(run);
    for (const [n, { cursor }] of all.entries()) expect(await readAll(run, cursor)).toEqual(all.slice(n + 1));
  });

  test.each(["-1", "abc", "1.2.3", "99999999999", "0x10", "1e3", " 1", "1; drop table runs", "\u0000"])("%j is refused", async (cursor) => {
    const { run } = await done();
    await expect((async () => readAll(run, cursor))()).rejects.toMatchObject({ code: "CURSOR_INVALID" });
  });

  test("of the future is refused and does not wait for ever", async () => {
    const { run } = await done();
    for (const cursor of ["900", "900.1", "999999999"])
      await expect(readAll(run, cursor)).rejects.toMatchObject({ code: "CURSOR_INVALID" });
  });
});

test("a fork of a turn knows the state its session had", async () => {
  const visits = sessionState("visits", 0);
  const model = scripted(({ prompt }): Answer => (prompt.at(-1)?.role === "user" ? { calls: [call("count", {})] } : "ok"));
  const crew = makeCrew([
    agent("a", {
      model,
      tools: {
        count: tool({
          inputSchema: z.object({}),
          execute: async () => {
            visits.update((n) => n + 1);
            return visits.get();
          },
        }),
      },
    }),
  ]);
  await (await crew.start("a", { prompt: "1", session: "s" })).result();
  const second = await crew.start("a", { prompt: "2", session: "s" });
  await second.result();
  await (await second.fork({ from: "tool:call-count" })).result();
  expect(results(model.doStreamCalls.at(-1)?.prompt ?? [])["call-count"]?.value).toBe(2);
  expect(await (await crew.session("s")).state()).toEqual({ visits: 2 });
});
