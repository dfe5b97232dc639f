import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

const cli = fileURLToPath(new URL("../../groundcrew/dist/cli/main.js", import.meta.url));
const config = fileURLToPath(new URL("../groundcrew.config.ts", import.meta.url));

/** `groundcrew serve` in a process of its own: the HTTP server and a worker. */
export class ServerProcess {
  readonly pid: number;
  readonly url: string;
  /** What it wrote to standard error. */
  complaints = "";
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;

  private constructor(child: ChildProcess, pid: number, url: string) {
    this.#child = child;
    this.#exited = child.exitCode === null && child.signalCode === null ? once(child, "exit") : Promise.resolve();
    this.pid = pid;
    this.url = url;
    child.stderr?.on("data", (data) => {
      this.complaints += data;
    });
  }

  /** @param env what it finds in its environment beside ours. @throws when it ends before it serves */
  static async start(port: string, env: Record<string, string>): Promise<ServerProcess> {
    const args = [cli, "serve", "--config", config, "--port", port, "--json"];
    const child = spawn(process.execPath, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    for await (const line of createInterface({ input: child.stdout })) {
      const { pid, url } = JSON.parse(line) as { pid: number; url: string };
      return new ServerProcess(child, pid, url);
    }
    throw new Error(`The server process ended before it was ready: ${await text(child.stderr)}`);
  }

  get port(): string {
    return new URL(this.url).port;
  }

  /** `kill -9`: no handler runs, nothing is written, sockets break. */
  async kill(): Promise<void> {
    this.killNow();
    await this.#exited;
  }

  killNow(): void {
    this.#child.kill("SIGKILL");
  }

  /** What a process manager does at a deploy. */
  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#exited;
  }
}

/** What the command line prints. */
export async function groundcrew(...args: string[]): Promise<number> {
  const child = spawn(process.execPath, [cli, ...args], { stdio: "inherit" });
  const [code] = (await once(child, "exit")) as [number];
  return code;
}
