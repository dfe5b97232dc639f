/** A run that is started where there is room begins with the commit that creates it: without a look at the queue, and past nobody. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { flow } from "../../src/agent.ts";
import { GroundcrewError } from "../../src/errors.ts";
import { STOP_LOOK_MS } from "../../src/limits.ts";
import type { Store } from "../../src/persistence/store.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import type { Crew, CrewOptions, Run } from "../../src/runtime.ts";
import { person } from "../supervision/ground.ts";
import { gate, makeCrew, reaches } from "../support/crew.ts";
import { createDatabase, dropDatabase } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { until } from "../support/until.ts";

const operator = person("olga", "operator");

/** What may be asked of a store later than it was. */
type Verb = "inbox" | "claim" | "create";

interface Ground {
  crew: Crew;
  /** What was asked of the store, by the run it was about. */
  given: string[];
  claimed: string[];
  /** The next start is done, and its answer lost. */
  loseAnswer(): void;
  /** The steps that began, in their order. */
  begun: string[];
  /** Lets the steps end that wait. */
  release: ReturnType<typeof gate<void>>;
  /** Lets one of them end. */
  ends: Record<string, ReturnType<typeof gate<void>>>;
  /** The next question of this kind to the store waits until `go`. */
  block(verb: Verb): { reached: Promise<void>; go: () => void };
  /** Once, between the answer of the store to a claim that brought something and the worker's hearing of it. */
  betweenClaims(what: () => Promise<void>): void;
  /** How often the worker has joined. */
  joins(): number;
}

