/** From the call of `start()` to the first line of the first step: what a user waits before anything happens. */
import { setTimeout as sleep } from "node:timers/promises";
import { flow, groundcrew } from "groundcrew";
import { type Figure, median, timed } from "./figure.ts";
import { Folder } from "./folder.ts";
import { Raw } from "./raw.ts";

const WARM_UP = 100;
const COUNT = 500;
const MAX_PAUSE_MS = 20;

export async function start(): Promise<Figure[]> {
  using folder = new Folder();
  let enteredAt = 0;
  const first = flow("first", async (ctx) => {
    await ctx.step("first", { effect: "read" }, () => {
      enteredAt = performance.now();
    });
  });
  const crew = groundcrew({ agents: [first], store: folder.file("crew.db") });
  await crew.work();
  const raw = new Raw(folder.file("raw.db"));
  const times: number[] = [];
  const rawTimes: number[] = [];
  for (let i = 0; i < WARM_UP + COUNT; i++) {
    const begun = performance.now();
    const run = await crew.start(first, { input: i });
    await run.result();
    times.push(enteredAt - begun);
    await sleep(Math.random() * MAX_PAUSE_MS); // the worker is idle, at any point of whatever it does by the clock
    rawTimes.push(timed(() => raw.step(1, i)));
  }
  await crew.close();
  raw.close();
  const measured = times.slice(WARM_UP);
  return [
    {
      name: "start.p50-ms",
      value: median(measured),
      unit: "ms",
      how: `${COUNT} starts at random times on an idle worker, from the call to the first step's function: two commits (raw durable insert in between: p50 ${median(rawTimes).toFixed(3)} ms)`,
      target: { atMost: 1 },
    },
  ];
}
