/** The agents and flows that the crash tests kill: each effect reaches the world outside, which counts it. */
import { createOpenAI } from "@ai-sdk/openai";
import { tool } from "ai";
import { z } from "zod";
import { agent, currentCall, flow, type Reconciled } from "../../src/index.ts";

export interface ProgramOptions {
  /** Address of the world outside. */
  world: string;
  model: string;
  /** Whether `once` steps can look up what became of them; otherwise a person has to say. */
  reconcile: boolean;
}

type Receipt = { receipt: string };

export function programOf({ world, model: baseURL, reconcile }: ProgramOptions) {
  Object.assign(globalThis, { AI_SDK_LOG_WARNINGS: false });
  const model = createOpenAI({ baseURL, apiKey: "none" }).chat("gpt-4.1-mini");

  async function ask(name: string, { key, signal }: { key: string; signal: AbortSignal }): Promise<Receipt> {
    const response = await fetch(`${world}/${name}`, { method: "POST", headers: { "idempotency-key": key }, signal });
    return (await response.json()) as Receipt;
  }

  async function lookUp({ key }: { key: string }): Promise<Reconciled<Receipt>> {
    const response = await fetch(`${world}/known?key=${encodeURIComponent(key)}`);
    const { result } = (await response.json()) as { result?: Receipt };
    return result ? { happened: true, result } : { happened: false };
  }

  const once = reconcile ? { effect: "once" as const, reconcile: lookUp } : { effect: "once" as const };
  const act = (name: string) => tool({ inputSchema: z.object({ order: z.string() }), execute: () => ask(name, currentCall()) });

  const clerk = agent("clerk", {
    model,
    tools: { lookup: act("lookup"), refund: act("refund"), mail: act("mail") },
    policy: {
      lookup: { effect: "read" },
      refund: { effect: "keyed", key: ({ order }) => order },
      mail: reconcile ? { effect: "once", reconcile: (_input, call) => lookUp(call) } : { effect: "once" },
    },
  });

  const note = flow("note", async (ctx, input: { text: string }) => {
    const written = await ctx.step("write", once, (call) => ask("write", call));
    return { text: input.text, written };
  });

  /** Twelve steps of its own and six of its children: each kind and each effect, in a row and side by side. */
  const trip = flow("trip", async (ctx, input: { order: string }) => {
    const plan = await ctx.step("plan", { effect: "read" }, (call) => ask("plan", call));
    const seat = await ctx.step("reserve", { effect: "idempotent" }, (call) => ask("reserve", call));
    const [map, weather] = await ctx.all([
      ctx.step("map", { effect: "read" }, (call) => ask("map", call)),
      ctx.step("weather", { effect: "idempotent" }, (call) => ask("weather", call)),
    ]);
    const charge = await ctx.step("charge", { effect: "keyed" }, (call) => ask("charge", call));
    await ctx.sleep(20);
    const answer = await ctx.call(clerk, { prompt: `Please look after order ${input.order}.` });
    const reply = await ctx.waitFor<string>("go");
    const noted = await ctx.call(note, { input: { text: answer } });
    const summary = await ctx.generate("summary", { model, prompt: `Tell it in short: ${reply}` });
    const [published, again] = await ctx.all([
      ctx.step("publish", once, (call) => ask("publish", call)),
      ctx.step("tell", once, (call) => ask("tell", call)),
    ]);
    return { plan, seat, map, weather, charge, answer, reply, noted, summary: summary.text, published, again };
  });

  /** What a step answers to the world when its signal fires, and what it still tries to write then. */
  async function stubborn(name: string, call: { key: string; signal: AbortSignal }): Promise<Receipt> {
    const { progress } = currentCall();
    try {
      return await ask(name, call);
    } catch {
      progress(1, "too late");
      await ask(`${name}-aborted`, { key: call.key, signal: AbortSignal.timeout(5_000) });
      return { receipt: "too late" };
    }
  }

  /** Two steps side by side that take as long as the world lets them. */
  const vigil = flow("vigil", async (ctx) =>
    ctx.all([
      ctx.step("watch", { effect: "read" }, (call) => stubborn("watch", call)),
      ctx.step("guard", { effect: "idempotent" }, (call) => stubborn("guard", call)),
    ]),
  );

  const stairs = flow("stairs", async (ctx) => {
    const receipts: string[] = [];
    for (let stair = 1; stair <= 6; stair++) {
      const { receipt } = await ctx.step(`stair-${stair}`, (call) => ask(`stair-${stair}`, call));
      receipts.push(receipt);
    }
    return receipts;
  });

  return { clerk, note, trip, vigil, stairs };
}
