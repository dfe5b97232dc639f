/** What `breakers` and `turn` mean, for every store. Part of the conformance suite. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { BREAKER_MEMORY_MS, MAX_BREAKER_KEY_CHARS, MAX_BREAKERS } from "../../src/limits.ts";
import { type Breaker, type Store, unknownBreaker } from "../../src/persistence/store.ts";
import type { FakeClock } from "../../src/testing/clock.ts";
import type { Ground } from "./conformance.ts";
import { unitsOf } from "./copy-claims.ts";

export function breakerClaims(makeGround: () => Promise<Ground>): void {
  let ground: Ground;
  let clock: FakeClock;
  let store: Store;
  let other: Store;

  beforeEach(async () => {
    ground = await makeGround();
    clock = ground.clock;
    [store, other] = [await ground.open(), await ground.open()];
  });

  afterEach(async () => {
    await Promise.all([store.close(), other.close()]);
    await ground.remove();
  });

  const breaker = (more: Partial<Breaker> = {}): Breaker => ({
    ...{ key: "model:p/m", version: 1, state: "open", until: clock.now() + 5_000, trips: 1 },
    ...{ why: "5 of 5 calls failed", opened: 1, by: "me", ...more },
  });
  const keys = async (at = store) => (await at.breakers()).map(({ key }) => key);

  test("one that was turned is known to every process, field by field", async () => {
    expect(await store.breakers()).toEqual([]);
    const opened = breaker({ version: 1, trips: 3, opened: 7, why: "why \\ not" });
    expect(await store.turn(opened)).toEqual(opened);
    expect(await other.breakers()).toEqual([opened]);
    const probing = breaker({ version: 2, state: "probing" });
    expect(await other.turn(probing)).toEqual(probing);
    expect(await store.breakers()).toEqual([probing]);
  });

  test("one that was closed is not told any more, and its next version is still the next", async () => {
    await store.turn(breaker());
    const closed = breaker({ version: 2, state: "closed" });
    expect(await store.turn(closed)).toEqual(closed);
    expect(await other.breakers()).toEqual([]);
    expect(await other.turn(breaker({ version: 1, by: "late" }))).toEqual(closed);
    expect(await other.turn(breaker({ version: 3, by: "now" }))).toMatchObject({ version: 3, by: "now" });
    expect(await store.breakers()).toMatchObject([{ version: 3 }]);
  });

  test("a version that is not the next changes nothing and is told what there is", async () => {
    expect(await store.turn(breaker({ version: 2 }))).toEqual(unknownBreaker("model:p/m"));
    expect(await store.turn(breaker({ version: 0 }))).toEqual(unknownBreaker("model:p/m"));
    expect(await store.breakers()).toEqual([]);
    const opened = breaker();
    await store.turn(opened);
    for (const version of [-1, 0, 1, 3, 99]) expect(await other.turn(breaker({ version, by: "other" }))).toEqual(opened);
    expect(await store.breakers()).toEqual([opened]);
  });

  test.each([
    ["that nobody has turned yet", 1],
    ["that is known", 2],
  ])("of many who turn one %s at once, from two processes, exactly one does, and all are told which", async (_which, version) => {
    if (version === 2) await store.turn(breaker());
    const turns = Array.from({ length: 20 }, (_, n) => (n % 2 ? store : other).turn(breaker({ version, by: `worker-${n}` })));
    const told = new Set((await Promise.all(turns)).map(({ by }) => by));
    expect(told.size).toBe(1);
    expect(await store.breakers()).toMatchObject([{ version, by: [...told][0] }]);
  });

  test("many turns one behind the other, from two processes at once, lose none and repeat none", async () => {
    const climb = async (at: Store, by: string) => {
      let mine = 0;
      for (let known = 0; known < 40; ) {
        const stored = await at.turn(breaker({ version: known + 1, by: `${by}-${known + 1}` }));
        if (stored.by === `${by}-${known + 1}`) mine += 1;
        known = stored.version;
      }
      return mine;
    };
    const [one, two] = await Promise.all([climb(store, "one"), climb(other, "two")]);
    expect(one + two).toBe(40);
  });

  test("one does not touch another", async () => {
    await Promise.all([store.turn(breaker({ key: "a" })), other.turn(breaker({ key: "A" })), store.turn(breaker({ key: "a " }))]);
    await other.turn(breaker({ key: "a", version: 2, state: "closed" }));
    expect((await keys()).sort()).toEqual(["A", "a "]);
  });

  test("any name that every store can hold is one, and comes back as it is", async () => {
    const names = ["tool:agent/\0 \\0 \\", "模型:提供者/名", "'; drop table runs; --", "x".repeat(MAX_BREAKER_KEY_CHARS), ""];
    for (const key of names) expect(await store.turn(breaker({ key, why: key }))).toMatchObject({ key });
    expect((await keys(other)).sort()).toEqual([...names].sort());
    for (const key of ["\ud800", "x".repeat(MAX_BREAKER_KEY_CHARS + 1)]) {
      await expect(store.turn(breaker({ key }))).rejects.toMatchObject({ code: "INPUT_INVALID" });
    }
    expect(await keys()).toHaveLength(names.length);
  });

  test("no more are kept than are known at a time: closed ones go first, then those whose time ran out first, never the new one", async () => {
    const last = clock.now() + 60_000;
    await store.turn(breaker({ key: "soonest", until: clock.now() - 1 }));
    await store.turn(breaker({ key: "closed" }));
    await store.turn(breaker({ key: "closed", version: 2, state: "closed", until: last + 1 }));
    const many = Array.from({ length: MAX_BREAKERS - 2 }, (_, n) => breaker({ key: `tool:a/${n}`, until: last }));
    await Promise.all(many.map((one) => store.turn(one)));
    expect(await keys()).toHaveLength(MAX_BREAKERS - 1);

    await store.turn(breaker({ key: "new", until: 0 }));
    expect(await keys()).toHaveLength(MAX_BREAKERS);
    expect(await store.turn(breaker({ key: "closed", version: 3, until: 1 }))).toEqual(unknownBreaker("closed"));
    await store.turn(breaker({ key: "newer", until: last }));
    const kept = await keys(other);
    expect(kept).toHaveLength(MAX_BREAKERS);
    expect(kept).toEqual(expect.arrayContaining(["newer", "soonest"]));
    expect(kept).not.toContain("new"); // its time had run out before all others'
  });

  test("one that has been closed for long is forgotten with the next that is new, one that is open never is", async () => {
    for (const key of ["open", "closed"]) await store.turn(breaker({ key }));
    await store.turn(breaker({ key: "closed", version: 2, state: "closed", until: clock.now() }));
    clock.jump(BREAKER_MEMORY_MS);
    await other.turn(breaker({ key: "new" }));
    expect(await other.turn(breaker({ key: "closed", version: 1 }))).toMatchObject({ version: 2, state: "closed" });
    clock.jump(1);
    await other.turn(breaker({ key: "newer" }));
    expect(await store.turn(breaker({ key: "closed", version: 3 }))).toEqual(unknownBreaker("closed"));
    expect((await keys()).sort()).toEqual(["new", "newer", "open"]);
  });

  test("a dump leaves them behind: another store has its own", async () => {
    await store.turn(breaker());
    expect(await unitsOf(store)).toEqual([]);
    await store.load([]);
    expect(await keys()).toEqual(["model:p/m"]);
  });
}
