import { describe, expect, test } from "vitest";
import { type Frame, sseStream } from "../../src/stream/sse.ts";

/** A clock that stands still until it is told. */
function handClock() {
  const tasks = new Set<() => void>();
  return {
    now: () => 0,
    after(_ms: number, task: () => void) {
      tasks.add(task);
      return () => void tasks.delete(task);
    },
    waiting: () => tasks.size,
    tick() {
      for (const task of [...tasks]) {
        tasks.delete(task);
        task();
      }
    },
  };
}

async function* count(taken: { frames: number }): AsyncGenerator<Frame, undefined> {
  for (;;) yield { id: String(++taken.frames), event: "n", data: "{}" };
}

async function* never(): AsyncGenerator<Frame, undefined> {
  await new Promise(() => {});
}

async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

describe("a stream of events", () => {
  test("asks for no more than one frame that its reader has not taken", async () => {
    const taken = { frames: 0 };
    const stream = sseStream(count(taken), { onClose: () => {}, cut: () => {}, clock: handClock() });
    await settle();
    expect(taken.frames).toBeLessThanOrEqual(1);
    const reader = stream.getReader();
    for (let i = 0; i < 10; i++) await reader.read();
    await settle();
    expect(taken.frames).toBeLessThanOrEqual(11);
  });

  test("cuts a reader that takes nothing for two beats, and lets its source go", async () => {
    const clock = handClock();
    const told = { closed: 0, cut: 0 };
    sseStream(count({ frames: 0 }), { onClose: () => told.closed++, cut: () => told.cut++, clock });
    await settle();
    clock.tick();
    expect(told).toEqual({ closed: 0, cut: 0 });
    clock.tick();
    expect(told).toEqual({ closed: 1, cut: 1 });
  });

  test("does not cut a reader that is slow but reads, nor one that has nothing to read", async () => {
    const clock = handClock();
    let cut = 0;
    const slow = sseStream(count({ frames: 0 }), { onClose: () => {}, cut: () => cut++, clock }).getReader();
    const idle = sseStream(never(), { onClose: () => {}, cut: () => cut++, clock }).getReader();
    const heard: string[] = [];
    const listen = async () => {
      for (let next = await idle.read(); !next.done; next = await idle.read()) heard.push(new TextDecoder().decode(next.value));
    };
    void listen();
    for (let i = 0; i < 20; i++) {
      await settle();
      await slow.read();
      await settle();
      clock.tick();
    }
    await settle();
    expect(cut).toBe(0);
    expect(heard.slice(1)).toEqual(Array.from({ length: 20 }, () => ": alive\n\n"));
  });

  test("that its reader leaves lets go of its source and of its timer", async () => {
    const clock = handClock();
    let [closed, returned] = [0, false];
    async function* source(): AsyncGenerator<Frame, undefined> {
      try {
        yield { data: "1" };
        yield { data: "2" };
      } finally {
        returned = true;
      }
    }
    const reader = sseStream(source(), { onClose: () => closed++, cut: () => {}, clock }).getReader();
    await reader.read();
    await reader.cancel();
    await settle();
    expect([closed, returned, clock.waiting()]).toEqual([1, true, 0]);
  });

  test("whose source fails breaks off", async () => {
    const clock = handClock();
    let cut = 0;
    async function* source(): AsyncGenerator<Frame, undefined> {
      yield { data: "1" };
      throw new Error("gone");
    }
    const reader = sseStream(source(), { onClose: () => {}, cut: () => cut++, clock }).getReader();
    const reading = (async () => {
      while (!(await reader.read()).done);
    })();
    await settle();
    expect(cut).toBe(1);
    clock.tick();
    await expect(reading).rejects.toThrow("gone");
  });
});
