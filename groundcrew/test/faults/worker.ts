/** A process that works, until something kills it. It is given its job as JSON, and says when it is ready. */
import { createOpenAI } from "@ai-sdk/openai";
import { tool } from "ai";
import { z } from "zod";
import { agent, currentCall, groundcrew } from "../../src/index.ts";

export interface Job {
  store: string;
  /** Base URL of the model. */
  model: string;
  /** Address of the world outside, which hears of each tool call and says what it does. */
  world: string;
}

/** What the world says of a call: a text to give back, or that the process dies of it, or that it takes as long as the world wants. */
export type Verdict = { dies: true } | { gives: string };

export function agentsOf({ model, world }: Omit<Job, "store">) {
  Object.assign(globalThis, { AI_SDK_LOG_WARNINGS: false });
  const asking = { model: createOpenAI({ baseURL: model, apiKey: "none" }).chat("m") };

  async function act({ name }: { name: string }): Promise<string> {
    const response = await fetch(`${world}/${name}`, { method: "POST" });
    const verdict = (await response.json()) as Verdict;
    if ("gives" in verdict) return verdict.gives;
    process.kill(process.pid, "SIGKILL");
    return new Promise(() => {}); // a signal takes a moment
  }

  return {
    asking: agent("asking", {
      ...asking,
      prepareCall: (options) => ({
        ...options,
        headers: { "idempotency-key": currentCall().key, "x-attempt": String(currentCall().attempt) },
      }),
    }),
    acting: agent("acting", {
      ...asking,
      tools: { act: tool({ inputSchema: z.object({ name: z.string() }), execute: act }) },
      policy: { act: { effect: "read" } },
    }),
  };
}

if (process.argv[2] !== undefined && process.send) {
  const job = JSON.parse(process.argv[2]) as Job;
  const crew = groundcrew({ agents: Object.values(agentsOf(job)), store: job.store, onTrouble: () => {} });
  process.once("SIGTERM", () => void crew.close().then(() => process.exit(0))); // a tool that goes on would keep it alive
  await crew.work();
  process.send("ready");
}
