import { type ChildProcess, fork } from "node:child_process";
import type { Failpoint } from "../../src/failpoint.ts";
import { bundle } from "../support/bundle.ts";
import { until } from "../support/until.ts";
import type { Job } from "./worker.ts";

export type Point = `${Failpoint}:${number}`;

/** A real worker process. */
export interface Child {
  pid: number;
  /** Resolves when it works, or has died before. */
  ready: Promise<void>;
  /** How it ended: an exit code, or the signal that killed it. */
  ended: Promise<number | NodeJS.Signals>;
  isOver: boolean;
  /** It was told to stop, and has heard it. */
  isStopping: boolean;
  kill(signal: NodeJS.Signals): void;
  /** What it wrote to standard error. */
  errors(): string;
}

const living = new Set<Child>();
const worker = await bundle(new URL("./worker.ts", import.meta.url));

/** @param dieAt where it kills itself. @param file what it runs */
export function spawnWorker(job: Job, dieAt?: Point, file = worker): Child {
  const { GROUNDCREW_FAILPOINT: _none, ...env } = process.env;
  if (dieAt !== undefined) env["GROUNDCREW_FAILPOINT"] = dieAt;
  const spawned = fork(file, [JSON.stringify(job)], { env, execArgv: [], stdio: ["ignore", "inherit", "pipe", "ipc"] });
  const child = childOf(spawned);
  living.add(child);
  void child.ended.then(() => living.delete(child));
  return child;
}

/** Ends what a failed test has left behind. */
export function killLeftovers(): void {
  for (const child of living) child.kill("SIGKILL");
}

function childOf(spawned: ChildProcess): Child {
  let errors = "";
  spawned.stderr?.on("data", (text) => {
    errors += text;
  });
  const ended = Promise.withResolvers<number | NodeJS.Signals>();
  const ready = Promise.withResolvers<void>();
  const child: Child = {
    pid: spawned.pid ?? 0,
    ready: ready.promise,
    ended: ended.promise,
    isOver: false,
    isStopping: false,
    kill: (signal) => spawned.kill(signal),
    errors: () => errors,
  };
  spawned.on("message", (message) => {
    if (message === "ready") ready.resolve();
    else child.isStopping = true;
  });
  spawned.once("exit", (code, signal) => {
    child.isOver = true;
    ready.resolve();
    ended.resolve(signal ?? code ?? -1);
  });
  return child;
}

/** Waits for the end. @throws when it is another than `expected`, with what the process had to say */
export async function endOf(child: Child, expected: number | NodeJS.Signals): Promise<void> {
  await until("the worker process ends", () => child.isOver);
  const end = await child.ended;
  if (end !== expected) throw new Error(`The worker process ended with ${end}, not with ${expected}. It said: ${child.errors()}`);
}
