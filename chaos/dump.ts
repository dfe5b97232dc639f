/** Everything that is known of what went wrong, or does not come to its end, for whoever has to find out why. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Crew } from "../groundcrew/src/index.ts";
import type { Driver } from "./driver.ts";
import type { FaultLog } from "./fault-log.ts";
import type { Fleet } from "./fleet.ts";
import type { Report } from "./report.ts";
import type { World } from "./world.ts";

const MOST_DUMPED = 100;

/** Writes down rows, journals and the books of programs that are not over. @returns where, for people */
export async function dumpStuck(client: Crew, world: World, driver: Driver, folder: string): Promise<string> {
  const stuck = [...driver.open];
  const dump = [];
  for (const [order, { since, runs }] of stuck.slice(0, MOST_DUMPED)) {
    const known = await Promise.all(runs.map((run) => storyOf(client, run)));
    const books = [...world.pages].filter(([id]) => id.startsWith(`${order.label}/`) || id.startsWith(`${order.label}_`));
    dump.push({ order, seconds: Math.round((performance.now() - since) / 1_000), runs: known, books });
  }
  const file = join(folder, "stuck.json");
  writeFileSync(file, JSON.stringify(dump, undefined, 1));
  return `${stuck.length} programs are stuck, see ${file}`;
}

/** Writes down the runs that the problems name, what was done to whom and when, and what the workers complained of. */
export async function dumpProblems(client: Crew, report: Report, log: FaultLog, fleet: Fleet, folder: string): Promise<void> {
  const write = (name: string, what: unknown) => writeFileSync(join(folder, name), JSON.stringify(what, undefined, 1));
  write("problems.json", report.problems);
  write("faults.json", log.faults);
  write("troubles.json", fleet.troubles);
  const named = new Set(report.problems.flatMap(({ what }) => what.match(/run_[0-9a-z]+/) ?? []));
  write("runs.json", await Promise.all([...named].slice(0, MOST_DUMPED).map((run) => storyOf(client, run))));
}

async function storyOf(client: Crew, id: string): Promise<unknown> {
  try {
    const run = await client.run(id);
    const children = await client.runs({ parent: id, limit: 50 });
    return { row: await run.row(), children, journal: await run.journal() };
  } catch (error) {
    return { id, error: String(error) };
  }
}
