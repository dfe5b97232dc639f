/** The person who is asked what became of a step in doubt: looks in the world's books, as soon as they can be relied on, and says. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Crew, type Event, isError, type RunRow } from "../groundcrew/src/index.ts";
import { fold } from "../groundcrew/src/persistence/fold.ts";
import { receiptOf } from "./expected.ts";
import type { FaultLog } from "./fault-log.ts";
import type { Fleet } from "./fleet.ts";
import { insist } from "./patience.ts";
import type { Report } from "./report.ts";
import type { World } from "./world.ts";

/** What a process had sent when it died has arrived by then. */
const SETTLE_MS = 300;

export class Person {
  readonly #crew: Crew;
  readonly #world: World;
  readonly #fleet: Fleet;
  readonly #log: FaultLog;
  readonly #report: Report;
  readonly #busy = new Set<string>();

  constructor(crew: Crew, world: World, fleet: Fleet, log: FaultLog, report: Report) {
    this.#crew = crew;
    this.#world = world;
    this.#fleet = fleet;
    this.#log = log;
    this.#report = report;
  }

  look({ id, reason }: RunRow): void {
    if ((reason !== "unknown_outcome" && reason !== "attention") || this.#busy.has(id)) return;
    this.#busy.add(id);
    void (reason === "attention" ? this.#clear(id) : this.#answer(id))
      .catch((error: unknown) => this.#report.add("wrong", `nobody could answer for run ${id}: ${String(error)}`))
      .finally(() => this.#busy.delete(id));
  }

  /** Processes die here all the time, with runs at work that have nothing to do with it: five in a row are no proof. */
  async #clear(id: string): Promise<void> {
    const run = await insist("a run that waits for attention", () => this.#crew.run(id));
    const { status, code, summary } = await insist("its state", () => run.view());
    if (status !== "parked") return; // somebody was faster
    if (code !== "QUARANTINED") return this.#report.add("wrong", `run ${id} is parked for attention: ${summary}`);
    console.error(`  run ${id} is quarantined, and is given another chance`);
    await insist("a retry", () => run.retry("a person"));
  }

  async #answer(id: string): Promise<void> {
    const run = await insist("a run in doubt", () => this.#crew.run(id));
    const events = await insist("its journal", () => run.journal());
    for (const { step, attempt, status } of fold(events).steps.values()) {
      if (status !== "unknown") continue;
      await this.#untilSure(this.#fleet.pidOf(workerOf(events, step, attempt)) ?? null);
      const effect = effectOf(events, step);
      const happened = this.#world.happened(effect);
      if (!happened) this.#world.void(effect, attempt);
      const answer = happened ? { resolution: "happened" as const, result: receiptOf(effect) } : { resolution: "did_not_happen" as const };
      await insist("an answer", () => run.resolve(step, { ...answer, by: "a person" })).catch(unlessAnswered);
    }
  }

  async #untilSure(pid: number | null): Promise<void> {
    await sleep(SETTLE_MS);
    while (!(pid !== null && this.#fleet.isOver(pid)) && this.#log.mayWake(pid)) await sleep(SETTLE_MS);
  }
}

/** Asked again because the first answer was not acknowledged; or the run was cancelled meanwhile. */
function unlessAnswered(error: unknown): void {
  if (!isError(error, "STEP_NOT_UNKNOWN") && !isError(error, "RUN_FINISHED")) throw error;
}

/** Who held the run when an attempt began. */
export function workerOf(events: readonly Event[], step: string, attempt: number): string {
  let worker = "";
  for (const event of events) {
    if (event.type === "run.claimed") worker = event.worker;
    if (event.type === "step.started" && event.step === step && event.attempt === attempt) return worker;
  }
  return worker;
}

/** Under which id the world knows a step's effect. */
export function effectOf(events: readonly Event[], step: string): string {
  const [first] = events;
  if (first?.type !== "run.created") throw new Error("A journal does not begin with run.created.");
  const started = events.find((event) => event.type === "step.started" && event.step === step);
  const input = started?.type === "step.started" ? (started.input as { id?: string } | undefined) : undefined;
  const label = (first.input as { label?: string } | undefined)?.label;
  return input?.id ?? `${label}/${step}`;
}
