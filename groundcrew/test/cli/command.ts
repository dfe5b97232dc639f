/** The real command in a real process. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const main = join(import.meta.dirname, "../../src/cli/main.ts");
const cache = join(tmpdir(), "groundcrew-compiled"); // of the source: it does not change while tests run some hundred commands

export interface Ended {
  code: number | null;
  out: string;
  err: string;
}

export interface Running {
  child: ChildProcess;
  ended: Promise<Ended>;
  /** Everything printed so far, to either stream. */
  printed(): string;
  /** Waits until `pattern` was printed. */
  until(pattern: RegExp, withinMs?: number): Promise<RegExpExecArray>;
}

/** A project directory, and the command in it. */
export function project(files: Record<string, string> = {}) {
  const directory = mkdtempSync(join(tmpdir(), "groundcrew-cli-"));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  const children = new Set<ChildProcess>();

  function start(args: readonly string[], env: Record<string, string> = {}): Running {
    const child = spawn(process.execPath, [main, ...args], {
      cwd: directory,
      env: { PATH: process.env["PATH"], HOME: directory, NODE_COMPILE_CACHE: cache, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    children.add(child);
    return running(child);
  }

  /** Ends what a failed test left running. */
  async function stop(): Promise<void> {
    for (const child of children) {
      children.delete(child);
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  }

  return {
    directory,
    start,
    /** Runs the command to its end. */
    groundcrew: (...args: string[]) => start(args).ended,
    /** The same with `--json`; @returns what it printed. */
    // biome-ignore lint/suspicious/noExplicitAny: each command prints another document
    async json(...args: string[]): Promise<any> {
      const { code, out, err } = await start([...args, "--json"]).ended;
      if (code !== 0) throw new Error(`groundcrew ${args.join(" ")} ended with ${code}: ${err}`);
      return JSON.parse(out);
    },
    stop,
    async remove() {
      await stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function running(child: ChildProcess): Running {
  let [out, err, all] = ["", "", ""];
  child.stdout?.on("data", (piece: Buffer) => {
    out += piece;
    all += piece;
  });
  child.stderr?.on("data", (piece: Buffer) => {
    err += piece;
    all += piece;
  });
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, out, err }));
  return {
    child,
    ended,
    printed: () => all,
    async until(pattern, withinMs = 15_000) {
      const deadline = AbortSignal.timeout(withinMs);
      for (;;) {
        const found = pattern.exec(all);
        if (found) return found;
        if (deadline.aborted || child.exitCode !== null) throw new Error(`Expected ${pattern} in:\n${all}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
  };
}
