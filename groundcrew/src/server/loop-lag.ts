import { type Clock, systemClock } from "../clock.ts";
import { LOOP_BLOCKED_MS, LOOP_LOOK_MS } from "../limits.ts";

/** Does not jump as the time of day may. */
const steady: Clock = { now: () => performance.now(), after: systemClock.after };

/** Whether the event loop keeps up: looked at as long as somebody asks, so that a server at rest has no timer. */
export class LoopLag {
  readonly #clock: Clock;
  /** When the look that is under way should come to pass. */
  #dueAt: number | undefined;
  #behindUntil = 0;

  constructor(clock: Clock = steady) {
    this.#clock = clock;
  }

  /** True when the last look came more than a second late, or the next one is as late already. */
  isBehind(): boolean {
    const now = this.#clock.now();
    this.#dueAt ??= this.#look(now);
    return now < this.#behindUntil || now - this.#dueAt > LOOP_BLOCKED_MS;
  }

  #look(now: number): number {
    const dueAt = now + LOOP_LOOK_MS;
    this.#clock.after(LOOP_LOOK_MS, () => {
      const looked = this.#clock.now();
      if (looked - dueAt > LOOP_BLOCKED_MS) this.#behindUntil = looked + LOOP_LOOK_MS;
      this.#dueAt = undefined;
    });
    return dueAt;
  }
}
