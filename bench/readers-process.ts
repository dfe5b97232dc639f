/** A process of `readers.ts`: `<store> api|worker`. The worker's model says a token at a time, each with the moment it was said. */
import { setTimeout as sleep } from "node:timers/promises";
import type { simulateReadableStream } from "ai";
import { MockLanguageModelV4 } from "ai/test";
import { agent, groundcrew } from "groundcrew";
import { serve } from "groundcrew/server";
import { TOKEN_MS } from "./readers.ts";

const [store = "", role] = process.argv.slice(2);

type Part = Awaited<ReturnType<MockLanguageModelV4["doStream"]>>["stream"] extends ReadableStream<infer PART> ? PART : never;
const usage = { inputTokens: { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0 }, outputTokens: { total: 1, text: 1, reasoning: 0 } };

/** @param from when to begin, in milliseconds since 1970: all readers are there by then. */
async function* talk(tokens: number, from: number): AsyncGenerator<Part> {
  yield { type: "stream-start", warnings: [] };
  yield { type: "text-start", id: "t" };
  for (let n = 0; n < tokens; n++) {
    await sleep(Math.max(0, from + n * TOKEN_MS - Date.now()));
    yield { type: "text-delta", id: "t", delta: `word${n}@${Date.now()} ` };
  }
  yield { type: "text-end", id: "t" };
  yield { type: "finish", finishReason: { unified: "stop", raw: "stop" }, usage };
}

const model = new MockLanguageModelV4({
  doStream: async ({ prompt }) => {
    const [, tokens, from] = /Say (\d+) from (\d+)/.exec(JSON.stringify(prompt)) ?? [];
    return { stream: ReadableStream.from(talk(Number(tokens), Number(from))) as ReturnType<typeof simulateReadableStream<Part>> };
  },
});

const crew = groundcrew({ agents: [agent("talker", { model })], store, worker: role === "worker" ? {} : false });
if (role === "worker") {
  await crew.work();
  process.send?.("at work");
} else {
  const { url } = await serve(crew, { port: 0 });
  process.send?.(url);
}
process.on("disconnect", () => process.exit());
