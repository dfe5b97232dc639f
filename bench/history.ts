/** Long runs: a step must cost the same whatever is behind it, and taking the run up again must not take its whole life. */
import { once } from "node:events";
import { flow, groundcrew } from "groundcrew";
import { type Figure, median } from "./figure.ts";
import { Folder } from "./folder.ts";
import { untilParked } from "./load.ts";
import { STEPS, VALUES } from "./workload.ts";

const SHORT = 2_000;
const LONG = 10_000;
/** The 10th step stands in the first window, the last one in the last: a single step says nothing. */
const WINDOW = 20;
const REPEATS = 9;
const LONG_REPEATS = 3;
const RESUMES = 21;

export async function history(): Promise<Figure[]> {
  using folder = new Folder();
  await ratioOf(folder, 1_000, 2); // warms up
  const short = await ratioOf(folder, SHORT, REPEATS);
  const long = await ratioOf(folder, LONG, LONG_REPEATS);
  const resumes = await resume(folder);
  const each = [short, long].map(({ first, last, ratio }) => `${first.toFixed(3)} and ${last.toFixed(3)} ms, ${ratio.toFixed(2)}x`);
  return [
    {
      name: "history.step-ratio",
      value: Math.max(short.ratio, long.ratio),
      unit: "x 10th step",
      how: `medians of the steps around the 10th and of the last ${WINDOW}; worse of ${SHORT} steps (${each[0]}) and ${LONG} steps (${each[1]})`,
      target: { atMost: 1.3 },
    },
    {
      name: "history.resume-ms",
      value: median(resumes),
      unit: "ms",
      how: `a parked run of ${SHORT} steps, from signal() to its next new step; median of ${RESUMES}, the first took ${resumes[0]?.toFixed(1)} ms`,
      target: { atMost: 20 },
    },
  ];
}

interface Ratio {
  first: number;
  last: number;
  ratio: number;
}

async function ratioOf(folder: Folder, steps: number, repeats: number): Promise<Ratio> {
  const [first, last]: [number[], number[]] = [[], []];
  const timedSteps = flow("timed-steps", async (ctx) => {
    for (let i = 1; i <= steps; i++) {
      const begun = performance.now();
      await ctx.step(`step ${i}`, { effect: "read" }, () => VALUES[i % STEPS]);
      const took = performance.now() - begun;
      if (i <= WINDOW) first.push(took);
      if (i > steps - WINDOW) last.push(took);
    }
  });
  const crew = groundcrew({ agents: [timedSteps], store: folder.file(`crew-${steps}.db`) });
  for (let i = 0; i < repeats; i++) await (await crew.start(timedSteps, { input: null })).result();
  await crew.close();
  return { first: median(first), last: median(last), ratio: median(last) / median(first) };
}

async function resume(folder: Folder): Promise<number[]> {
  const entered = new EventTarget();
  const long = flow("long", async (ctx) => {
    for (let i = 1; i <= SHORT; i++) await ctx.step(`step ${i}`, { effect: "read" }, () => VALUES[i % STEPS]);
    for (let i = 1; i <= RESUMES; i++) {
      await ctx.waitFor("go");
      await ctx.step(`after ${i}`, { effect: "read" }, () => {
        entered.dispatchEvent(new Event("step"));
      });
    }
  });
  const crew = groundcrew({ agents: [long], store: folder.file("crew-resume.db") });
  const run = await crew.start(long, { input: null });
  const times: number[] = [];
  for (let i = 0; i < RESUMES; i++) {
    await untilParked(crew);
    const begun = performance.now();
    const next = once(entered, "step");
    await run.signal("go");
    await next;
    times.push(performance.now() - begun);
  }
  await run.result();
  await crew.close();
  return times;
}
