/** A process that works, until it is killed or told to stop. It is given its job as JSON, and says when it is ready. */
import { type Definition, groundcrew } from "../../src/index.ts";
import { type ProgramOptions, programOf } from "./program.ts";

export interface Job extends ProgramOptions {
  store: string;
  lease: number;
  /** Starts this one, sees it to its end, and stops. */
  start?: { agent: string; request: { input?: unknown; prompt?: string } };
}

const job = JSON.parse(process.argv[2] ?? "") as Job;
const agents: Definition[] = Object.values(programOf(job));
const crew = groundcrew({ agents, store: job.store, worker: { lease: job.lease } });
process.once("SIGTERM", () => {
  void crew.close();
  process.send?.("stopping");
});

await crew.work();
process.send?.("ready");
if (job.start) {
  const run = await crew.start(job.start.agent, { ...job.start.request, key: "the one" });
  await run.result();
  await crew.close();
}
