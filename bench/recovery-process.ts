/** The process that `recovery.ts` kills, and the one that takes over: `<store> start|resume`. */
import { setTimeout as sleep } from "node:timers/promises";
import { flow, groundcrew } from "groundcrew";
import { valueOf } from "./workload.ts";

export type Report = { what: "ready"; at: number } | { what: "step"; step: number; at: number };

const STEPS = 200;
const STEP_MS = 2;

function say(report: { what: "ready" } | { what: "step"; step: number }): void {
  process.send?.({ ...report, at: performance.timeOrigin + performance.now() } satisfies Report);
}

const long = flow("long", async (ctx) => {
  for (let i = 1; i <= STEPS; i++) {
    await ctx.step(`step ${i}`, { effect: "read" }, async () => {
      say({ what: "step", step: i });
      await sleep(STEP_MS);
      return valueOf(i);
    });
  }
});

const [store, mode] = process.argv.slice(2);
const crew = groundcrew({ agents: [long], store: store as string });
await crew.work();
say({ what: "ready" });
if (mode === "start") await crew.start(long, { input: null });
