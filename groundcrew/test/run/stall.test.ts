import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { systemClock } from "../../src/clock.ts";
import { LOOP_BLOCKED_MS, LOOP_LOOK_MS } from "../../src/limits.ts";
import { type Block, LoopWatch, loopBlocked } from "../../src/run/stall.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { until } from "../support/until.ts";

const step = (name: string) => ({ run: "r1", step: `tool:${name}`, name });

/** A loop that the test blocks by saying so. */
function loop() {
  const blocks: Block[] = [];
  const clock = new FakeClock();
  const time = { now: 0, busy: 0 };
  const watch = new LoopWatch(clock, (block) => blocks.push(block), { now: () => time.now, busy: () => time.busy });
  watch.start();
  return {
    watch,
    blocks,
    /** Goes round for this long, with code at work for a part of it. */
    rounds(ms: number, busy = 0) {
      for (let left = ms; left > 0; left -= LOOP_LOOK_MS) {
        time.now += LOOP_LOOK_MS;
        time.busy += busy * LOOP_LOOK_MS;
        clock.jump(LOOP_LOOK_MS);
      }
    },
    /** Nothing else happens for this long. */
    block(ms: number, busy = 1) {
      time.now += ms;
      time.busy += busy * ms;
    },
  };
}

const tick = () => new Promise((resolve) => setImmediate(resolve));

test("a step that blocks before its first await is named, whoever else is at work", async () => {
  const { watch, blocks, rounds, block } = loop();
  void watch.timed(step("idle"), () => new Promise(() => {}));
  rounds(1_000);
  await watch.timed(step("spin"), async () => block(3_000));
  rounds(LOOP_LOOK_MS);
  expect(blocks).toEqual([{ blockedMs: 3_000, steps: [step("spin")], isCertain: true }]);
  rounds(10_000);
  expect(blocks).toHaveLength(1); // told once
});

test("a step that throws before its first await is named too, and throws", () => {
  const { watch, blocks, rounds, block } = loop();
  const work = () => {
    block(3_000);
    throw new Error("own");
  };
  expect(() => watch.timed(step("spin"), work)).toThrow("own");
  rounds(LOOP_LOOK_MS);
  expect(blocks).toMatchObject([{ steps: [step("spin")] }]);
});

test("one that blocks later is among those that were at work all the while, and nobody else is", async () => {
  const { watch, blocks, rounds, block } = loop();
  const gates = [0, 1, 2].map(() => Promise.withResolvers<void>());
  const before = watch.timed(step("over before"), () => gates[0]?.promise ?? Promise.resolve());
  const spins = watch.timed(step("spins, then ends"), () => gates[1]?.promise ?? Promise.resolve());
  void watch.timed(step("waits"), () => new Promise(() => {}));
  rounds(LOOP_LOOK_MS);
  gates[0]?.resolve();
  await before;
  await tick();
  block(5_000);
  gates[1]?.resolve();
  await spins;
  await tick();
  void watch.timed(step("began after"), () => new Promise(() => {}));
  rounds(LOOP_LOOK_MS);
  expect(blocks).toEqual([{ blockedMs: 5_000, steps: [step("waits"), step("spins, then ends")], isCertain: false }]);
});

test("no step at work: a block is told all the same", () => {
  const { blocks, rounds, block } = loop();
  block(2_000);
  rounds(LOOP_LOOK_MS);
  expect(blocks).toEqual([{ blockedMs: 2_000, steps: [], isCertain: false }]);
});

test("what is no block is not told: much work in short pieces, a machine that slept, a block that is short", () => {
  const { blocks, rounds, block } = loop();
  rounds(10_000, 1);
  block(60_000, 0);
  rounds(LOOP_LOOK_MS);
  block(LOOP_BLOCKED_MS - LOOP_LOOK_MS);
  rounds(LOOP_LOOK_MS, 1);
  expect(blocks).toEqual([]);
});

test("a watch that was stopped tells nothing", () => {
  const { watch, blocks, rounds, block } = loop();
  watch.stop();
  block(5_000);
  rounds(LOOP_LOOK_MS);
  expect(blocks).toEqual([]);
});

test("on the real loop: the step that spins is named, one that sleeps on it too, and one that only waits is not", async () => {
  const blocks: Block[] = [];
  const watch = new LoopWatch(systemClock, (block) => blocks.push(block));
  watch.start();
  onTestFinished(() => watch.stop());
  await watch.timed(step("waits"), () => sleep(LOOP_BLOCKED_MS + 2 * LOOP_LOOK_MS));
  expect(blocks).toEqual([]);
  await watch.timed(step("spins"), async () => {
    for (const end = performance.now() + LOOP_BLOCKED_MS + 2 * LOOP_LOOK_MS; performance.now() < end; );
  });
  const [block] = await until("it is told", () => blocks.length > 0 && blocks);
  expect(block).toMatchObject({ steps: [step("spins")], isCertain: true });
  expect(block?.blockedMs).toBeGreaterThanOrEqual(LOOP_BLOCKED_MS);
  await watch.timed(step("sleeps on the loop"), async () => {
    await sleep(1);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOOP_BLOCKED_MS + 2 * LOOP_LOOK_MS);
  });
  const [, second] = await until("it is told", () => blocks.length > 1 && blocks);
  expect(second).toMatchObject({ steps: [step("sleeps on the loop")], isCertain: false });
});

test("the trouble says for how long, and who, as far as that is known", () => {
  const steps = Array.from({ length: 7 }, (_, index) => step(`t${index}`));
  const said = (block: Partial<Block>) => loopBlocked({ blockedMs: 30_500, steps: [], isCertain: false, ...block }).message;
  expect(said({ steps: [step("spin")], isCertain: true })).toContain('blocked for 30.5s by "spin" (tool:spin of run r1).');
  expect(said({ steps })).toMatch(/while these were at work: "t0".*"t4" .* 2 more\./);
  expect(said({})).toContain("blocked for 30.5s by code that is in no step.");
});
