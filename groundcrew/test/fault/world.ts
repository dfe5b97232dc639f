/** Workers that share a store, on a clock that goes as fast as they can think. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { GroundcrewError } from "../../src/errors.ts";
import type { Failure, FailureReason } from "../../src/failure.ts";
import { Breakers, type Pass } from "../../src/fault/breaker.ts";
import { Paces } from "../../src/fault/pace.ts";
import type { Breaker, Store } from "../../src/persistence/store.ts";
import { openSqlite } from "../../src/sqlite/open.ts";
import { Stops } from "../../src/supervision/stops.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { seeded } from "../crash/seeded.ts";

export interface WorkerOfWorld {
  breakers: Breakers;
  paces: Paces;
  stops: Stops;
  /** What it was told of. */
  troubles: unknown[];
}

export class World {
  readonly clock = new FakeClock();
  readonly #directory = mkdtempSync(join(tmpdir(), "groundcrew-"));
  readonly #stores: Store[] = [];
  readonly #random: () => number;
  /** Questions to the store that are not answered yet. */
  #asked = 0;
  /** How often the store was asked at all. */
  questions = 0;
  isStoreAway = false;

  constructor(seed: number) {
    this.#random = seeded(seed);
  }

  /** One with a connection of its own. */
  async worker(): Promise<WorkerOfWorld> {
    const store = await openSqlite(join(this.#directory, "store.db"), { clock: this.clock });
    this.#stores.push(store);
    const troubles: unknown[] = [];
    const watched = {
      now: () => store.now(),
      breakers: () => this.#ask(() => store.breakers()),
      turn: (next: Breaker) => this.#ask(() => store.turn(next)),
    };
    const random = this.#random;
    const breakers = new Breakers({ store: watched, random, onTrouble: (error) => troubles.push(error) });
    return { breakers, paces: new Paces({ clock: this.clock, random }), stops: new Stops({ stops: async () => [] }), troubles };
  }

  async #ask<T>(question: () => Promise<T>): Promise<T> {
    this.questions += 1;
    if (this.isStoreAway) throw new GroundcrewError("STORE_UNAVAILABLE", "The store is away.");
    this.#asked += 1;
    return question().finally(() => {
      this.#asked -= 1;
    });
  }

  /** What the store has: closed ones are not told. */
  async stored(): Promise<Breaker[]> {
    return (await this.#stores[0]?.breakers()) ?? [];
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resume) => this.clock.after(ms, resume));
  }

  until(at: number): Promise<void> {
    return this.sleep(Math.max(0, at - this.clock.now()));
  }

  /** Lets everybody go on until nobody can without time going on. */
  async rest(): Promise<void> {
    do await turn();
    while (this.#asked > 0);
    await turn();
  }

  async pass(ms: number, stepMs = 100): Promise<void> {
    await this.rest();
    for (let left = ms; left > 0; left -= stepMs) {
      this.clock.jump(Math.min(stepMs, left));
      await this.rest();
    }
  }

  async end(): Promise<void> {
    await Promise.all(this.#stores.map((store) => store.close()));
    rmSync(this.#directory, { recursive: true });
  }
}

export const failure = (reason: FailureReason, more: Partial<Failure> = {}): Failure => ({ chance: "again", reason, ...more });

/** Leave to call, or an error. */
export async function admitted(breakers: Breakers, key: string): Promise<Pass> {
  const admission = await breakers.admit(key);
  if (!admission.go) throw new Error(`sent away: ${admission.why}`);
  return admission;
}
