/**
 * A run of twelve steps and its child runs, whose process is killed at every single point where a crash could matter: before
 * and after each commit of the store, before and after each call to the outside, at each part of a model's answer, and
 * whenever a call reaches the world. Each time another process goes on, and everything has to be as if nothing had happened.
 */
import type { ModelMessage } from "ai";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Failpoint } from "../../src/failpoint.ts";
import type { Crew, FeedItem, Store } from "../../src/index.ts";
import { Codec } from "../../src/persistence/codec.ts";
import { fold, type StepState } from "../../src/persistence/fold.ts";
import type { JsonValue } from "../../src/persistence/json-value.ts";
import { closedTranscript } from "../../src/run/transcript.ts";
import { until, within } from "../support/until.ts";
import { type Child, endOf, killLeftovers, type Point, spawnWorker } from "./child.ts";
import { dropGrounds, type Kind, kinds } from "./ground.ts";
import { flawOf, hasRetraction, type Readers, shownBy, type Watched, watchAll } from "./readers.ts";
import { seeded } from "./seeded.ts";
import { Stage } from "./stage.ts";
import type { Pace, World } from "./world.ts";

/** Where the process dies: by its own hand at a failpoint, or by ours when the nth call, or the first of a name, reaches the world. */
type Kill = Point | `arrival:${number | string}`;

interface Plan {
  /** One for each process before the last, which is left alone. */
  kills: Kill[];
  /** Whether a person answers for steps in doubt, or their `reconcile` hook. */
  byHand: boolean;
  seed: number;
  pace?: Pace;
}

/** What must be the same whatever is killed. */
interface Story {
  output: unknown;
  steps: Record<string, unknown>;
  transcript: ModelMessage[];
  shown: Record<string, string>;
  effects: string[];
}

const ONCE = ["mail", "write", "publish", "tell"];
const KEYED = ["refund", "charge"];

class Scene {
  readonly plan: Plan;
  readonly random: () => number;
  /** How often the world had been asked for what was recorded as done, at each kill. */
  readonly done: Map<string, number>[] = [];
  readonly #stage: Stage;
  readonly #answers: Promise<void>[] = [];
  #readers: Readers | undefined;

  constructor(plan: Plan, stage: Stage) {
    this.plan = plan;
    this.random = seeded(plan.seed);
    this.#stage = stage;
    if (plan.pace) stage.world.pace = plan.pace;
  }

  get world(): World {
    return this.#stage.world;
  }

  get store(): Store {
    return this.#stage.store;
  }

  get crew(): Crew {
    return this.#stage.crew;
  }

  get watched(): readonly Watched[] {
    return this.#readers?.watched ?? [];
  }

  /** Plays the plan to its end. @returns how many of its kills took place. */
  async play(): Promise<number> {
    const { kills } = this.plan;
    for (const [index, kill] of kills.entries()) {
      const child = this.#spawn(kill);
      await this.#watch(child);
      await until("the worker process ends", () => child.isOver);
      if ((await child.ended) !== "SIGKILL") {
        await endOf(child, 0);
        await this.#end();
        return index;
      }
      await this.world.quiet();
      this.done.push(await this.#countsOfDone());
    }
    const last = this.#spawn(undefined);
    await this.#watch(last);
    await endOf(last, 0);
    await this.#end();
    return kills.length;
  }

  #spawn(kill: Kill | undefined): Child {
    const { world, plan } = this;
    const job = this.#stage.job({ reconcile: !plan.byHand, start: { agent: "trip", request: { input: { order: "7" } } } });
    const [place, nth] = (kill ?? "").split(":");
    if (place !== "arrival") return spawnWorker(job, kill as Point | undefined);
    const child = spawnWorker(job);
    world.onArrival = ({ name }) => {
      if (name === nth || world.arrivals.length === Number(nth)) child.kill("SIGKILL");
    };
    return child;
  }

