/** G11: the agent's code changed, or somebody edited the store, while runs were under way: they go on, or say what has to be done. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { tool } from "ai";
import { afterEach, describe, expect, test } from "vitest";
import { z } from "zod";
import { agent, type Definition, flow } from "../../src/agent.ts";
import { NEWER_EVENT_RETRY_MS } from "../../src/limits.ts";
import type { RunRow } from "../../src/persistence/store.ts";
import type { Effect } from "../../src/policy.ts";
import { groundcrew, type Run } from "../../src/runtime.ts";
import { openStore } from "../../src/store.ts";
import { JumpingClock } from "../support/clock.ts";
import { gate, makeCrew, reaches, tempStore } from "../support/crew.ts";
import { createDatabase, dropDatabase, run as runSql } from "../support/database.ts";
import { type Answer, call, results, scripted, shown } from "../support/model.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { until } from "../support/until.ts";

const PACE = 40; // what a worker waits for its steps as it shuts down is 8 s

const payBy = z.object({ order: z.string() });

/** An agent with a tool `pay`, or without. */
function payer(answers: Answer[], pay?: { schema?: z.ZodType; effect?: Effect; execute: (input: unknown) => unknown }) {
  const model = scripted(answers);
  const { schema = payBy, effect = "once", execute = () => {} } = pay ?? {};
  const definition = agent("payer", {
    model,
    instructions: `Pay, says version ${answers.length}.`,
    tools: pay ? { pay: tool({ inputSchema: schema, execute: async (input: unknown) => execute(input) }) } : {},
    policy: (pay ? { pay: { effect } } : {}) as never,
  });
  return { model, definition };
}

/** Goes on with `after` on what the crew that was closed has left. */
async function goOn(store: string, id: string, after: Definition[]): Promise<Run> {
  const crew = makeCrew(after, { store, clock: new JumpingClock(PACE) });
  await crew.work();
  return crew.run(id);
}

/** A run whose model has asked for `pay`, which has not begun. */
async function askedFor(): Promise<[store: string, id: string]> {
  const store = tempStore();
  const answered = gate();
  const asked = gate();
  const model = scripted(async () => {
    asked.open();
    await answered.opened;
    return { calls: [call("pay", { order: "A-7" })] };
  });
  const execute = async (): Promise<string> => {
    throw new Error("It must not begin here.");
  };
  const before = makeCrew([agent("payer", { model, tools: { pay: tool({ inputSchema: payBy, execute }) } })], { store });
  const { id } = await before.start("payer", { prompt: "pay A-7" });
  await asked.opened;
  const closed = before.close();
  answered.open();
  await closed;
  return [store, id];
}

/** A run whose `pay` was in the middle of it when its process went away. */
async function begun(effect: Effect): Promise<[store: string, id: string]> {
  const store = tempStore();
  const began = gate();
  const { definition } = payer([{ calls: [call("pay", { order: "A-7" })] }], {
    effect,
    execute: () => {
      began.open();
      return new Promise(() => {});
    },
  });
  const before = makeCrew([definition], { store, clock: new JumpingClock(PACE) });
  const { id } = await before.start("payer", { prompt: "pay A-7" });
  await began.opened;
  await before.close();
  return [store, id];
}

const told = (model: ReturnType<typeof scripted>) => results(model.doStreamCalls[0]?.prompt ?? [])["call-pay"];

