/** What one durable step costs a run that has the machine for itself, against one durable insert. */
import { flow, groundcrew } from "groundcrew";
import { type Figure, median, percentile, timed } from "./figure.ts";
import { Folder } from "./folder.ts";
import { Raw } from "./raw.ts";
import { STEPS, VALUES } from "./record.ts";

const WARM_UP = 500;
const COUNT = 5_000;
/** Steps and inserts take turns this often: both meet the same disk. */
const BLOCK = 50;

export async function step(): Promise<Figure[]> {
  using folder = new Folder();
  const raw = new Raw(folder.file("raw.db"));
  const rawMs: number[] = [];
  const stepMs: number[] = [];
  const sequential = flow("sequential", async (ctx) => {
    for (let i = 0; i < WARM_UP + COUNT; i++) {
      if (i % BLOCK === 0) for (let k = 0; k < BLOCK; k++) rawMs.push(timed(() => raw.step(1, i + k)));
      const begun = performance.now();
      await ctx.step(`step ${i}`, { effect: "read" }, () => VALUES[i % STEPS]);
      stepMs.push(performance.now() - begun);
    }
  });
  const crew = groundcrew({ agents: [sequential], store: folder.file("crew.db") });
  await (await crew.start(sequential, { input: null })).result();
  await crew.close();
  raw.close();

  const [ours, theirs] = [stepMs.slice(WARM_UP), rawMs.slice(WARM_UP)];
  const rawText = `raw p50 ${median(theirs).toFixed(3)}, p99 ${percentile(theirs, 99).toFixed(3)} ms`;
  const how = `${COUNT} steps of one run one after the other, from the call to the value; blocks of ${BLOCK} take turns with raw inserts`;
  return [
    { name: "step.p50-ms", value: median(ours), unit: "ms", how },
    { name: "step.p99-ms", value: percentile(ours, 99), unit: "ms", how: `the same steps (${rawText})`, target: { atMost: 2 } },
    {
      name: "step.ratio",
      value: median(ours) / median(theirs),
      unit: "x raw",
      how: "medians, step to raw durable insert",
      target: { atMost: 2 },
    },
  ];
}
