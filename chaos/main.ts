/**
 * `npm run chaos -- --store sqlite|postgres --programs N --seed S [--json]`: random agent programs on several worker processes, while
 * these and their store are killed, stopped, cut off and deployed over. Afterwards nothing may be lost, and nothing doubled that
 * may not be: the books of the world outside say so.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { groundcrew } from "../groundcrew/src/index.ts";
import { until } from "../groundcrew/test/support/until.ts";
import { crewOf } from "./agents.ts";
import { Checks } from "./checks.ts";
import { Driver } from "./driver.ts";
import { dumpProblems, dumpStuck } from "./dump.ts";
import { FaultLog } from "./fault-log.ts";
import { Storm } from "./faults.ts";
import { checkTheEnd } from "./final-check.ts";
import { Fleet } from "./fleet.ts";
import { type Ground, SKEW, sparing } from "./ground.ts";
import { inOwnNamespace } from "./namespace.ts";
import { type Options, optionsOf, USAGE } from "./options.ts";
import { Person } from "./person.ts";
import { openPostgresGround } from "./postgres-ground.ts";
import { type Order, orderOf } from "./programs.ts";
import { Report, say } from "./report.ts";
import { openSqliteGround } from "./sqlite-ground.ts";
import { Watcher } from "./watcher.ts";
import { World } from "./world.ts";

/** Short, so that a worker which stands still loses it soon; long enough for a machine that has more to do than it can. */
const LEASE_MS = 4_000;

/** Programs at a time: what keeps two cores busy. More would only make them wait for each other. */
const MOST_OPEN = 120;

/** After the last fault is healed everything has to come to its end in this time. */
const CONVERGE_MS = 90_000;

/** While faults go on, some programs have to end: when none has in this time, they are stuck. */
const STUCK_MS = 240_000;

/** For faults that had not hit when the last program began. */
const LAST_FAULTS_MS = 60_000;

const PROGRESS_MS = 5_000;

async function chaos(options: Options): Promise<boolean> {
  const { store, seed, workers } = options;
  const begun = performance.now();
  const report = new Report();
  const log = new FaultLog();
  const world = await World.open();
  const ground = sparing(store === "sqlite" ? openSqliteGround() : await openPostgresGround(workers, seed), options.without);
  const crew = crewOf(world.url);
  const client = groundcrew({ agents: crew.all, store: ground.urlOf(null), worker: false });
  await client.runs({ limit: 1 }); // makes the store
  const fleet = fleetOn(ground, options, world, log, report);
  await fleet.start();

  const person = new Person(client, world, fleet, log, report);
  const watcher = new Watcher(client, (row) => person.look(row));
  const checks = new Checks({ crew: client, world, fleet, log, report, ended: (run) => watcher.ended(run) });
  const driver = new Driver({ client, crew, world, watcher, checks, report });
  const storm = new Storm([ground.workerFaults, ground.groundFaults], { fleet, log, leaseMs: LEASE_MS }, seed, ({ kind, place }) =>
    say(`  ${kind} (worker ${place})`),
  );
  const progress = setInterval(() => say(lineOf(report, log, driver, begun)), PROGRESS_MS);
  const folder = mkdtempSync(join(tmpdir(), "groundcrew-chaos-report-"));

  const programs = await startAll(options, driver, storm, log);
  await storm.end().catch((error: Error) => report.add("wrong", error.message));
  say("all is healed, and has to come to its end");
  await until("every program is over", () => driver.open.size === 0, CONVERGE_MS).catch(async (error: Error) => {
    report.add("lost", `${error.message} ${await dumpStuck(client, world, driver, folder)}`);
  });
  clearInterval(progress);
  await watcher.stop();
  await fleet.close().catch((error: Error) => report.add("wrong", error.message));
  await checkTheEnd({
    client,
    world,
    driver,
    checks,
    report,
    log,
    kinds: kindsOf(storm, ground, options, programs),
    programs,
    workers,
    seconds: secondsSince(begun),
  });
  if (report.problems.length > 0) await dumpProblems(client, report, log, fleet, folder);
  await client.close();
  await world.close();
  await ground.close(report.problems.length > 0 ? join(folder, "store") : undefined);

  return conclude({ options, programs: programs.length, seconds: secondsSince(begun), report, log, notRun: ground.notRun, folder });
}

