import { describe, expect, test } from "vitest";
import { type Call, callOrUndefined, currentCall, sessionState, withCall } from "../src/call.ts";

function callNamed(step: string): Call {
  const state = new Map<string, unknown>();
  return {
    run: "run",
    agent: "a",
    session: undefined,
    principal: { tenant: "t", user: "u", roles: [] },
    step,
    attempt: 1,
    key: `run/${step}`,
    signal: new AbortController().signal,
    progress: () => {},
    state: { get: (name) => state.get(name), update: (name, change) => void state.set(name, change(state.get(name))) },
  };
}

describe("the call that is running", () => {
  test("is known behind awaits, timers and promises made elsewhere, and never that of a neighbour", async () => {
    const steps = await Promise.all(
      Array.from({ length: 50 }, (_, n) =>
        withCall(callNamed(`s${n}`), async () => {
          await null;
          await new Promise((tick) => setTimeout(tick, n % 5));
          const [inner] = await Promise.all([Promise.resolve().then(() => currentCall().step)]);
          return [inner, currentCall().step];
        }),
      ),
    );
    expect(steps).toEqual(Array.from({ length: 50 }, (_, n) => [`s${n}`, `s${n}`]));
  });

  test("of an inner step is forgotten when that step is over", async () => {
    await withCall(callNamed("outer"), async () => {
      await withCall(callNamed("inner"), async () => expect(currentCall().step).toBe("inner"));
      expect(currentCall().step).toBe("outer");
    });
    expect(callOrUndefined()).toBeUndefined();
  });

  test("does not outlive a failure", async () => {
    await withCall(callNamed("a"), async () => {
      throw new Error("x");
    }).catch(() => {});
    expect(callOrUndefined()).toBeUndefined();
  });

  test("is asked for outside: a typed error that says what to do, or undefined for who expects it", () => {
    expect(() => currentCall()).toThrow(expect.objectContaining({ code: "INTERNAL", message: expect.stringContaining("callOrUndefined") }));
    expect(callOrUndefined()).toBeUndefined();
    expect(() => sessionState("x", 0).get()).toThrow(expect.objectContaining({ code: "INTERNAL" }));
  });
});

describe("a part of a session's state", () => {
  test("begins as its author said, with a value of its own each time", () => {
    const list = sessionState<number[]>("list", []);
    withCall(callNamed("a"), () => {
      list.get().push(1);
      expect(list.get()).toEqual([]);
      list.update((items) => [...items, 2]);
      expect(list.get()).toEqual([2]);
    });
    withCall(callNamed("b"), () => expect(list.get()).toEqual([]));
  });

  test.each(["", "__proto__", "a\nb", 7 as never])("has a name: %j is refused where it is defined", (name) => {
    expect(() => sessionState(name, 0)).toThrow(expect.objectContaining({ code: "INPUT_INVALID" }));
  });
});
