/**
 * The process that `recovery.ts` kills, and the one that takes over: `<store> start|resume`. Plain JavaScript: a start from
 * TypeScript takes Node some 50 ms more, which are not what is measured.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { flow, groundcrew } from "groundcrew";

const STEPS = 200;
const STEP_MS = 2;
const TEXT = "x".repeat(1_000);

/** @param {import("./recovery.ts").Said} what */
function say(what) {
  process.send?.({ ...what, at: performance.timeOrigin + performance.now() });
}

const long = flow("long", async (ctx) => {
  for (let i = 1; i <= STEPS; i++) {
    await ctx.step(`step ${i}`, { effect: "read" }, async () => {
      say({ what: "step", step: i });
      await sleep(STEP_MS);
      return { i, text: TEXT };
    });
  }
});

const [store, mode] = process.argv.slice(2);
const crew = groundcrew({ agents: [long], store: /** @type {string} */ (store) });
await crew.work();
say({ what: "ready" });
if (mode === "start") await crew.start(long, { input: null });
