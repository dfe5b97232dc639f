import { APICallError, tool } from "ai";
import { describe, expect, expectTypeOf, test } from "vitest";
import { z } from "zod";
import { agent } from "../../src/agent.ts";
import { sessionState } from "../../src/call.ts";
import { MAX_QUEUED_TURNS } from "../../src/limits.ts";
import { JumpingClock } from "../support/clock.ts";
import { gate, makeCrew, reaches, tempStore } from "../support/crew.ts";
import { type Answer, call, results, scripted, shown } from "../support/model.ts";
import { until } from "../support/until.ts";

const anything = z.looseObject({});
const saidLast = (lines: string[]) => (lines.findLast((line) => line.startsWith("user: ")) ?? "").slice("user: ".length);

describe("turns of one session", () => {
  test("of fifty that are started at once run one at a time, in order, none lost, and each sees all before it", async () => {
    let running = 0;
    let most = 0;
    const model = scripted(async ({ prompt }) => {
      most = Math.max(most, ++running);
      await new Promise((tick) => setImmediate(tick));
      running--;
      return `answer to ${saidLast(shown(prompt))}`;
    });
    const crew = makeCrew([agent("a", { model })]);
    const runs = await Promise.all(Array.from({ length: 50 }, (_, n) => crew.start("a", { prompt: `question ${n}`, session: "s" })));
    await Promise.all(runs.map((run) => run.result()));
    expect(most).toBe(1);
    const rows = (await crew.runs({ session: "s", limit: 100 })).reverse();
    expect(rows.map(({ turn }) => turn)).toEqual(Array.from({ length: 50 }, (_, n) => n + 1));
    expect(model.doStreamCalls).toHaveLength(50);
    for (const [n, { prompt }] of model.doStreamCalls.entries()) {
      const lines = shown(prompt);
      expect(lines).toHaveLength(2 * n + 1);
      if (n > 0)
        expect(lines.slice(0, -1)).toEqual([
          ...shown(model.doStreamCalls[n - 1]?.prompt ?? []),
          `assistant: answer to ${saidLast(shown(model.doStreamCalls[n - 1]?.prompt ?? []))}`,
        ]);
    }
    expect(new Set(model.doStreamCalls.map(({ prompt }) => saidLast(shown(prompt)))).size).toBe(50);
  });

  test("of different sessions do not wait for each other, and see nothing of each other", async () => {
    const hold = gate();
    const model = scripted(async ({ prompt }) => {
      if (saidLast(shown(prompt)) === "slow") await hold.opened;
      return "ok";
    });
    const crew = makeCrew([agent("a", { model })]);
    const slow = await crew.start("a", { prompt: "slow", session: "one" });
    expect(await (await crew.start("a", { prompt: "quick", session: "two" })).result()).toBe("ok");
    hold.open();
    await slow.result();
    expect(model.doStreamCalls.every(({ prompt }) => prompt.length === 1)).toBe(true);
  });

  test("a fiftieth of a second after the clock was set back an hour still follow the turns before", async () => {
    const clock = new JumpingClock();
    const model = scripted(({ n }) => `answer ${n}`);
    const crew = makeCrew([agent("a", { model })], { clock, worker: { lease: "1d" } });
    await (await crew.start("a", { prompt: "one", session: "s" })).result();
    clock.jump(-3_600_000);
    await (await crew.start("a", { prompt: "two", session: "s" })).result();
    expect(shown(model.doStreamCalls[1]?.prompt ?? [])).toEqual(["user: one", "assistant: answer 1", "user: two"]);
    expect(shown((await (await crew.session("s")).messages()) as never)).toHaveLength(4);
  });

  test("are all told as open, the one at work first, however many wait", async () => {
    const hold = gate();
    const model = scripted(async () => {
      await hold.opened;
      return "ok";
    });
    const crew = makeCrew([agent("a", { model })]);
    const begin = (prompt: string) => crew.start("a", { prompt, session: "s" });
    const first = await begin("first");
    await until("the first turn is at work", async () => (await first.row()).status === "running");
    await Promise.all(Array.from({ length: MAX_QUEUED_TURNS }, (_, n) => begin(`question ${n}`)));
    const session = await crew.session("s");
    expect(session.open.map(({ turn }) => turn)).toEqual(Array.from({ length: MAX_QUEUED_TURNS + 1 }, (_, n) => n + 1));
    expect(session.open[0]).toMatchObject({ id: first.id, status: "running" });
    expect(shown((await session.messages()) as never)[0]).toBe("user: first");
    hold.open();
  });

  test("that failed or were cancelled leave no call without a result for the turns after", async () => {
    const hold = gate();
    const model = scripted(({ prompt }): Answer => {
      const asked = saidLast(shown(prompt));
      if (asked === "fail") return new TypeError("model is broken");
      return asked === "hang" ? { text: "let me see", calls: [call("wait", {}, "w"), call("look", {}, "l")] } : "fine";
    });
    const wait = tool({
      inputSchema: anything,
      execute: () => {
        hold.open();
        return new Promise<string>(() => {});
      },
    });
    const look = tool({ inputSchema: anything, execute: async () => "seen" });
    const crew = makeCrew([agent("a", { model, tools: { wait, look }, policy: { wait: { effect: "read" } } })]);
    await expect((await crew.start("a", { prompt: "fail", session: "s" })).result()).rejects.toMatchObject({ code: "MODEL_FAILED" });
    const hung = await crew.start("a", { prompt: "hang", session: "s" });
    await hold.opened;
    await until("the other call has ended", async () =>
      (await hung.journal()).some((event) => event.type === "step.succeeded" && event.step === "tool:l"),
    );
    await hung.cancel();
    await expect(hung.result()).rejects.toMatchObject({ code: "RUN_CANCELLED" });
    expect(await (await crew.start("a", { prompt: "go on", session: "s" })).result()).toBe("fine");
    const prompt = model.doStreamCalls.at(-1)?.prompt ?? [];
    const asked = prompt
      .flatMap((message) => (message.role === "assistant" ? message.content : []))
      .flatMap((part) => (part.type === "tool-call" ? [part.toolCallId] : []));
    expect(asked).toEqual(["w", "l"]);
    expect(Object.keys(results(prompt)).sort()).toEqual(["l", "w"]);
    expect(results(prompt)["w"]?.type).toBe("error-text");
    expect(shown(prompt)[0]).toBe("user: fail");
  });

  test("show the model no more of the past than its author said", async () => {
    const model = scripted(({ n }) => `answer ${n}`);
    const crew = makeCrew([agent("a", { model, historyTurns: 1 })]);
    for (const prompt of ["one", "two", "three"]) await (await crew.start("a", { prompt, session: "s" })).result();
    expect(shown(model.doStreamCalls[2]?.prompt ?? [])).toEqual(["user: two", "assistant: answer 2", "user: three"]);
  });
});