  /** From the first process on: opens the store beside it, and reads along. */
  async #watch(child: Child): Promise<void> {
    await child.ready;
    await this.#stage.open();
    this.#readers ??= watchAll(this.crew, "trip", this.random, (one, item) => this.#onItem(one, item));
  }

  #onItem({ run }: Watched, item: FeedItem): void {
    if (item.type === "step.started" && item.kind === "signal") this.#answers.push(this.#send(run));
    if (item.type === "step.unknown" && this.plan.byHand) this.#answers.push(this.#answer(run, item.step));
  }

  async #send(run: string): Promise<void> {
    await (await this.crew.run(run)).signal("go", "all is well", { id: "go" });
  }

  /** What a person does: waits until asked, looks in the world's books, and says what they say. */
  async #answer(id: string, step: string): Promise<void> {
    const run = await this.crew.run(id);
    await until(`${step} is asked for`, async () => (await run.view()).reason === "unknown_outcome");
    const result = this.world.known(`${id}/${step}`);
    const answer = result === undefined ? { resolution: "did_not_happen" as const } : { resolution: "happened" as const, result };
    await run.resolve(step, { ...answer, by: "a person" });
  }

  async #end(): Promise<void> {
    await within("every reader has seen the end", this.#readers?.ended ?? Promise.resolve());
    await within("every question is answered", Promise.all(this.#answers));
  }

  /** Every step with a recorded outcome, and how often the world was asked for it so far. */
  async #countsOfDone(): Promise<Map<string, number>> {
    const counts = new Map<string, number>();
    for (const row of await this.store.runs({ limit: 100 })) {
      for (const step of fold(await this.store.journal(row.id)).steps.values()) {
        const name = effectOf(row.agent, step);
        if (step.status === "succeeded") counts.set(name, this.world.count(name));
      }
    }
    return counts;
  }

  async story(): Promise<Story> {
    const story: Story = { output: undefined, steps: {}, transcript: [], shown: {}, effects: [] };
    const names = new Map(this.watched.map(({ run, agent }) => [run, agent]));
    const plain = (text: string) => [...names].reduce((result, [run, agent]) => result.replaceAll(run, agent), text);
    const codec = new Codec();
    const decode = async (json: JsonValue | undefined) => codec.decode(json, () => undefined);
    for (const { run, agent, steady } of this.watched) {
      const state = fold(await this.store.journal(run));
      for (const step of state.steps.values()) {
        const value = step.value === undefined ? undefined : JSON.parse(plain(JSON.stringify(step.value)));
        story.steps[`${agent} ${step.step}`] = { kind: step.kind, status: step.status, value, failures: step.failures };
      }
      if (agent === "trip") story.output = await decode(state.output);
      if (agent === "clerk") story.transcript = await closedTranscript(state, decode);
      story.shown[agent] = shownBy(steady);
    }
    story.effects = [...new Set(this.world.arrivals.map(({ name, key }) => plain(`${name} ${key}`)))].sort();
    return story;
  }
}

/** The name under which the world counts a step's effect. */
function effectOf(agent: string, { kind, name, step }: StepState): string {
  return kind === "model" ? `${agent} ${step}` : name;
}

async function verify(scene: Scene, golden: Story, kills: number): Promise<void> {
  const { world, watched, store, plan } = scene;
  expect(await scene.story(), "the story").toEqual(golden);
  expect((await store.runs({ limit: 100 })).map((row) => `${row.agent} ${row.status}`).sort(), "the runs").toEqual(RUNS);
  for (const name of ONCE) expect(world.count(name), `calls of the once step "${name}"`).toBe(1);
  for (const name of KEYED) expect(new Set(keysOf(world, name)).size, `keys of "${name}"`).toBe(1);
  for (const { name } of world.arrivals)
    expect(world.count(name), `calls of "${name}" after ${kills} kills`).toBeLessThanOrEqual(kills + 1);
  for (const done of scene.done) {
    for (const [name, count] of done) expect(world.count(name), `calls of "${name}", which was done before the kill`).toBe(count);
  }
  for (const one of watched) await verifyStream(scene, one);
  verifyDoubts(watched, plan.byHand);
}

const RUNS = ["clerk succeeded", "note succeeded", "trip succeeded"];

function keysOf(world: World, name: string): (string | null)[] {
  return world.arrivals.filter((arrival) => arrival.name === name).map(({ key }) => key);
}

async function verifyStream({ crew, random }: Scene, { run, agent, steady, restless }: Watched): Promise<void> {
  expect(flawOf(steady), `the stream of ${agent}`).toBeUndefined();
  expect(restless, `the stream of ${agent} in pieces`).toEqual(steady);
  for (const index of [steady.length - 1, random() * steady.length, random() * steady.length].map(Math.floor)) {
    const after = steady[index]?.cursor;
    const suffix: FeedItem[] = [];
    for await (const item of (await crew.run(run)).events({ after })) suffix.push(item);
    expect(suffix, `the stream of ${agent} from ${after}`).toEqual(steady.slice(index + 1));
  }
}

/** A step in doubt waits for a person, unless a hook can tell. */
function verifyDoubts(watched: readonly Watched[], byHand: boolean): void {
  for (const { agent, steady } of watched) {
    for (const doubt of steady.filter((item) => item.type === "step.unknown")) {
      const next = steady.slice(steady.indexOf(doubt));
      const parked = next.findIndex((item) => item.type === "run.parked" && item.reason === "unknown_outcome");
      const resolved = next.findIndex((item) => item.type === "step.resolved" && item.step === doubt.step);
      const by = (next[resolved] as { by?: string } | undefined)?.by;
      expect(by, `who answered for ${agent} ${doubt.step}`).toBe(byHand ? "a person" : "reconcile");
      if (byHand) expect(parked >= 0 && parked < resolved, `${agent} waits for the answer`).toBe(true);
    }
  }
}

