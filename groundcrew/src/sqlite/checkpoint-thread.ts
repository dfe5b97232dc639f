/**
 * A thread with a connection of its own that copies the write-ahead log into the database, so that the copying and its
 * fsync never stand in the way of a commit. It sleeps until it is asked, and ends at a `null`.
 */
import { DatabaseSync } from "node:sqlite";
import { parentPort, workerData } from "node:worker_threads";
import type { CheckpointMode } from "./checkpoint.ts";

// A restart needs the write lock and no reader on old pages; for a neighbour that keeps either nobody waits longer than this.
const db = new DatabaseSync(workerData as string, { timeout: 20 });

parentPort?.on("message", (mode: CheckpointMode | null) => {
  if (mode === null) {
    db.close();
    parentPort?.close();
  } else {
    parentPort?.postMessage(checkpoint(mode));
  }
});

/** @returns the pages in the log that a writer cannot go over yet. */
function checkpoint(mode: CheckpointMode): number {
  try {
    const { busy, log } = db.prepare(`pragma wal_checkpoint(${mode})`).get() as { busy: number; log: number };
    return mode === "restart" && !busy ? 0 : log;
  } catch (error) {
    if ((error as { errcode?: number }).errcode === undefined) throw error;
    return 0; // locked, or the disk is full: the log keeps everything, and the next round tries again
  }
}
