/** How many steps a second, against what the disk and SQLite would give to a program that does nothing else. */
import { type Crew, groundcrew } from "groundcrew";
import { type Figure, median } from "./figure.ts";
import { Folder } from "./folder.ts";
import { load } from "./load.ts";
import { Raw } from "./raw.ts";
import { tenSteps } from "./workload.ts";

const WARM_UP_MS = 2_000;
/** Both sides take turns of this length: what else the machine does meets both. */
const TURNS = 12;
const RAW_TURN_MS = 500;
const TURN_MS = 1_000;

interface Turn {
  raw: number;
  ours: number;
  cpuMs: number;
}

export async function throughput(): Promise<Figure[]> {
  const [some, many] = [await turnsWith(16), await turnsWith(64)];
  const cpuMs = median(many.map((turn) => turn.cpuMs));
  return [
    ...figuresOf(16, some, 0.35),
    ...figuresOf(64, many, 0.4),
    {
      name: "throughput.cpu-ms",
      value: cpuMs,
      unit: "ms/step",
      how: "CPU of the whole process, all threads, with 64 runs",
      target: { atMost: 0.1 },
    },
  ];
}

function figuresOf(lanes: number, turns: readonly Turn[], atLeast: number): Figure[] {
  const raw = Math.round(median(turns.map((turn) => turn.raw)));
  return [
    {
      name: `throughput.steps-${lanes}`,
      value: median(turns.map((turn) => turn.ours)),
      unit: "steps/s",
      how: `${lanes} runs of 10 steps side by side, each started and awaited; median of ${TURNS} turns with the raw limit (${raw} steps/s)`,
    },
    {
      name: `throughput.ratio-${lanes}`,
      value: median(turns.map((turn) => turn.ours / turn.raw)),
      unit: "x raw",
      how: "to bare group commit of the same rows, one transaction per round of all runs; median of the turns' ratios",
      target: { atLeast },
    },
  ];
}

async function turnsWith(lanes: number): Promise<Turn[]> {
  using folder = new Folder();
  const raw = new Raw(folder.file("raw.db"));
  const crew = groundcrew({ agents: [tenSteps], store: folder.file("crew.db") });
  await crew.work();
  await load(crew, lanes, WARM_UP_MS);
  rawTurn(raw, lanes);
  const turns: Turn[] = [];
  for (let i = 0; i < TURNS; i++) turns.push({ raw: rawTurn(raw, lanes), ...(await turn(crew, lanes)) });
  await crew.close();
  raw.close();
  return turns;
}

function rawTurn(raw: Raw, lanes: number): number {
  const begun = performance.now();
  let steps = 0;
  while (performance.now() - begun < RAW_TURN_MS) steps += raw.runs(lanes);
  return (steps / (performance.now() - begun)) * 1_000;
}

async function turn(crew: Crew, lanes: number): Promise<{ ours: number; cpuMs: number }> {
  const begun = performance.now();
  const cpuBegun = process.cpuUsage();
  const steps = await load(crew, lanes, TURN_MS);
  const { user, system } = process.cpuUsage(cpuBegun);
  return { ours: (steps / (performance.now() - begun)) * 1_000, cpuMs: (user + system) / 1_000 / steps };
}
