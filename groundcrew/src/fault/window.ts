import { BREAKER_SLOT_MS, BREAKER_WINDOW_MS } from "../limits.ts";

const SLOTS = BREAKER_WINDOW_MS / BREAKER_SLOT_MS;

interface Slot {
  /** Which piece of time it counts. */
  index: number;
  calls: number;
  failures: number;
}

/**
 * How many calls of the last minute have failed. Weighs the same after a million calls as after ten. Where the clock jumps, what
 * was counted in another time is forgotten: it begins anew, and never waits for a time to come back.
 */
export class Window {
  #slots: Slot[] = [];

  count(now: number, hasFailed: boolean): void {
    const index = Math.floor(now / BREAKER_SLOT_MS);
    const place = index % SLOTS;
    let slot = this.#slots[place];
    if (slot?.index !== index) {
      slot = { index, calls: 0, failures: 0 };
      this.#slots[place] = slot;
    }
    slot.calls += 1;
    if (hasFailed) slot.failures += 1;
  }

  sum(now: number): { calls: number; failures: number } {
    const index = Math.floor(now / BREAKER_SLOT_MS);
    const sum = { calls: 0, failures: 0 };
    for (const slot of Object.values(this.#slots)) {
      if (slot.index > index || slot.index <= index - SLOTS) continue;
      sum.calls += slot.calls;
      sum.failures += slot.failures;
    }
    return sum;
  }

  clear(): void {
    this.#slots = [];
  }
}
