/**
 * The inside of one contender's process: the same measurement for all of them. A contender says how it does one run of ten steps;
 * each of its steps calls `work`, which is how the time is taken without a word from the contender.
 */
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { cpuMs, machineCpuMs } from "./cpu-time.ts";
import { median } from "./figure.ts";
import { STEPS, VALUES } from "./record.ts";

export const LANES = 64;
/** Runs one after the other, before and while they are timed. */
const ALONE_WARM_UP = 30;
const ALONE = 150;
/** All lanes at work, before and while steps are counted. */
const WARM_UP_MS = 4_000;
const WINDOW_MS = 10_000;

export interface Contender {
  version: string;
  /** What was set, and what durability that gives. */
  settings: string;
  /** One durable run of ten steps, from its start to its result. */
  run(): Promise<unknown>;
  close(): Promise<void>;
  /** Figures that only this contender has, in milliseconds. */
  more?: () => Promise<Record<string, number>>;
}

/** Where a contender keeps its state. */
export interface Place {
  /** An empty database on a PostgreSQL with default durability. */
  url: string;
  /** An empty directory on a disk. */
  folder: string;
}

/** What one contender did. Times in milliseconds. */
export interface Outcome {
  version: string;
  settings: string;
  stepsPerSecond: number;
  cpuMsPerStep: number;
  /** Share of the machine's processors that others used meanwhile, in percent: what a reader may have to discount. */
  othersPercent: number;
  /** From one step's function to the next one's, in a run that has the machine for itself. */
  stepMs: number;
  /** From the start's call to the first step's function. */
  startMs: number;
  /** All runs it has ever done. */
  runs: number;
  more: Record<string, number>;
}

export type Message = { what: "ready" } | { what: "outcome"; outcome: Outcome };

let steps = 0;
let entries: number[] | undefined;

/** The body of every step of every contender. */
export function work(i: number): Record<string, unknown> {
  steps++;
  entries?.push(performance.now());
  return VALUES[i] as Record<string, unknown>;
}

/** Measures a contender and tells the parent process. Between "ready" and the parent's answer nothing happens: it looks at the disk. */
export async function contend(open: (place: Place) => Promise<Contender>): Promise<void> {
  const [url, folder, ...servers] = process.argv.slice(2) as [string, string, ...string[]];
  process.on("disconnect", () => process.exit(1)); // nobody is left who would be told
  const contender = await open({ url, folder });
  let runs = 0;
  const run = async () => {
    await contender.run();
    runs++;
  };
  await run();
  await looked();
  const alone = await oneByOne(run);
  const crowd = await allLanes(run, [process.pid, ...servers.map(Number)]);
  const more = (await contender.more?.()) ?? {};
  await contender.close();
  const { version, settings } = contender;
  await tell({ what: "outcome", outcome: { version, settings, ...alone, ...crowd, runs, more } });
  process.exit(0); // a library that left something open keeps nobody waiting
}

async function looked(): Promise<void> {
  if (!process.send) return;
  const answer = once(process, "message");
  await tell({ what: "ready" });
  await answer;
}

async function oneByOne(run: () => Promise<void>): Promise<{ stepMs: number; startMs: number }> {
  for (let i = 0; i < ALONE_WARM_UP; i++) await run();
  const [stepTimes, startTimes]: [number[], number[]] = [[], []];
  for (let i = 0; i < ALONE; i++) {
    entries = [];
    const begun = performance.now();
    await run();
    if (entries.length !== STEPS) throw new Error(`A run called ${entries.length} steps instead of ${STEPS}.`);
    startTimes.push((entries[0] as number) - begun);
    for (let k = 1; k < STEPS; k++) stepTimes.push((entries[k] as number) - (entries[k - 1] as number));
  }
  entries = undefined;
  return { stepMs: median(stepTimes), startMs: median(startTimes) };
}

type Crowd = Pick<Outcome, "stepsPerSecond" | "cpuMsPerStep" | "othersPercent">;

/** The clock is read between runs, not by a timer: a contender whose work never leaves the microtasks would let none fire. */
async function allLanes(run: () => Promise<void>, processes: readonly number[]): Promise<Crowd> {
  const begun = performance.now();
  const mark = () => ({ steps, at: performance.now(), ours: cpuMs(processes), all: machineCpuMs() });
  let first: ReturnType<typeof mark> | undefined;
  let last: ReturnType<typeof mark> | undefined;
  const lane = async () => {
    while (!last) {
      await run();
      const now = performance.now();
      if (now - begun >= WARM_UP_MS) first ??= mark();
      if (now - begun >= WARM_UP_MS + WINDOW_MS) last ??= mark();
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  if (!first || !last) throw new Error("The lanes ended before their time.");
  const [count, tookMs, usedMs] = [last.steps - first.steps, last.at - first.at, last.ours - first.ours];
  return {
    stepsPerSecond: (count / tookMs) * 1_000,
    cpuMsPerStep: usedMs / count,
    othersPercent: Math.max(0, ((last.all - first.all - usedMs) / (tookMs * availableParallelism())) * 100),
  };
}

/** To the parent, or to whoever has started this by hand, under a profiler. */
function tell(message: Message): Promise<void> {
  return new Promise((resolve, reject) => {
    if (process.send) process.send(message, (error: Error | null) => (error ? reject(error) : resolve()));
    else resolve(console.log(JSON.stringify(message)));
  });
}
