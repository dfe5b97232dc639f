import { type Clock, systemClock } from "../../src/clock.ts";

/** A clock that a test can set forwards and back while its timers go on, as an operator or a time server does. */
export class JumpingClock implements Clock {
  readonly #pace: number;
  #offset = 0;

  /** @param pace how many times faster than they say its timers go off. */
  constructor(pace = 1) {
    this.#pace = pace;
  }

  now(): number {
    return Date.now() + this.#offset;
  }

  after(delayMs: number, task: () => void): () => void {
    return systemClock.after(delayMs / this.#pace, task);
  }

  jump(ms: number): void {
    this.#offset += ms;
  }
}
