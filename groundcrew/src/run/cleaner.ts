/** Deletes, a little at a time, what has outlived its retention. Open runs, and runs of sessions that are kept, never go. */
import { type Clock, type Duration, duration } from "../clock.ts";
import { GroundcrewError } from "../errors.ts";
import { CLEANUP_EVERY_MS, CLEANUP_ROWS } from "../limits.ts";
import type { Store, SweepReport } from "../persistence/store.ts";

/** How long finished things are kept. */
export interface Retention {
  /** Finished runs outside sessions. Default 30 days. */
  runs?: Duration;
  /** Sessions without activity, with all their runs. Default 90 days. */
  sessions?: Duration;
  /** Token-by-token output of finished runs; the final text stays with the run. Default 1 hour. */
  chunks?: Duration;
}

export interface RetentionMs {
  runs: number;
  sessions: number;
  chunks: number;
}

/** @throws GroundcrewError `DURATION_INVALID`, `CONFIG_INVALID` */
export function retentionOf(retention: Retention): RetentionMs {
  const { runs = "30d", sessions = "90d", chunks = "1h", ...unknown } = retention;
  const [field] = Object.keys(unknown);
  if (field !== undefined) {
    throw new GroundcrewError("CONFIG_INVALID", `\`retention.${field}\` is not a retention.`, {
      value: field,
      fix: "Known: runs, sessions, chunks.",
    });
  }
  return {
    runs: duration(runs, "retention.runs"),
    sessions: duration(sessions, "retention.sessions"),
    chunks: duration(chunks, "retention.chunks"),
  };
}

export class Cleaner {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #retention: RetentionMs;
  readonly #onTrouble: (error: unknown) => void;
  #cancel = () => {};
  #isStopped = false;

  constructor(store: Store, clock: Clock, retention: RetentionMs, onTrouble: (error: unknown) => void) {
    this.#store = store;
    this.#clock = clock;
    this.#retention = retention;
    this.#onTrouble = onTrouble;
  }

  start(): void {
    this.#cancel = this.#clock.after(CLEANUP_EVERY_MS, () => {
      this.sweep(false)
        .catch(this.#onTrouble)
        .finally(() => {
          if (!this.#isStopped) this.start();
        });
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel();
  }

  /** All that is due, in passes that each hold the write lock only briefly. */
  async sweep(dryRun: boolean): Promise<SweepReport> {
    const now = this.#clock.now();
    const { runs, sessions, chunks } = this.#retention;
    const policy = { runsBefore: now - runs, sessionsBefore: now - sessions, chunksBefore: now - chunks, dryRun };
    if (dryRun) return this.#store.sweep({ ...policy, limit: Number.MAX_SAFE_INTEGER });
    const total: SweepReport = { runs: 0, sessions: 0, events: 0, chunks: 0, blobs: 0, more: false };
    for (;;) {
      const pass = await this.#store.sweep({ ...policy, limit: CLEANUP_ROWS });
      for (const count of ["runs", "sessions", "events", "chunks", "blobs"] as const) total[count] += pass[count];
      if (!pass.more || this.#isStopped) return { ...total, more: pass.more };
    }
  }
}
