import { setTimeout as sleep } from "node:timers/promises";

const DEADLINE_MS = 15_000;

/** Waits until `condition` gives something. @throws when it has not in time, saying what did not come */
export async function until<T>(what: string, condition: () => T | Promise<T>, withinMs = DEADLINE_MS): Promise<NonNullable<T>> {
  for (const deadline = performance.now() + withinMs; ; ) {
    const found = await condition();
    if (found) return found;
    if (performance.now() > deadline) throw new Error(`Waited ${withinMs} ms in vain until ${what}.`);
    await sleep(5);
  }
}
