/**
 * Which of a step's candidates goes next: the first that is not spent, and suits. Decided from what is recorded of the step
 * alone, so that a restart decides the same.
 */
import type { Failure } from "../failure.ts";
import { ATTEMPTS_BEFORE_FALLBACK, LONGEST_WAIT_WITH_FALLBACK_MS } from "../limits.ts";

/** What of a candidate decides. */
export interface Standing {
  /** Failed attempts before it is spent. */
  attempts: number;
  /** Whether it takes over from one that failed like this, and can do the work at all. The first takes what comes. */
  suits?: (failure: Failure) => boolean;
}

/** A failed attempt of the step. */
export interface Failed {
  candidate: number;
  failure: Failure;
}

/**
 * @param start the candidate to begin with; behind the last comes the first.
 * @param isDown whether one must not be asked now.
 * @param now wall-clock milliseconds.
 * @returns its number; undefined when all that suit are spent, or are down.
 */
export function candidateFor(
  candidates: readonly Standing[],
  failed: readonly Failed[],
  start: number,
  now: number,
  isDown: (candidate: number) => Failure | undefined = () => undefined,
): number | undefined {
  const order = candidates.map((_, place) => (start + place) % candidates.length);
  let why: Failure | undefined;
  for (const [place, candidate] of order.entries()) {
    const { attempts, suits } = candidates[candidate] as Standing;
    if (why && suits && !suits(why)) continue;
    const mine = failed.filter((one) => one.candidate === candidate).map(({ failure }) => failure);
    const last = mine.at(-1);
    const hasNext = place + 1 < order.length;
    const isSpent = mine.length >= (hasNext ? Math.min(attempts, ATTEMPTS_BEFORE_FALLBACK) : attempts) || last?.chance === "never";
    const isLong = hasNext && last?.chance === "later" && (last.at ?? 0) - now > LONGEST_WAIT_WITH_FALLBACK_MS;
    const down = isDown(candidate);
    if (!isSpent && !isLong && !down) return candidate;
    why = down ?? last ?? why;
  }
  // With nobody left who suits, the fallback's privilege to give up early is gone: those that have attempts left go on.
  return order.find((candidate) => {
    const mine = failed.filter((one) => one.candidate === candidate);
    const isOver = mine.length >= (candidates[candidate] as Standing).attempts || mine.at(-1)?.failure.chance === "never";
    return mine.length > 0 && !isOver && !isDown(candidate);
  });
}
