/** One store in a directory of its own, the world outside, and this process beside the ones that work. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type Crew, groundcrew, openSqlite, type Store } from "../../src/index.ts";
import { programOf } from "./program.ts";
import type { Job } from "./worker.ts";
import { startWorld, type World } from "./world.ts";

const LEASE_MS = 10_000;

export class Stage {
  readonly dir = mkdtempSync(join(tmpdir(), "groundcrew-crash-"));
  readonly file = join(this.dir, "crew.db");
  readonly world: World;
  #store: Store | undefined;
  #crew: Crew | undefined;

  private constructor(world: World) {
    this.world = world;
  }

  static async begin(): Promise<Stage> {
    return new Stage(await startWorld());
  }

  /** Opens the store here; makes it when no worker has. */
  async open(): Promise<void> {
    if (this.#store) return;
    this.#store = await openSqlite(this.file, { pollMs: 5 });
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
    return { store: this.file, lease: LEASE_MS, world: this.world.url, model: this.world.modelUrl, reconcile: false, ...more };
  }

  /** A fingerprint of everything that is known of runs: equal when not one row has changed. */
  fingerprint(): string {
    const db = new DatabaseSync(this.file, { readOnly: true });
    const tables = db.prepare("select name from sqlite_schema where type = 'table' and name <> 'workers' order by name").all();
    const hash = createHash("sha256");
    for (const { name } of tables) hash.update(JSON.stringify([name, db.prepare(`select * from "${name}"`).all()]));
    db.close();
    return hash.digest("hex");
  }

  /** How many workers are known whose process is `pid`. */
  workersOf(pid: number): number {
    const db = new DatabaseSync(this.file, { readOnly: true });
    const found = db.prepare("select count(*) as n from workers where pid = ?").get(pid);
    db.close();
    return Number(found?.["n"]);
  }

  async end(): Promise<void> {
    await this.#crew?.close();
    await this.#store?.close();
    await this.world.stop();
    rmSync(this.dir, { recursive: true });
  }
}
