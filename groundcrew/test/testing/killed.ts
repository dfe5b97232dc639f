/** What `killAt` runs: a crew whose run has a tool that may happen only once. */
import { flow } from "../../src/agent.ts";
import { groundcrew } from "../../src/runtime.ts";

export const pay = flow("pay", async (ctx) => {
  const first = await ctx.step("look", { effect: "read" }, () => "seen");
  return ctx.step("pay", { effect: "once", reconcile: () => ({ happened: true, result: `${first}, paid` }) }, () => "paid");
});

if (import.meta.main) {
  const crew = groundcrew({ agents: [pay], store: process.argv[2] as string });
  await (await crew.start(pay, { key: "the one" })).result();
  await crew.close();
}
