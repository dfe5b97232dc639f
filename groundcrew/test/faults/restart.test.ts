/** Restarts in the middle of a back-off: the next attempt has the next number, the same key, and its own time. */
import { expect, test } from "vitest";
import { agent } from "../../src/agent.ts";
import { currentCall } from "../../src/call.ts";
import { MAX_BACKOFF_MS } from "../../src/limits.ts";
import type { Store } from "../../src/persistence/store.ts";
import { type Crew, groundcrew, type Run } from "../../src/runtime.ts";
import { FakeClock } from "../../src/testing/clock.ts";
import { tempStore } from "../support/crew.ts";
import { type Answer, refusal, scripted } from "../support/model.ts";
import { until, within } from "../support/until.ts";
import { openAt } from "./handed-store.ts";
import { setStage } from "./stage.ts";

const HOUR = 3_600_000;

test("a process that is killed during the back-off is followed by one that goes on with the next attempt: not before its time, with the same key, and with what is left of its attempts", async () => {
  const { provider, crew, spawn } = await setStage();
  const limited = { status: 429, headers: { "retry-after": "2" }, body: { error: { message: "Slow down.", type: "requests" } } };
  provider.script([limited, limited, "Done."]);
  const run = await crew.start("asking", { prompt: "Hello?" });
  for (let n = 1; n <= 2; n++) {
    const worker = await spawn();
    await until(
      `attempt ${n} has failed, and the run waits`,
      async () => provider.requests.length === n && (await run.row()).status === "parked",
    );
    worker.kill("SIGKILL");
    expect(await worker.ended).toBe("SIGKILL");
  }
  await spawn();
  expect(await within("it finishes", run.result())).toBe("Done.");
  const { requests } = provider;
  expect(requests).toHaveLength(3);
  expect(requests.map(({ headers }) => headers["x-attempt"])).toEqual(["1", "2", "3"]);
  expect(new Set(requests.map(({ headers }) => headers["idempotency-key"])).size).toBe(1);
  for (const [n, { at }] of requests.slice(1).entries()) expect(at - (requests[n]?.at ?? 0)).toBeGreaterThanOrEqual(2_000);
  const failed = (await run.journal()).filter((event) => event.type === "step.failed");
  for (const [n, { retryAt }] of failed.entries()) expect(requests[n + 1]?.at).toBeGreaterThanOrEqual(retryAt ?? Number.NaN);
  expect((await run.view()).takeovers).toBe(0); // nobody held it while it waited
}, 60_000);

/** One that an operator sets: the time is another, and timers take as long as before. */
class SetClock extends FakeClock {
  #offset = 0;

  override now(): number {
    return super.now() + this.#offset;
  }

  set(ms: number): void {
    this.#offset += ms;
  }
}

/** Processes after each other on one store, whose time is the test's. */
class Restarts {
  readonly clock = new SetClock();
  readonly path = tempStore();
  readonly asked: { at: number; attempt: number; key: string }[] = [];
  readonly #answers: Answer[];
  #open: { crew: Crew; store: Store } | undefined;

  constructor(answers: Answer[]) {
    this.#answers = answers;
  }

  /** Ends the process before, where there is one. */
  async begin(): Promise<Crew> {
    await this.end();
    const asking = agent("asking", {
      model: scripted(() => {
        const { attempt, key } = currentCall();
        this.asked.push({ at: this.clock.now(), attempt, key });
        return this.#answers[this.asked.length - 1] ?? "no answer";
      }),
    });
    const store = await openAt(this.path, this.clock);
    const crew = groundcrew({ agents: [asking], store, clock: this.clock, worker: { lease: "10d" }, onTrouble: () => {} });
    await crew.work();
    this.#open = { crew, store };
    return crew;
  }

  async end(): Promise<void> {
    await this.#open?.crew.close();
    await this.#open?.store.close();
    this.#open = undefined;
  }

