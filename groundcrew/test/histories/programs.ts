/**
 * What the stored histories were recorded with, and are resumed with: the same agents, and for each history how it began, what
 * lets it go on, and how it must end. They are not changed once a release has recorded them; a new thing is a new program.
 */
import { tool } from "ai";
import { z } from "zod";
import { agent, type Definition, flow } from "../../src/agent.ts";
import { sessionState } from "../../src/call.ts";
import { GroundcrewError } from "../../src/errors.ts";
import type { Event } from "../../src/persistence/event.ts";
import type { RunStatus } from "../../src/persistence/store.ts";
import type { Crew, Run } from "../../src/runtime.ts";
import { reaches } from "../support/crew.ts";
import { type Asked, call, scripted } from "../support/model.ts";
import { until } from "../support/until.ts";

/** When everything was recorded: a resumed run must be within its deadline. */
export const RECORDED_AT = Date.UTC(2026, 0, 1);

/** What the agents can do to the outside. */
export interface World {
  /** Told each effect that happens. */
  happened(effect: string): void;
  /** Called as an effect begins; while a history is recorded, some never come back. */
  begins(effect: string): Promise<void>;
}

export interface Program {
  /** Effects that hang while it is recorded, from their nth time on. */
  hangs?: Record<string, number>;
  /** Up to where its history ends, be it that its process dies there. */
  record(crew: Crew, die: () => never): Promise<unknown>;
  /** What another process records then. */
  goOn?(crew: Crew): Promise<unknown>;
  /** Lets its runs come to their ends. */
  resume(crew: Crew, runs: Run[], jump: (ms: number) => void): Promise<unknown>;
  /** How its runs end, oldest first. */
  ends: { agent: string; status: RunStatus; output?: unknown }[];
  /** What has to happen after the resume, and nothing else. */
  effects: string[];
}

const visits = sessionState("visits", 0);
const given = z.object({ id: z.string() });

/** Calls what the user's last message names, then says what came of it. */
function answer({ prompt }: Asked) {
  const said = prompt.flatMap((message) => (message.role === "user" ? message.content : []));
  const asked = said.map((part) => (part.type === "text" ? part.text : "")).at(-1) ?? "";
  const last = prompt.at(-1);
  if (last?.role !== "tool") {
    const names = asked.split(" ").filter((word) => word.startsWith("/"));
    if (names.length === 0) return `You said: ${asked}`;
    return { text: "One moment.", calls: names.map((name) => call(name.slice(1), { id: "7" }, `call-${said.length}-${name.slice(1)}`)) };
  }
  const results = last.content.flatMap((part) => (part.type === "tool-result" ? [part] : []));
  return results
    .map(({ toolName, output }) => `${toolName} ${JSON.stringify("value" in output ? output.value : output.type).slice(0, 40)}`)
    .join(", ");
}

export function definitions(world: World): Definition[] {
  const effect = (name: string, value: unknown = `${name} done`) =>
    tool({
      inputSchema: given,
      execute: async () => {
        await world.begins(name);
        world.happened(name);
        return value;
      },
    });
  const helper = agent("helper", {
    model: scripted(answer),
    instructions: "Help.",
    tools: {
      look: effect("look", { at: new Date(0), big: 2n ** 70n }),
      note: effect("note"),
      pay: effect("pay"),
      send: effect("send"),
      big: effect("big", "x".repeat(66_000)),
      count: tool({
        inputSchema: given,
        execute: async () => {
          visits.update((n) => n + 1);
          await world.begins("count");
          world.happened("count");
          return visits.get();
        },
      }),
    },
    policy: {
      look: { effect: "read" },
      note: { effect: "idempotent" },
      pay: { effect: "keyed", key: ({ id }) => id },
      big: { effect: "read" },
      count: { effect: "idempotent" },
    },
  });
  const asker = flow("asker", async (ctx, _input: null) => {
    const before = await ctx.step("before", () => {
      world.happened("before");
      return new Map([["n", 1]]);
    });
    const reply = await ctx.waitFor<string>("reply");
    return { before, reply };
  });
  const report = flow("report", async (ctx, _input: null) => {
    const first = await ctx.step("first", { effect: "once" }, () => {
      world.happened("first");
      return 1;
    });
    const child = await ctx.call(helper, { prompt: "/look" });
    await ctx.sleep("1h");
    const rest = await ctx.all(
      ["a", "b"].map((name) =>
        ctx.step(`rest ${name}`, { effect: "keyed", args: name }, () => {
          world.happened(name);
          return name;
        }),
      ),
    );
    return [first, child, rest];
  });
  return [helper, asker, report];
}

const LOOKED = `look {"at":"1970-01-01T00:00:00.000Z","big":"`;
const succeeded = (output: unknown, name = "helper") => ({ agent: name, status: "succeeded" as const, output });
const done = (crew: Crew, prompt: string, session?: string) =>
  crew.start("helper", { prompt, ...(session && { session }) }).then((run) => run.result());
const begun = async (crew: Crew, prompt: string, session?: string) => crew.start("helper", { prompt, ...(session && { session }) });

