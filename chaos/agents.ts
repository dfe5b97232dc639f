/** The agents and flows of every worker process: they do what a program says, and each effect reaches the world outside. */
import { createOpenAI } from "@ai-sdk/openai";
import { type ToolSet, tool } from "ai";
import { z } from "zod";
import {
  type Agent,
  agent,
  type Call,
  currentCall,
  type Definition,
  type Flow,
  type FlowContext,
  type FlowStep,
  flow,
  isError,
  type Reconciled,
  sessionState,
  type ToolPolicy,
} from "../groundcrew/src/index.ts";
import { DECLINED, failureOf, idOf } from "./expected.ts";
import { PROMPTS } from "./model.ts";
import { type Act, flowOf, HANG_MS, isAgent, type Manner, type Node, type Order, PATIENCE_MS, toolFor } from "./programs.ts";
import type { Call as WorldCall } from "./world.ts";

export interface Crew {
  program: Flow<Order, unknown>;
  clerk: Agent;
  talker: Agent;
  all: Definition[];
}

/** @param url address of the world */
export function crewOf(url: string): Crew {
  Object.assign(globalThis, { AI_SDK_LOG_WARNINGS: false });
  const outside = new Outside(url);
  const model = createOpenAI({ baseURL: `${url}/v1`, apiKey: "none", headers: { "x-pid": String(process.pid) } }).chat("chaos");

  const tools: ToolSet = {};
  const policy: Record<string, ToolPolicy<Errand, string>> = {};
  for (const manner of ["ok", "hang"] as const) {
    const timeout = timeoutOf(manner);
    const add = (name: string, effect: Act["effect"], rest: ToolPolicy<Errand, string>) => {
      const execute = (input: Errand) => outside.act({ ...input, effect }, currentCall(), currentCall().signal);
      tools[toolFor(name, manner)] = tool({ inputSchema: errand, execute });
      policy[toolFor(name, manner)] = { ...rest, timeout, attempts: 1, breaker: false }; // what a program expects is one attempt
    };
    add("look", "read", { effect: "read" });
    add("tag", "idempotent", { effect: "idempotent" });
    add("pay", "keyed", { effect: "keyed", key: ({ id }) => id });
    add("mail", "once", { effect: "once", reconcile: (_input, call) => outside.lookUp(call.key) });
    add("post", "once", {}); // as for a tool of which nothing is said
  }

  const clerk = agent("clerk", { model, tools, policy });
  const notes = sessionState<string[]>("notes", []);
  const note = tool({
    inputSchema: z.object({ token: z.string() }),
    execute: ({ token }) => {
      notes.update((before) => [...before, token]);
      return "noted";
    },
  });
  const talker = agent("talker", { model, tools: { ...tools, note }, policy: { ...policy, note: { effect: "idempotent" } } });

  const program: Flow<Order, unknown> = flow("program", async (ctx, order: Order) => {
    const { label, nodes, fails } = flowOf(order);
    const values: unknown[] = [];
    for (const node of nodes) values.push(await play(ctx, label, node));
    if (fails) throw new Error(failureOf(label));
    return values;
  });

  async function play(ctx: FlowContext, label: string, node: Node): Promise<unknown> {
    switch (node.type) {
      case "act":
        return step(ctx, label, node);
      case "ask":
        return (await ctx.generate(node.name, { model, prompt: PROMPTS.ask(idOf(label, node.name), node.falters) })).text;
      case "all":
        return ctx.all(node.nodes.map((inner) => play(ctx, label, inner)));
      case "sleep":
        await ctx.sleep(node.ms);
        return "slept";
      case "signal":
        return ctx.waitFor(node.name);
      case "lapse":
        return (await ctx.waitFor(node.name, { within: node.ms })) ?? "nobody came";
      case "child":
        return child(ctx, node.name, node.order);
    }
  }

  async function step(ctx: FlowContext, label: string, { name, effect, manner, ms, canLookUp }: Act): Promise<string> {
    const reconcile = ({ key }: { key: string }) => outside.lookUp(key);
    const options = { effect, attempts: 1, timeout: timeoutOf(manner), ...(effect === "once" && canLookUp && { reconcile }) };
    try {
      return await ctx.step(name, options, (call) => outside.act({ id: idOf(label, name), effect, manner, ms }, call, call.signal));
    } catch (error) {
      if (isError(error, "STEP_TIMEOUT")) return "late";
      if (isError(error, "STEP_FAILED") && error.message === DECLINED) return "declined";
      throw error;
    }
  }

  async function child(ctx: FlowContext, name: string, order: Order): Promise<unknown> {
    try {
      if (isAgent(order.shape)) return await ctx.call(clerk, { name, prompt: PROMPTS.order(order) });
      return await ctx.call(program, { name, input: order });
    } catch (error) {
      if (isError(error, "CHILD_FAILED")) return "the child failed";
      throw error;
    }
  }

  return { program, clerk, talker, all: [program, clerk, talker] };
}

const errand = z.object({ id: z.string(), manner: z.enum(["ok", "decline", "hang", "crash"]), ms: z.number() });
type Errand = z.infer<typeof errand>;

function timeoutOf(manner: Manner): number {
  return manner === "hang" ? HANG_MS : PATIENCE_MS;
}

/** The way to the world. */
class Outside {
  readonly #url: string;

  constructor(url: string) {
    this.#url = url;
  }

  async act(
    what: Omit<WorldCall, "key" | "attempt">,
    { key, attempt }: Pick<Call | FlowStep, "key" | "attempt">,
    signal: AbortSignal,
  ): Promise<string> {
    const body = JSON.stringify({ ...what, key, attempt } satisfies WorldCall);
    const limit = what.manner === "hang" ? AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]) : signal;
    const response = await fetch(`${this.#url}/act`, { method: "POST", body, headers: { "x-pid": String(process.pid) }, signal: limit });
    const { receipt, crash, error } = (await response.json()) as { receipt?: string; crash?: true; error?: string };
    if (crash) process.kill(process.pid, "SIGKILL");
    if (receipt === undefined) throw new Error(error);
    return receipt;
  }

  async lookUp(key: string): Promise<Reconciled<string>> {
    const response = await fetch(`${this.#url}/known?key=${encodeURIComponent(key)}`);
    return (await response.json()) as Reconciled<string>;
  }
}