async function inScene<T>(kind: Kind, plan: Plan, act: (scene: Scene) => Promise<T>): Promise<T> {
  const stage = await Stage.begin(kind);
  const scene = new Scene(plan, stage);
  try {
    return await act(scene);
  } catch (error) {
    const feeds = scene.watched.map(({ agent, steady }) => [agent, ...steady.map(lineOf)].join("\n  "));
    throw new Error(`Killed at ${plan.kills.join(", ")} (seed ${plan.seed}): ${(error as Error).message}\n${feeds.join("\n")}`, {
      cause: error,
    });
  } finally {
    await stage.end();
  }
}

function lineOf(item: FeedItem): string {
  return [item.cursor, item.type, Reflect.get(item, "step") ?? Reflect.get(item, "reason")].join(" ");
}

type Place = Exclude<Failpoint, `reconcile.${string}`> | "arrival";

/** What is claimed of each place, and how many passes a run makes there at least. The type lets no failpoint be forgotten. */
const CLAIMS: Record<Place, [claim: string, leastPoints: number]> = {
  "commit.before": ["before any commit goes on from the commit before", 25],
  "commit.after": ["after any commit of which nobody was told goes on behind it", 25],
  "effect.before": ["before any effect repeats what may be repeated and asks about the rest", 14],
  "effect.after": ["after any effect that was not recorded repeats what may be repeated and asks about the rest", 14],
  chunk: ["in the middle of a model's answer takes back what readers saw of it", 5],
  arrival: ["when a call has just reached the world does not make it twice if it must happen once", 14],
};

/** Points tried side by side: a process waits more than it works. */
const LANES = 3;
const SLOW_MS = 170_000;

/** One store is tried at every point, the other at every third: what they have in common is tried often enough. */
const EVERY: Record<Kind, number> = { SQLite: 1, PostgreSQL: Number(process.env["GROUNDCREW_CRASH_EVERY"] ?? 3) };

/** The same on every store. */
let golden: Story;

beforeAll(async () => {
  golden = await inScene("SQLite", { kills: [], byHand: false, seed: 0 }, async (scene) => {
    await scene.play();
    return scene.story();
  });
  expect(golden.effects).toHaveLength(14);
  expect(golden.output).toMatchObject({ reply: "all is well", published: { receipt: "receipt of publish" } });
});

afterEach(killLeftovers);
afterAll(dropGrounds);

describe.each(kinds.map((kind) => [kind, EVERY[kind]] as const))(
  "on %s, a run whose process is killed at every point, tried in steps of %i,",
  (kind, every) => {
    let points = 0;

    afterAll(() => console.log(`${kind}: killed and recovered at ${points} points`));

    /** Dies at the first pass through the place, at the second, …, until the run gets to its end before: then no pass is left. */
    async function killAtEach(place: Place, leastPoints: number): Promise<void> {
      let nth = 1 - every;
      let isThrough = false;
      let kills = 0;
      let retractions = 0;
      const killAt = async (seed: number) => {
        const plan: Plan = {
          kills: [`${place}:${seed}`],
          byHand: seed % 2 === 0,
          seed,
          ...(place === "chunk" && { pace: "word by word" }),
        };
        await inScene(kind, plan, async (scene) => {
          const died = await scene.play();
          await verify(scene, golden, died);
          kills += died;
          retractions += scene.watched.filter(({ steady }) => hasRetraction(steady)).length;
          if (died === 0) isThrough = true;
        });
      };
      const lane = async () => {
        try {
          while (!isThrough) {
            nth += every;
            await killAt(nth);
          }
        } finally {
          isThrough = true; // one failure is enough
        }
      };
      await Promise.all(Array.from({ length: LANES }, lane));
      points += kills;
      console.log(`${kind}, ${place}: ${kills} points`);
      expect(kills).toBeGreaterThanOrEqual(Math.floor(leastPoints / every));
      if (place === "chunk") expect(retractions, "answers that were shown and taken back").toBeGreaterThan(0);
    }

    for (const [place, [claim, leastPoints]] of Object.entries(CLAIMS) as [Place, [string, number]][]) {
      test(claim, () => killAtEach(place, leastPoints), SLOW_MS);
    }

    test("again before and after a reconcile hook looks has its outcome looked up once more", async () => {
      const kills: Kill[] = ["arrival:mail", "reconcile.before:1", "reconcile.after:1"];
      await inScene(kind, { kills, byHand: false, seed: 1 }, async (scene) => {
        expect(await scene.play()).toBe(3);
        await verify(scene, golden, 3);
      });
      points += kills.length;
    });
  },
);
