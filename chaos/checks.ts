/** What must hold of a run that has ended: its journal, what came of it, and what the world's books say of its effects. */
import { isDeepStrictEqual } from "node:util";
import { type Crew, type Event, isError } from "../groundcrew/src/index.ts";
import { fold, type StepState } from "../groundcrew/src/persistence/fold.ts";
import { isEnd } from "../groundcrew/src/stream/feed.ts";
import { callsOf, type Expected, type ExpectedCall, expectedOf, idOf } from "./expected.ts";
import type { FaultLog } from "./fault-log.ts";
import type { Fleet } from "./fleet.ts";
import { insist } from "./patience.ts";
import { workerOf } from "./person.ts";
import { flowOf, isAgent, type Node, type Order } from "./programs.ts";
import type { Report } from "./report.ts";
import { type Arrival, type Page, took, type World } from "./world.ts";

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
  /** Runs that were started by other runs. */
  readonly children = new Set<string>();

  constructor(deps: CheckDeps) {
    this.#deps = deps;
  }

  /** @param ends how it may end. One that ends as it would if nobody had interfered has to have done everything. */
  async program(order: Order, id: string, ends: readonly End[]): Promise<void> {
    const events = await this.journal(id);
    const end = events.at(-1);
    const expected = expectedOf(order);
    const isWhole = end?.type === ("fails" in expected ? "run.failed" : "run.succeeded");
    if (!end || !ends.some((type) => type === end.type)) this.#wrong(id, order, `ended with ${JSON.stringify(end)}, not with ${ends}`);
    if (isWhole) this.#outcome(order, id, end, expected);
    this.#effects(order, id, events, isWhole);
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
      if (pid === undefined || log.hit(pid, 0, performance.now())) continue;
      report.add(
        "wrong",
        `step ${event.step} of ${id} is said to be in doubt (${event.why}), and nothing had happened to its worker ${pid}`,
      );
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

  #effects(order: Order, id: string, events: readonly Event[], isWhole: boolean): void {
    const { world, report } = this.#deps;
    const { steps } = fold(events);
    for (const call of callsOf(order)) {
      if (!call.id.startsWith(`${order.label}/`)) continue; // its child's
      const page = world.pages.get(call.id);
      if (isWhole && mustArrive(call) && !page) report.add("lost", `${call.id} of ${id} never reached the world`);
      if (isWhole && mustHappen(call) && !world.happened(call.id)) report.add("lost", `${call.id} of ${id} never took effect`);
      if (page) this.page(`${call.id} of ${id}`, page, steps.get(stepOf(order, call.id)));
    }
    for (const step of steps.values()) {
      if (step.status !== "succeeded" || (step.kind !== "code" && step.kind !== "tool")) continue;
      const value = String(step.value);
      if (value.startsWith("done ") && !world.happened(value.slice("done ".length)))
        report.add("lost", `${step.step} of ${id} is recorded as done, and never was`);
    }
  }

  /**
   * One effect in the books: how often it took place, under which keys, and why it was asked for again.
   * @param id for people
   */
  page(id: string, { effect, arrivals }: Page, step: StepState | undefined): void {
    const { report } = this.#deps;
    const problem = (what: string) => report.add("doubled", `${id} (${effect}) ${what}: ${JSON.stringify(arrivals)}`);
    if (effect === "once" && arrivals.filter(took).length > 1) problem("took effect more than once");
    if (effect === "keyed" && new Set(arrivals.map(({ key }) => key)).size > 1) problem("came under more than one key");
    if (effect === "once" || effect === "keyed") {
      if (new Set(arrivals.map(({ attempt }) => attempt)).size < arrivals.length) problem("had one attempt made twice");
    }
    if (step?.status === "succeeded" && arrivals.some(({ attempt }) => attempt > step.attempt))
      problem("was tried again after it was done");
    arrivals.forEach((arrival, i) => {
      const before = arrivals[i - 1];
      if (before && !this.#isExcused(before, arrival)) problem("was asked for again without need");
    });
  }

  #isExcused(before: Arrival, again: Arrival): boolean {
    const { log } = this.#deps;
    return before.answer === "failed" || log.hit(before.pid, before.at, again.at) || log.hit(again.pid, before.at, again.at);
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

/** One whose time was over may have been late from the start; of a `once` call that is found out. */
function mustArrive({ effect, manner }: ExpectedCall): boolean {
  return manner !== "hang" || effect === "once";
}

function mustHappen(call: ExpectedCall): boolean {
  return mustArrive(call) && call.manner !== "decline";
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

/** The step of a run that has an effect. */
function stepOf(order: Order, id: string): string {
  const name = id.slice(idOf(order.label, "").length);
  return isAgent(order.shape) && !name.startsWith("model:") ? `tool:${name}` : name;
}

/** What is wrong with a journal, whoever wrote it; undefined when nothing is. */
export function flawOfJournal(events: readonly Event[]): string | undefined {
  const gap = events.findIndex(({ seq }, index) => seq !== index + 1);
  if (gap !== -1) return `event ${events[gap]?.seq} stands in place ${gap + 1}`;
  const ends = events.filter(isEnd).length;
  if (ends !== 1 || !isEnd(events.at(-1) ?? { type: "" })) return `it has ${ends} ends and closes with ${events.at(-1)?.type}`;
  let epoch = 0;
  const done = new Set<string>();
  for (const event of events) {
    if (event.type === "run.claimed") {
      if (event.epoch <= epoch) return `epoch ${event.epoch} follows epoch ${epoch}`;
      epoch = event.epoch;
    }
    if (event.type === "step.started" && done.has(event.step)) return `step ${event.step} begins again after its end`;
    if (event.type === "step.succeeded" || (event.type === "step.failed" && event.final)) {
      if (done.has(event.step)) return `step ${event.step} ends twice`;
      done.add(event.step);
    }
    if (event.type === "step.started" && event.effect !== undefined && isBehindCancel(events, event)) {
      return `step ${event.step} begins after the run was cancelled`;
    }
  }
  return undefined;
}

function isBehindCancel(events: readonly Event[], event: Event): boolean {
  return events.some(({ type, seq }) => type === "cancel.requested" && seq < event.seq);
}
