/** G11: the runs that earlier releases left behind, as they left them, come to the ends they would have come to there. */
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { type StoredRun, type StoredUnit, unitHash } from "../../src/persistence/dump.ts";
import { fold } from "../../src/persistence/fold.ts";
import { isTerminal, type Store } from "../../src/persistence/store.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { groundcrew } from "../../src/runtime.ts";
import { openSqlite } from "../../src/sqlite/open.ts";
import { unitsOf } from "../persistence/copy-claims.ts";
import { JumpingClock } from "../support/clock.ts";
import { createDatabase, dropDatabase } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { definitions, programs, RECORDED_AT } from "./programs.ts";
import { fileOf } from "./record.ts";

const MAX_BYTES = 200_000; // of one release: they are in everybody's clone
const A_MINUTE = 60_000;

const files = globSync("*/*.ndjson", { cwd: import.meta.dirname }).sort();
const programOf = (file: string) => Object.entries(programs).find(([name]) => fileOf(name) === basename(file))?.[1];

const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

type Open = (clock: JumpingClock) => Promise<Store>;

const inFile: Open = async (clock) => {
  const directory = mkdtempSync(join(tmpdir(), "groundcrew-"));
  cleanups.push(() => rmSync(directory, { recursive: true }));
  return openSqlite(join(directory, "store.db"), { clock });
};

const onServer: Open = async (clock) => {
  const url = await createDatabase(await sharedPostgres());
  cleanups.push(() => dropDatabase(url));
  return openPostgres(url, { clock });
};

function unitsIn(file: string): StoredUnit[] {
  const lines = readFileSync(join(import.meta.dirname, file), "utf8")
    .trimEnd()
    .split("\n");
  return lines.map((line) => JSON.parse(line) as StoredUnit);
}

async function resume(file: string, open: Open) {
  const program = programOf(file);
  if (!program) throw new Error(`No program is left of ${file}.`);
  const clock = new JumpingClock();
  clock.jump(RECORDED_AT + A_MINUTE - Date.now());
  const store = await open(clock);
  cleanups.push(() => store.close());
  await store.load(unitsIn(file));

  const effects: string[] = [];
  const world = { happened: (effect: string) => effects.push(effect), begins: async () => {} };
  const crew = groundcrew({ agents: definitions(world), store, clock, worker: { lease: "1d" } });
  cleanups.push(() => crew.close());
  const rows = (await crew.runs()).sort((a, b) => a.createdAt - b.createdAt || (a.turn ?? 0) - (b.turn ?? 0));
  const runs = await Promise.all(rows.map(({ id }) => crew.run(id)));
  await crew.work();
  await program.resume(crew, runs, (ms) => clock.jump(ms));
  const views = await Promise.all(runs.map((run) => run.view()));
  return { program, effects: effects.sort(), ends: views.map(({ agent, status, output }) => ({ agent, status, output })) };
}

function everyHistory(open: Open): void {
  test.each(files)("%s", async (file) => {
    const { program, effects, ends } = await resume(file, open);
    expect(ends).toEqual(program.ends.map((end) => ({ output: undefined, ...end })));
    expect(effects).toEqual(program.effects);
  });
}

describe("resumed from a file, by the agents of today", () => everyHistory(inFile));
describePostgres("resumed from PostgreSQL, by the agents of today", () => everyHistory(onServer));

describe("as they were left", () => {
  test("every release has every program that it knew, and is small", () => {
    const releases = Map.groupBy(files, dirname);
    expect(releases.size).toBeGreaterThan(0);
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "../../package.json"), "utf8"));
    expect(releases.get(version)).toEqual(
      Object.keys(programs)
        .map((name) => join(version, fileOf(name)))
        .sort(),
    );
    for (const [, ofRelease] of releases) {
      const bytes = ofRelease.reduce((sum, file) => sum + readFileSync(join(import.meta.dirname, file)).length, 0);
      expect(bytes).toBeLessThan(MAX_BYTES);
    }
  });

  test.each(files)("%s folds, and the state says what the row says", async (file) => {
    const store = await inFile(new JumpingClock());
    cleanups.push(() => store.close());
    const units = unitsIn(file);
    await store.load(units);
    for (const { id, status } of units.filter((unit): unit is StoredRun => unit.kind === "run")) {
      const events = await store.journal(id);
      const state = fold(events);
      expect(state.head).toBe(events.length);
      expect(state.created?.type).toBe("run.created");
      if (isTerminal(status)) expect(events.at(-1)?.type).toBe(`run.${status}`);
    }
    expect((await unitsOf(store)).map(unitHash)).toEqual(units.map(unitHash));
  });
});
