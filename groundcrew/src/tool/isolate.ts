/**
 * A tool whose code may do its worst: it runs in a process of its own, so that a loop without end, memory without end, a
 * `process.exit` or a crash of native code ends one call and nothing else. A thread would not do: the memory limit of Node's
 * threads does not hold against every way of allocating, and then takes the whole process with it.
 */
import { type ChildProcess, fork } from "node:child_process";
import { existsSync } from "node:fs";
import { extname } from "node:path";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { type Call, callOrUndefined } from "../call.ts";
import { coerceError, describe, GroundcrewError } from "../errors.ts";
import { DEFAULT_ISOLATED_MEMORY_MB, MAX_ISOLATED_CALLS } from "../limits.ts";
import type { Answer, Request, Thrown } from "./isolated.ts";
import { Places } from "./places.ts";

export interface IsolateOptions {
  /** What the code may take beyond what an empty process has. Default 512. */
  memoryMb?: number;
}

/** What of the AI SDK's options is used. */
interface ExecuteOptions {
  abortSignal?: AbortSignal | undefined;
}

const places = new Places(MAX_ISOLATED_CALLS);

/**
 * A tool's `execute` whose code lives in a module of its own, and runs in a process of its own, which ends with the call: when
 * the code is done, when its time is over, when the run has to stop, when this process dies. Input and output are copied. To
 * begin takes some 100 ms: for what computes for long, or cannot be trusted to end, not for every tool.
 *
 * ```ts
 * const render = tool({ inputSchema, execute: isolate<RenderInput, string>(new URL("./render.ts", import.meta.url)) });
 * ```
 * @throws GroundcrewError `CONFIG_INVALID`. A call throws what the code throws; `STEP_UNKNOWN` when its process ended before the
 * code did, `VALUE_UNSERIALIZABLE` for what cannot be copied, the signal's reason when it fires.
 */
export function isolate<INPUT, OUTPUT>(
  module: URL,
  { memoryMb = DEFAULT_ISOLATED_MEMORY_MB }: IsolateOptions = {},
): (input: INPUT, options: ExecuteOptions) => Promise<OUTPUT> {
  check(module, memoryMb);
  return async (input, { abortSignal: signal }) => {
    const call = callOrUndefined();
    const leave = await places.enter(signal);
    const child = start(memoryMb, leave);
    try {
      return (await outcome(child, { module: module.href, input, call: dataOf(call) }, { call, signal, memoryMb })) as OUTPUT;
    } finally {
      child.kill("SIGKILL");
    }
  };
}

function check(module: unknown, memoryMb: number): void {
  if (!(module instanceof URL && module.protocol === "file:" && existsSync(fileURLToPath(module)))) {
    throw new GroundcrewError("CONFIG_INVALID", `Expected the isolated module to be the URL of a file, got ${String(module)}.`, {
      value: module,
      fix: 'Write `new URL("./tool.ts", import.meta.url)`.',
    });
  }
  if (Number.isInteger(memoryMb) && memoryMb > 0) return;
  throw new GroundcrewError("CONFIG_INVALID", `Expected \`memoryMb\` to be a whole number from 1, got ${describe(memoryMb)}.`, {
    value: memoryMb,
  });
}

function dataOf(call: Call | undefined): Request["call"] {
  return call && { run: call.run, step: call.step, attempt: call.attempt, key: call.key };
}

function start(memoryMb: number, onGone: () => void): ChildProcess {
  // From the sources this runs as TypeScript, from the package as JavaScript: the process's file has the same ending.
  const file = new URL(`./isolate-process${extname(import.meta.url)}`, import.meta.url);
  try {
    const child = fork(file, [String(memoryMb)], {
      serialization: "advanced",
      stdio: ["ignore", "inherit", "inherit", "ipc", "pipe"],
      execArgv: [...inherited(process.execArgv), `--max-old-space-size=${memoryMb}`],
    });
    return child.once("exit", onGone).once("error", onGone);
  } catch (error) {
    onGone();
    throw error;
  }
}

/** Loaders and conditions go along. A debugger has its port already, and a program that was given as a flag would run once more. */
function inherited(flags: readonly string[]): string[] {
  const isProgram = (flag = "") => /^(-e|-p|-pe|--eval|--print)$/.test(flag);
  return flags.filter((flag, at) => !/^--(inspect|input-type|eval=|print=)/.test(flag) && !isProgram(flag) && !isProgram(flags[at - 1]));
}

interface Caller {
  call: Call | undefined;
  signal: AbortSignal | undefined;
  memoryMb: number;
}

function outcome(child: ChildProcess, request: Request, { call, signal, memoryMb }: Caller): Promise<unknown> {
  return new Promise((resolve, reject) => {
    let isFull = false;
    const lifeline = child.stdio[4] as Readable;
    lifeline.on("data", () => {
      isFull = true; // the one thing that is ever said on it
    });
    lifeline.on("error", () => {}); // it goes with the process
    child.on("message", (answer: Answer) => {
      if (answer.progress) call?.progress(...answer.progress);
      else if (answer.refused) reject(new GroundcrewError("VALUE_UNSERIALIZABLE", answer.refused));
      else if (answer.thrown) reject(rebuilt(answer.thrown));
      else resolve(answer.output);
    });
    child.on("close", (code, killer) => reject(died(request.module, isFull ? "memory" : (killer ?? code), memoryMb)));
    child.on("error", (cause) => reject(new GroundcrewError("TOOL_FAILED", `No process could be had: ${cause.message}`, { cause })));
    if (signal?.aborted) reject(signal.reason);
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    try {
      child.send(request);
    } catch (cause) {
      const message = `The input of an isolated tool cannot be copied: ${coerceError(cause).message}`;
      reject(new GroundcrewError("VALUE_UNSERIALIZABLE", message, { cause }));
    }
  });
}

function died(module: string, how: string | number | null, memoryMb: number): GroundcrewError {
  const isFull = how === "memory" || how === "SIGABRT" || how === 134; // V8 aborts when its heap is full
  const why = isFull ? `it took more than its ${memoryMb} MB, or was aborted` : `it ended with ${how}`;
  return new GroundcrewError("STEP_UNKNOWN", `The process of ${module} did not come to a result: ${why}.`, { value: how });
}

function rebuilt({ name, message, stack, props, cause }: Thrown): Error {
  const error = new Error(message, cause && { cause: rebuilt(cause) });
  return Object.assign(error, props, { name }, stack !== undefined && { stack });
}
