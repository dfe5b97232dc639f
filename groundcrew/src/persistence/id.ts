import { createHash, randomBytes } from "node:crypto";

/**
 * A run's id: time first, so that ids sort by age; then chance. Its last two hex digits are the virtual shard (of 256, fixed for
 * ever since it stands in every id) of its session, or a random one where there is none: the id alone tells any process where
 * the run's rows are.
 */
export function newRunId(now: number, session?: string): string {
  const random = randomBytes(8).toString("hex");
  const shard = session === undefined ? random.slice(0, 2) : hexShardOf(session);
  return `run_${now.toString(36).padStart(9, "0")}${random}${shard}`;
}

/** The virtual shard, 0 to 255, that a run's rows stand in: the id names it. */
export function shardOfRun(id: string): number {
  const named = /[0-9a-f]{2}$/.exec(id)?.[0];
  return named === undefined ? shardOf(id) : Number.parseInt(named, 16);
}

/** The virtual shard of anything else that is a key by itself, such as a session. */
export function shardOf(key: string): number {
  return Number.parseInt(hexShardOf(key), 16);
}

/** A stable hash: the same in every release, on every machine. */
function hexShardOf(key: string): string {
  return createHash("sha256").update(key).digest("hex").slice(0, 2);
}
