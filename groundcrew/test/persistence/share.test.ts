import { describe, expect, test } from "vitest";
import { type Candidate, type Room, refill, roomFor, share } from "../../src/persistence/share.ts";

const candidate = (tenant: string, more: Partial<Candidate> = {}): Candidate => ({
  agent: "support",
  tenant,
  priority: 3,
  dueAt: 0,
  isNew: true,
  ...more,
});

/** What a list of rooms gives for `agent support` and the like. */
const within = (rooms: Record<string, Partial<Room>>) => {
  const full = new Map(Object.entries(rooms).map(([key, room]) => [key, { places: 99, starts: 99, ...room }]));
  return (of: string, name: string) => full.get(`${of} ${name}`);
};

const names = (chosen: readonly Candidate[]) => chosen.map(({ tenant, priority }) => `${tenant}${priority}`).join(" ");

describe("a share", () => {
  test("gives each tenant one run before anybody a second, in the order in which they come first", () => {
    const candidates = [..."bbbbabc"].map((tenant) => candidate(tenant));
    expect(names(share(candidates, 3))).toBe("b3 a3 c3");
    expect(names(share(candidates, 5))).toBe("b3 a3 c3 b3 b3");
    expect(share(candidates, 100)).toHaveLength(7);
    expect(share(candidates, 0)).toEqual([]);
  });

  test("orders a tenant's runs by priority, then by age, over its agents, and changes no other tenant's turn", () => {
    const candidates = [
      candidate("a", { priority: 5, dueAt: 1 }),
      candidate("a", { priority: 4, dueAt: 9 }),
      candidate("a", { priority: 4, dueAt: 2, agent: "sales" }),
      candidate("b", { priority: 5 }),
      candidate("c", { priority: 1 }),
    ];
    const chosen = share(candidates, 10);
    expect(names(chosen)).toBe("a4 b5 c1 a4 a5");
    expect(chosen[0]?.agent).toBe("sales");
  });

  test("never gives more than there is room for, and what finds none holds up nothing behind it", () => {
    const candidates = [
      ...Array.from({ length: 5 }, () => candidate("a")),
      candidate("a", { agent: "sales", priority: 5 }),
      candidate("b"),
      candidate("b"),
    ];
    expect(names(share(candidates, 10, within({ "agent support": { places: 2 } })))).toBe("a3 b3 a5");
    expect(names(share(candidates, 10, within({ "tenant a": { places: 1 } })))).toBe("a3 b3 b3");
    expect(share(candidates, 10, within({ "agent support": { places: 0 }, "agent sales": { places: 0 } }))).toEqual([]);
  });

  test("counts only new runs against a rate: one that has begun goes on", () => {
    const candidates = [candidate("a"), candidate("a"), candidate("a", { isNew: false, priority: 4 })];
    expect(names(share(candidates, 10, within({ "tenant a": { starts: 1 } })))).toBe("a3 a4");
    expect(names(share(candidates, 10, within({ "agent support": { starts: 0.9 } })))).toBe("a4");
  });
});

describe("a bucket", () => {
  const rate = { runs: 10, perMs: 1_000 };

  test("is full at first, fills up evenly, and never above its size", () => {
    expect(refill(undefined, rate, 5)).toEqual({ tokens: 10, at: 5 });
    expect(refill({ tokens: 0, at: 0 }, rate, 250)).toEqual({ tokens: 2.5, at: 250 });
    expect(refill({ tokens: 9, at: 0 }, rate, 60_000)).toEqual({ tokens: 10, at: 60_000 });
  });

  test("is not filled by a clock that jumps back, and fills on from there", () => {
    const back = refill({ tokens: 1, at: 3_600_000 }, rate, 0);
    expect(back).toEqual({ tokens: 1, at: 0 });
    expect(refill(back, rate, 100)).toEqual({ tokens: 2, at: 100 });
  });

  test("that was filled by a higher rate holds no more than the lower one allows", () => {
    expect(refill({ tokens: 10, at: 0 }, { runs: 3, perMs: 1_000 }, 0).tokens).toBe(3);
  });

  test("and places at work make the room; who is over a limit that was lowered has none", () => {
    expect(roomFor({ concurrency: 3 }, 5, undefined)).toEqual({ places: 0, starts: Number.POSITIVE_INFINITY });
    expect(roomFor({ rate }, 0, { tokens: 2.5, at: 0 })).toEqual({ places: Number.POSITIVE_INFINITY, starts: 2.5 });
  });
});
