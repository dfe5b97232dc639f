/** A process that works until it is killed or told to stop. It is given its job as JSON, and tells its driver how it fares. */
import "./skew.ts";

import { groundcrew } from "../groundcrew/src/index.ts";
import { crewOf } from "./agents.ts";
import { insist } from "./patience.ts";

export interface Job {
  store: string;
  leaseMs: number;
  /** Address of the world. */
  world: string;
}

export type Said =
  | { what: "ready" }
  /** It works under this id from now on; one that lost its lease comes back under another. */
  | { what: "worker"; id: string }
  | { what: "trouble"; message: string }
  /** The machine did not let it run for so long, of the time of a lease. */
  | { what: "starved"; ms: number };

const BEAT_MS = 100;
const LOOK_MS = 200;

const job = JSON.parse(process.argv[2] ?? "") as Job;
const crew = groundcrew({
  agents: crewOf(job.world).all,
  store: job.store,
  worker: { lease: job.leaseMs },
  retention: { chunks: "7d" }, // readers are compared with what stands there in the end
  onTrouble: (error) => say({ what: "trouble", message: error instanceof Error ? error.message : String(error) }),
});

function say(said: Said): void {
  if (process.connected) process.send?.(said);
}

let isStopping = false;

/** Under which id it works: it may change at any time. */
async function tellWhoIAm(before?: string): Promise<void> {
  if (isStopping) return;
  const id = (await crew.health()).worker?.id;
  if (id !== undefined && id !== before) say({ what: "worker", id });
  setTimeout(() => void tellWhoIAm(id).catch(() => {}), LOOK_MS).unref(); // it fails only while the crew closes
}

/** How late it was let run, beat by beat, for the time of a lease. */
const late: number[] = [];
let beat = performance.now();
const pulse = setInterval(() => {
  late.push(performance.now() - beat - BEAT_MS);
  if (late.length > job.leaseMs / BEAT_MS) late.shift();
  beat = performance.now();
  const ms = late.reduce((sum, one) => sum + one, 0);
  if (ms < job.leaseMs / 4) return;
  say({ what: "starved", ms: Math.round(ms) });
  late.length = 0;
}, BEAT_MS);

process.once("SIGTERM", () => {
  isStopping = true;
  clearInterval(pulse);
  const complain = (error: Error) => say({ what: "trouble", message: error.message }); // the store is away: others will see that it is gone
  void crew
    .close()
    .catch(complain)
    .finally(() => process.disconnect());
});
process.once("disconnect", () => {
  if (!isStopping) process.exit(1); // the driver is gone
});

await insist("a worker's start", () => crew.work()); // as whoever restarts processes does
await tellWhoIAm();
say({ what: "ready" });
