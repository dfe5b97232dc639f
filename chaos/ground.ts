import type { Fault } from "./faults.ts";

/** Where the store is, and what can be done to it. */
export interface Ground {
  /** The store's address as the worker in a place reaches it; null: the driver. */
  urlOf(place: number | null): string;
  /** By how much the clock of the worker in a place is wrong. */
  skewOf(place: number): number;
  /** The name of the machine that the worker in a place believes to be on; undefined: this one. */
  hostOf(place: number): string | undefined;
  faults: Record<string, Fault>;
  /** Faults that cannot be made on this machine, and why. */
  notRun: Record<string, string>;
  /** @param keepAt a folder to leave what there is to look at in */
  close(keepAt?: string): Promise<void>;
}

/** The same without some faults. @throws TypeError for one that there is not */
export function sparing(ground: Ground, kinds: readonly string[]): Ground {
  const faults = { ...ground.faults };
  const notRun = { ...ground.notRun };
  for (const kind of kinds) {
    if (!(kind in faults) && kind !== SKEW) throw new TypeError(`There is no fault ${kind}: ${[...Object.keys(faults), SKEW].join(", ")}.`);
    delete faults[kind];
    notRun[kind] = "left out as you asked";
  }
  return { ...ground, faults, notRun, skewOf: kinds.includes(SKEW) ? () => 0 : ground.skewOf };
}

/** The fault that is with a worker from its start. */
export const SKEW = "skew";