describe("a session belongs to one user of one tenant and one agent", () => {
  const setup = async () => {
    const model = scripted(() => "ok");
    const crew = makeCrew([agent("a", { model }), agent("b", { model })]);
    await (await crew.start("a", { prompt: "secret", session: "s", principal: { tenant: "t", user: "ann" } })).result();
    return { crew, model };
  };

  test("another user, or another agent, is told that there is no such session, and no run is made", async () => {
    const { crew } = await setup();
    for (const [name, user] of [
      ["a", "bob"],
      ["b", "ann"],
      ["a", "ANN"],
    ] as const) {
      for (const whenBusy of ["queue", "reject", "interrupt", "steer"] as const) {
        await expect(crew.start(name, { prompt: "mine?", session: "s", whenBusy, principal: { tenant: "t", user } })).rejects.toMatchObject(
          { code: "SESSION_NOT_FOUND" },
        );
      }
    }
    expect(await crew.runs()).toHaveLength(1);
  });

  test("a session of the same name in another tenant is another session", async () => {
    const { crew, model } = await setup();
    await (await crew.start("a", { prompt: "hello", session: "s", principal: { tenant: "u", user: "ann" } })).result();
    expect(shown(model.doStreamCalls.at(-1)?.prompt ?? [])).toEqual(["user: hello"]);
    expect(JSON.stringify(await (await crew.session("s", "u")).messages())).not.toContain("secret");
    await expect(crew.session("s")).rejects.toMatchObject({ code: "SESSION_NOT_FOUND" });
  });
});

