import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { CHECKPOINT_BYTES, MAX_WAL_BYTES } from "../limits.ts";

export const PAGE_BYTES = 8192;

const MAX_WAL_PAGES = MAX_WAL_BYTES / PAGE_BYTES;

/** Pages of the log after which a commit does the checkpoint itself: when the thread cannot be had, or is far behind. */
export const BACKSTOP_PAGES = 8 * MAX_WAL_PAGES;

/** However small its rows are, a commit writes the page they stand on and one of the index. */
const BYTES_PER_COMMIT = 2 * PAGE_BYTES;

/** Each pass has to copy only what was written during the one before; after three the writer is held for a millisecond or two. */
const PASSES = 3;

export type CheckpointMode = "passive" | "restart";

/**
 * Keeps the write-ahead log short, in a thread beside the event loop. A passive checkpoint disturbs nobody; but under steady
 * load somebody always writes behind the copied pages and the log would grow for ever, and commits that make a file longer
 * take half again as long. So past a length the writer is held for the moment that the rest of the copying takes, and the
 * log begins anew.
 */
export class Checkpointer {
  readonly #path: string;
  readonly #hold: () => () => void;
  #thread: Worker | null = null;
  #bytes = 0;
  #working = false;
  #passes = 0;
  #release: (() => void) | null = null;
  #restartAbove = MAX_WAL_PAGES;

  /** @param hold stops the writes of this process, until the function that it returns is called. */
  constructor(path: string, hold: () => () => void) {
    this.#path = path;
    this.#hold = hold;
  }

  /** To be called after each commit. */
  wrote(bytes: number): void {
    this.#bytes += bytes + BYTES_PER_COMMIT;
    if (this.#bytes < CHECKPOINT_BYTES || this.#working) return;
    this.#working = true;
    this.#ask("passive");
  }

  async close(): Promise<void> {
    const thread = this.#thread;
    if (!thread) return;
    const ended = new Promise<void>((resolve) => thread.once("exit", () => resolve()));
    thread.ref();
    thread.postMessage(null);
    await ended;
  }

  #ask(mode: CheckpointMode): void {
    this.#bytes = 0;
    this.#thread ??= this.#start();
    this.#thread.postMessage(mode);
  }

  #answered(pages: number): void {
    if (this.#release) {
      this.#resume();
      // A backup that reads for minutes keeps the log as it is. To hold the writer for it again and again helps nobody.
      this.#restartAbove = pages === 0 ? MAX_WAL_PAGES : 2 * pages;
      this.#rest();
    } else if (pages > this.#restartAbove && ++this.#passes < PASSES) {
      this.#ask("passive");
    } else if (pages > this.#restartAbove) {
      this.#release = this.#hold();
      this.#thread?.ref(); // writes wait for its answer: the process must not end before it
      this.#ask("restart");
    } else {
      this.#rest();
    }
  }

  #rest(): void {
    this.#passes = 0;
    this.#working = false;
  }

  #resume(): void {
    this.#thread?.unref();
    this.#release?.();
    this.#release = null;
  }

  #start(): Worker {
    // From the sources this runs as TypeScript, from the package as JavaScript: the thread's file has the same ending.
    const file = new URL(`./checkpoint-thread${extname(import.meta.url)}`, import.meta.url);
    const thread = new Worker(file, { workerData: this.#path, execArgv: [] });
    thread.unref();
    thread.on("message", (pages: number) => this.#answered(pages));
    // Without it (a bundler left its file out, memory ran short) commits do its work at the backstop.
    thread.on("error", () => {
      this.#thread = null;
      this.#resume();
    });
    return thread;
  }
}
