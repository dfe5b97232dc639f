/** How many steps a second, against what the disk and SQLite would give to a program that does nothing else. */
import { groundcrew } from "groundcrew";
import { type Figure, median } from "./figure.ts";
import { Folder } from "./folder.ts";
import { load } from "./load.ts";
import { Raw } from "./raw.ts";
import { tenSteps } from "./workload.ts";

const REPEATS = 5;
const WARM_UP_MS = 1_000;
const RAW_MS = 1_000;
const OURS_MS = 2_000;

interface Sample {
  raw: number;
  ours: number;
  cpuMs: number;
}

export async function throughput(): Promise<Figure[]> {
  return [...(await side(16, 0.35)), ...(await side(64, 0.4))];
}

async function side(lanes: number, ratio: number): Promise<Figure[]> {
  const samples: Sample[] = [];
  for (let i = 0; i < REPEATS; i++) samples.push({ raw: raw(lanes), ...(await ours(lanes)) });
  const rawSteps = Math.round(median(samples.map((sample) => sample.raw)));
  const how = `${lanes} runs of 10 steps side by side, each started and awaited; median of ${REPEATS} turns with the raw limit (${rawSteps} steps/s)`;
  const figures: Figure[] = [
    { name: `throughput.steps-${lanes}`, value: median(samples.map((sample) => sample.ours)), unit: "steps/s", how },
    {
      name: `throughput.ratio-${lanes}`,
      value: median(samples.map((sample) => sample.ours / sample.raw)),
      unit: "x raw",
      how: "of bare group commit of the same rows, one transaction per round of all runs",
      target: { atLeast: ratio },
    },
  ];
  if (lanes === 64) {
    const value = median(samples.map((sample) => sample.cpuMs));
    figures.push({ name: "throughput.cpu-ms", value, unit: "ms/step", how: "CPU of the whole process, all threads, with 64 runs", target: { atMost: 0.1 } });
  }
  return figures;
}

function raw(lanes: number): number {
  using folder = new Folder();
  const raw = new Raw(folder.file("raw.db"));
  raw.runs(lanes);
  const begun = performance.now();
  let steps = 0;
  while (performance.now() - begun < RAW_MS) steps += raw.runs(lanes);
  const seconds = (performance.now() - begun) / 1_000;
  raw.close();
  return steps / seconds;
}

async function ours(lanes: number): Promise<{ ours: number; cpuMs: number }> {
  using folder = new Folder();
  const crew = groundcrew({ agents: [tenSteps], store: folder.file("crew.db") });
  await crew.work();
  await load(crew, lanes, WARM_UP_MS);
  const begun = performance.now();
  const cpuBegun = process.cpuUsage();
  const steps = await load(crew, lanes, OURS_MS);
  const { user, system } = process.cpuUsage(cpuBegun);
  const seconds = (performance.now() - begun) / 1_000;
  await crew.close();
  return { ours: steps / seconds, cpuMs: (user + system) / 1_000 / steps };
}