describe("a message that comes while a turn is running", () => {
  /** A turn whose first answer waits until the test lets it end. */
  const busy = async () => {
    const hold = gate();
    const began = gate();
    const model = scripted(async ({ n, prompt }): Promise<Answer> => {
      if (n > 1) return `answer to ${saidLast(shown(prompt))}`;
      began.open();
      return { text: "first answer", gate: hold.opened };
    });
    const crew = makeCrew([agent("a", { model })]);
    const first = await crew.start("a", { prompt: "first", session: "s" });
    await began.opened;
    return { crew, first, hold, model };
  };

  test("`queue`: is answered after it", async () => {
    const { crew, first, hold, model } = await busy();
    const second = await crew.start("a", { prompt: "second", session: "s" });
    expect((await second.view()).summary).toMatch(/Waiting for its turn/);
    hold.open();
    expect([await first.result(), await second.result()]).toEqual(["first answer", "answer to second"]);
    expect(shown(model.doStreamCalls[1]?.prompt ?? [])).toEqual(["user: first", "assistant: first answer", "user: second"]);
  });

  test("`reject`: is refused, says when to try again, and leaves no trace", async () => {
    const { crew, first, hold } = await busy();
    await expect(crew.start("a", { prompt: "second", session: "s", whenBusy: "reject" })).rejects.toMatchObject({
      code: "SESSION_BUSY",
      retryAfterMs: expect.any(Number),
    });
    hold.open();
    await first.result();
    expect(await (await crew.start("a", { prompt: "third", session: "s", whenBusy: "reject" })).result()).toBe("answer to third");
    expect(JSON.stringify(await (await crew.session("s")).messages())).not.toContain("second");
  });

  test("`interrupt`: cancels it and is answered; what was said before is still known", async () => {
    const { crew, first, model } = await busy();
    const second = await crew.start("a", { prompt: "second", session: "s", whenBusy: "interrupt" });
    await expect(first.result()).rejects.toMatchObject({ code: "RUN_CANCELLED", message: expect.stringContaining("newer message") });
    expect(await second.result()).toBe("answer to second");
    expect(shown(model.doStreamCalls[1]?.prompt ?? [])).toEqual(["user: first", "user: second"]);
  });

  test("`interrupt` while turns are waiting: those are answered too, in order", async () => {
    const { crew, first } = await busy();
    const second = await crew.start("a", { prompt: "second", session: "s" });
    const third = await crew.start("a", { prompt: "third", session: "s", whenBusy: "interrupt" });
    await expect(first.result()).rejects.toMatchObject({ code: "RUN_CANCELLED" });
    expect([await second.result(), await third.result()]).toEqual(["answer to second", "answer to third"]);
  });

  test("`steer`: goes into the running turn, which answers it; there is no second turn", async () => {
    const { crew, first, hold, model } = await busy();
    const second = await crew.start("a", { prompt: "in French please", session: "s", whenBusy: "steer" });
    expect(second.id).toBe(first.id);
    hold.open();
    expect(await first.result()).toBe("answer to in French please");
    expect(shown(model.doStreamCalls[1]?.prompt ?? [])).toEqual(["user: first", "assistant: first answer", "user: in French please"]);
    expect(await crew.runs({ session: "s" })).toHaveLength(1);
  });

  test("`steer` between tool calls: the model sees it after the results, and no call is left without one", async () => {
    const hold = gate();
    const began = gate();
    const model = scripted([{ calls: [call("work", {}, "w")] }, "done"]);
    const work = tool({
      inputSchema: anything,
      execute: async () => {
        began.open();
        await hold.opened;
        return "worked";
      },
    });
    const crew = makeCrew([agent("a", { model, tools: { work } })]);
    const run = await crew.start("a", { prompt: "go", session: "s" });
    await began.opened;
    await crew.start("a", { prompt: "hurry", session: "s", whenBusy: "steer" });
    await until("the message has arrived", async () => (await run.journal()).some(({ type }) => type === "message.received"));
    hold.open();
    await run.result();
    expect(model.doStreamCalls[1]?.prompt.map(({ role }) => role)).toEqual(["user", "assistant", "tool", "user"]);
  });

  test("a turn that was cancelled in a call, with a message behind the call, leaves a conversation that models accept", async () => {
    const began = gate();
    const model = scripted([{ calls: [call("work", {}, "w")] }, "the next turn's answer"]);
    const work = tool({
      inputSchema: anything,
      execute: (_, { abortSignal }) => {
        began.open();
        return new Promise((_resolve, reject) => abortSignal?.addEventListener("abort", () => reject(abortSignal.reason)));
      },
    });
    const crew = makeCrew([agent("a", { model, tools: { work } })]);
    const run = await crew.start("a", { prompt: "go", session: "s" });
    await began.opened;
    await crew.start("a", { prompt: "hurry", session: "s", whenBusy: "steer" });
    await until("the message has arrived", async () => (await run.journal()).some(({ type }) => type === "message.received"));
    const next = await crew.start("a", { prompt: "forget it", session: "s", whenBusy: "interrupt" });
    expect(await next.result()).toBe("the next turn's answer");
    expect(model.doStreamCalls[1]?.prompt.map(({ role }) => role)).toEqual(["user", "assistant", "tool", "user", "user"]);
  });

  test("`steer` while a model is asked that then fails is shown to it at the next attempt, and not twice", async () => {
    const hold = gate();
    const began = gate();
    const model = scripted(async ({ n }) => {
      if (n > 1) return "answer";
      began.open();
      await hold.opened;
      throw new APICallError({ message: "overloaded", url: "", requestBodyValues: {}, statusCode: 529, isRetryable: true });
    });
    const crew = makeCrew([agent("a", { model })]);
    const run = await crew.start("a", { prompt: "go", session: "s" });
    await began.opened;
    await crew.start("a", { prompt: "hurry", session: "s", whenBusy: "steer" });
    await until("the message has arrived", async () => (await run.journal()).some(({ type }) => type === "message.received"));
    hold.open();
    expect(await run.result()).toBe("answer");
    expect(model.doStreamCalls.map(({ prompt }) => shown(prompt))).toEqual([["user: go"], ["user: go", "user: hurry"]]);
  });

  test("a message that came while the model was asked is not lost to the conversation when the turn is cancelled then", async () => {
    const began = gate();
    const model = scripted(({ n }) => {
      if (n > 1) return "answer";
      began.open();
      return new Promise<never>(() => {});
    });
    const crew = makeCrew([agent("a", { model })]);
    const run = await crew.start("a", { prompt: "go", session: "s" });
    await began.opened;
    await crew.start("a", { prompt: "hurry", session: "s", whenBusy: "steer" });
    await until("the message has arrived", async () => (await run.journal()).some(({ type }) => type === "message.received"));
    const next = await crew.start("a", { prompt: "start over", session: "s", whenBusy: "interrupt" });
    expect(await next.result()).toBe("answer");
    expect(shown(model.doStreamCalls[1]?.prompt ?? [])).toEqual(["user: go", "user: hurry", "user: start over"]);
  });

  test("`steer` as the turn is ending is answered, by this turn or by the next, two hundred times out of two hundred", async () => {
    const heard: string[] = [];
    const model = scripted(({ prompt }) => {
      heard.push(...shown(prompt).filter((line) => line.startsWith("user: ")));
      return "ok";
    });
    const crew = makeCrew([agent("a", { model })]);
    await Promise.all(
      Array.from({ length: 200 }, async (_, n) => {
        const first = await crew.start("a", { prompt: `first ${n}`, session: `s${n}` });
        for (let turn = 0; turn < n % 7; turn++) await new Promise((tick) => setImmediate(tick));
        const second = await crew.start("a", { prompt: `second ${n}`, session: `s${n}`, whenBusy: "steer" });
        await Promise.all([first.result(), second.result()]);
      }),
    );
    for (let n = 0; n < 200; n++) expect(heard).toContain(`user: second ${n}`);
  });

  test("`steer` that comes while it is decided that the turn is over is answered by this turn", async () => {
    const asked = gate();
    const heard = gate();
    const model = scripted([{ calls: [call("work", {})] }, "in a hurry"]);
    const stopWhen = async () => {
      asked.open();
      await heard.opened;
      return true;
    };
    const work = tool({ inputSchema: anything, execute: async () => "done" });
    const crew = makeCrew([agent("a", { model, tools: { work }, stopWhen })]);
    const run = await crew.start("a", { prompt: "go", session: "s" });
    await asked.opened;
    await crew.start("a", { prompt: "hurry", session: "s", whenBusy: "steer" });
    await until("the message has arrived", async () => (await run.journal()).some(({ type }) => type === "message.received"));
    heard.open();
    expect(await run.result()).toBe("in a hurry");
    expect(shown(model.doStreamCalls[1]?.prompt ?? [])).toContain("user: hurry");
  });

  test("`steer` after the turn was asked to stop is answered by a turn of its own", async () => {
    const { crew, first } = await busy();
    await first.cancel("stop");
    const second = await crew.start("a", { prompt: "second", session: "s", whenBusy: "steer" });
    await expect(first.result()).rejects.toMatchObject({ code: "RUN_CANCELLED" });
    expect(await second.result()).toBe("answer to second");
  });

  test("an unknown policy is refused", async () => {
    const { crew } = await busy();
    await expect(crew.start("a", { prompt: "x", session: "s", whenBusy: "push" as never })).rejects.toMatchObject({
      code: "INPUT_INVALID",
      message: expect.stringMatching(/whenBusy.*queue, reject, interrupt, steer/),
    });
  });
});

