/** What the contenders' outcomes say: a row for each of them, and Groundcrew's ratios to the others. */
import { LANES } from "./contender.ts";
import type { Figure } from "./figure.ts";
import type { Entry, Measured } from "./peers.ts";
import { rounded } from "./print.ts";

/** Their state is a file on this machine: they are held against Groundcrew on SQLite, the others against it on PostgreSQL. */
const ON_FILES: ReadonlySet<string> = new Set(["langgraph-sqlite", "mastra"]);
const AT_LEAST_STEPS: Readonly<Record<string, number>> = { bare: 0.3, dbos: 5, restate: 3 };
const AT_MOST_CPU: Readonly<Record<string, number>> = { dbos: 0.1 };
const ALONE = "one run at a time, median";

export function rowsOf(entries: readonly Entry[]): string[][] {
  const head = ["", "steps/s", "CPU ms/step", "step ms", "start ms", "bytes/run", "others' CPU"];
  return [head, ...entries.map(rowOf)];
}

function rowOf(entry: Entry): string[] {
  if ("notRun" in entry) return [entry.name, "not run"];
  const { stepsPerSecond, cpuMsPerStep, stepMs, startMs, bytesPerRun, othersPercent } = entry.outcome;
  const values = [stepsPerSecond, cpuMsPerStep, stepMs, startMs, bytesPerRun].map((value) => String(rounded(value)));
  return [entry.name, ...values, `${Math.round(othersPercent)} %`];
}

/** Figures of each contender. */
export function figuresOf(entries: readonly Entry[]): Figure[] {
  return entries.flatMap((entry) => ("outcome" in entry ? own(entry.name, entry.outcome) : []));
}

function own(name: string, outcome: Measured): Figure[] {
  const shared = `others used ${Math.round(outcome.othersPercent)} % of the machine meanwhile`;
  return [
    figure("steps-per-s", outcome.stepsPerSecond, "steps/s", `${LANES} runs of 10 steps of ~1 KB side by side; ${shared}`),
    figure("cpu-ms", outcome.cpuMsPerStep, "ms/step", "CPU of all processes, client and server, with these runs"),
    figure("step-ms", outcome.stepMs, "ms", `from one step's function to the next one's, ${ALONE}`),
    figure("start-ms", outcome.startMs, "ms", `from the start's call to the first step's function, ${ALONE}`),
    figure("bytes", outcome.bytesPerRun, "bytes/run", "growth of the database or the directory, unswept"),
    ...Object.entries(outcome.more).map(([what, value]) => figure(what, value, "ms", "one row in a commit of its own, median")),
  ];

  function figure(what: string, value: number, unit: string, how: string): Figure {
    return { name: `peers.${name}.${what}`, value, unit, how };
  }
}

/** Groundcrew against each, and what it is to reach by itself. */
export function ratiosOf(entries: readonly Entry[]): Figure[] {
  const outcomes = new Map(entries.flatMap((entry) => ("outcome" in entry ? [[entry.name, entry.outcome]] : [])));
  const ours = outcomes.get("groundcrew");
  return [...outcomes].flatMap(([name, theirs]) => against(name, theirs, outcomes)).concat(ours ? bounds(ours, outcomes.get("bare")) : []);
}

function against(name: string, theirs: Measured, outcomes: ReadonlyMap<string, Measured>): Figure[] {
  const side = ON_FILES.has(name) ? "groundcrew-sqlite" : "groundcrew";
  const ours = outcomes.get(side);
  if (!ours || name.startsWith("groundcrew")) return [];
  const [atLeast, atMost, sides] = [AT_LEAST_STEPS[name], AT_MOST_CPU[name], `${side} to ${name}`];
  return [
    {
      name: `peers.steps-to-${name}`,
      value: ours.stepsPerSecond / theirs.stepsPerSecond,
      unit: "x",
      how: `steps/s, ${sides}`,
      ...(atLeast && { target: { atLeast } }),
    },
    {
      name: `peers.cpu-to-${name}`,
      value: ours.cpuMsPerStep / theirs.cpuMsPerStep,
      unit: "x",
      how: `CPU per step, ${sides}`,
      ...(atMost && { target: { atMost } }),
    },
  ];
}

function bounds({ stepMs, startMs }: Measured, bare: Measured | undefined): Figure[] {
  const commitMs = bare?.more["commit-ms"];
  const beside = commitMs ? `; one raw commit took ${rounded(commitMs)} ms` : "";
  return [
    { name: "peers.step-ms", value: stepMs, unit: "ms", how: `a step of groundcrew, ${ALONE}${beside}`, target: { atMost: 0.9 } },
    {
      name: "peers.start-ms",
      value: startMs,
      unit: "ms",
      how: `groundcrew, from start() to the first step, ${ALONE}`,
      target: { atMost: 3 },
    },
  ];
}
