import { createHash, randomBytes } from "node:crypto";

/**
 * A run's id: time first, so that ids sort by age; then chance. Its last two hex digits are the virtual shard (of 256, fixed for
 * ever since it stands in every id) of its session, or a random one where there is none: the id alone tells any process where
 * the run's rows are.
 */
export function newRunId(now: number, session?: string): string {
  const random = randomBytes(8).toString("hex");
  const shard = session === undefined ? random.slice(0, 2) : shardOf(session);
  return `run_${now.toString(36).padStart(9, "0")}${random}${shard}`;
}

/** A stable hash: the same in every release, on every machine. */
function shardOf(session: string): string {
  return createHash("sha256").update(session).digest("hex").slice(0, 2);
}
