/**
 * `dev`: `serve` in a process of its own, which is ended and started again when a file of the config changes. Runs in flight
 * go on in the new process, the way they do after any deploy.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { type FSWatcher, watch } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { type Invocation, usage } from "./arguments.ts";
import { requireConfig } from "./config.ts";
import { type ExitCode, exit } from "./exit.ts";
import { DEV_VARIABLE, type DevMessage } from "./modules.ts";
import type { Output } from "./output.ts";
import { addressOf } from "./serve.ts";
import { inert } from "./terminal.ts";

/** An editor writes a file in several goes. */
const SETTLE_MS = 100;

/** A server that was killed starts again, each time a little later, and so often within a minute. */
const MAX_REVIVALS = 3;
const REVIVAL_WINDOW_MS = 60_000;
const REVIVAL_MS = 500;

export async function dev(call: Invocation, out: Output): Promise<ExitCode> {
  if (call.flag("json")) throw usage("`groundcrew dev` speaks to people only.", "Use `groundcrew serve --json`.");
  const { host } = addressOf(call);
  const args = ["serve", "--config", requireConfig(call.text("config")), ...(host === undefined ? [] : ["--host", host])];
  return new Dev(args, call.text("port"), out).run();
}

class Dev {
  readonly #args: readonly string[];
  readonly #out: Output;
  readonly #files = new Set<string>();
  readonly #watchers = new Map<string, FSWatcher>();
  #port: string | undefined;
  #url: string | undefined;
  #child: ChildProcess | undefined;
  #isStale = false;
  #isStopping = false;
  #isPortTaken = false;
  #killedAt: number[] = [];
  #reviving: NodeJS.Timeout | undefined;
  #settling: NodeJS.Timeout | undefined;
  #end!: (code: ExitCode) => void;

  constructor(args: readonly string[], port: string | undefined, out: Output) {
    this.#args = args;
    this.#port = port;
    this.#out = out;
  }

  async run(): Promise<ExitCode> {
    const ended = new Promise<ExitCode>((resolve) => {
      this.#end = resolve;
    });
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => this.#stop());
    this.#start();
    const code = await ended;
    for (const watcher of this.#watchers.values()) watcher.close();
    return code;
  }

  #start(): void {
    this.#isStale = false;
    clearTimeout(this.#reviving);
    const main = process.argv[1] ?? "";
    const port = this.#port === undefined ? [] : ["--port", this.#port];
    // A group of its own: Ctrl-C reaches it once, through us, and not twice.
    const child = fork(main, [...this.#args, ...port], { env: { ...process.env, [DEV_VARIABLE]: "1" }, detached: true });
    child.on("message", (message) => this.#hear(message as DevMessage));
    // Both: what it said last may be read after its end was noticed.
    void Promise.all([once(child, "exit"), once(child, "disconnect")]).then(([[code, signal]]) => this.#exited(code, signal));
    this.#child = child;
  }

  #hear(message: DevMessage): void {
    if ("module" in message) this.#watch(message.module);
    else if ("isPortTaken" in message) this.#isPortTaken = true;
    else if (this.#url === undefined) this.#welcome(message);
  }

  #welcome({ url, sample }: { url: string; sample: string }): void {
    this.#url = url;
    this.#port = new URL(url).port; // the next process listens where the first one did
    const lines = ["Try it from another terminal:", `  ${sample} --url ${url}`, `  groundcrew runs --url ${url}`];
    for (const line of ["", ...lines, "", "It starts again when your code changes. Ctrl-C ends it."]) this.#out.line(line);
  }

  #watch(file: string): void {
    this.#files.add(file);
    const folder = dirname(file);
    if (this.#watchers.has(folder)) return;
    // The folder, not the file: an editor that replaces a file would leave us watching the old one.
    const watcher = watch(
      folder,
      (_event, name) => name !== null && this.#files.has(join(folder, basename(name))) && this.#changed(join(folder, name)),
    );
    watcher.on("error", () => watcher.close()); // the folder is gone, and with it what could change
    this.#watchers.set(folder, watcher);
  }

  #changed(file: string): void {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      if (this.#isStopping) return;
      this.#out.note(inert(`${relative(process.cwd(), file)} changed: starting again.`));
      this.#isStale = true;
      if (this.#child) this.#child.kill("SIGTERM");
      else this.#start();
    }, SETTLE_MS);
  }

  #exited(code: number | null, signal: NodeJS.Signals | null): void {
    this.#child = undefined;
    if (this.#isStopping) this.#end(exit.ok);
    else if (this.#isPortTaken) this.#end(exit.usage);
    else if (this.#isStale) this.#start();
    else if (signal !== null) this.#revive(signal);
    else if (this.#files.size === 0) this.#end(code === exit.usage ? exit.usage : exit.failed);
    else this.#out.note("It has ended. It starts again when your code changes; Ctrl-C ends it.");
  }

  /** Nobody meant this end: the code has not changed, and the runs wait. */
  #revive(signal: NodeJS.Signals): void {
    const now = Date.now();
    this.#killedAt = [...this.#killedAt.filter((at) => at > now - REVIVAL_WINDOW_MS), now];
    const times = this.#killedAt.length;
    if (times > MAX_REVIVALS) {
      this.#out.note(`The server was ended by ${signal}, ${times} times within a minute. It starts again when your code changes.`);
      return;
    }
    this.#out.note(`The server was ended by ${signal}: starting again. Its runs go on.`);
    this.#reviving = setTimeout(() => this.#start(), REVIVAL_MS * 2 ** (times - 1));
  }

  /** The first time the child may finish its steps, the second time it ends at once: it counts the signals itself. */
  #stop(): void {
    this.#isStopping = true;
    clearTimeout(this.#reviving);
    if (this.#child) this.#child.kill("SIGTERM");
    else this.#end(exit.ok);
  }
}
