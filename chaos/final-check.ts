/** What can only be said when everything is over: that nothing is there which nobody asked for, and that the run was worth its name. */
import type { Crew } from "../groundcrew/src/index.ts";
import type { Checks } from "./checks.ts";
import type { Driver } from "./driver.ts";
import { callsOf } from "./expected.ts";
import type { FaultLog } from "./fault-log.ts";
import { conversationOf, errandsOf, type Order } from "./programs.ts";
import type { Report } from "./report.ts";
import { took, type World } from "./world.ts";

const PAGE = 1_000;

/** A run in which nearly everything failed would have nothing to lose. */
const LEAST_OPERATIONS_PER_PROGRAM = 3;

/** Leases that a worker may lose for no fault of ours, on a machine that is too busy. More are a worker that does not look after them. */
const MOST_LAPSES_PER_WORKER_AND_MINUTE = 1;

export interface Ending {
  client: Crew;
  world: World;
  driver: Driver;
  checks: Checks;
  report: Report;
  log: FaultLog;
  /** Faults that must have hit. */
  kinds: readonly string[];
  programs: readonly Order[];
  workers: number;
  seconds: number;
}

export async function checkTheEnd(ending: Ending): Promise<void> {
  await checkRuns(ending);
  checkBooks(ending);
  const { report, log, kinds, programs, workers, seconds } = ending;
  for (const kind of kinds) if (!log.counts[kind]) report.add("wrong", `no ${kind} was injected: this run proves nothing about it`);
  const most = workers * Math.ceil(seconds / 60) * MOST_LAPSES_PER_WORKER_AND_MINUTE;
  if ((log.counts["lapse"] ?? 0) > most) report.add("wrong", `${log.counts["lapse"]} leases were lost without a fault, and ${most} may be`);
  const least = programs.length * LEAST_OPERATIONS_PER_PROGRAM;
  if (report.operations < least)
    report.add("wrong", `only ${report.operations} operations succeeded, and ${least} is the least that proves anything`);
}

/** Every start that was acknowledged is there and over, and no other run is there. */
async function checkRuns({ client, driver, checks, report }: Ending): Promise<void> {
  const missing = new Set(driver.acknowledged);
  for (let before: string | undefined; ; ) {
    const rows = await client.runs({ limit: PAGE, ...(before !== undefined && { before }) });
    for (const { id, status, parent } of rows) {
      missing.delete(id);
      const isKnown = parent === null ? driver.acknowledged.has(id) : checks.children.has(id);
      if (!isKnown && driver.open.size === 0) report.add("wrong", `run ${id} (child of ${parent}) is there, and nobody asked for it`);
      if (!OVER.has(status)) report.add("lost", `run ${id} is ${status} in the end`);
    }
    before = rows.at(-1)?.id;
    if (rows.length < PAGE) break;
  }
  for (const id of missing) report.add("lost", `run ${id} was acknowledged, and is not there`);
}

const OVER: ReadonlySet<string> = new Set(["succeeded", "failed", "cancelled", "expired"]);

/** No effect that nobody ordered; and no second one of what may happen once, also long after its run was over. */
function checkBooks({ world, report, programs }: Ending): void {
  const ordered = new Set(programs.flatMap((order) => (order.shape === "session" ? errandIds(order) : callsOf(order).map(({ id }) => id))));
  for (const [id, { effect, arrivals }] of world.pages) {
    if (!ordered.has(id) && !id.includes("-model:")) report.add("wrong", `${id} reached the world, and nobody ordered it`);
    if (effect === "once" && arrivals.filter(took).length > 1)
      report.add("doubled", `${id} took effect more than once: ${JSON.stringify(arrivals)}`);
  }
}

function errandIds(order: Order): string[] {
  const { label, clients } = conversationOf(order);
  return clients.flat().flatMap(({ token }) => errandsOf(token).map(({ name }) => `${label}/${name}`));
}