/** Waits until the run has recorded these. */
const recorded = (run: Run, ...facts: [type: Event["type"], step: string][]) =>
  until(`${facts} are recorded`, async () => {
    const events = await run.journal();
    return facts.every(([type, step]) => events.some((event) => event.type === type && "step" in event && event.step === step));
  });

const onlyRun = async (crew: Crew) => crew.run((await crew.runs())[0]?.id ?? "");
const all = (_: Crew, runs: Run[]) => Promise.all(runs.map((run) => run.result()));
const nothing = async () => {};

export const programs: Readonly<Record<string, Program>> = {
  "finished with tools": {
    record: (crew) => done(crew, "/look /note"),
    resume: all,
    ends: [succeeded(`${LOOKED}, note "note done"`)],
    effects: [],
  },
  "parked on a signal": {
    record: async (crew) => reaches(await crew.start("asker", { input: null }), "signal"),
    resume: async (_, [run]) => {
      await run?.signal("reply", "yes");
      await run?.result();
    },
    ends: [succeeded({ before: new Map([["n", 1]]), reply: "yes" }, "asker")],
    effects: [],
  },
  "killed in a once tool": {
    hangs: { send: 1 },
    record: async (crew, die) => {
      await recorded(await begun(crew, "/send"), ["step.started", "tool:call-1-send"]);
      die();
    },
    resume: async (_, [run]) => {
      if (!run) return;
      await reaches(run, "unknown_outcome");
      await run.resolve("tool:call-1-send", { resolution: "happened", result: "it was sent", by: "me" });
      await run.result();
    },
    ends: [succeeded(`send "it was sent"`)],
    effects: [],
  },
  "parked on an unknown outcome": {
    hangs: { send: 1 },
    record: async (crew, die) => {
      await recorded(await begun(crew, "/send"), ["step.started", "tool:call-1-send"]);
      die();
    },
    goOn: async (crew) => reaches(await onlyRun(crew), "unknown_outcome"),
    resume: async (_, [run]) => {
      if (!run) return;
      await reaches(run, "unknown_outcome");
      await run.resolve("tool:call-1-send", { resolution: "did_not_happen", by: "me" });
      await run.result();
    },
    ends: [succeeded(`send "send done"`)],
    effects: ["send"],
  },
  "killed among parallel tools": {
    hangs: { note: 1, pay: 1 },
    record: async (crew, die) => {
      const run = await begun(crew, "/look /note /pay");
      await recorded(run, ["step.succeeded", "tool:call-1-look"], ["step.started", "tool:call-1-pay"]);
      die();
    },
    resume: all,
    ends: [succeeded(`${LOOKED}, note "note done", pay "pay done"`)],
    effects: ["note", "pay"],
  },
  "flow half-way": {
    record: async (crew) => reaches(await crew.start("report", { input: null }), "timer"),
    resume: async (crew, runs, jump) => {
      jump(2 * 3_600_000);
      await all(crew, runs);
    },
    ends: [succeeded([1, LOOKED, ["a", "b"]], "report"), succeeded(LOOKED)],
    effects: ["a", "b"],
  },
  "session with state": {
    hangs: { count: 2 },
    record: async (crew, die) => {
      await done(crew, "/count", "s");
      const second = await begun(crew, "/count twice", "s");
      await begun(crew, "and now", "s");
      await recorded(second, ["step.succeeded", "model:1"]);
      die();
    },
    resume: async (crew, runs) => {
      await all(crew, runs);
      const state = await (await crew.session("s")).state();
      if (state["visits"] !== 2) throw new GroundcrewError("INTERNAL", `The session has counted ${state["visits"]} visits.`);
    },
    ends: [succeeded("count 1"), succeeded("count 2"), succeeded("You said: and now")],
    effects: ["count"],
  },
  cancelled: {
    record: async (crew) => {
      const run = await crew.start("asker", { input: null });
      await reaches(run, "signal");
      await run.cancel("no longer needed");
      await reaches(run, "cancelled");
    },
    resume: nothing,
    ends: [{ agent: "asker", status: "cancelled" }],
    effects: [],
  },
  forked: {
    record: async (crew) => {
      const run = await crew.start("helper", { prompt: "/look /pay" });
      await run.result();
      await (await run.fork({ from: "model:2" })).result();
    },
    resume: all,
    ends: [succeeded(`${LOOKED}, pay "pay done"`), succeeded(`${LOOKED}, pay "pay done"`)],
    effects: [],
  },
  steered: {
    hangs: { note: 1 },
    record: async (crew, die) => {
      await recorded(await begun(crew, "/note", "s"), ["step.succeeded", "model:1"]);
      await crew.start("helper", { prompt: "and in French", session: "s", whenBusy: "steer" });
      die();
    },
    resume: all,
    ends: [succeeded("You said: and in French")],
    effects: ["note"],
  },
  "with a blob": {
    hangs: { pay: 1 },
    record: async (crew, die) => {
      await recorded(await begun(crew, "/big /pay"), ["step.succeeded", "tool:call-1-big"]);
      die();
    },
    resume: all,
    ends: [succeeded(`big "${"x".repeat(39)}, pay "pay done"`)],
    effects: ["pay"],
  },
};
