import { createHash, randomBytes } from "node:crypto";

/** Virtual shards a run or session can fall into; fixed for ever, since it stands in every run's id. */
const SHARDS = 256;

/**
 * A run's id: time first, so that ids sort by age; then chance; last, as two hex digits, the shard of its session (its own
 * where there is none). The id alone tells any process where the run's rows are.
 */
export function newRunId(now: number, session?: string): string {
  const random = randomBytes(8).toString("hex");
  const shard = shardOf(session ?? random);
  return `run_${now.toString(36).padStart(9, "0")}${random}${shard.toString(16).padStart(2, "0")}`;
}

/** A stable hash: the same in every release, on every machine. */
function shardOf(text: string): number {
  return createHash("sha256").update(text).digest().readUInt32BE(0) % SHARDS;
}
