/** From the call of `start()` to the first line of the first step: what a user waits before anything happens. */
import { setTimeout as sleep } from "node:timers/promises";
import { flow, groundcrew } from "groundcrew";
import { type Figure, median, timed } from "./figure.ts";
import { Folder } from "./folder.ts";
import { Raw } from "./raw.ts";

const WARM_UP = 200;
const COUNT = 500;
/** Longer than a turn of any poll that a start could wait for, were there one. */
const MAX_PAUSE_MS = 30;

export async function start(): Promise<Figure[]> {
  using folder = new Folder();
  const raw = new Raw(folder.file("raw.db"));
  let seq = 0;
  let enteredAt = 0;
  const first = flow("first", async (ctx) => {
    await ctx.step("first", { effect: "read" }, () => {
      enteredAt = performance.now();
    });
  });
  const crew = groundcrew({ agents: [first], store: folder.file("crew.db") });
  await crew.work();
  await series(WARM_UP, 0);
  const busy = await series(COUNT, 0);
  const asleep = await series(COUNT, MAX_PAUSE_MS);
  await crew.close();
  raw.close();
  const rest =
    `after random pauses of up to ${MAX_PAUSE_MS} ms, which the processor sleeps through: ` +
    `${median(asleep.ours).toFixed(2)} ms, raw ${median(asleep.raw).toFixed(3)} ms`;
  return [
    {
      name: "start.p50-ms",
      value: median(busy.ours),
      unit: "ms",
      how: `${COUNT} starts one after the other, from the call to the first step's function: two commits (raw durable insert in between: p50 ${median(busy.raw).toFixed(3)} ms); ${rest}`,
      target: { atMost: 1 },
    },
  ];

  async function series(count: number, maxPauseMs: number): Promise<{ ours: number[]; raw: number[] }> {
    const times: { ours: number[]; raw: number[] } = { ours: [], raw: [] };
    for (let i = 0; i < count; i++) {
      const begun = performance.now();
      const run = await crew.start(first, { input: i });
      await run.result();
      times.ours.push(enteredAt - begun);
      if (maxPauseMs > 0) await sleep(Math.random() * maxPauseMs);
      times.raw.push(timed(() => raw.step(1, seq++)));
    }
    return times;
  }
}
