/** One run from its beginning to its end: set up, start programs under faults, heal, wait, look at everything. */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Crew, groundcrew } from "../groundcrew/src/index.ts";
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
import type { Options } from "./options.ts";
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

/** What a run leaves behind. */
export interface Outcome {
  report: Report;
  log: FaultLog;
  programs: number;
  seconds: number;
  /** Faults that could not be made, and why. */
  notRun: Record<string, string>;
  /** With what there is to look at, when something went wrong. */
  folder: string;
}

export async function chaos(options: Options): Promise<Outcome> {
  const { store, seed, workers, without } = options;
  const begun = performance.now();
  const ground = sparing(store === "sqlite" ? openSqliteGround() : await openPostgresGround(workers, seed), without);
  const scene = await Scene.set(ground, options);
  const { report, log, folder } = scene;
  const orders: Order[] = [];
  const progress = setInterval(() => say(lineOf(scene, begun)), PROGRESS_MS);
  try {
    await scene.startAll(orders);
    await scene.converge();
    await scene.endAll(orders, begun);
  } catch (error) {
    report.add("wrong", `the run broke off: ${error instanceof Error ? error.stack : String(error)}`);
  }
  clearInterval(progress);
  if (report.problems.length > 0) await dumpProblems(scene.client, report, log, scene.fleet, folder);
  await scene.strike();
  await ground.close(report.problems.length > 0 ? join(folder, "store") : undefined);
  return { report, log, programs: orders.length, seconds: secondsSince(begun), notRun: ground.notRun, folder };
}

class Scene {
  readonly report = new Report(say);
  readonly log = new FaultLog();
  readonly folder = mkdtempSync(join(tmpdir(), "groundcrew-chaos-report-"));
  readonly #options: Options;
  readonly #ground: Ground;
  readonly #world: World;
  readonly client: Crew;
  readonly fleet: Fleet;
  readonly driver: Driver;
  readonly #watcher: Watcher;
  readonly #checks: Checks;
  #storm: Storm | undefined;

  static async set(ground: Ground, options: Options): Promise<Scene> {
    const scene = new Scene(ground, options, await World.open());
    await scene.client.runs({ limit: 1 }); // makes the store
    await scene.fleet.start();
    return scene;
  }

  private constructor(ground: Ground, options: Options, world: World) {
    this.#options = options;
    this.#ground = ground;
    this.#world = world;
    const { report, log, folder } = this;
    const { workers } = options;
    const { urlOf, skewOf, hostOf } = ground;
    const crew = crewOf(world.url);
    const client = groundcrew({ agents: crew.all, store: urlOf(null), worker: false });
    const jobOf = (place: number) => ({ store: urlOf(place), leaseMs: LEASE_MS, world: world.url });
    const fleet = new Fleet({ size: workers, jobOf, skewOf, hostOf, log, folder, onProblem: (problem) => report.add("wrong", problem) });
    const person = new Person(client, world, fleet, log, report);
    const watcher = new Watcher(client, (row) => person.look(row));
    const checks = new Checks({ crew: client, world, fleet, log, report, ended: (run) => watcher.ended(run) });
    this.client = client;
    this.fleet = fleet;
    this.#watcher = watcher;
    this.#checks = checks;
    this.driver = new Driver({ client, crew, world, watcher, checks, report });
    world.onCrash = (pid) => fleet.crashed(pid);
    world.isSure = () => !log.mayWake(null);
    process.on("exit", () => fleet.killAll());
  }

  /** As many at a time as fit, dealt over the first round of faults: each kind meets some. */
  async startAll(orders: Order[]): Promise<void> {
    const { driver, log } = this;
    const { programs, minutes, seed } = this.#options;
    const { workerFaults, groundFaults } = this.#ground;
    const onBlow = ({ kind, place }: { kind: string; place: number }) => say(`  ${kind} (worker ${place})`);
    const storm = new Storm([workerFaults, groundFaults], { fleet: this.fleet, log, leaseMs: LEASE_MS }, seed, onBlow);
    this.#storm = storm;
    const earliestEnd = performance.now() + minutes * 60_000;
    const mayStart = () => driver.open.size < MOST_OPEN && storm.progress > Math.min(orders.length / programs, 0.99);
    while (orders.length < programs || performance.now() < earliestEnd) {
      await this.#orDump("another program may start", mayStart, STUCK_MS);
      const order = orderOf(seed, orders.length);
      orders.push(order);
      void driver.play(order);
    }
    await until("each kind of fault has hit", () => storm.kinds.every((kind) => log.counts[kind]), LAST_FAULTS_MS).catch(() => {}); // the last check says it
  }

  async converge(): Promise<void> {
    await this.#storm?.end();
    say("all is healed, and has to come to its end");
    await this.#orDump("every program is over", () => this.driver.open.size === 0, CONVERGE_MS);
  }

  async endAll(programs: readonly Order[], begun: number): Promise<void> {
    const { client, driver, report, log } = this;
    const { workers } = this.#options;
    await this.#watcher.stop();
    await this.fleet.close().catch((error: Error) => report.add("wrong", error.message));
    const deps = { client, world: this.#world, driver, checks: this.#checks, report, log };
    await checkTheEnd({ ...deps, kinds: this.#kinds(programs), programs, workers, seconds: secondsSince(begun) });
  }

  async strike(): Promise<void> {
    this.fleet.killAll();
    await this.client.close();
    await this.#world.close();
  }

  /** @throws when it does not come in time, and leaves what is known of everything that is not over */
  async #orDump(what: string, condition: () => boolean, withinMs: number): Promise<void> {
    await until(what, condition, withinMs).catch(async (error: Error) => {
      const stuck = await dumpStuck(this.client, this.#world, this.driver, this.folder);
      this.report.add("lost", `${error.message} ${stuck}`);
      throw error;
    });
  }

  /** What must have hit for the run to count. */
  #kinds(programs: readonly Order[]): string[] {
    const { skewOf } = this.#ground;
    const crash = programs.some(({ shape }) => shape.includes("crash")) ? ["crash"] : [];
    const isSkewed = Array.from({ length: this.#options.workers }, (_, place) => skewOf(place)).some((ms) => ms !== 0);
    return [...(this.#storm?.kinds ?? []), ...crash, ...(isSkewed ? [SKEW] : [])];
  }
}

function lineOf({ report, log, driver }: Scene, begun: number): string {
  const faults = Object.values(log.counts).reduce((sum, count) => sum + count, 0);
  const { done, operations, problems } = report;
  return `${secondsSince(begun)} s: ${done} programs over, ${driver.open.size} open, ${operations} operations, ${faults} faults, ${problems.length} problems`;
}

function secondsSince(begun: number): number {
  return Math.round((performance.now() - begun) / 1_000);
}