describe("an agent that changed while its run was under way", () => {
  test("and has lost the tool of a call that had not begun tells its model, and goes on", async () => {
    const { model, definition } = payer(["Then not."]);
    const run = await goOn(...(await askedFor()), [definition]);
    expect(await run.result()).toBe("Then not.");
    expect(told(model)).toEqual({ type: "error-text", value: expect.stringContaining('There is no tool "pay" any more') });
  });

  test("and whose tool takes something else does not run the old call, but tells its model, which asks anew", async () => {
    const inputs: unknown[] = [];
    const { model, definition } = payer([{ calls: [call("pay", { orderId: 7 }, "again")] }, "Paid."], {
      schema: z.object({ orderId: z.number() }),
      execute: (input) => inputs.push(input),
    });
    const run = await goOn(...(await askedFor()), [definition]);
    expect(await run.result()).toBe("Paid.");
    expect(inputs).toEqual([{ orderId: 7 }]);
    expect(told(model)).toEqual({
      type: "error-text",
      value: expect.stringMatching(/did not run: its input does not fit the tool any more/),
    });
  });

  test("and whose tool still takes the call runs it, once", async () => {
    const inputs: unknown[] = [];
    const schema = z.object({ order: z.string(), currency: z.string().optional() });
    const { definition } = payer(["Paid."], { schema, execute: (input) => inputs.push(input) });
    const run = await goOn(...(await askedFor()), [definition]);
    expect(await run.result()).toBe("Paid.");
    expect(inputs).toEqual([{ order: "A-7" }]);
  });

  test.each(["once", "keyed", "idempotent"] as const)(
    "and has lost a %s tool in the middle of a call asks a person, and denies nothing",
    async (effect) => {
      const { model, definition } = payer(["Paid."]);
      const run = await goOn(...(await begun(effect)), [definition]);
      const { summary } = await reaches(run, "unknown_outcome");
      expect(summary).toMatch(/nobody saw the outcome of "pay" \(tool:call-pay\).*`groundcrew resolve`/);
      expect(model.doStreamCalls).toHaveLength(0);
      await run.resolve("tool:call-pay", { resolution: "happened", result: "receipt 7" });
      expect(await run.result()).toBe("Paid.");
      expect(told(model)).toEqual({ type: "text", value: "receipt 7" });
    },
  );

  test("and has lost a tool that did not happen, says a person, tells its model so", async () => {
    const { model, definition } = payer(["Then not."]);
    const run = await goOn(...(await begun("keyed")), [definition]);
    await reaches(run, "unknown_outcome");
    await run.resolve("tool:call-pay", { resolution: "did_not_happen" });
    expect(await run.result()).toBe("Then not.");
    expect(told(model)).toMatchObject({ type: "error-text" });
  });

  test("and now calls its tool harmless does not make what was begun before harmless", async () => {
    const inputs: unknown[] = [];
    const { definition } = payer(["Paid."], { effect: "read", execute: (input) => inputs.push(input) });
    const run = await goOn(...(await begun("once")), [definition]);
    await reaches(run, "unknown_outcome");
    expect(inputs).toEqual([]);
  });

  test("and has other instructions goes on with them, from where it was", async () => {
    const { model, definition } = payer(["Paid."], { effect: "idempotent", execute: () => "receipt 7" });
    const run = await goOn(...(await begun("idempotent")), [definition]);
    expect(await run.result()).toBe("Paid.");
    expect(shown(model.doStreamCalls[0]?.prompt ?? [])).toEqual([
      "system: Pay, says version 1.",
      "user: pay A-7",
      'assistant: pay({"order":"A-7"})',
      'tool: pay -> {"type":"text","value":"receipt 7"}',
    ]);
  });

  test("and was taken out of the configuration leaves its run where it is, which says who is missing, until it is back", async () => {
    const [store, id] = await begun("idempotent");
    const without = makeCrew(
      [payer([]).definition].map(() => flow("other", async () => "done")),
      { store },
    );
    expect(await (await without.start("other", {})).result()).toBe("done");
    expect((await (await without.run(id)).view()).summary).toBe('Ready to go on; the next free worker that knows "payer" takes it up.');
    await without.close();
    const run = await goOn(store, id, [payer(["Paid."], { effect: "idempotent", execute: () => 1 }).definition]);
    expect(await run.result()).toBe("Paid.");
  });

  test("and is a flow whose step has another name waits, says both, and goes on when the code is right again", async () => {
    const store = tempStore();
    const ran: string[] = [];
    const body = (name: string) =>
      flow("f", async (ctx, _: null) => {
        await ctx.step(name, () => ran.push(name));
        return ctx.waitFor("go");
      });
    const old = makeCrew([body("charge")], { store });
    const { id } = await old.start("f", { input: null });
    await reaches(await old.run(id), "signal");
    await old.close();

    const run = await goOn(store, id, [body("bill")]);
    await run.signal("go", "on");
    const { summary } = await reaches(run, "attention");
    expect(summary).toMatch(/does not fit.*charge.*Bring the old code back, or give the changed step a new name; then `groundcrew retry`/s);
    expect(ran).toEqual(["charge"]);
  });
});

// ---- what stands in the store is not what this release understands ----

interface Place {
  location: string;
  sql(text: string): Promise<unknown>;
}

const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function inFile(): Promise<Place> {
  const directory = mkdtempSync(join(tmpdir(), "groundcrew-"));
  cleanups.push(() => rmSync(directory, { recursive: true }));
  const location = join(directory, "crew.db");
  return {
    location,
    async sql(text) {
      const db = new DatabaseSync(location);
      db.exec(text);
      db.close();
    },
  };
}

async function onServer(): Promise<Place> {
  const location = await createDatabase(await sharedPostgres());
  cleanups.push(() => dropDatabase(location));
  return { location, sql: (text) => runSql(location, text) };
}

