import { APICallError } from "ai";
import { describe, expect, test } from "vitest";
import { GroundcrewError } from "../../src/errors.ts";
import { backoff, isRetryable } from "../../src/fault/retry.ts";
import { withDeadline } from "../../src/fault/timeout.ts";
import { MAX_RETRY_WAIT_MS } from "../../src/limits.ts";
import { FakeClock } from "../persistence/fake-clock.ts";
import { refusal } from "../support/model.ts";

const NOW = Date.UTC(2026, 0, 1);
const asked = (headers: Record<string, string>) => backoff(1, refusal(429, headers), 1, NOW);

describe("the wait before another try", () => {
  test.each<[string, Record<string, string>, number]>([
    ["in seconds", { "retry-after": "7" }, 7_000],
    ["in parts of a second", { "retry-after": "0.5" }, 500],
    ["in milliseconds, which counts for more", { "retry-after-ms": "20", "retry-after": "7" }, 20],
    ["as a date", { "retry-after": new Date(NOW + 3_000).toUTCString() }, 3_000],
    ["as nothing", { "retry-after": "0" }, 0],
    ["as a year, which is more than anybody waits", { "retry-after": "31536000" }, MAX_RETRY_WAIT_MS],
  ])("is what the provider asks for %s", (_what, headers, wait) => expect(asked(headers)).toBe(wait));

  test.each(["soon", "-5", "", "NaN", "Infinity", new Date(NOW - 60_000).toUTCString()])("does not heed %j", (text) => {
    expect(asked({ "retry-after": text, "retry-after-ms": text })).toBe(500);
  });

  test("grows with each failure, is spread over all of its length, and has an end", () => {
    const longest = [1, 2, 3, 4, 20, 2_000].map((failures) => backoff(failures, new Error("x"), 1, NOW));
    expect(longest).toEqual([500, 1_000, 2_000, 4_000, 30_000, 30_000]);
    expect(backoff(20, new Error("x"), 0, NOW)).toBe(0);
  });
});

test.each<[string, Error, boolean]>([
  ["too many requests", refusal(429), true],
  ["a server in trouble", refusal(500), true],
  ["a refusal", refusal(403), false],
  [
    "a provider that says that it is final",
    new APICallError({ message: "no", url: "", requestBodyValues: {}, statusCode: 500, isRetryable: false }),
    false,
  ],
  ["a connection that broke", Object.assign(new Error("x"), { code: "ECONNRESET" }), true],
  [
    "a fetch that failed because of it",
    new TypeError("fetch failed", { cause: Object.assign(new Error("x"), { code: "UND_ERR_SOCKET" }) }),
    true,
  ],
  ["a time that was over", new GroundcrewError("STEP_TIMEOUT", "x"), true],
  ["a value that cannot be kept", new GroundcrewError("VALUE_UNSERIALIZABLE", "x"), false],
  ["an abort", new DOMException("x", "AbortError") as Error, false],
  ["a mistake in the code", new TypeError("x is not a function"), false],
  ["a failure whose code is a number", Object.assign(new Error("x"), { code: 104 }), false],
  ["a failure whose cause is a text", new Error("x", { cause: "ECONNRESET" }), false],
])("%s is tried again only if that can help", (_what, error, may) => expect(isRetryable(error)).toBe(may));

describe("an effect with a deadline", () => {
  const bounds = (clock: FakeClock, signal: AbortSignal, graceMs = 0) => ({ name: "slow", timeoutMs: 1_000, clock, signal, graceMs });
  const never = new AbortController().signal;

  test("that is over in time leaves no timer and no listener behind, however it ends", async () => {
    const clock = new FakeClock();
    let fired = 0;
    const seen: AbortSignal[] = [];
    const effect = (outcome: Promise<number>) => (signal: AbortSignal) => {
      seen.push(signal);
      signal.addEventListener("abort", () => fired++);
      return outcome;
    };
    const stop = new AbortController();
    expect(await withDeadline(bounds(clock, stop.signal), effect(Promise.resolve(1)))).toBe(1);
    await expect(withDeadline(bounds(clock, stop.signal), effect(Promise.reject(new Error("own"))))).rejects.toThrow("own");
    clock.advance(10_000);
    stop.abort();
    expect(fired).toBe(0);
    expect(seen.map(({ aborted }) => aborted)).toEqual([false, false]);
  });

  test("that is not over in time is told so, and its late outcome is dropped, good or bad", async () => {
    for (const late of ["resolve", "reject"] as const) {
      const clock = new FakeClock();
      const { promise, ...settle } = Promise.withResolvers<unknown>();
      let reason: unknown;
      const waiting = withDeadline(bounds(clock, never), (signal) => {
        signal.addEventListener("abort", () => {
          reason = signal.reason;
        });
        return promise;
      });
      clock.advance(999);
      expect(reason).toBeUndefined();
      clock.advance(1);
      await expect(waiting).rejects.toMatchObject({ code: "STEP_TIMEOUT" });
      expect(reason).toMatchObject({ code: "STEP_TIMEOUT" });
      settle[late](new Error("late"));
      await new Promise((tick) => setImmediate(tick)); // a late failure that nobody hears would end the process here
    }
  });

  test("that has to stop may still say what became of it, but not for longer than its grace", async () => {
    const clock = new FakeClock();
    const stop = new AbortController();
    const heeds = withDeadline(
      bounds(clock, stop.signal, 100),
      (signal) => new Promise((resolve) => signal.addEventListener("abort", () => resolve("said"))),
    );
    const ignores = withDeadline(bounds(clock, stop.signal, 100), () => new Promise(() => {}));
    const atOnce = withDeadline(bounds(clock, stop.signal), () => new Promise(() => {}));
    stop.abort(new Error("stop"));
    expect(await heeds).toBe("said");
    await expect(atOnce).rejects.toThrow("stop");
    clock.advance(100);
    await expect(ignores).rejects.toThrow("stop");
  });

  test("that begins when it already has to stop is not left running", async () => {
    await expect(withDeadline(bounds(new FakeClock(), AbortSignal.abort(new Error("stop"))), () => new Promise(() => {}))).rejects.toThrow(
      "stop",
    );
  });
});
