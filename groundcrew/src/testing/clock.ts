import { setImmediate as turn } from "node:timers/promises";
import type { Clock } from "../clock.ts";

/** Turns of the event loop that work behind a timer gets: the AI SDK passes an answer through several streams, a few turns each. */
const TURNS = 20;

interface Timer {
  at: number;
  task: () => void;
}

/** A clock that stands still until a test moves it. In whole milliseconds, as a store keeps them, whatever it is given. */
export class FakeClock implements Clock {
  #now: number;
  readonly #timers = new Set<Timer>();

  /** @param start wall-clock milliseconds. Default: the machine's time, so that what other processes have stored lies behind it. */
  constructor(start: number = Date.now()) {
    this.#now = Math.round(start);
  }

  now(): number {
    return this.#now;
  }

  after(delayMs: number, task: () => void): () => void {
    const timer = { at: this.#now + Math.ceil(Math.max(0, delayMs)), task };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Moves on. Every timer that comes due on the way goes off at its time, also one that another has set, and its work gets some turns. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + Math.round(ms);
    for (;;) {
      const next = this.#first();
      if (!next || next.at > until) break;
      this.#goOff(next);
      await turns();
    }
    this.#now = until;
    await turns();
  }

  /** The time is another at once, earlier or later, as for a machine that slept. What is due then goes off once, the earliest first. */
  jump(ms: number): void {
    this.#now += Math.round(ms);
    const due = [...this.#timers].filter(({ at }) => at <= this.#now).sort((a, b) => a.at - b.at);
    for (const timer of due) if (this.#timers.has(timer)) this.#goOff(timer); // else one before it has taken it back
  }

  #goOff(timer: Timer): void {
    this.#timers.delete(timer);
    this.#now = Math.max(this.#now, timer.at);
    timer.task();
  }

  #first(): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) if (!first || timer.at < first.at) first = timer;
    return first;
  }
}

/** Lets promises settle. */
export async function turns(): Promise<void> {
  for (let i = 0; i < TURNS; i++) await turn();
}
