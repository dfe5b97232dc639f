/** What the benchmarks of Groundcrew run. */
import { type Flow, flow } from "groundcrew";
import { STEP_NAMES, STEPS, VALUES } from "./record.ts";

/** Ten steps that read something, and a small answer. */
export const tenSteps: Flow<{ n: number }, { done: number }> = flow("ten-steps", async (ctx, _input: { n: number }) => {
  for (let i = 0; i < STEPS; i++) await ctx.step(STEP_NAMES[i] as string, { effect: "read" }, () => VALUES[i]);
  return { done: STEPS };
});
