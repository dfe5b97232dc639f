import { setTimeout as sleep } from "node:timers/promises";

const DEADLINE_MS = 20_000;

type Found<T> = T | false | null | undefined;

/** Waits until `condition` gives something. @throws when it has not in time, saying what did not come */
export async function until<T>(what: string, condition: () => Found<T> | Promise<Found<T>>, withinMs = DEADLINE_MS): Promise<T> {
  for (const deadline = performance.now() + withinMs; ; ) {
    const found = await condition();
    if (found) return found;
    if (performance.now() > deadline) throw new Error(`Waited ${withinMs} ms in vain until ${what}.`);
    await sleep(5);
  }
}

/** What `promise` gives. @throws when that takes too long, saying what did not come */
export async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  let isSettled = false;
  const settled = promise.finally(() => {
    isSettled = true;
  });
  const [value] = await Promise.all([settled, until(what, () => isSettled)]);
  return value;
}
