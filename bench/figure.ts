/** What a benchmark has found. */
export interface Figure {
  /** Stands for ever: figures of two releases are compared by it. */
  name: string;
  value: number;
  unit: string;
  /** How it was measured, and what it is to be read against. */
  how: string;
  /** What is expected on a machine of two cores. Without one the figure is context for another. */
  target?: Target;
}

export type Target = { atLeast: number } | { atMost: number };

export function isReached({ value, target }: Figure): boolean {
  if (!target) return true;
  return "atLeast" in target ? value >= target.atLeast : value <= target.atMost;
}

export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

export function percentile(values: readonly number[], percent: number): number {
  if (values.length === 0) throw new Error("Nothing was measured.");
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] as number;
}

/** Milliseconds that the work took. */
export function timed(work: () => void): number {
  const begun = performance.now();
  work();
  return performance.now() - begun;
}
