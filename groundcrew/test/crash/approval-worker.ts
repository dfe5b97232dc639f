/** A process that works on runs whose refund needs somebody, until it is killed. It is given its job as JSON. */
import { groundcrew } from "../../src/index.ts";
import { asking } from "./asking.ts";
import type { Job } from "./worker.ts";

const job = JSON.parse(process.argv[2] ?? "") as Job;
const crew = groundcrew({ agents: [asking(job.world)], store: job.store, worker: { lease: job.lease }, onTrouble: () => {} });
process.once("disconnect", () => process.exit(1)); // the test is gone
await crew.work();
process.send?.("ready");
