import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";

const TRIES = 50;

/** Moves everything from the write-ahead log to the file, so that the file's size is the whole store's. */
export async function checkpoint(path: string): Promise<void> {
  const db = new DatabaseSync(path, { timeout: 1_000 });
  try {
    for (let left = TRIES; left > 0; left--) {
      if (db.prepare("pragma wal_checkpoint(truncate)").get()?.["busy"] === 0) return;
      await sleep(100); // the store's own checkpoint is at work
    }
  } finally {
    db.close();
  }
  throw new Error("The store could not be checkpointed.");
}
