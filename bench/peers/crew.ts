/** Groundcrew on either store, through its public API. */
import { flow, groundcrew } from "groundcrew";
import { type Contender, work } from "../contender.ts";
import { STEP_NAMES } from "../record.ts";
import { versionOf } from "./version.ts";

const tenSteps = flow("ten-steps", async (ctx, _input: null) => {
  for (const [i, name] of STEP_NAMES.entries()) await ctx.step(name, { effect: "read" }, () => work(i));
  return { done: STEP_NAMES.length };
});

export async function crewOn(store: string, settings: string): Promise<Contender> {
  const crew = groundcrew({ agents: [tenSteps], store });
  await crew.work();
  return {
    version: versionOf("groundcrew"),
    settings,
    run: async () => (await crew.start(tenSteps, { input: null })).result(),
    close: () => crew.close(),
  };
}