  /** Moves the clock in steps, until so much time has passed. */
  async pass(ms: number, stepMs = Math.ceil(ms / 10)): Promise<void> {
    for (let left = ms; left > 0; left -= stepMs) {
      this.clock.jump(Math.min(left, stepMs));
      await new Promise((resume) => setTimeout(resume, 5));
    }
  }

  retryAt(run: Run<unknown>): Promise<number> {
    return until("the run waits for its next attempt", async () => {
      this.clock.jump(1); // not enough to matter
      const { status, reason, dueAt } = await run.row();
      return status === "parked" && reason === "retry" && dueAt;
    });
  }

  async finish(run: Run<unknown>): Promise<void> {
    await until("the run is over", async () => {
      this.clock.jump(50);
      return (await run.row()).status === "succeeded";
    });
  }
}

test("a restart before the time of the next attempt does not make it sooner, and one after it makes it at once", async () => {
  const limited = refusal(429, { "retry-after": "60" });
  const world = new Restarts([limited, limited, "Done."]);
  const started = await (await world.begin()).start("asking", { prompt: "Hello?" });
  const first = await world.retryAt(started);
  await world.end();
  await world.pass(Math.floor((first - world.clock.now()) / 2));

  let run = await (await world.begin()).run(started.id);
  await world.pass(first - world.clock.now() - 1_000);
  expect(world.asked).toHaveLength(1);
  await world.pass(2_000);
  await until("it is asked again", () => world.asked.length === 2);
  const second = await world.retryAt(run);
  await world.end();
  world.clock.jump(HOUR);

  run = await (await world.begin()).run(started.id);
  await world.finish(run);
  expect(world.asked.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
  expect(new Set(world.asked.map(({ key }) => key)).size).toBe(1);
  expect(world.asked[1]?.at).toBeGreaterThanOrEqual(first);
  expect(world.asked[2]?.at).toBeGreaterThanOrEqual(second + HOUR / 2);
  await world.end();
});

test("restarts between all attempts give a step no more attempts than it has", async () => {
  const world = new Restarts(Array.from({ length: 20 }, () => refusal(429)));
  let run: Run<unknown> = await (await world.begin()).start("asking", { prompt: "Hello?" });
  for (let isOver = false; !isOver; ) {
    const { length } = world.asked;
    const row = await until("it was asked again, and waits", async () => {
      world.clock.jump(20);
      const now = await run.row();
      return now.status === "parked" && (world.asked.length > length || now.reason === "attention") && now;
    });
    isOver = row.reason === "attention";
    run = await (await world.begin()).run(run.id);
    world.clock.jump(MAX_BACKOFF_MS);
  }
  expect(world.asked.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect((await run.view()).code).toBe("RETRIES_EXHAUSTED");
  await world.end();
});

test("a clock that is set back during the back-off neither skips the wait nor makes it endless", async () => {
  const world = new Restarts([refusal(429, { "retry-after": "60" }), "Done."]);
  const run = await (await world.begin()).start("asking", { prompt: "Hello?" });
  const due = await world.retryAt(run);
  world.clock.set(-HOUR);
  await world.pass(60_000);
  expect(world.asked).toHaveLength(1); // by the clock there is an hour left
  await world.pass(due - world.clock.now() - 1_000);
  expect(world.asked).toHaveLength(1);
  await world.pass(2_000);
  await world.finish(run);
  expect(world.asked).toHaveLength(2);
  expect(world.asked[1]?.at).toBeGreaterThanOrEqual(due);
  await world.end();
});

test("a clock that is set forward during the back-off brings the next attempt, once", async () => {
  const world = new Restarts([refusal(503), "Done."]);
  const run = await (await world.begin()).start("asking", { prompt: "Hello?" });
  await world.retryAt(run);
  world.clock.set(10 * HOUR);
  await world.finish(run);
  expect(world.asked).toHaveLength(2);
  await world.end();
});
