/** The worker processes: each has a place, and when one is gone another takes its place. */
import { type ChildProcess, spawn } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../groundcrew/test/support/until.ts";
import type { FaultLog } from "./fault-log.ts";
import { SKEW } from "./ground.ts";
import { onHost } from "./namespace.ts";
import type { Job, Said } from "./worker.ts";

const START_MS = 60_000;

/** A worker that is told to stop has 8 s for its steps; what follows takes moments. */
const STOP_MS = 20_000;

const MOST_TROUBLES = 10_000;

export interface Worker {
  place: number;
  pid: number;
  /** By how much its clock is wrong. */
  skewMs: number;
  isReady: boolean;
  isOver: boolean;
  isStopping: boolean;
  isKilled: boolean;
  /** A call has told it to kill itself; it may have died, or lost the call, before it heard of it. */
  mayCrash: boolean;
  child: ChildProcess;
  /** What it wrote to standard error. */
  errors: string;
}

export interface FleetOptions {
  size: number;
  /** The job of the worker in a place. */
  jobOf: (place: number) => Job;
  skewOf: (place: number) => number;
  hostOf: (place: number) => string | undefined;
  log: FaultLog;
  /** Where a worker that hangs leaves what it was doing. */
  folder: string;
  onProblem: (problem: string) => void;
}

export class Fleet {
  readonly #options: FleetOptions;
  readonly #workers: Worker[] = [];
  /** Which process worked under a worker's id. */
  readonly #pids = new Map<string, number>();
  /** What workers complained of, the newest. */
  readonly troubles: { at: number; pid: number; message: string }[] = [];
  #isClosing = false;

  constructor(options: FleetOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    for (let place = 0; place < this.#options.size; place++) this.#spawn(place);
    await until("all workers work", () => this.#workers.every(({ isReady }) => isReady), START_MS);
  }

  get size(): number {
    return this.#options.size;
  }

  /** The worker that has a place now, once it works. */
  async at(place: number): Promise<Worker> {
    return until(
      `a worker works in place ${place}`,
      () => this.#workers.find((worker) => worker.place === place && worker.isReady && !worker.isStopping),
      START_MS,
    );
  }

  /** Everybody who is still there in a place: the worker that has it now, and those that are told to stop. */
  living(place: number): readonly Worker[] {
    return this.#workers.filter((worker) => worker.place === place && !worker.isOver);
  }

  pidOf(workerId: string): number | undefined {
    return this.#pids.get(workerId);
  }

  isOver(pid: number): boolean {
    return this.#workers.every((worker) => worker.pid !== pid);
  }

  kill(worker: Worker, kind: string): void {
    if (worker.isKilled || worker.isOver) return;
    worker.isKilled = true;
    this.#options.log.strike(kind, worker.pid);
    worker.child.kill("SIGKILL");
  }

  /** A call has told it to kill itself. */
  crashed(pid: number): void {
    const worker = this.#workers.find((one) => one.pid === pid);
    if (worker) worker.mayCrash = true;
  }

  /** As a deploy does: its successor starts at once, and it has to end by itself, well. */
  async deploy(worker: Worker): Promise<void> {
    worker.isStopping = true;
    worker.child.kill("SIGTERM");
    this.#spawn(worker.place);
    const isGone = await until("it ends", () => worker.isOver, STOP_MS).catch(() => false);
    if (isGone) return;
    worker.child.kill("SIGUSR2"); // Node writes down what it is at
    await sleep(1_000);
    this.#options.onProblem(`worker ${worker.pid} has not ended ${STOP_MS} ms after SIGTERM`);
    this.kill(worker, "kill");
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    const left = [...this.#workers];
    for (const worker of left) {
      worker.isStopping = true;
      worker.child.kill("SIGTERM");
    }
    try {
      await until("all workers have ended", () => left.every(({ isOver }) => isOver), STOP_MS);
    } finally {
      this.killAll();
    }
  }

  /** Whatever is still there. */
  killAll(): void {
    this.#isClosing = true;
    for (const { child } of this.#workers) child.kill("SIGKILL");
  }

  #spawn(place: number): void {
    const { jobOf, skewOf, hostOf, folder } = this.#options;
    const skewMs = skewOf(place);
    const env = { ...process.env, CHAOS_SKEW_MS: String(skewMs), NODE_COMPILE_CACHE: join(tmpdir(), "groundcrew-chaos-cache") };
    const file = join(import.meta.dirname, "worker.ts");
    const node = [process.execPath, "--report-on-signal", `--report-directory=${folder}`, file, JSON.stringify(jobOf(place))];
    const host = hostOf(place);
    const [command = "", ...args] = host === undefined ? node : onHost(host, node);
    const child = spawn(command, args, { env, stdio: ["ignore", "inherit", "pipe", "ipc"] });
    const pid = child.pid ?? -1;
    const worker: Worker = {
      place,
      pid,
      skewMs,
      isReady: false,
      isOver: false,
      isStopping: false,
      isKilled: false,
      mayCrash: false,
      child,
      errors: "",
    };
    if (skewMs !== 0) this.#options.log.count(SKEW);
    this.#workers.push(worker);
    child.stderr?.on("data", (text) => {
      worker.errors = (worker.errors + text).slice(-4_000);
    });
    child.on("message", (said: Said) => this.#hear(worker, said));
    child.once("exit", (code, signal) => this.#onExit(worker, signal ?? String(code)));
  }

  #hear(worker: Worker, said: Said): void {
    switch (said.what) {
      case "ready":
        worker.isReady = true;
        return;
      case "worker":
        this.#pids.set(said.id, worker.pid);
        return;
      case "starved":
        this.#options.log.notice("starved", worker.pid, this.#options.jobOf(worker.place).leaseMs);
        return;
      case "trouble":
        if (/lease/.test(said.message)) this.#options.log.notice("lapse", worker.pid, 2 * this.#options.jobOf(worker.place).leaseMs);
        this.troubles.push({ at: performance.now(), pid: worker.pid, message: said.message });
        if (this.troubles.length > MOST_TROUBLES) this.troubles.shift();
    }
  }

  #onExit(worker: Worker, end: string): void {
    worker.isOver = true;
    this.#workers.splice(this.#workers.indexOf(worker), 1);
    const hasCrashed = end === "SIGKILL" && worker.mayCrash && !worker.isKilled;
    if (hasCrashed) this.#options.log.strike("crash", worker.pid);
    const isWell = hasCrashed || (end === "SIGKILL" && worker.isKilled) || (end === "0" && worker.isStopping);
    if (!isWell && !this.#isClosing) this.#options.onProblem(`worker ${worker.pid} ended by itself with ${end}: ${worker.errors}`);
    if (!this.#isClosing && !worker.isStopping) this.#spawn(worker.place);
  }
}
