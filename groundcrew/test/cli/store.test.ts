/** `store copy` and `store distribute`, in real processes that are killed. */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { thisWorker } from "../../src/persistence/host.ts";
import { newRunId } from "../../src/persistence/id.ts";
import type { Store } from "../../src/persistence/store.ts";
import { distributeOn, HOT_TABLES, statements } from "../../src/postgres/distribute.ts";
import { openStore } from "../../src/store.ts";
import { unitsOf } from "../persistence/copy-claims.ts";
import { fill } from "../persistence/fill.ts";
import { createDatabase, dropDatabase, run } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { project } from "./command.ts";

/** More than two pages of a dump. */
const MANY = 1_100;

let place: ReturnType<typeof project>;
let file: string;

beforeEach(() => {
  place = project();
  file = join(place.directory, "from.db");
});

afterEach(() => place.remove());

async function using<T>(location: string, use: (store: Store) => Promise<T>): Promise<T> {
  const store = await openStore(location);
  try {
    return await use(store);
  } finally {
    await store.close();
  }
}

const makeSource = (runs: number) =>
  using(file, async (store) => {
    await fill(store, Date.now() - 1_000);
    const principal = { tenant: "t", user: "u", roles: [] };
    const created = { type: "run.created", agent: "other", principal, deadline: 1, seq: 1, at: 0 } as const;
    const more = { agent: "other", principal, deadline: 1, dueAt: 0, events: [created], blobs: [] };
    await Promise.all(Array.from({ length: runs }, () => store.create({ id: newRunId(Date.now()), ...more })));
  });

const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);

const everything = (location: string) => using(location, (store) => unitsOf(store, 1_000));

function copying(target: () => string): void {
  test("moves a whole store and says what it was", async () => {
    await makeSource(0);
    const { code, out, err } = await place.groundcrew("store", "copy", "--from", "file:from.db", "--to", target());
    expect({ code, out }).toMatchObject({ code: 0, out: expect.stringMatching(/^Copied and verified: runs 14, sessions 1, blobs 3\.\n/) });
    expect(err).toMatch(/^Copying.*\nComparing both sides\.\n$/);
    expect(await everything(target())).toEqual(await everything(file));
    const report = await place.json("store", "copy", "--from", "file:from.db", "--to", target());
    expect(report).toMatchObject({ runs: 14, resumed: 14, hash: /[0-9a-f]{64}/.exec(out)?.[0] });
  });

  test("killed in the middle, however often, it goes on and ends the same", async () => {
    await makeSource(MANY);
    const args = ["store", "copy", "--from", "file:from.db", "--to", target(), "--json"];
    await using(target(), async () => {}); // so that the commits that are counted are those of the copy
    const found: number[] = [];
    for (const failpoint of ["commit.before:1", "commit.after:1", "commit.before:2", "commit.after:1"]) {
      const { ended } = place.start(args, { GROUNDCREW_FAILPOINT: failpoint });
      expect((await ended).code).toBeNull();
      found.push((await everything(target())).length);
    }
    expect(found).toEqual([0, 500, 1_000, (await everything(file)).length]);
    const { code, out } = await place.groundcrew(...args);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ runs: MANY + 14, resumed: MANY + 14 });
    expect(await everything(target())).toEqual(await everything(file));
  });
}

describe("store copy to a file", () => {
  copying(() => join(place.directory, "to.db"));

  test("of a store that a living worker holds is refused, and nothing is written", async () => {
    await makeSource(0);
    const worker = thisWorker();
    const { code, err } = await using(file, async (store) => {
      await store.join(worker, 60_000);
      const ended = await place.groundcrew("store", "copy", "--from", "from.db", "--to", "to.db");
      await store.leave(worker.id);
      return ended;
    });
    expect({ code, err }).toEqual({ code: 69, err: expect.stringMatching(/STORE_BUSY: Worker .* is at work[\s\S]*Stop every process/) });
    expect(await everything(join(place.directory, "to.db"))).toEqual([]);
  });

  test("that holds other runs is refused as a conflict", async () => {
    await makeSource(0);
    await using(join(place.directory, "to.db"), (store) => fill(store, Date.now()));
    const { code, err } = await place.groundcrew("store", "copy", "--from", "from.db", "--to", "to.db");
    expect({ code, err }).toEqual({ code: 4, err: expect.stringContaining("error STORE_DIFFERS: ") });
  });

  test.each([
    [["copy", "--from", "none.db", "--to", "to.db"], 69, "STORE_UNAVAILABLE"],
    [["copy", "--from", "from.db"], 2, "INPUT_INVALID"],
    [["copy", "--from", "from.db", "--to", "./from.db"], 2, "INPUT_INVALID"],
    [["copy", "--from", "from.db", "--to", "mysql://host/db"], 2, "CONFIG_INVALID"],
    [["move"], 2, "INPUT_INVALID"],
    [["distribute", "--store", "from.db"], 2, "CONFIG_INVALID"],
  ])("%j ends with %i, says why, and makes no store", async (args, code, error) => {
    await makeSource(0);
    const ended = await place.groundcrew("store", ...args);
    expect(ended).toMatchObject({ code, out: "", err: expect.stringContaining(`error ${error}: `) });
    for (const name of ["none.db", "to.db"]) expect(existsSync(join(place.directory, name))).toBe(false);
  });
});

