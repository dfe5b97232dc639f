import { describe, expect, test } from "vitest";
import type { Failure } from "../../src/failure.ts";
import { delay } from "../../src/fault/retry.ts";

const NOW = Date.UTC(2026, 0, 1);
const soon: Failure = { chance: "again", reason: "server_error" };
const later = (waitMs: number): Failure => ({ chance: "later", reason: "rate_limited", at: NOW + waitMs });

describe("the wait before another attempt", () => {
  test("grows with each failure, is spread over all of its length, and has an end", () => {
    const longest = [1, 2, 3, 4, 8, 20, 2_000].map((failures) => delay(failures, soon, 1, NOW));
    expect(longest).toEqual([500, 1_000, 2_000, 4_000, 60_000, 60_000, 60_000]);
    expect(delay(20, soon, 0, NOW)).toBe(0);
    expect(delay(20, soon, 0.5, NOW)).toBe(30_000);
  });

  test("is never shorter than what was asked for, whatever chance says", () => {
    for (const random of [0, 0.001, 0.5, 0.999]) {
      for (const wait of [0, 1, 333.3, 2_000, 600_000]) {
        expect(delay(1, later(wait), random, NOW), `${wait} ms, ${random}`).toBeGreaterThanOrEqual(wait);
      }
    }
  });

  test("brings those who were sent away until one moment back over a while, a longer one after a longer wait", () => {
    const spread = (wait: number) => delay(1, later(wait), 1, NOW) - delay(1, later(wait), 0, NOW);
    expect([0, 1_000, 60_000, 600_000].map(spread)).toEqual([500, 500, 6_000, 60_000]);
  });

  test("does not let a provider that says 0 again and again be hammered", () => {
    expect([1, 4, 8].map((failures) => delay(failures, later(0), 1, NOW))).toEqual([500, 4_000, 60_000]);
  });

  test("is over when the moment is", () => expect(delay(1, later(-5_000), 0, NOW)).toBe(0));
});
