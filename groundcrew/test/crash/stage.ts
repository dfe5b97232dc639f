/** One store of its own, the world outside, and this process beside the ones that work. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Crew, groundcrew, type Store } from "../../src/index.ts";
import { type Ground, groundOf, type Kind } from "./ground.ts";
import { programOf } from "./program.ts";
import type { Job } from "./worker.ts";
import { startWorld, type World } from "./world.ts";

const LEASE_MS = 10_000;

export class Stage {
  readonly dir: string;
  readonly ground: Ground;
  readonly world: World;
  #store: Store | undefined;
  #crew: Crew | undefined;

  private constructor(dir: string, ground: Ground, world: World) {
    this.dir = dir;
    this.ground = ground;
    this.world = world;
  }

  static async begin(kind: Kind): Promise<Stage> {
    const dir = mkdtempSync(join(tmpdir(), "groundcrew-crash-"));
    return new Stage(dir, await groundOf(kind, dir), await startWorld());
  }

  /** Opens the store here; makes it when no worker has. */
  async open(): Promise<void> {
    if (this.#store) return;
    this.#store = await this.ground.open();
    this.#crew = groundcrew({ agents: Object.values(programOf(this.job())), store: this.#store, worker: false });
  }

  get store(): Store {
    if (!this.#store) throw new Error("The stage is not open.");
    return this.#store;
  }

  /** Starts and reads runs in this process, and works on none. */
  get crew(): Crew {
    if (!this.#crew) throw new Error("The stage is not open.");
    return this.#crew;
  }

  job(more: Partial<Job> = {}): Job {
    const { url: world, modelUrl: model } = this.world;
    return { store: this.ground.location, lease: LEASE_MS, world, model, reconcile: false, ...more };
  }

  async end(): Promise<void> {
    await this.#crew?.close();
    await this.#store?.close();
    await this.world.stop();
    await this.ground.remove();
    rmSync(this.dir, { recursive: true });
  }
}
