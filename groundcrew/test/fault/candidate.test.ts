import { describe, expect, test } from "vitest";
import type { Failure, FailureReason } from "../../src/failure.ts";
import { candidateFor, type Failed, type Standing } from "../../src/fault/candidate.ts";

const NOW = 1_000_000;
const again = (reason: FailureReason = "overloaded"): Failure => ({ chance: "again", reason });
const never = (reason: FailureReason): Failure => ({ chance: "never", reason });
const later = (ms: number): Failure => ({ chance: "later", reason: "rate_limited", at: NOW + ms });
const failed = (candidate: number, ...failures: Failure[]): Failed[] => failures.map((failure) => ({ candidate, failure }));

const first: Standing = { attempts: 4 };
const second: Standing = { attempts: 4, suits: () => true };
const next = (failures: readonly Failed[], start = 0, candidates = [first, second]) => candidateFor(candidates, failures, start, NOW);

describe("the candidate that goes next", () => {
  test("is the first, once more after a hiccup, and then the next", () => {
    expect(next([])).toBe(0);
    expect(next(failed(0, again()))).toBe(0);
    expect(next(failed(0, again(), again()))).toBe(1);
  });

  test("is the next at once for what will not go well a second time, or asks for a long wait", () => {
    expect(next(failed(0, never("auth")))).toBe(1);
    expect(next(failed(0, later(60_000)))).toBe(1);
    expect(next(failed(0, later(1_000)))).toBe(0);
  });

  test("is the first again when the next has had its attempts, up to the number that the author gave", () => {
    const spent = failed(1, again(), again(), again(), again());
    expect(next([...failed(0, again(), again()), ...spent])).toBe(0);
    expect(next([...failed(0, again(), again(), again(), again()), ...spent])).toBeUndefined();
  });

  test("is none when all have failed for good", () => {
    expect(next([...failed(0, never("auth")), ...failed(1, never("quota"))])).toBeUndefined();
    expect(next(failed(0, never("refused")), 0, [first])).toBeUndefined();
  });

  test("is never one that does not take over for such a failure", () => {
    const picky: Standing = { attempts: 4, suits: ({ reason }) => reason === "context_length" };
    expect(next(failed(0, never("context_length")), 0, [first, picky])).toBe(1);
    expect(next(failed(0, never("invalid_request")), 0, [first, picky])).toBeUndefined();
    expect(next(failed(0, again(), again()), 0, [first, picky])).toBe(0);
  });

  test("goes around from where the run stands, and comes back to the first", () => {
    expect(next([], 1)).toBe(1);
    expect(next(failed(1, again(), again()), 1)).toBe(0);
  });

  test("is not one that is known to be down, and none when all are", () => {
    const down = (...numbers: number[]) =>
      candidateFor([first, second], [], 0, NOW, (number) => (numbers.includes(number) ? later(5_000) : undefined));
    expect(down(0)).toBe(1);
    expect(down(0, 1)).toBeUndefined();
  });
});
