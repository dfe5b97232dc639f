import { setTimeout as sleep } from "node:timers/promises";
import type { Crew } from "groundcrew";
import { STEPS } from "./record.ts";
import { tenSteps } from "./workload.ts";

/** Keeps `lanes` runs of ten steps going for `ms`: each lane starts a run, awaits its result, starts the next. @returns steps done */
export async function load(crew: Crew, lanes: number, ms: number): Promise<number> {
  const end = performance.now() + ms;
  let steps = 0;
  const lane = async () => {
    while (performance.now() < end) {
      const run = await crew.start(tenSteps, { input: { n: steps } });
      await run.result();
      steps += STEPS;
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return steps;
}

/** Waits until no run has anything left to do. */
export async function untilParked(crew: Crew): Promise<void> {
  while ((await crew.runs({ status: ["queued", "running"], limit: 1 })).length > 0) await sleep(5);
}
