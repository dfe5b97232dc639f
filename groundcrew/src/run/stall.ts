/**
 * Watches that the event loop goes round. Code that computes for seconds keeps everything else in its process waiting: tokens,
 * time-outs, and the heartbeat on which the lease of all runs hangs. It cannot be interrupted from here; it can be named.
 */
import { type Clock, span } from "../clock.ts";
import { GroundcrewError } from "../errors.ts";
import { LOOP_BLOCKED_MS, LOOP_LOOK_MS } from "../limits.ts";

export interface WorkingStep {
  run: string;
  step: string;
  name: string;
}

export interface Block {
  /** At least; a look may have come up to `LOOP_LOOK_MS` into it. */
  blockedMs: number;
  /** Who it was; of several, one of them. Empty: code between steps, or none of any run's. */
  steps: readonly WorkingStep[];
  /** Seen in the act, and not merely at work all the while. */
  isCertain: boolean;
}

/** Milliseconds since some moment, that do not jump. */
export interface LoopMeter {
  now(): number;
  /** Of these, the ones in which code ran. In the others the loop, or the whole machine, was at rest. */
  busy(): number;
}

const systemMeter: LoopMeter = {
  now: () => performance.now(),
  busy: () => performance.eventLoopUtilization().active,
};

interface Spell {
  step: WorkingStep;
  began: number;
  ended: number;
}

export class LoopWatch {
  readonly #clock: Clock;
  readonly #meter: LoopMeter;
  readonly #onBlock: (block: Block) => void;
  readonly #working = new Set<Spell>();
  /** Of those that ended since the last look. */
  #ended: Spell[] = [];
  #caught: WorkingStep[] = [];
  #looked = { now: 0, busy: 0 };
  #cancel = () => {};

  constructor(clock: Clock, onBlock: (block: Block) => void, meter: LoopMeter = systemMeter) {
    this.#clock = clock;
    this.#onBlock = onBlock;
    this.#meter = meter;
  }

  start(): void {
    this.#looked = { now: this.#meter.now(), busy: this.#meter.busy() };
    this.#arm();
  }

  stop(): void {
    this.#cancel();
  }

  /** Runs a step's own code, as one that may be the cause. What it does before its first await is measured. */
  timed<T>(step: WorkingStep, work: () => Promise<T>): Promise<T> {
    const spell: Spell = { step, began: this.#meter.now(), ended: Number.POSITIVE_INFINITY };
    this.#working.add(spell);
    const end = () => {
      spell.ended = this.#meter.now();
      this.#working.delete(spell);
      this.#ended.push(spell);
    };
    try {
      const outcome = work();
      outcome.then(end, end);
      return outcome;
    } catch (error) {
      end();
      throw error;
    } finally {
      if (this.#meter.now() - spell.began >= LOOP_BLOCKED_MS) this.#caught.push(step);
    }
  }

  #arm(): void {
    this.#cancel = this.#clock.after(LOOP_LOOK_MS, () => {
      this.#look();
      this.#arm();
    });
  }

  #look(): void {
    const last = this.#looked;
    const now = this.#meter.now();
    const busy = this.#meter.busy();
    this.#looked = { now, busy };
    const blockedMs = Math.round(Math.min(now - last.now - LOOP_LOOK_MS, busy - last.busy));
    const [spells, caught] = [[...this.#working, ...this.#ended], this.#caught];
    this.#ended = [];
    this.#caught = [];
    if (blockedMs < LOOP_BLOCKED_MS) return;
    const allTheWhile = spells.filter(({ began, ended }) => Math.min(ended, now) - Math.max(began, last.now) >= blockedMs);
    const isCertain = caught.length > 0;
    this.#onBlock({ blockedMs, steps: isCertain ? caught : allTheWhile.map(({ step }) => step), isCertain });
  }
}

const MAX_NAMED = 5;

/** A block, as trouble that an operator can act on. */
export function loopBlocked({ blockedMs, steps, isCertain }: Block): GroundcrewError {
  const names = steps.slice(0, MAX_NAMED).map(({ name, step, run }) => `"${name}" (${step} of run ${run})`);
  if (steps.length > MAX_NAMED) names.push(`${steps.length - MAX_NAMED} more`);
  const who = isCertain ? "by" : steps.length > 0 ? "while these were at work:" : "by code that is in no step";
  return new GroundcrewError(
    "LOOP_BLOCKED",
    `The event loop was blocked for ${[span(blockedMs), who, names.join(", ")].join(" ").trim()}.`,
    {
      value: blockedMs,
      fix: "Everything else in this process had to wait. Give code that computes for long a process of its own: `isolate()`.",
    },
  );
}
