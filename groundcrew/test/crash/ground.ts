/** The stores that the crash tests are played on, and a look into their tables that does not go through the code under test. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { openSqlite, type Store } from "../../src/index.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { createDatabase, dropDatabase, run } from "../support/database.ts";
import { hasPostgres } from "../support/postgres-binaries.ts";
import { sharedPostgres } from "../support/shared-postgres.ts";

export type Kind = "SQLite" | "PostgreSQL";

/** Those that this machine has. */
export const kinds: readonly Kind[] = hasPostgres ? ["SQLite", "PostgreSQL"] : ["SQLite"];

export interface Ground {
  /** As a crew is told. */
  readonly location: string;
  open(): Promise<Store>;
  /** Everything that is known of runs: equal when not one row has changed. */
  fingerprint(): Promise<string>;
  /** How many workers are known whose process is `pid`. */
  workersOf(pid: number): Promise<number>;
  remove(): Promise<void>;
}

/** @param dir a folder that goes with the test. */
export function groundOf(kind: Kind, dir: string): Promise<Ground> {
  return kind === "SQLite" ? Promise.resolve(inFile(join(dir, "crew.db"))) : onServer();
}

function inFile(file: string): Ground {
  function look<T>(see: (db: DatabaseSync) => T): T {
    const db = new DatabaseSync(file, { readOnly: true });
    try {
      return see(db);
    } finally {
      db.close();
    }
  }
  return {
    location: file,
    open: () => openSqlite(file, { pollMs: 5 }),
    fingerprint: async () =>
      look((db) => {
        const tables = db.prepare("select name from sqlite_schema where type = 'table' and name <> 'workers' order by name").all();
        return hashOf(tables.map(({ name }) => [name, db.prepare(`select * from "${name}"`).all()]));
      }),
    workersOf: async (pid) => look((db) => Number(db.prepare("select count(*) as n from workers where pid = ?").get(pid)?.["n"])),
    remove: async () => {},
  };
}

/** Databases that tests before have left behind, empty: much faster than new ones. */
const free: string[] = [];

async function onServer(): Promise<Ground> {
  const url = free.pop() ?? (await createDatabase(await sharedPostgres()));
  const tables = () =>
    run<{ name: string }>(
      url,
      "select tablename as name from pg_tables where schemaname = 'groundcrew' and tablename <> 'meta' order by 1",
    );
  return {
    location: url,
    open: () => openPostgres(url),
    fingerprint: async () => {
      const rows: unknown[] = [];
      for (const { name } of await tables()) {
        if (name !== "workers") rows.push([name, await run(url, `select * from groundcrew.${name} t order by t::text`)]);
      }
      return hashOf(rows);
    },
    workersOf: async (pid) => {
      const [found] = await run<{ n: string }>(url, `select count(*) as n from groundcrew.workers where pid = ${pid}`);
      return Number(found?.n);
    },
    remove: async () => {
      await run(url, (await tables()).map(({ name }) => `delete from groundcrew.${name}`).join("; "));
      free.push(url);
    },
  };
}

/** To be called when a file of tests is through. */
export async function dropGrounds(): Promise<void> {
  await Promise.all(free.splice(0).map(dropDatabase));
}

function hashOf(rows: unknown): string {
  return createHash("sha256").update(JSON.stringify(rows)).digest("hex");
}