describe("typed state of a session", () => {
  interface Item {
    name: string;
    added: Date;
  }
  const cart = sessionState<Item[]>("cart", []);
  const visits = sessionState("visits", 0);

  const stateful = (answers: Answer[]) => {
    const model = scripted(answers);
    const tools = {
      add: tool({
        inputSchema: z.object({ name: z.string() }),
        execute: async ({ name }) => cart.update((items) => [...items, { name, added: new Date(0) }]),
      }),
      addAndFail: tool({
        inputSchema: anything,
        execute: async (): Promise<string> => {
          cart.get().push({ name: "by the back door", added: new Date() });
          cart.set([]);
          throw new Error("no stock");
        },
      }),
      count: tool({ inputSchema: anything, execute: async () => visits.update((n) => n + 1) }),
      read: tool({ inputSchema: anything, execute: async () => ({ cart: cart.get(), visits: visits.get() }) }),
      spoil: tool({ inputSchema: anything, execute: async () => visits.set((() => 1) as never) }),
    };
    return { model, crew: makeCrew([agent("a", { model, tools })]) };
  };

  test("is typed", () => {
    expectTypeOf(cart.get).returns.toEqualTypeOf<Item[]>();
    expectTypeOf(visits.set).parameter(0).toEqualTypeOf<number>();
  });

  test("is there in later turns as it was set, dates and all; and in no other session", async () => {
    const { crew, model } = stateful([
      { calls: [call("add", { name: "tea" })] },
      "ok",
      { calls: [call("read", {})] },
      "ok",
      { calls: [call("read", {})] },
      "ok",
    ]);
    await (await crew.start("a", { prompt: "1", session: "s" })).result();
    await (await crew.start("a", { prompt: "2", session: "s" })).result();
    expect(results(model.doStreamCalls[3]?.prompt ?? [])["call-read"]?.value).toEqual({
      cart: [{ name: "tea", added: "1970-01-01T00:00:00.000Z" }],
      visits: 0,
    });
    expect(await (await crew.session("s")).state()).toEqual({ cart: [{ name: "tea", added: new Date(0) }] });
    await (await crew.start("a", { prompt: "3", session: "other" })).result();
    expect(results(model.doStreamCalls[5]?.prompt ?? [])["call-read"]?.value).toEqual({ cart: [], visits: 0 });
  });

  test("of tools that run side by side loses nothing: neither of two parts, nor of two changes to one", async () => {
    const calls = [
      ...Array.from({ length: 8 }, (_, n) => call("add", { name: `item ${n}` }, `a${n}`)),
      call("count", {}),
      call("count", {}, "again"),
    ];
    const { crew } = stateful([{ calls }, "ok"]);
    await (await crew.start("a", { prompt: "1", session: "s" })).result();
    const state = await (await crew.session("s")).state();
    expect((state["cart"] as Item[]).map(({ name }) => name).sort()).toEqual(Array.from({ length: 8 }, (_, n) => `item ${n}`));
    expect(state["visits"]).toBe(2);
  });

  test("is not changed by a step that fails, whatever it did to what it read", async () => {
    const { crew, model } = stateful([
      { calls: [call("add", { name: "tea" })] },
      { calls: [call("addAndFail", {})] },
      { calls: [call("read", {})] },
      "ok",
    ]);
    await (await crew.start("a", { prompt: "1", session: "s" })).result();
    expect(results(model.doStreamCalls[3]?.prompt ?? [])["call-read"]?.value).toMatchObject({ cart: [{ name: "tea" }] });
    expect(await (await crew.session("s")).state()).toMatchObject({ cart: [{ name: "tea" }] });
  });

  test("that cannot be kept fails the step that set it, and leaves the rest", async () => {
    const { crew, model } = stateful([{ calls: [call("count", {})] }, { calls: [call("spoil", {})] }, { calls: [call("read", {})] }, "ok"]);
    await (await crew.start("a", { prompt: "1", session: "s" })).result();
    const told = results(model.doStreamCalls[3]?.prompt ?? []);
    expect(told["call-spoil"]).toMatchObject({ type: "error-text", value: expect.stringMatching(/session state.*visits/) });
    expect(told["call-read"]?.value).toEqual({ cart: [], visits: 1 });
  });

  test("survives a turn that fails after it was set", async () => {
    const { crew } = stateful([{ calls: [call("count", {})] }, new TypeError("broken")]);
    await (await crew.start("a", { prompt: "1", session: "s" })).result().catch(() => {});
    expect(await (await crew.session("s")).state()).toEqual({ visits: 1 });
  });

  test("larger than stands in an event comes back whole, in the same turn and in the next", async () => {
    const note = sessionState("note", "");
    const model = scripted([{ calls: [call("write", {})] }, { calls: [call("size", {})] }, "ok", { calls: [call("size", {})] }, "ok"]);
    const tools = {
      write: tool({ inputSchema: anything, execute: async () => note.set("x".repeat(300_000)) }),
      size: tool({ inputSchema: anything, execute: async () => note.get().length }),
    };
    const crew = makeCrew([agent("a", { model, tools })]);
    await (await crew.start("a", { prompt: "1", session: "s" })).result();
    await (await crew.start("a", { prompt: "2", session: "s" })).result();
    expect(results(model.doStreamCalls[2]?.prompt ?? [])["call-size"]?.value).toBe(300_000);
    expect(results(model.doStreamCalls[4]?.prompt ?? [])["call-size"]?.value).toBe(300_000);
  });
});

