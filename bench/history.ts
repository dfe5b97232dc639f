/** Long runs: a step must cost the same whatever is behind it, and taking the run up again must not take its whole life. */
import { once } from "node:events";
import { flow, groundcrew } from "groundcrew";
import { type Figure, median } from "./figure.ts";
import { type Ground, PostgresGround, SqliteGround } from "./ground.ts";
import { untilParked } from "./load.ts";
import { STEPS, VALUES } from "./record.ts";

const SHORT = 2_000;
const LONG = 10_000;
/** The 10th step stands in the first window, the last one in the last: a single step says nothing. */
const WINDOW = 20;
const REPEATS = 9;
const LONG_REPEATS = 3;
const RESUMES = 21;

export async function history(): Promise<Figure[]> {
  await using ground = new SqliteGround();
  return await measured(ground, 20); // while the ground is there
}

export async function pgHistory(): Promise<Figure[]> {
  await using ground = await PostgresGround.open();
  return await measured(ground, 50); // while the ground is there
}

async function measured(ground: Ground, resumeMs: number): Promise<Figure[]> {
  await ratioOf(ground, 1_000, 2); // warms up
  const short = await ratioOf(ground, SHORT, REPEATS);
  const long = await ratioOf(ground, LONG, LONG_REPEATS);
  const resumes = await resume(ground);
  const each = [short, long].map(({ first, last, ratio }) => `${first.toFixed(3)} and ${last.toFixed(3)} ms, ${ratio.toFixed(2)}x`);
  return [
    {
      name: `${ground.prefix}history.step-ratio`,
      value: Math.max(short.ratio, long.ratio),
      unit: "x 10th step",
      how: `medians of the steps around the 10th and of the last ${WINDOW}; worse of ${SHORT} steps (${each[0]}) and ${LONG} steps (${each[1]})`,
      target: { atMost: 1.3 },
    },
    {
      name: `${ground.prefix}history.resume-ms`,
      value: median(resumes),
      unit: "ms",
      how: `a parked run of ${SHORT} steps, from signal() to its next new step; median of ${RESUMES}, the first took ${resumes[0]?.toFixed(1)} ms`,
      target: { atMost: resumeMs },
    },
  ];
}

interface Ratio {
  first: number;
  last: number;
  ratio: number;
}

async function ratioOf(ground: Ground, steps: number, repeats: number): Promise<Ratio> {
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
  const crew = groundcrew({ agents: [timedSteps], store: await ground.store() });
  for (let i = 0; i < repeats; i++) await (await crew.start(timedSteps, { input: null })).result();
  await crew.close();
  return { first: median(first), last: median(last), ratio: median(last) / median(first) };
}

async function resume(ground: Ground): Promise<number[]> {
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
  const crew = groundcrew({ agents: [long], store: await ground.store() });
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