/** Looks at the row: the journal cannot be read. */
function setAside(run: Run): Promise<RunRow> {
  return until("the run waits for attention", async () => {
    const row = await run.row();
    return row.status === "parked" && row.reason === "attention" ? row : undefined;
  });
}

/** Table → what somebody set there, for the one run. `$run` stands for how a row names it. */
const EDITS: [what: string, table: string, set: string][] = [
  ["an event of a newer release", "events", `data = replace(data, 'run.parked', 'run.levitated')`],
  ["a journal that is no JSON", "events", `data = '{ nonsense'`],
  ["a journal of another place", "events", "last = last + 7"],
  ["roles that are no list", "runs", `roles = 'all of them'`],
  ["roles that nobody gave", "runs", `roles = '["operator","admin"]'`],
  ["another tenant", "runs", `tenant = 'somebody else'`],
  ["a signal that is no JSON", "signals", `value = '{'`],
];

function damaged(name: string, make: () => Promise<Place>, idOf: (run: string, table: string) => string): void {
  const asker = flow("asker", async (ctx, _: null) => ctx.waitFor("reply"));

  /** A run that waits, with a signal it has not seen; and another beside it. */
  async function twoRuns(place: Place): Promise<[string, string]> {
    const crew = groundcrew({ agents: [asker], store: place.location });
    const runs = await Promise.all([crew.start("asker", { input: null }), crew.start("asker", { input: null })]);
    for (const run of runs) await reaches(run, "signal");
    await crew.close();
    const store = await openStore(place.location);
    for (const { id } of runs) await store.signal({ id: "s", run: id, kind: "signal", name: "reply", value: "yes" });
    await store.close();
    return runs.map(({ id }) => id) as [string, string];
  }

  describe(name, () => {
    test.each(EDITS)("%s: that run waits for attention, and the worker goes on", async (_, table, set) => {
      const place = await make();
      const [bad, good] = await twoRuns(place);
      await place.sql(`update ${idOf(bad, table).replace("$set", set)}`);
      const troubles: unknown[] = [];
      const crew = groundcrew({ agents: [asker], store: place.location, onTrouble: (error) => troubles.push(error) });
      cleanups.push(() => crew.close());
      await crew.work();
      expect(await (await crew.run(good)).result()).toBe("yes");
      const run = await crew.run(bad);
      await setAside(run);
      expect((await run.view()).status).toBe("parked");
      expect(troubles).toEqual([expect.objectContaining({ code: "EVENT_UNREADABLE", run: bad })]);
      expect((await crew.runs()).map(({ id }) => id).sort()).toEqual([bad, good].sort());
      expect(await (await crew.start("asker", { input: null, key: "after" })).row()).toMatchObject({ agent: "asker" });

      await run.retry(); // looks again, and finds it as it was: no loop, no harm to the others
      await setAside(run);
      expect((await crew.health()).ready).toBe(true);
    });
  });
}

test("a run that a newer release wrote on, and an older worker met, goes on by itself once the newer one is there", async () => {
  const place = await inFile();
  const clock = new JumpingClock();
  const asker = flow("asker", async (ctx, _: null) => ctx.waitFor("reply"));
  const open = () => groundcrew({ agents: [asker], store: place.location, clock, worker: { lease: "1h" }, onTrouble: () => {} });
  const crew = open();
  const { id } = await crew.start("asker", { input: null });
  await reaches(await crew.run(id), "signal");
  await crew.close();
  await place.sql("update events set data = replace(data, 'run.parked', 'run.levitated')");

  const old = open();
  await old.work();
  const run = await old.run(id);
  await run.signal("reply", "yes");
  const { dueAt } = await setAside(run);
  expect(dueAt).toBeGreaterThan(clock.now());
  await old.close();

  await place.sql("update events set data = replace(data, 'run.levitated', 'run.parked')"); // the newer release knows it
  clock.jump(NEWER_EVENT_RETRY_MS);
  const newer = open();
  cleanups.push(() => newer.close());
  await newer.work();
  expect(await (await newer.run(id)).result()).toBe("yes");
});

damaged("a row in a file that is nonsense", inFile, (run, table) =>
  table === "runs" ? `runs set $set where id = '${run}'` : `${table} set $set where run = (select n from runs where id = '${run}')`,
);

describePostgres("in PostgreSQL", () =>
  damaged(
    "a row that is nonsense",
    onServer,
    (run, table) => `groundcrew.${table} set $set where ${table === "runs" ? "id" : "run"} = '${run}'`,
  ),
);
