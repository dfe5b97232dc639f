/** Measures one thing, in a process of its own: `node bench/measure.ts step`. Under a profiler this is the process to watch. */
import type { Figure } from "./figure.ts";
import { gates } from "./gates.ts";
import { history, pgHistory } from "./history.ts";
import { journal } from "./journal.ts";
import { loopDelay } from "./loop-delay.ts";
import { parked, pgParked } from "./parked.ts";
import { readers } from "./readers.ts";
import { pgRecovery, recovery } from "./recovery.ts";
import { start } from "./start.ts";
import { step } from "./step.ts";
import { throughput } from "./throughput.ts";

const benchmarks: Record<string, () => Promise<Figure[]>> = {
  throughput,
  step,
  gates,
  start,
  recovery,
  history,
  parked,
  journal,
  "loop-delay": loopDelay,
  "pg-history": pgHistory,
  "pg-parked": pgParked,
  "pg-recovery": pgRecovery,
  readers,
};

const benchmark = benchmarks[process.argv[2] ?? ""];
if (!benchmark) throw new Error(`Name one of ${Object.keys(benchmarks).join(", ")}.`);
const figures = await benchmark();
if (process.send) process.send(figures);
else for (const figure of figures) console.log(JSON.stringify(figure));
