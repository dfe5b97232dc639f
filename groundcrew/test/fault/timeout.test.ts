import { describe, expect, test } from "vitest";
import { withDeadline } from "../../src/fault/timeout.ts";
import { FakeClock } from "../../src/testing/clock.ts";

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
    clock.jump(10_000);
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
      clock.jump(999);
      expect(reason).toBeUndefined();
      clock.jump(1);
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
    clock.jump(100);
    await expect(ignores).rejects.toThrow("stop");
  });

  describe("and somebody who is told how it ends", () => {
    type Ended = { value: unknown } | { error: unknown };
    const tick = () => new Promise((resolve) => setImmediate(resolve));

    test("tells nothing of an effect that ends while it is waited for, also in its grace", async () => {
      const late: Ended[] = [];
      const stop = new AbortController();
      const told = { ...bounds(new FakeClock(), stop.signal, 100), onLate: (end: Ended) => late.push(end) };
      expect(await withDeadline(told, async () => 1)).toBe(1);
      await expect(withDeadline(told, async () => Promise.reject(new Error("own")))).rejects.toThrow("own");
      const heeds = withDeadline(told, (signal) => new Promise((resolve) => signal.addEventListener("abort", () => resolve("said"))));
      stop.abort(new Error("stop"));
      await heeds;
      await tick();
      expect(late).toEqual([]);
    });

    test.each(["timeout", "grace", "no grace"])("tells once what came after its %s, good or bad", async (after) => {
      for (const how of ["resolve", "reject"] as const) {
        const late: Ended[] = [];
        const clock = new FakeClock();
        const stop = new AbortController();
        const { promise, ...settle } = Promise.withResolvers<unknown>();
        const onLate = (end: Ended) => late.push(end);
        const waiting = withDeadline({ ...bounds(clock, stop.signal, after === "grace" ? 100 : 0), onLate }, () => promise);
        if (after === "timeout") clock.jump(1_000);
        else stop.abort(new Error("stop"));
        clock.jump(100);
        await expect(waiting).rejects.toThrow();
        await tick();
        expect(late).toEqual([]);
        settle[how]("late");
        await tick();
        expect(late).toEqual([how === "resolve" ? { value: "late" } : { error: "late" }]);
      }
    });

    test("tells nothing of an effect that ends because it was told to", async () => {
      const late: Ended[] = [];
      const clock = new FakeClock();
      const onLate = (end: Ended) => late.push(end);
      const waiting = withDeadline({ ...bounds(clock, never), onLate }, async (signal) => {
        await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      });
      clock.jump(1_000);
      await expect(waiting).rejects.toMatchObject({ code: "STEP_TIMEOUT" });
      await tick();
      expect(late).toEqual([]);
    });

    test.each(["throw", "reject"])("may %s without ending the process", async (how) => {
      const clock = new FakeClock();
      const { promise, resolve } = Promise.withResolvers<unknown>();
      let isTold = false;
      const onLate = (): unknown => {
        isTold = true;
        if (how === "reject") return Promise.reject(new Error("teller"));
        throw new Error("teller");
      };
      const waiting = withDeadline({ ...bounds(clock, never), onLate }, () => promise);
      clock.jump(1_000);
      await expect(waiting).rejects.toMatchObject({ code: "STEP_TIMEOUT" });
      resolve("late");
      await tick(); // nobody hears of it: an unhandled rejection would fail this test
      expect(isTold).toBe(true);
    });
  });

  test("that throws before its first await leaves no timer behind", async () => {
    const clock = new FakeClock();
    let aborted = false;
    const waiting = withDeadline(bounds(clock, never), (signal) => {
      signal.addEventListener("abort", () => {
        aborted = true;
      });
      throw new Error("at once");
    });
    await expect(waiting).rejects.toThrow("at once");
    clock.jump(10_000);
    expect(aborted).toBe(false);
  });

  test("that begins when it already has to stop is not left running", async () => {
    await expect(withDeadline(bounds(new FakeClock(), AbortSignal.abort(new Error("stop"))), () => new Promise(() => {}))).rejects.toThrow(
      "stop",
    );
  });
});
