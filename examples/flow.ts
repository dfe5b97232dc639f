/**
 * A flow: a plain async function whose steps are done once, whatever happens to the process. Try it:
 *
 *     npm run dev -w examples                                                          (one terminal)
 *     npm run -s groundcrew -- run recall --url http://127.0.0.1:4280 --input '{"orders":["A-1042","A-1043"]}'
 *     npm run -s groundcrew -- signal <run> go '{"by":"Kim"}' --url http://127.0.0.1:4280
 */
import { flow } from "groundcrew";
import { findOrder } from "./support/agent.ts";
import { support } from "./support/support.ts";

/** A product is called back: look the orders up, ask a person, wait a little, let the agent refund each. */
export const recall = flow("recall", async (ctx, { orders }: { orders: string[] }) => {
  // Side by side. A step that is done gives its recorded value when the flow runs again; code between steps simply runs again.
  const found = await ctx.all(orders.map((id) => ctx.step(`look up ${id}`, { effect: "read" }, ({ signal }) => findOrder(id, signal))));
  const total = found.reduce((sum, order) => sum + order.total, 0);

  // Waiting costs nothing: the run is parked in the store, not in a process.
  ctx.progress(0.3, `${found.length} orders, $${total.toFixed(2)}: waiting for a go-ahead`);
  const go = await ctx.waitFor<{ by: string }>("go", { within: "1d" });
  if (!go) return { refunded: 0, note: "Nobody gave a go-ahead within a day." };
  await ctx.sleep("2s");

  // Each child is a run of its own, with its own journal; this run parks until they are done.
  const answers = await ctx.all(
    found.map(({ id, item }) => ctx.call(support, { prompt: `We recall the ${item} of order ${id}. Refund it.` })),
  );

  // An effect of the flow's own. Undeclared means `once`: if nobody saw its outcome, it is asked for, not repeated.
  await ctx.step("close the case", ({ key }) => ({ closed: key }));
  return { refunded: total, note: `Agreed by ${go.by}.`, answers };
});
