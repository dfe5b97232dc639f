/** A real PostgreSQL server of the test's own, which a test may stop, kill and start again. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { chownSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createDatabase } from "./database.ts";
import { type Binaries, prepareBinaries, unprivileged } from "./postgres-binaries.ts";
import { until } from "./until.ts";

const START_MS = 60_000; // a crash recovery on a busy machine takes seconds

export interface PostgresSettings {
  /** As in `postgresql.conf`. Whatever is not said has PostgreSQL's default, durability included. */
  settings?: Record<string, string>;
}

export async function startPostgres({ settings = {} }: PostgresSettings = {}): Promise<Postgres> {
  const folder = mkdtempSync(join(tmpdir(), "groundcrew-pg-"));
  const guard = watchOver(folder);
  try {
    const binaries = prepareBinaries(folder);
    const data = join(folder, "data");
    if (unprivileged.uid !== undefined) chownSync(folder, unprivileged.uid, unprivileged.gid);
    initialise(binaries, data);
    const server = new Postgres(binaries, folder, guard, settings);
    await server.start();
    return server;
  } catch (error) {
    guard.stdin?.end();
    throw error;
  }
}

function initialise({ initdb, env }: Binaries, data: string): void {
  const options = ["-A", "trust", "-U", "postgres", "--no-sync", "--no-instructions", "-E", "UTF8", "--locale=C"];
  const made = spawnSync(initdb, ["-D", data, ...options], { ...unprivileged, env, cwd: "/", encoding: "utf8" });
  if (made.status !== 0) throw new Error(`initdb failed: ${made.error?.message ?? `${made.stdout}${made.stderr}`}`);
}

/**
 * A shell that outlives this process, however that ends: when its input is closed, it ends the server and takes its files away.
 * A test that is killed leaves nothing behind.
 */
function watchOver(folder: string): ChildProcess {
  const script = `read -r _
    pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
    if [ -n "$pid" ] && grep -q postgres "/proc/$pid/cmdline" 2>/dev/null; then kill -QUIT "$pid"; fi
    n=0; while [ -n "$pid" ] && [ -e "/proc/$pid/exe" ] && [ $n -lt 50 ]; do n=$((n + 1)); sleep 0.1; done
    rm -rf "$1"`;
  const guard = spawn("sh", ["-c", script, "sh", folder], { detached: true, cwd: "/", stdio: ["pipe", "ignore", "ignore"] });
  guard.unref();
  (guard.stdin as unknown as { unref(): void }).unref();
  return guard;
}

export class Postgres {
  readonly #binaries: Binaries;
  readonly #folder: string;
  readonly #guard: ChildProcess;
  readonly #settings: Record<string, string>;
  #server: ChildProcess | undefined;
  #port: number | undefined;

  constructor(binaries: Binaries, folder: string, guard: ChildProcess, settings: Record<string, string>) {
    this.#binaries = binaries;
    this.#folder = folder;
    this.#guard = guard;
    this.#settings = settings;
  }

  /** Of the database `postgres`. */
  get url(): string {
    return `postgres://postgres@127.0.0.1:${this.port}/postgres`;
  }

  get port(): number {
    if (this.#port === undefined) throw new Error("The server has not been started.");
    return this.#port;
  }

  /** Of the postmaster. */
  get pid(): number {
    if (this.#server?.pid === undefined) throw new Error("The server is not running.");
    return this.#server.pid;
  }

  /** A fresh database. @returns its URL */
  database(template?: string): Promise<string> {
    return createDatabase(this.url, template);
  }

  /** On the port it had before, with the data it had before. */
  async start(): Promise<void> {
    this.#port ??= await freePort();
    const options = { listen_addresses: "127.0.0.1", unix_socket_directories: "", max_connections: "200", ...this.#settings };
    const settings = Object.entries(options).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    const { postgres, env } = this.#binaries;
    const server = spawn(postgres, ["-D", join(this.#folder, "data"), "-p", String(this.#port), ...settings], {
      ...unprivileged,
      env,
      cwd: "/",
      detached: true, // Ctrl-C is for the tests; they then end it in their own way
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#server = server;
    await ready(server);
    server.unref();
  }

  /** `fast` ends what is going on in order; `immediate` leaves a recovery to the next start. */
  async stop(mode: "fast" | "immediate" = "fast"): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const gone = exit(server);
    server.kill(mode === "fast" ? "SIGINT" : "SIGQUIT");
    await gone;
  }

  async restart(mode?: "fast" | "immediate"): Promise<void> {
    await this.stop(mode);
    await this.start();
  }

  /** As when the kernel runs out of memory and picks the postmaster, and all it has started with it. */
  async kill(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    const gone = exit(server);
    process.kill(this.pid, "SIGSTOP"); // so that it starts no child that is not in the list
    const children = childrenOf(this.pid);
    this.#server = undefined;
    server.kill("SIGKILL");
    for (const child of children) killed(child);
    await gone;
    await until("the server's processes are gone", () => !children.some(isRunning));
  }

  /** Ends it and takes its files away. */
  async remove(): Promise<void> {
    await this.stop("immediate");
    rmSync(this.#folder, { recursive: true, force: true });
    this.#guard.stdin?.end();
  }
}

async function ready(server: ChildProcess): Promise<void> {
  let log = "";
  const started = Promise.withResolvers<void>();
  const fail = (why: string) => started.reject(new Error(`PostgreSQL ${why}:\n${log}`));
  server.on("error", (error) => fail(`cannot be started: ${error.message}`));
  server.on("exit", (code, signal) => fail(`ended with ${signal ?? code}`));
  const timer = setTimeout(() => fail(`was not ready within ${START_MS} ms`), START_MS);
  server.stderr?.setEncoding("utf8").on("data", (text: string) => {
    log = (log + text).slice(-LOG_CHARS);
    if (log.match(/ready to accept (read-only )?connections/)) started.resolve();
  });
  await started.promise.finally(() => clearTimeout(timer));
  (server.stderr as unknown as { unref(): void }).unref();
}

const LOG_CHARS = 10_000; // enough to see why it did not start

async function exit(server: ChildProcess): Promise<void> {
  server.ref();
  if (server.exitCode === null && server.signalCode === null) await once(server, "exit");
}

function childrenOf(pid: number): number[] {
  return readdirSync("/proc").flatMap((name) => (/^\d+$/.test(name) && statOf(Number(name))?.parent === pid ? [Number(name)] : []));
}

function isRunning(pid: number): boolean {
  const state = statOf(pid)?.state;
  return state !== undefined && state !== "Z" && state !== "X";
}

function statOf(pid: number): { state: string; parent: number } | null {
  try {
    const [state = "", parent] = readFileSync(`/proc/${pid}/stat`, "latin1")
      .replace(/^.*\) /s, "")
      .split(" ");
    return { state, parent: Number(parent) };
  } catch {
    return null;
  }
}

function killed(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // it went by itself, with its postmaster
  }
}

/**
 * Below the ports that Linux gives to outgoing connections: one of those may meanwhile be taken by, of all things, a client that
 * tries to reach the stopped server.
 */
async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(15_000, 32_000);
    const server = createServer();
    const isFree = await new Promise((tell) => {
      server.once("error", () => tell(false));
      server.listen(port, "127.0.0.1", () => server.close(() => tell(true)));
    });
    if (isFree) return port;
  }
}