describe("retention", () => {
  test("a dry run says what would go and takes nothing; then just that goes; open runs and kept sessions stay", async () => {
    const clock = new JumpingClock();
    const model = scripted(({ n }) => `answer ${n}`);
    const hold = gate();
    const slow = agent("slow", {
      model: scripted(async () => {
        await hold.opened;
        return "late";
      }),
      deadline: "60d",
    });
    const crew = makeCrew([agent("a", { model }), slow], {
      clock,
      store: tempStore(),
      worker: { lease: "365d" },
      retention: { runs: "10d", sessions: "20d", chunks: "1d" },
    });
    const old = await crew.start("a", { prompt: "old" });
    await old.result();
    const abandoned = await crew.start("a", { prompt: "1", session: "abandoned" });
    await abandoned.result();
    const first = await crew.start("a", { prompt: "1", session: "kept" });
    await first.result();
    const open = await crew.start("slow", { prompt: "1" });
    const openTurn = await crew.start("slow", { prompt: "1", session: "open" });
    clock.jump(15 * 24 * 3_600_000);
    await (await crew.start("a", { prompt: "2", session: "kept" })).result();
    clock.jump(10 * 24 * 3_600_000);
    const young = await crew.start("a", { prompt: "young" });
    await young.result();

    const plan = await crew.cleanup({ dryRun: true });
    expect(plan).toMatchObject({ runs: 2, sessions: 1 });
    expect(await crew.runs()).toHaveLength(7);
    const done = await crew.cleanup();
    expect(done).toMatchObject({ runs: plan.runs, sessions: plan.sessions, events: plan.events });
    const left = (await crew.runs()).map(({ id }) => id);
    for (const run of [first, open, openTurn, young]) expect(left).toContain(run.id);
    for (const run of [old, abandoned]) await expect(crew.run(run.id)).rejects.toMatchObject({ code: "RUN_NOT_FOUND" });
    await expect(crew.session("abandoned")).rejects.toMatchObject({ code: "SESSION_NOT_FOUND" });
    expect(await (await crew.session("kept")).messages()).toHaveLength(4);
    expect(await crew.cleanup({ dryRun: true })).toMatchObject({ runs: 0, sessions: 0, more: false });
    hold.open();
    expect(await open.result()).toBe("late");
  });
});

test("a turn that waits for a person holds the session, not the worker", async () => {
  const model = scripted(({ n }): Answer => (n === 1 ? { calls: [call("pay", {})] } : "ok"));
  const pay = tool({ inputSchema: anything, execute: () => new Promise<string>(() => {}) });
  const crew = makeCrew([agent("a", { model, tools: { pay }, policy: { pay: { timeout: 20 } } })]);
  const first = await crew.start("a", { prompt: "1", session: "s" });
  await reaches(first, "unknown_outcome");
  const second = await crew.start("a", { prompt: "2", session: "s" });
  await until("the worker is idle", async () => (await crew.health()).worker?.runs === 0);
  expect((await second.view()).status).toBe("queued");
  await first.resolve("tool:call-pay", { resolution: "happened" });
  expect([await first.result(), await second.result()]).toEqual(["ok", "ok"]);
});
