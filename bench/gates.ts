/** What the fault layer adds to a step that goes well: choosing a candidate, passing all gates, and being watched. */
import { flow, groundcrew } from "groundcrew";
import { Breakers } from "../groundcrew/dist/fault/breaker.js";
import { candidateFor } from "../groundcrew/dist/fault/candidate.js";
import { Paces } from "../groundcrew/dist/fault/pace.js";
import { pass } from "../groundcrew/dist/run/gates.js";
import { LoopWatch } from "../groundcrew/dist/run/stall.js";
import { Stops } from "../groundcrew/dist/supervision/stops.js";
import { type Figure, median } from "./figure.ts";
import { Folder } from "./folder.ts";
import { STEPS, VALUES } from "./record.ts";

const WARM_UP = 500;
const COUNT = 5_000;
/** Durable steps and bare passages take turns this often: both meet the same processor. */
const BLOCK = 50;

const clock = { now: Date.now, after: () => () => {} };
const random = () => 0.5;
const store = { now: Date.now, breakers: async () => [], turn: async <T>(next: T) => next };
const stops = new Stops({ stops: async () => [] });
const deps = { breakers: new Breakers({ store, random, onTrouble: () => {} }), paces: new Paces({ clock, random }), stops };
const watch = new LoopWatch(clock, () => {});
const candidates = [{ attempts: 8 }, { attempts: 8, suits: () => true }];
const { signal } = new AbortController();

/** The way of a model or a tool to its effect, without the effect and without the journal. */
async function passage(): Promise<void> {
  candidateFor(candidates, [], 0, clock.now());
  const passage = { agent: "agent", breaker: "model:provider/model", provider: "provider", signal, isPressed: false, isProbe: false };
  await pass(deps, passage, () => watch.timed({ run: "run", step: "step", name: "name" }, async () => ({ value: { of: 1 } })));
}

export async function gates(): Promise<Figure[]> {
  using folder = new Folder();
  const gatesMs: number[] = [];
  const stepMs: number[] = [];
  const sequential = flow("sequential", async (ctx) => {
    for (let i = 0; i < WARM_UP + COUNT; i++) {
      if (i % BLOCK === 0) gatesMs.push(await timedPer(BLOCK, passage));
      const begun = performance.now();
      await ctx.step(`step ${i}`, { effect: "read" }, () => VALUES[i % STEPS]);
      stepMs.push(performance.now() - begun);
    }
  });
  const crew = groundcrew({ agents: [sequential], store: folder.file("crew.db") });
  await (await crew.start(sequential, { input: null })).result();
  await crew.close();

  const ours = median(gatesMs.slice(WARM_UP / BLOCK));
  const whole = median(stepMs.slice(WARM_UP));
  const how = `median per passage of ${COUNT}, in blocks of ${BLOCK} between durable steps of ${whole.toFixed(3)} ms`;
  return [
    { name: "gates.ms", value: ours, unit: "ms", how },
    { name: "gates.ratio", value: ours / whole, unit: "x step", how: "medians, gates to durable step", target: { atMost: 0.1 } },
  ];
}

/** Milliseconds of one, of `count` one after the other. */
async function timedPer(count: number, work: () => Promise<void>): Promise<number> {
  const begun = performance.now();
  for (let i = 0; i < count; i++) await work();
  return (performance.now() - begun) / count;
}
