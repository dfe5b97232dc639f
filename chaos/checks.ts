/** What must hold of a run that has ended: its journal, what came of it, and what the world's books say of its effects. */
import { isDeepStrictEqual } from "node:util";
import { type Crew, type Event, isError } from "../groundcrew/src/index.ts";
import { EffectChecks } from "./effect-checks.ts";
import { type Expected, expectedOf } from "./expected.ts";
import type { FaultLog } from "./fault-log.ts";
import type { Fleet } from "./fleet.ts";
import { flawOfJournal, isBehindCancel } from "./journal-flaw.ts";
import { insist } from "./patience.ts";
import { workerOf } from "./person.ts";
import { flowOf, isAgent, type Node, type Order } from "./programs.ts";
import type { Report } from "./report.ts";
import type { World } from "./world.ts";

/** A run that was taken from its worker is over, and looked at, after this. */
const LATELY_MS = 120_000;

export type End = "run.succeeded" | "run.failed" | "run.cancelled" | "run.expired";

export interface CheckDeps {
  crew: Crew;
  world: World;
  fleet: Fleet;
  log: FaultLog;
  report: Report;
  /** Resolves when a run is over. */
  ended: (run: string) => Promise<void>;
}

export class Checks {
  readonly #deps: CheckDeps;
  readonly effects: EffectChecks;
  /** Runs that were started by other runs. */
  readonly children = new Set<string>();

  constructor(deps: CheckDeps) {
    this.#deps = deps;
    this.effects = new EffectChecks(deps.world, deps.log, deps.report);
  }

  /** @param ends how it may end. One that ends as it would if nobody had interfered has to have done everything. */
  async program(order: Order, id: string, ends: readonly End[]): Promise<void> {
    const events = await this.journal(id);
    const end = events.at(-1);
    const expected = expectedOf(order);
    const isWhole = end?.type === ("fails" in expected ? "run.failed" : "run.succeeded");
    if (!end || !ends.some((type) => type === end.type)) this.#wrong(id, order, `ended with ${JSON.stringify(end)}, not with ${ends}`);
    if (isWhole) this.#outcome(order, id, end, expected);
    this.effects.ofRun(order, id, events, isWhole);
    await this.#childrenOf(order, id, events, isWhole);
  }

  /** The journal of a run, which is whole. */
  async journal(id: string): Promise<Event[]> {
    const { crew, report } = this.#deps;
    const events = await insist("a journal", async () => (await crew.run(id)).journal());
    const flaw = flawOfJournal(events);
    if (flaw !== undefined) report.add("wrong", `the journal of ${id} has a flaw: ${flaw}`);
    report.operations += events.filter(({ type }) => type === "step.succeeded" || type === "step.resolved").length;
    this.#doubts(id, events);
    return events;
  }

  /** A step is said to be in doubt only when nobody could know: its time was over, its run was stopped, or a fault hit its worker. */
  #doubts(id: string, events: readonly Event[]): void {
    const { fleet, log, report } = this.#deps;
    for (const event of events) {
      if (event.type !== "step.unknown") continue;
      report.unknown++;
      if (event.why.includes("took longer than") || event.why.includes("was stopped while")) continue;
      const pid = fleet.pidOf(workerOf(events, event.step, event.attempt));
      if (pid === undefined) continue; // it died before it could say who it was
      const now = performance.now();
      if (log.hit(pid, fleet.isOver(pid) ? 0 : now - LATELY_MS, now)) continue;
      report.add("wrong", `${event.step} of ${id} is said to be in doubt (${event.why}), and nothing had happened to worker ${pid}`);
    }
  }

  #outcome(order: Order, id: string, end: Event, expected: Expected): void {
    if ("output" in expected && end.type === "run.succeeded" && !isDeepStrictEqual(end.output, expected.output)) {
      this.#wrong(id, order, `gave ${JSON.stringify(end.output)}, not ${JSON.stringify(expected.output)}`);
    }
    if ("fails" in expected && end.type === "run.failed" && end.error.message !== expected.fails) {
      this.#wrong(id, order, `failed with ${JSON.stringify(end.error.message)}, not with ${JSON.stringify(expected.fails)}`);
    }
  }

  async #childrenOf(order: Order, id: string, events: readonly Event[], isWhole: boolean): Promise<void> {
    const { crew, ended } = this.#deps;
    const orders = new Map(isAgent(order.shape) ? [] : flowOf(order).nodes.flatMap(childrenIn));
    for (const event of events) {
      if (event.type !== "step.started" || event.child === undefined) continue;
      const child = event.child;
      const childOrder = orders.get(event.step);
      if (!childOrder) {
        this.#wrong(id, order, `has a child ${event.step} that nobody ordered`);
        continue;
      }
      if (!(await insist("a child", () => exists(crew, child)))) {
        if (isWhole) this.#wrong(id, order, `has no child ${child}, and knows what came of it`);
        continue;
      }
      if (isBehindCancel(events, event)) this.#wrong(id, order, `started the child ${child} after it was cancelled`);
      this.children.add(child);
      if (!isWhole) await ended(child);
      const natural: End = childOrder.shape === "fails" ? "run.failed" : "run.succeeded";
      await this.program(childOrder, child, isWhole ? [natural] : [natural, "run.cancelled", "run.expired"]);
    }
  }

  #wrong(id: string, order: Order, what: string): void {
    this.#deps.report.add("wrong", `run ${id} of ${JSON.stringify(order)} ${what}`);
  }
}

async function exists(crew: Crew, id: string): Promise<boolean> {
  try {
    await crew.run(id);
    return true;
  } catch (error) {
    if (isError(error, "RUN_NOT_FOUND")) return false;
    throw error;
  }
}

function childrenIn(node: Node): [step: string, order: Order][] {
  if (node.type === "all") return node.nodes.flatMap(childrenIn);
  return node.type === "child" ? [[`call:${node.name}`, node.order]] : [];
}
