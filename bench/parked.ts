/** Runs that wait: what ten thousand of them weigh, what they cost while they wait, and how soon one goes on. */
import { once } from "node:events";
import { statSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { flow, groundcrew, type Run } from "groundcrew";
import { checkpoint } from "./checkpoint.ts";
import { type Figure, median, timed } from "./figure.ts";
import { Folder } from "./folder.ts";
import { untilParked } from "./load.ts";
import { Raw } from "./raw.ts";

const RUNS = 10_000;
const WARM_UP = 500;
const STARTED_AT_ONCE = 200;
const WAKES = 300;
/** The runs that are woken lie far from each other. */
const STRIDE = 31;
const IDLE_MS = 5_000;

const entered = new EventTarget();
const waits = flow("waits", async (ctx, input: { order: number }) => {
  const answer = await ctx.waitFor<string>("answer");
  await ctx.step("next", { effect: "read" }, () => {
    entered.dispatchEvent(new Event("step"));
  });
  return { order: input.order, answer };
});

export async function parked(): Promise<Figure[]> {
  using folder = new Folder();
  const file = folder.file("crew.db");
  const crew = groundcrew({ agents: [waits], store: file });
  await crew.work();
  await park(WARM_UP);
  await checkpoint(file);
  const [heapBefore, bytesBefore] = [await heap(), statSync(file).size];
  const ids = await park(RUNS);
  await checkpoint(file);
  const [heapAfter, bytesAfter] = [await heap(), statSync(file).size];
  const idle = await idleCpu();
  const raw = new Raw(folder.file("raw.db"));
  const wakes: number[] = [];
  const rawTimes: number[] = [];
  for (let i = 0; i < WAKES; i++) {
    wakes.push(await wake(await crew.run(ids[(i * STRIDE) % RUNS] as string)));
    rawTimes.push(timed(() => raw.step(1, i)));
  }
  await crew.close();
  raw.close();

  const resumeHow =
    `from signal() to the run's next step, three commits, median of ${WAKES} (raw durable insert in between: p50 ${median(rawTimes).toFixed(3)} ms); ` +
    `while all waited the worker used ${idle.toFixed(2)} % of a core`;
  return [
    {
      name: "parked.heap-bytes",
      value: Math.max(0, (heapAfter - heapBefore) / RUNS),
      unit: "bytes/run",
      how: `heap after garbage collection, with ${RUNS} runs parked on a signal and without`,
      target: { atMost: 1_024 },
    },
    {
      name: "parked.storage-bytes",
      value: (bytesAfter - bytesBefore) / RUNS,
      unit: "bytes/run",
      how: `growth of the file by ${RUNS} parked runs, checkpointed; everything included, indexes too`,
      target: { atMost: 1_536 },
    },
    { name: "parked.resume-ms", value: median(wakes), unit: "ms", how: resumeHow, target: { atMost: 5 } },
  ];

  async function park(count: number): Promise<string[]> {
    const ids: string[] = [];
    const lane = async () => {
      while (ids.length < count) {
        const slot = ids.push("") - 1;
        ids[slot] = (await crew.start(waits, { input: { order: slot } })).id;
      }
    };
    await Promise.all(Array.from({ length: STARTED_AT_ONCE }, lane));
    await untilParked(crew);
    return ids;
  }
}

async function wake(run: Run): Promise<number> {
  const begun = performance.now();
  const next = once(entered, "step");
  await run.signal("answer", "yes");
  await next;
  const took = performance.now() - begun;
  await run.result();
  return took;
}

/** Share of one core, in percent. */
async function idleCpu(): Promise<number> {
  const begun = process.cpuUsage();
  await sleep(IDLE_MS);
  const { user, system } = process.cpuUsage(begun);
  return (user + system) / 10 / IDLE_MS;
}

async function heap(): Promise<number> {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  for (let i = 0; i < 4; i++) {
    gc();
    await sleep(20); // what finalizers let go of goes with the next one
  }
  return process.memoryUsage().heapUsed;
}
