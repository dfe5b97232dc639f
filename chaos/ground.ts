import type { Faults } from "./faults.ts";

/** Where the store is, and what can be done to it. */
export interface Ground {
  /** The store's address as the worker in a place reaches it; null: the driver. */
  urlOf(place: number | null): string;
  /** By how much the clock of the worker in a place is wrong. */
  skewOf(place: number): number;
  /** The name of the machine that the worker in a place believes to be on; undefined: this one. */
  hostOf(place: number): string | undefined;
  /** To one worker at a time. */
  workerFaults: Faults;
  /** To what all of them stand on, meanwhile. */
  groundFaults: Faults;
  /** Faults that cannot be made on this machine, and why. */
  notRun: Record<string, string>;
  /** @param keepAt a folder to leave what there is to look at in */
  close(keepAt?: string): Promise<void>;
}

/** The same without some faults. @throws TypeError for one that there is not */
export function sparing(ground: Ground, kinds: readonly string[]): Ground {
  const known = [...Object.keys(ground.workerFaults), ...Object.keys(ground.groundFaults), SKEW];
  const unknown = kinds.find((kind) => !known.includes(kind));
  if (unknown !== undefined) throw new TypeError(`There is no fault ${unknown}: ${known.join(", ")}.`);
  const without = (faults: Faults) => Object.fromEntries(Object.entries(faults).filter(([kind]) => !kinds.includes(kind)));
  return {
    ...ground,
    workerFaults: without(ground.workerFaults),
    groundFaults: without(ground.groundFaults),
    notRun: { ...ground.notRun, ...Object.fromEntries(kinds.map((kind) => [kind, "left out as you asked"])) },
    skewOf: kinds.includes(SKEW) ? () => 0 : ground.skewOf,
  };
}

/** The fault that is with a worker from its start. */
export const SKEW = "skew";
