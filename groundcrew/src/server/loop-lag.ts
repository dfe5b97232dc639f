import { systemClock } from "../clock.ts";
import { LOOP_BLOCKED_MS, LOOP_LOOK_MS } from "../limits.ts";

/** Whether the event loop keeps up: looked at as long as somebody asks, so that a server at rest has no timer. */
export class LoopLag {
  /** When the look that is under way should come to pass. */
  #dueAt: number | undefined;
  #behindUntil = 0;

  /** True when the last look came more than a second late, or the next one is as late already. */
  isBehind(): boolean {
    const now = performance.now();
    this.#dueAt ??= this.#look(now);
    return now < this.#behindUntil || now - this.#dueAt > LOOP_BLOCKED_MS;
  }

  #look(now: number): number {
    const dueAt = now + LOOP_LOOK_MS;
    systemClock.after(LOOP_LOOK_MS, () => {
      const looked = performance.now();
      if (looked - dueAt > LOOP_BLOCKED_MS) this.#behindUntil = looked + LOOP_LOOK_MS;
      this.#dueAt = undefined;
    });
    return dueAt;
  }
}
