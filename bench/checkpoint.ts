import { DatabaseSync } from "node:sqlite";

/** Moves everything from the write-ahead log to the file, so that the file's size is the whole store's. */
export function checkpoint(path: string): void {
  const db = new DatabaseSync(path, { timeout: 5_000 });
  const state = db.prepare("pragma wal_checkpoint(truncate)").get();
  db.close();
  if (state?.["busy"] !== 0) throw new Error("The store could not be checkpointed.");
}
