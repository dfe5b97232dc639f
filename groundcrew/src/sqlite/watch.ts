import type { Clock } from "../clock.ts";
import type { Change } from "../persistence/store.ts";

/** Who wants to know of changes: own ones are told, those of other connections are looked for as long as somebody watches. */
export class Watch {
  readonly #clock: Clock;
  readonly #pollMs: number;
  readonly #version: () => unknown;
  readonly #listeners = new Set<(change: Change) => void>();
  #stopPolling: (() => void) | null = null;

  /** @param version differs when another connection has committed since. */
  constructor(clock: Clock, pollMs: number, version: () => unknown) {
    this.#clock = clock;
    this.#pollMs = pollMs;
    this.#version = version;
  }

  add(listener: (change: Change) => void): () => void {
    const own = (change: Change) => listener(change); // the same function may watch twice
    this.#listeners.add(own);
    if (this.#listeners.size === 1) this.#poll();
    return () => {
      this.#listeners.delete(own);
      if (this.#listeners.size === 0) this.#stopPolling?.();
    };
  }

  tell(change: Change): void {
    for (const listener of this.#listeners) queueMicrotask(() => listener(change));
  }

  close(): void {
    this.#stopPolling?.();
    this.#listeners.clear();
  }

  #poll(): void {
    let seen = this.#version();
    const look = () => {
      const version = this.#version();
      if (version !== seen) this.tell({ runs: null });
      seen = version;
      this.#stopPolling = this.#clock.after(this.#pollMs, look);
    };
    this.#stopPolling = this.#clock.after(this.#pollMs, look);
  }
}
