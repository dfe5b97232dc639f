/** A server in a process of its own, for a test that floods it. Says its address, and then what it holds whenever it is asked. */
import { flow } from "../../src/agent.ts";
import { groundcrew } from "../../src/runtime.ts";
import { serve } from "../../src/server/server.ts";

const waits = flow("waits", async (ctx) => ctx.waitFor("go"));
const echo = flow("echo", async (_ctx, input: unknown) => input);
const crew = groundcrew({ agents: [waits, echo], store: process.argv[2] as string });
const server = await serve(crew, { port: 0, most: { requests: 5 } });

process.on("message", () => {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  process.send?.(heapUsed + external);
});
process.send?.(server.url);
