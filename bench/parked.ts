/** Runs that wait: what very many of them weigh, what they cost while they wait, and how soon one goes on. */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type Crew, flow, groundcrew, type Run } from "groundcrew";
import { openStore } from "../groundcrew/dist/store.js";
import { ClaimTimes } from "./claim-times.ts";
import { type Figure, median, percentile } from "./figure.ts";
import { type Ground, PostgresGround, SqliteGround } from "./ground.ts";
import { untilParked } from "./load.ts";

const WARM_UP = 500;
const STARTED_AT_ONCE = 200;
const WAKES = 300;
const IDLE_MS = 5_000;

const entered = new EventTarget();
const waits = flow("waits", async (ctx, input: { order: number }) => {
  const answer = await ctx.waitFor<string>("answer");
  await ctx.step("next", { effect: "read" }, () => {
    entered.dispatchEvent(new Event("step"));
  });
  return { order: input.order, answer };
});

interface Parked {
  runs: number;
  heapPerRun: number;
  /** By which the heap grew while the worker only waited. */
  heapWhileIdle: number;
  bytesPerRun: number;
  idlePercent: number;
  wakes: number[];
  raws: number[];
  claims: number[];
}

export async function parked(): Promise<Figure[]> {
  await using ground = new SqliteGround();
  const found = await measured(ground, 10_000);
  return [
    {
      name: "parked.heap-bytes",
      value: found.heapPerRun,
      unit: "bytes/run",
      how: `heap after garbage collection, with ${found.runs} runs parked on a signal and without`,
      target: { atMost: 1_024 },
    },
    {
      name: "parked.storage-bytes",
      value: found.bytesPerRun,
      unit: "bytes/run",
      how: `growth of the file by ${found.runs} parked runs, checkpointed; everything included, indexes too`,
      target: { atMost: 1_536 },
    },
    { name: "parked.resume-ms", value: median(found.wakes), unit: "ms", how: resumeHow(found), target: { atMost: 5 } },
  ];
}

export async function pgParked(): Promise<Figure[]> {
  await using ground = await PostgresGround.open();
  const found = await measured(ground, 100_000);
  const { claims, raws } = found;
  return [
    {
      name: "pg-parked.heap-bytes",
      value: found.heapPerRun,
      unit: "bytes/run",
      how: `heap of the worker after garbage collection, with ${found.runs} runs parked on a signal and without`,
      target: { atMost: 10 },
    },
    {
      name: "pg-parked.idle-growth",
      value: found.heapWhileIdle / 1_024,
      unit: "KB",
      how: `growth of the worker's heap, collected, in ${IDLE_MS / 1_000} s in which all of them waited`,
      target: { atMost: 256 },
    },
    {
      name: "pg-parked.storage-bytes",
      value: found.bytesPerRun,
      unit: "bytes/run",
      how: "growth of the database, indexes and the row versions that are not yet vacuumed included",
    },
    { name: "pg-parked.resume-ms", value: median(found.wakes), unit: "ms", how: resumeHow(found), target: { atMost: 20 } },
    {
      name: "pg-parked.claim-p99",
      value: percentile(claims, 99),
      unit: "ms",
      how: `${claims.length} claims that brought a run, while ${found.runs} others waited (median ${median(claims).toFixed(2)} ms; raw durable inserts in between: p99 ${percentile(raws, 99).toFixed(2)} ms)`,
      target: { atMost: 10 },
    },
  ];
}

function resumeHow({ raws, idlePercent }: Parked): string {
  return (
    `from signal() to the run's next step, three commits, median of ${WAKES} (raw durable insert in between: p50 ${median(raws).toFixed(3)} ms); ` +
    `while all waited the worker used ${idlePercent.toFixed(2)} % of a core`
  );
}

async function measured(ground: Ground, runs: number): Promise<Parked> {
  const location = await ground.store();
  const claims = new ClaimTimes();
  const store = await openStore(location);
  const crew = groundcrew({ agents: [waits], store: claims.of(store) });
  await crew.work();
  await park(crew, WARM_UP, WARM_UP);
  const [heapBefore, bytesBefore] = [await heap(), await ground.bytes(location)];
  const ids = await park(crew, runs, Math.floor(runs / WAKES));
  const [heapAfter, bytesAfter] = [await heap(), await ground.bytes(location)];
  const idlePercent = await idleCpu();
  const heapAfterIdle = await heap();
  claims.times = [];
  const [wakes, raws]: [number[], number[]] = [[], []];
  for (const id of ids.slice(0, WAKES)) {
    wakes.push(await wake(await crew.run(id)));
    raws.push(await ground.raw());
  }
  await crew.close();
  await store.close();
  return {
    runs,
    heapPerRun: Math.max(0, (heapAfter - heapBefore) / runs),
    heapWhileIdle: Math.max(0, heapAfterIdle - heapAfter),
    bytesPerRun: (bytesAfter - bytesBefore) / runs,
    idlePercent,
    wakes,
    raws,
    claims: claims.times,
  };
}

/** @returns the ids of every `nth` run: all of them would weigh more than what is measured, and those lie far from each other */
async function park(crew: Crew, count: number, nth: number): Promise<string[]> {
  const ids: string[] = [];
  let started = 0;
  const lane = async () => {
    while (started < count) {
      const order = started++;
      const { id } = await crew.start(waits, { input: { order } });
      if (order % nth === 0) ids.push(id);
    }
  };
  await Promise.all(Array.from({ length: STARTED_AT_ONCE }, lane));
  await untilParked(crew);
  return ids;
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
