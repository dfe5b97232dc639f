/**
 * The process that `recovery.ts` kills, and the one that takes over: `<store> start|resume [ms of a step]`. Plain JavaScript: a start from
 * TypeScript takes Node some 50 ms more, which are not what is measured.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { flow, groundcrew } from "groundcrew";

const STEPS = 200;
const TEXT = "x".repeat(1_000);

/** @param {import("./recovery.ts").Said} what */
function say(what) {
  process.send?.({ ...what, at: performance.timeOrigin + performance.now() });
}

const [store, mode, stepMs = "2"] = process.argv.slice(2);

const long = flow("long", async (ctx) => {
  for (let i = 1; i <= STEPS; i++) {
    await ctx.step(`step ${i}`, { effect: "read" }, async () => {
      say({ what: "step", step: i });
      await sleep(Number(stepMs));
      return { i, text: TEXT };
    });
  }
});

const crew = groundcrew({ agents: [long], store: /** @type {string} */ (store) });
process.on("SIGTERM", () => crew.close()); // as `groundcrew serve` does
await crew.work();
say({ what: "ready" });
if (mode === "start") await crew.start(long, { input: null });
