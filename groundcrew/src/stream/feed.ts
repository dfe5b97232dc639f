/**
 * What a reader follows: the events of a run's journal and the chunks beside it, in one order, from any cursor, in any
 * process. There is one source, the store: a reader in the worker's own process takes the same way as one on the other side
 * of the world, so both see the same.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { GroundcrewError } from "../errors.ts";
import { MAX_FEED_PAGE, READER_REST_MS } from "../limits.ts";
import type { Chunk, Event } from "../persistence/event.ts";
import { type Change, type Cursor, isTerminal, type Store } from "../persistence/store.ts";

/** One thing a reader of a run is told: an event of the journal, or a chunk of a step's output while it comes. */
export type FeedItem = (Event | ({ type: "chunk" } & Chunk)) & {
  /** Hand it back as `after` to go on behind this item: `"12"`, or `"12.3"` for a chunk. */
  cursor: string;
};

const ENDS: ReadonlySet<string> = new Set(["run.succeeded", "run.failed", "run.cancelled", "run.expired"]);

/** Whether this is the last item of every feed of the run. */
export function isEnd(item: { type: string }): boolean {
  return ENDS.has(item.type);
}

/**
 * Everything behind `after`, then live, up to the run's end. Ends without an error when `signal` fires.
 * @throws GroundcrewError `RUN_NOT_FOUND`, `CURSOR_INVALID`, `EVENT_UNREADABLE`
 */
export async function* follow(store: Store, run: string, after: Cursor, signal?: AbortSignal): AsyncGenerator<FeedItem> {
  const changes = new Latch(store, (change) => change.runs === null || change.runs.has(run), signal);
  try {
    let cursor = after;
    let wasOver = false;
    while (!changes.isOver) {
      const begunAt = performance.now();
      const page = await store.read(run, cursor, MAX_FEED_PAGE);
      const rested = sleep(Math.max(READER_REST_MS, performance.now() - begunAt)); // a store that is busy is asked less often
      for (const found of page.items) {
        const item = toItem(found);
        cursor = placeOf(found);
        yield item;
        if (isEnd(item) || changes.isOver) return;
      }
      if (page.items.length === 0) {
        if (wasOver) return; // over before the page was read, and nothing on it: the reader had seen the end already
        wasOver = await isOver(store, run);
      }
      if (page.more || wasOver) continue;
      await changes.next();
      await rested; // a run that writes all the time is read a few times less often, by each of its readers
    }
  } finally {
    changes.close();
  }
}

async function isOver(store: Store, run: string): Promise<boolean> {
  const row = await store.run(run);
  return row !== null && isTerminal(row.status);
}

function toItem(found: Event | Chunk): FeedItem {
  if ("seq" in found) return { ...found, cursor: String(found.seq) };
  return { type: "chunk", ...found, cursor: `${found.after}.${found.index}` };
}

function placeOf(found: Event | Chunk): Cursor {
  return "seq" in found ? { seq: found.seq, chunk: 0 } : { seq: found.after, chunk: found.index };
}

/** @throws GroundcrewError `CURSOR_INVALID` */
export function parseCursor(text: string | undefined): Cursor {
  if (text === undefined || text === "") return { seq: 0, chunk: 0 };
  const match = /^(\d{1,9})(?:\.(\d{1,9}))?$/.exec(text);
  if (!match) {
    throw new GroundcrewError("CURSOR_INVALID", `Expected a cursor such as "12" or "12.3", got ${JSON.stringify(text.slice(0, 40))}.`, {
      value: text,
      fix: "Hand back the `cursor` of the last item you saw, or none to begin at the start.",
    });
  }
  return { seq: Number(match[1]), chunk: Number(match[2] ?? 0) };
}

/** Tells of the store's changes that matter to one reader. A change between two waits is not missed; many are one. */
export class Latch {
  readonly #signal: AbortSignal | undefined;
  readonly #unwatch: () => void;
  #isSet = false;
  #isOver: boolean;
  #wake: () => void = () => {};

  constructor(store: Store, matters: (change: Change) => boolean, signal: AbortSignal | undefined) {
    this.#signal = signal;
    this.#isOver = signal?.aborted ?? false;
    this.#unwatch = store.watch((change) => {
      if (matters(change)) this.#set();
    });
    signal?.addEventListener("abort", this.#end);
  }

  /** Whether the signal has fired: to ask a signal that is made of others costs as much as to pass an item on. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Resolves at the next change, or at once when one came since the last call, or when the signal fires. */
  async next(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (this.#isSet || this.#isOver) resolve();
    });
    this.#isSet = false;
  }

  close(): void {
    this.#unwatch();
    this.#signal?.removeEventListener("abort", this.#end);
  }

  readonly #set = (): void => {
    this.#isSet = true;
    this.#wake();
  };

  readonly #end = (): void => {
    this.#isOver = true;
    this.#wake();
  };
}
