/** What the world's books must say of the effects of a run. */
import type { Event } from "../groundcrew/src/index.ts";
import { fold, type StepState } from "../groundcrew/src/persistence/fold.ts";
import { callsOf, type ExpectedCall, idOf } from "./expected.ts";
import type { FaultLog } from "./fault-log.ts";
import { isUnbegun } from "./journal-flaw.ts";
import { isAgent, type Order } from "./programs.ts";
import type { Report } from "./report.ts";
import { type Arrival, type Page, took, type World } from "./world.ts";

export class EffectChecks {
  readonly #world: World;
  readonly #log: FaultLog;
  readonly #report: Report;

  constructor(world: World, log: FaultLog, report: Report) {
    this.#world = world;
    this.#log = log;
    this.#report = report;
  }

  /** @param isWhole whether nobody interfered: then everything has to have happened. */
  ofRun(order: Order, run: string, events: readonly Event[], isWhole: boolean): void {
    const { steps } = fold(events);
    for (const call of callsOf(order)) {
      if (!call.id.startsWith(`${order.label}/`)) continue; // its child's
      const page = this.#world.pages.get(call.id);
      if (isWhole && mustArrive(call) && !page) this.#report.add("lost", `${call.id} of ${run} never reached the world`);
      if (isWhole && mustHappen(call) && !this.#world.happened(call.id)) this.#report.add("lost", `${call.id} of ${run} never took effect`);
      if (!page) continue;
      this.ofPage(`${call.id} of ${run}`, page, steps.get(stepOf(order, call.id)));
      this.#unbegun(`${call.id} of ${run}`, page, events, stepOf(order, call.id));
    }
    for (const step of steps.values()) this.#done(run, step);
  }

  /** What is on record as done has been done. */
  #done(run: string, { step, kind, status, value }: StepState): void {
    if (status !== "succeeded" || (kind !== "code" && kind !== "tool")) return;
    const [said, id = ""] = String(value).split(" ");
    if (said === "done" && !this.#world.happened(id)) this.#report.add("lost", `${step} of ${run} is recorded as done, and never was`);
  }

  /** What is on record as not begun has not happened. Of an attempt that may be made again it is not on record before it begins. */
  #unbegun(what: string, { effect, arrivals }: Page, events: readonly Event[], step: string): void {
    if (effect === "read" || effect === "idempotent") return;
    const begun = arrivals.filter(({ attempt }) => isUnbegun(events, step, attempt));
    if (begun.length > 0) this.#report.add("wrong", `${what} is said not to have begun: ${JSON.stringify(begun)}`);
  }

  /**
   * One effect: how often it took place, under which keys, and why it was asked for again.
   * @param what for people
   */
  ofPage(what: string, { effect, arrivals }: Page, step: StepState | undefined): void {
    const doubled = (how: string) => this.#report.add("doubled", `${what} (${effect}) ${how}: ${JSON.stringify(arrivals)}`);
    const differ = (of: (arrival: Arrival) => unknown) => new Set(arrivals.map(of)).size;
    const mustBeTold = effect === "once" || effect === "keyed";
    if (effect === "once" && arrivals.filter(took).length > 1) doubled("took effect more than once");
    if (effect === "keyed" && differ(({ key }) => key) > 1) doubled("came under more than one key");
    if (mustBeTold && differ(({ attempt }) => attempt) < arrivals.length) doubled("had one attempt made twice");
    const last = step?.status === "succeeded" ? step.attempt : Number.POSITIVE_INFINITY;
    if (arrivals.some(({ attempt }) => attempt > last)) doubled("was tried again after it was done");
    const needless = arrivals.some((arrival, i) => i > 0 && !this.#isExcused(arrivals[i - 1] as Arrival, arrival));
    if (needless) doubled("was asked for again without need");
  }

  #isExcused(before: Arrival, again: Arrival): boolean {
    return before.answer === "failed" || this.#log.hit(before.pid, before.at, again.at) || this.#log.hit(again.pid, before.at, again.at);
  }
}

/** One whose time was over may have been late from the start; of a `once` call that is found out. */
function mustArrive({ effect, manner }: ExpectedCall): boolean {
  return manner !== "hang" || effect === "once";
}

function mustHappen(call: ExpectedCall): boolean {
  return mustArrive(call) && call.manner !== "decline";
}

/** The step of a run that has an effect. */
function stepOf(order: Order, id: string): string {
  const name = id.slice(idOf(order.label, "").length);
  return isAgent(order.shape) && !name.startsWith("model:") ? `tool:${name}` : name;
}
