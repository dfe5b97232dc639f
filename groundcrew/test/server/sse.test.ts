import { describe, expect, test } from "vitest";
import { MAX_FRAMES_CHARS } from "../../src/limits.ts";
import { type Frame, sseStream } from "../../src/stream/sse.ts";
import { until } from "../support/until.ts";

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
  test("asks for no more than one piece of frames that its reader has not taken", async () => {
    const taken = { frames: 0 };
    const stream = sseStream(count(taken), { onClose: () => {}, cut: () => {}, clock: handClock() });
    const most = MAX_FRAMES_CHARS / "id: 1\nevent: n\ndata: {}\n\n".length;
    await settle();
    expect(taken.frames).toBeLessThanOrEqual(most);
    const reader = stream.getReader();
    for (let i = 0; i < 10; i++) await reader.read();
    await settle();
    expect(taken.frames).toBeLessThanOrEqual(11 * most);
  });

  test("brings what is there at once in one piece, what comes later when it comes, and all of it in order", async () => {
    const later = Promise.withResolvers<void>();
    async function* frames(): AsyncGenerator<Frame, undefined> {
      for (let n = 1; n <= 3; n++) yield { data: String(n) };
      await later.promise;
      for (let n = 4; n <= 5; n++) yield { data: String(n) };
    }
    const reader = sseStream(frames(), { onClose: () => {}, cut: () => {} }).getReader();
    const read = async () => new TextDecoder().decode((await reader.read()).value);
    expect(await read()).toMatch(/^retry/);
    expect(await read()).toBe("data: 1\n\ndata: 2\n\ndata: 3\n\n");
    const next = read();
    later.resolve();
    expect(await next).toBe("data: 4\n\ndata: 5\n\n");
    expect(await reader.read()).toMatchObject({ done: true });
  });

  test("shows what came before a failure", async () => {
    async function* frames(): AsyncGenerator<Frame, undefined> {
      yield { data: "1" };
      throw new Error("broken");
    }
    let cut = 0;
    const reader = sseStream(frames(), { onClose: () => {}, cut: () => cut++ }).getReader();
    await reader.read();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("data: 1\n\n");
    await until("it is cut", () => cut === 1);
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
