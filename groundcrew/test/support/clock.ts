import { type Clock, systemClock } from "../../src/clock.ts";

/** A clock that a test can set forwards and back while its timers go on, as an operator or a time server does. */
export class JumpingClock implements Clock {
  #offset = 0;

  now(): number {
    return Date.now() + this.#offset;
  }

  after(delayMs: number, task: () => void): () => void {
    return systemClock.after(delayMs, task);
  }

  jump(ms: number): void {
    this.#offset += ms;
  }
}
