/**
 * Many writes, one transaction. Writes queue up while the event loop turns; at its next turn they are flushed together, so
 * that runs which work side by side share one commit and one fsync. Nothing here knows which store it is.
 */
import { GroundcrewError } from "../errors.ts";
import { MAX_BATCH_ROWS, MAX_QUEUED_WRITES, STORE_PATIENCE_MS } from "../limits.ts";

/** How one write of a batch ended. */
export type Outcome = { value: unknown } | { error: unknown };

export interface Flusher<W> {
  /**
   * Runs the writes in one transaction and tells how each ended, in their order. Throws when the transaction as a whole
   * did not happen.
   */
  flush(batch: readonly W[]): Outcome[] | Promise<Outcome[]>;
  /** The error to give up with, for a failure that may pass by itself (locked, full); null for one that will not. */
  transient(failure: unknown): GroundcrewError | null;
  /** Longest pause between two tries. */
  readonly maxPauseMs: number;
}

interface Entry<W> {
  write: W;
  rows: number;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

export class GroupCommit<W> {
  readonly #flusher: Flusher<W>;
  readonly #queue: Entry<W>[] = [];
  #flushing = false;
  #pause = 0;
  /** When the flush began that did not succeed yet, nor any since. */
  #since: number | undefined;
  #held = false;
  #stopped = false;
  #closed = false;
  #idle: (() => void)[] = [];

  constructor(flusher: Flusher<W>) {
    this.#flusher = flusher;
  }

  /**
   * Resolves or rejects as the write ended, after its commit.
   * @param rows what the write weighs in a batch; a large one counts as several.
   */
  submit(write: W, rows = 1): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new GroundcrewError("CLOSED", "The store is closed."));
      if (this.#queue.length >= MAX_QUEUED_WRITES) return reject(overloaded());
      this.#queue.push({ write, rows, resolve, reject });
      if (!this.#flushing) this.#schedule();
    });
  }

  /** Writes what is queued, then takes nothing more. */
  close(): Promise<void> {
    this.#closed = true;
    return new Promise((resolve) => (this.#flushing ? this.#idle.push(resolve) : resolve()));
  }

  /** Lets writes queue up without a flush, until the function that it returns is called. */
  hold(): () => void {
    this.#held = true;
    return () => {
      this.#held = false;
      if (this.#stopped) this.#schedule();
    };
  }

  #schedule(): void {
    this.#flushing = true;
    // Both keep the process alive: a process that only waits for its write must not end before it.
    if (this.#pause > 0) setTimeout(this.#run, this.#pause);
    else setImmediate(this.#run);
  }

  readonly #run = async (): Promise<void> => {
    this.#stopped = this.#held;
    if (this.#held) return; // to be scheduled again by the release
    const batch = this.#queue.slice(0, this.#batchLength());
    this.#since ??= performance.now();
    try {
      const flushed = this.#flusher.flush(batch.map((entry) => entry.write));
      this.#settle(batch, flushed instanceof Promise ? await flushed : flushed);
    } catch (failure) {
      this.#failed(batch, failure);
    }
    if (this.#queue.length > 0) return this.#schedule();
    this.#flushing = false;
    for (const resolve of this.#idle.splice(0)) resolve();
  };

  #batchLength(): number {
    let rows = 0;
    let length = 0;
    for (const entry of this.#queue) {
      rows += entry.rows;
      if (length > 0 && rows > MAX_BATCH_ROWS) break;
      length++;
    }
    return length;
  }

  #settle(batch: readonly Entry<W>[], outcomes: readonly Outcome[]): void {
    this.#queue.splice(0, batch.length);
    this.#calm();
    batch.forEach((entry, i) => {
      const outcome = outcomes[i] ?? { error: new GroundcrewError("INTERNAL", "A write was flushed without an outcome.") };
      if ("error" in outcome) entry.reject(outcome.error);
      else entry.resolve(outcome.value);
    });
  }

  #failed(batch: readonly Entry<W>[], failure: unknown): void {
    const passing = this.#flusher.transient(failure);
    if (passing && performance.now() - (this.#since ?? 0) < STORE_PATIENCE_MS) {
      // The jitter keeps two processes from meeting at the lock again and again.
      this.#pause = Math.min(this.#flusher.maxPauseMs, Math.max(1, this.#pause * 2)) * (0.5 + Math.random() / 2);
      return;
    }
    // A store that was out of reach for so long is so for every write that waits, not only for this batch.
    const lost = passing ? this.#queue.splice(0) : this.#queue.splice(0, batch.length);
    this.#calm();
    for (const entry of lost) entry.reject(passing ?? failure);
  }

  #calm(): void {
    this.#pause = 0;
    this.#since = undefined;
  }
}

function overloaded(): GroundcrewError {
  return new GroundcrewError("STORE_BUSY", `${MAX_QUEUED_WRITES} writes are waiting for the store: it is too slow for this load.`, {
    retryAfterMs: 1_000,
  });
}
