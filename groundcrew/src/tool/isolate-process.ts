/** The process of one isolated call: runs the module's default export once and says what came of it. It ends by being ended. */
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { coerceError } from "../errors.ts";
import { MAX_CAUSES } from "../limits.ts";
import type { Answer, Request, Thrown } from "./isolated.ts";

// A terminal's Ctrl-C goes to the whole group: it is for the parent to say when this ends.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {});
const guard = new Worker(new URL(`./isolate-guard${extname(import.meta.url)}`, import.meta.url), { workerData: Number(process.argv[2]) });
guard.once("online", () => process.once("message", (request: Request) => void answer(request).then(tell)));

async function answer({ module, input, call }: Request): Promise<Answer> {
  try {
    const run: unknown = (await import(module)).default;
    if (typeof run !== "function") throw new TypeError(`${module} has no default export that is a function.`);
    return { output: await run(input, call && { ...call, progress: (...progress: [number, string]) => tell({ progress }) }) };
  } catch (thrown) {
    return { thrown: inWords(thrown, MAX_CAUSES) };
  }
}

function tell(answer: Answer): void {
  try {
    process.send?.(answer);
  } catch (error) {
    process.send?.({ refused: `What an isolated tool gave cannot be copied: ${coerceError(error).message}` } satisfies Answer);
  }
}

function inWords(thrown: unknown, depth: number): Thrown {
  const error = coerceError(thrown);
  const plain = Object.entries(error).filter(([, value]) => ["string", "number", "boolean"].includes(typeof value));
  const inside = error.cause !== undefined && depth > 0 ? { cause: inWords(error.cause, depth - 1) } : {};
  return { name: error.name, message: error.message, stack: error.stack, props: Object.fromEntries(plain), ...inside };
}