function fleetOn(ground: Ground, { workers }: Options, world: World, log: FaultLog, report: Report): Fleet {
  const fleet = new Fleet({
    size: workers,
    jobOf: (place) => ({ store: ground.urlOf(place), leaseMs: LEASE_MS, world: world.url }),
    skewOf: ground.skewOf,
    hostOf: ground.hostOf,
    log,
    onProblem: (problem) => report.add("wrong", problem),
  });
  process.on("exit", () => fleet.killAll());
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));
  world.onCrash = (pid) => fleet.crashed(pid);
  world.isSure = () => !log.mayWake(null);
  return fleet;
}

/** As many at a time as fit, dealt over the first round of faults: each kind meets some. */
async function startAll({ programs, minutes, seed }: Options, driver: Driver, storm: Storm, log: FaultLog): Promise<Order[]> {
  const orders: Order[] = [];
  const earliestEnd = performance.now() + minutes * 60_000;
  while (orders.length < programs || performance.now() < earliestEnd) {
    await until("there is room", () => driver.open.size < MOST_OPEN && storm.progress > Math.min(orders.length / programs, 0.99), STUCK_MS);
    const order = orderOf(seed, orders.length);
    orders.push(order);
    void driver.play(order);
  }
  await until("each kind of fault has hit", () => storm.kinds.every((kind) => log.counts[kind]), LAST_FAULTS_MS).catch(() => {}); // the last check says it
  return orders;
}

/** What must have hit for the run to count. */
function kindsOf(storm: Storm, { skewOf }: Ground, { workers }: Options, programs: readonly Order[]): string[] {
  const crash = programs.some(({ shape }) => shape.includes("crash")) ? ["crash"] : [];
  const isSkewed = Array.from({ length: workers }, (_, place) => skewOf(place)).some((ms) => ms !== 0);
  return [...storm.kinds, ...crash, ...(isSkewed ? [SKEW] : [])];
}

function lineOf(report: Report, { counts }: FaultLog, driver: Driver, begun: number): string {
  const faults = Object.values(counts).reduce((sum, count) => sum + count, 0);
  return `${secondsSince(begun)} s: ${report.done} programs over, ${driver.open.size} open, ${report.operations} operations, ${faults} faults, ${report.problems.length} problems`;
}

function secondsSince(begun: number): number {
  return Math.round((performance.now() - begun) / 1_000);
}

interface Result {
  options: Options;
  programs: number;
  seconds: number;
  report: Report;
  log: FaultLog;
  notRun: Record<string, string>;
  folder: string;
}

/** Says what came of it. @returns whether all is well */
function conclude({ options, programs, seconds, report, log, notRun, folder }: Result): boolean {
  const { store, seed } = options;
  const isWell = report.problems.length === 0;
  for (const [kind, why] of Object.entries(notRun)) say(`not run: ${kind} (${why})`);
  if (isWell) rmSync(folder, { recursive: true });
  else say(`${report.problems.length} problems, see ${folder}`);
  say(`${report.read} runs were read along, by readers that came and went`);
  const result = {
    verdict: isWell ? "ok" : "failed",
    store,
    programs,
    operations: report.operations,
    faults: log.counts,
    lost: report.count("lost"),
    doubled: report.count("doubled"),
    unknown: report.unknown,
    seconds,
    seed,
    ...(Object.keys(notRun).length > 0 && { notRun }),
  };
  console.log(JSON.stringify(result));
  return isWell;
}

async function main(): Promise<number> {
  let options: Options | "help";
  try {
    options = optionsOf(process.argv.slice(2));
  } catch (error) {
    say(`${(error as Error).message}\n\n${USAGE}`);
    return 2;
  }
  if (options === "help") {
    console.log(USAGE);
    return 0;
  }
  const code = await inOwnNamespace(options.store === "sqlite");
  if (code !== undefined) return code;
  say(`chaos on ${options.store}, seed ${options.seed}, ${options.programs} programs, ${options.workers} workers`);
  return (await chaos(options)) ? 0 : 1;
}

process.exit(await main()); // whatever is stuck does not keep the result
