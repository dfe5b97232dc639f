import type { Clock } from "../../src/clock.ts";

interface Timer {
  at: number;
  task: () => void;
}

/** A clock that stands still until the test moves it, as for a process that slept meanwhile. */
export class HandClock implements Clock {
  #now = Date.UTC(2026, 0, 1);
  readonly #timers = new Set<Timer>();

  now(): number {
    return this.#now;
  }

  after(delayMs: number, task: () => void): () => void {
    const timer = { at: this.#now + Math.max(0, delayMs), task };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Each timer that is due goes off once, the earliest first: what looks every second has not looked a hundred times behind a jump of minutes. */
  advance(ms: number): void {
    this.#now += ms;
    const due = [...this.#timers].filter(({ at }) => at <= this.#now).sort((a, b) => a.at - b.at);
    for (const timer of due) if (this.#timers.delete(timer)) timer.task(); // else one before it has taken it back
  }

  /** As an operator does it: the time is another, and timers take as long as before. */
  set(ms: number): void {
    this.#now += ms;
    for (const timer of this.#timers) timer.at += ms;
  }
}