describePostgres("store copy to PostgreSQL", () => {
  let url: string;

  beforeEach(async () => {
    url = await createDatabase(await sharedPostgres());
  });

  afterEach(() => dropDatabase(url));

  copying(() => url);

  test("and from there, where commands read it as they read a file", async () => {
    await makeSource(0);
    await place.groundcrew("store", "copy", "--from", "from.db", "--to", url);
    const listed = async (store: string) => (await place.json("runs", "--store", store, "--limit", "50")).runs;
    const ids = async (store: string) => (await listed(store)).map(({ id }: { id: string }) => id);
    expect(await ids(url)).toEqual(await ids("from.db"));
    rmSync(file);
    expect((await place.groundcrew("store", "copy", "--from", url, "--to", "from.db")).code).toBe(0);
    expect((await listed("from.db")).sort(byId)).toEqual((await listed(url)).sort(byId));
  });
});

describePostgres("store distribute", () => {
  let url: string;

  beforeEach(async () => {
    url = await createDatabase(await sharedPostgres());
  });

  afterEach(() => dropDatabase(url));

  test("on a server without the extension is refused in a sentence, and changes nothing", async () => {
    const { code, out, err } = await place.groundcrew("store", "distribute", "--store", url);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toMatch(/^error CONFIG_INVALID: This PostgreSQL is not distributed: it has no extension `citus`\. Nothing was changed\.\n/);
  });

  test("knows every hot table: each that begins with a shard, in all of its unique keys", async () => {
    await using(url, async () => {});
    const sharded = await run<{ name: string }>(
      url,
      "select table_name as name from information_schema.columns where table_schema = 'groundcrew' and column_name = 'shard'",
    );
    expect(sharded.map(({ name }) => name).sort()).toEqual([...HOT_TABLES].sort());
    const keys = await run<{ definition: string }>(
      url,
      "select pg_get_indexdef(indexrelid) as definition from pg_index where indisunique and indrelid::regclass::text = any(" +
        `array[${HOT_TABLES.map((table) => `'groundcrew.${table}'`)}])`,
    );
    expect(keys).toHaveLength(HOT_TABLES.length);
    for (const { definition } of keys) expect(definition).toMatch(/\(shard, /);
  });
});

describe("what distributes", () => {
  /** As Citus answers: which tables are distributed, and what it was told to do. */
  function citus(distributed: string[]) {
    const told: string[] = [];
    return {
      told,
      async query<T extends object>(text: string): Promise<T[]> {
        if (text.includes("pg_extension")) return [{ created: true, available: true } as unknown as T];
        if (text.includes("pg_dist_partition")) return distributed.map((name) => ({ name }) as unknown as T);
        if (text.includes("groundcrew.workers")) return [];
        told.push(text);
        distributed.push(/'groundcrew\.(\w+)', 'shard'/.exec(text)?.[1] ?? "");
        return [];
      },
    };
  }

  test("is one statement per hot table, by shard, all beside the runs", async () => {
    expect(statements(HOT_TABLES)).toEqual([
      "select create_distributed_table('groundcrew.runs', 'shard')",
      ...HOT_TABLES.slice(1).map(
        (name) => `select create_distributed_table('groundcrew.${name}', 'shard', colocate_with => 'groundcrew.runs')`,
      ),
    ]);
    const server = citus([]);
    expect(await distributeOn(server, "here")).toEqual([...HOT_TABLES]);
    expect(server.told).toEqual(statements(HOT_TABLES));
  });

  test("goes on after an interruption, and does nothing the second time", async () => {
    const server = citus(["runs", "events"]);
    expect(await distributeOn(server, "here")).toEqual(HOT_TABLES.slice(2));
    expect(await distributeOn(server, "here")).toEqual([]);
    expect(server.told).toHaveLength(HOT_TABLES.length - 2);
  });
});