/** Steps of "wait" wait for the test. */
async function ground(options: Partial<CrewOptions> = {}): Promise<Ground> {
  const url = await createDatabase(await sharedPostgres());
  onTestFinished(() => dropDatabase(url));
  const real = await openPostgres(url);
  onTestFinished(() => real.close());
  const [given, claimed, begun]: [string[], string[], string[]] = [[], [], []];
  let isLost = false;
  const create: Store["create"] = async (...args) => {
    const created = await real.create(...args);
    if (created.claim) given.push(created.run.id);
    await passing("create");
    if (!isLost) return created;
    isLost = false;
    throw new GroundcrewError("STORE_UNAVAILABLE", "the answer was lost");
  };
  const between: (() => Promise<void>)[] = [];
  let joins = 0;
  const join: Store["join"] = async (...args) => {
    await real.join(...args);
    joins++;
  };
  const inbox: Store["inbox"] = async (...args) => {
    await passing("inbox");
    return real.inbox(...args);
  };
  const claim: Store["claim"] = async (...args) => {
    await passing("claim");
    const claims = await real.claim(...args);
    claimed.push(...claims.map(({ run }) => run.id));
    if (claims.length > 0) await between.splice(0)[0]?.();
    return claims;
  };
  const store = new Proxy(real, {
    get(target, name) {
      if (name === "create") return create;
      if (name === "claim") return claim;
      if (name === "inbox") return inbox;
      if (name === "join") return join;
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const blocked: Partial<Record<Verb, { reached: ReturnType<typeof gate<void>>; go: ReturnType<typeof gate<void>> }>> = {};
  const passing = async (verb: Verb) => {
    const block = blocked[verb];
    delete blocked[verb];
    block?.reached.open();
    await block?.go.opened;
  };
  const release = gate();
  const ends: Record<string, ReturnType<typeof gate<void>>> = {};
  const wait = flow("wait", (ctx, name: string) =>
    ctx.step("wait", { effect: "idempotent" }, () => {
      begun.push(name);
      ends[name] = gate();
      return Promise.race([release.opened, ends[name].opened]);
    }),
  );
  const quick = flow("quick", (ctx, name: string) => ctx.step("quick", { effect: "read" }, () => void begun.push(name)));
  const echo = flow("echo", async (ctx, input: object) => {
    await ctx.sleep(1);
    return structuredClone(input);
  });
  const crew = makeCrew([wait as never, quick as never, echo as never], { ...options, store });
  await crew.work();
  const loseAnswer = () => {
    isLost = true;
  };
  const block: Ground["block"] = (verb) => {
    const [reached, go] = [gate(), gate()];
    blocked[verb] = { reached, go };
    return { reached: reached.opened, go: () => go.open() };
  };
  const betweenClaims: Ground["betweenClaims"] = (what) => void between.push(what);
  return { crew, given, claimed, begun, release, ends, block, betweenClaims, joins: () => joins, loseAnswer };
}

describePostgres("a run that is started", () => {
  test("begins where there is room, and nobody looks for it", async () => {
    const { crew, given, claimed, begun } = await ground();
    const run = await crew.start("quick", { input: "one" });
    await run.result();
    const turn = await crew.start("quick", { input: "two", key: "k" });
    await turn.result();
    expect(given).toEqual([run.id, turn.id]);
    expect(claimed).toEqual([]);
    expect(begun).toEqual(["one", "two"]);
    const types = (await run.journal()).map(({ type }) => type);
    expect(types).toEqual(["run.created", "run.claimed", "step.started", "step.succeeded", "run.succeeded"]);
  });

  test("works on what was recorded, whatever its caller makes of the object since", async () => {
    const { crew } = await ground();
    const input = { n: 1, list: ["a"] };
    const run = await crew.start("echo", { input });
    input.n = 666;
    input.list.push("b");
    expect(await run.result()).toEqual({ n: 1, list: ["a"] });
  });

  test("hears what it is sent, however soon", async () => {
    const { crew, begun, release } = await ground();
    const run = await crew.start("wait", { input: "one" });
    await run.cancel("not needed");
    await until("it has heard", async () => (await run.journal()).some(({ type }) => type === "cancel.requested") || undefined);
    release.open();
    expect(await reaches(run as Run<unknown>, "cancelled")).toMatchObject({ status: "cancelled" });
    expect(begun.length).toBeLessThanOrEqual(1);
  });

  test("passes nobody who waits, and takes no place that there is not", async () => {
    const { crew, given, begun, release } = await ground({ worker: { concurrency: 2 } });
    const first = await Promise.all(["a", "b", "c", "d", "e"].map((input) => crew.start("wait", { input })));
    await until("two have begun", async () => begun.length === 2 || undefined);
    expect(given.length).toBeLessThanOrEqual(2);
    release.open();
    const late = await crew.start("wait", { input: "late" });
    await Promise.all([...first, late].map((run) => run.result()));
    expect(begun.at(-1)).toBe("late");
    expect(begun.toSorted()).toEqual(["a", "b", "c", "d", "e", "late"]);
  });

  test("passes nobody either while a place has become free and nobody has looked yet, nor while somebody looks", async () => {
    const { crew, given, begun, ends, block } = await ground({ worker: { concurrency: 2 } });
    const [a, b] = await Promise.all(["a", "b"].map((input) => crew.start("wait", { input })));
    await until("two have begun", async () => begun.length === 2 || undefined);
    await crew.start("wait", { input: "c" });
    const runs = [a, b] as Run<unknown>[];
    for (const verb of ["inbox", "claim"] as const) {
      const { reached, go } = block(verb);
      if (verb === "inbox") await runs[1]?.signal("anything", 1); // it is looked for before there is a place
      ends[verb === "inbox" ? "a" : "b"]?.open();
      await reached;
      if (verb === "inbox") await runs[0]?.result();
      const late = await crew.start("wait", { input: `late for ${verb}` });
      expect(given).not.toContain(late.id);
      go();
      await until("the next has begun", async () => begun.length === (verb === "inbox" ? 3 : 4) || undefined);
    }
    expect(begun.slice(2)).toEqual(["c", "late for inbox"]);
    for (const end of Object.values(ends)) end.open();
  });

  test("waits its time, and its turn where there are quotas", async () => {
    const { crew, given, claimed } = await ground({ tenants: { concurrency: 1 } });
    await (await crew.start("quick", { input: "one" })).result();
    expect(given).toEqual([]);
    expect(claimed).toHaveLength(1);
    const timed = await ground();
    const run = await timed.crew.start("quick", { input: "later", after: "300ms" });
    await run.result();
    expect(timed.given).toEqual([]);
  });

  test("does not begin while everything is stopped", async () => {
    const { crew, begun } = await ground();
    await crew.stop({ why: "harm" }, operator);
    await sleep(STOP_LOOK_MS); // what a process knows of stops may be that old
    const run = await crew.start("quick", { input: "one" });
    await until("its worker has looked", async () => (await run.view()).status === "queued" || undefined);
    expect(begun).toEqual([]);
    await crew.lift("*", operator);
    await run.result();
  });

  test("and of whose start nobody was told, runs all the same, once", async () => {
    const { crew, begun, loseAnswer } = await ground();
    loseAnswer();
    await expect(crew.start("quick", { input: "lost" })).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    await until("it has run", async () => begun.length > 0 || undefined);
    const [run] = await crew.runs();
    expect((await crew.run(run?.id ?? "").then((found) => found.result())) ?? null).toBeNull();
    expect(begun).toEqual(["lost"]);
  });

  test("by a worker that is giving back all it holds is not taken up by it, and runs once", async () => {
    const { crew, begun, release, loseAnswer, block, joins } = await ground();
    const { reached, go } = block("create");
    const held = crew.start("wait", { input: "held" });
    await reached;
    loseAnswer();
    await expect(crew.start("quick", { input: "lost" })).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    go();
    const run = await held;
    await until("it has begun", async () => begun.includes("held") || undefined);
    release.open();
    await run.result();
    expect(begun.toSorted()).toEqual(["held", "lost"]);
    expect(joins()).toBe(2);
  });

  test("and of which nobody was told, when its worker has left already, makes the next one give up nothing", async () => {
    const { crew, loseAnswer, block, joins } = await ground();
    const { reached, go } = block("create");
    const second = crew.start("quick", { input: "second" });
    await reached;
    loseAnswer();
    await expect(crew.start("quick", { input: "first" })).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    await until("it has come back", async () => joins() === 2 || undefined);
    loseAnswer();
    go();
    await expect(second).rejects.toMatchObject({ code: "STORE_UNAVAILABLE" });
    await (await crew.start("quick", { input: "third" })).result();
    expect(joins()).toBe(2);
  });

  test.each([0, 1, 2, 3, 4, 5, 6, 7, 8])("takes no place that a look has just filled (%s microtasks before its answer)", async (ticks) => {
    const { crew, begun, ends, release, betweenClaims } = await ground({ worker: { concurrency: 2 } });
    const runs = await Promise.all(["a", "b"].map((input) => crew.start("wait", { input })));
    await until("two have begun", async () => begun.length === 2 || undefined);
    await Promise.all(["c", "d"].map((input) => crew.start("wait", { input })));
    betweenClaims(async () => {
      for (const input of ["e", "f"]) void crew.start("wait", { input });
      for (let n = 0; n < ticks; n++) await undefined;
    });
    for (const end of Object.values(ends)) end.open();
    await Promise.all(runs.map((run) => run.result()));
    await until("two more have begun", async () => begun.length >= 4 || undefined);
    await sleep(100);
    expect(begun).toHaveLength(4);
    release.open();
    for (const { id } of await crew.runs()) await (await crew.run(id)).result();
  });

  test("while its process shuts down is handed back", async () => {
    const { crew, begun } = await ground();
    const starting = crew.start("quick", { input: "late" });
    await Promise.all([starting.catch(() => {}), crew.drain()]);
    const [run] = await crew.runs();
    expect(run).toMatchObject({ worker: null, status: begun.length === 0 ? "queued" : "succeeded" });
  });
});
