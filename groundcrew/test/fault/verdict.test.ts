import { describe, expect, test } from "vitest";
import type { Classify, Failure } from "../../src/failure.ts";
import { verdict } from "../../src/fault/verdict.ts";
import { MAX_DURATION_MS } from "../../src/limits.ts";

describe("the author's say", () => {
  const NOW = Date.UTC(2026, 0, 1);
  const broken = { status: 500 };
  const builtIn: Failure = { chance: "again", reason: "server_error", status: 500 };
  const final: Failure = { ...builtIn, chance: "never" };
  const says =
    (said: unknown): Classify =>
    () =>
      said as never;
  const throws =
    (thrown: unknown): Classify =>
    () => {
      throw thrown;
    };

  test.each<[string, Classify[], Failure]>([
    ["never", [says("never")], final],
    ["a moment", [says(new Date(NOW + 5_000))], { chance: "later", reason: "server_error", status: 500, at: NOW + 5_000 }],
    ["nothing", [says(undefined)], builtIn],
    ["the first that says something", [says(undefined), says("never"), says("again")], final],
  ])("is taken: %s", (_what, hooks, failure) => expect(verdict(broken, NOW, undefined, ...hooks)).toEqual({ failure }));

  test("keeps or drops the provider's moment with the chance that it names", () => {
    const limited = { status: 429, headers: { "retry-after": "7" } };
    const failure = { reason: "rate_limited", status: 429 };
    expect(verdict(limited, NOW, says("later"))).toEqual({ failure: { ...failure, chance: "later", at: NOW + 7_000 } });
    expect(verdict(limited, NOW, says("again"))).toEqual({ failure: { ...failure, chance: "again" } });
    expect(verdict(broken, NOW, says("later"))).toEqual({ failure: builtIn });
  });

  test.each<[string, Classify]>([
    ["throws", throws(new Error("bad hook"))],
    ["throws a text", throws("bad hook")],
    [
      "throws what throws",
      throws({
        get message() {
          throw new Error("mine");
        },
      }),
    ],
    ["is async", (() => Promise.reject(new Error("late"))) as never],
    ["says a word of its own", says("sometimes")],
    ["says yes", says(true)],
    ["says null", says(null)],
    ["says a date that is none", says(new Date("x"))],
    ["says a date beyond all measure", says(new Date(NOW + MAX_DURATION_MS + 1))],
  ])("leaves the verdict, and that is told, when it %s", async (_what, hook) => {
    expect(verdict(broken, NOW, hook)).toEqual({ failure: builtIn, note: expect.stringContaining("`classify`") });
    expect(verdict(broken, NOW, hook, says("never"))).toEqual({ failure: final, note: expect.any(String) });
    await new Promise((tick) => setImmediate(tick)); // a rejection that nobody hears would end the process here
  });

  test("is asked with the error as it was thrown, and cannot change the verdict behind our back", () => {
    const thrown = { status: 500 };
    let asked: unknown;
    const failure = verdict(thrown, NOW, (error, said) => {
      asked = error;
      said.chance = "never";
      return undefined;
    });
    expect(asked).toBe(thrown);
    expect(failure).toEqual({ failure: builtIn });
  });
});
