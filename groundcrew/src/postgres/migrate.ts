import { setTimeout as pause } from "node:timers/promises";
import { GroundcrewError } from "../errors.ts";
import { failpoint } from "../failpoint.ts";
import { MAX_POSTGRES_PAUSE_MS, MIGRATION_LOCK_MS, MIGRATION_PATIENCE_MS } from "../limits.ts";
import type { Sql } from "./row.ts";
import type { Migration } from "./schema.ts";

/** What stands in `groundcrew.meta`. */
interface Version {
  version: number;
  /** The oldest schema version whose release still works on these tables. */
  works_for: number;
}

/** One connection; a transaction is begun and ended with statements of its own. */
type Connected = Pick<Sql, "query">;

/** Held while a migration runs, by one process at a time: any number that no other program uses. "GCRW". */
const LOCK = 0x47435257;

const UNDEFINED_TABLE = "42P01";
const UNDEFINED_SCHEMA = "3F000";
const UNDEFINED_COLUMN = "42703";
const NO_RIGHT = "42501";
const LOCKED = "55P03";

/**
 * Brings the schema up to the last of `migrations`, the first of which makes version 1. Each is one transaction, under a lock
 * that ends with it: one process at a time does it, also through a pooler, and the others find it done. Nothing to do costs one
 * statement and no lock.
 *
 * A newer schema is welcome as long as its `worksFor` says that this release can work on it: that is how two releases share one
 * database while the one replaces the other.
 * @throws GroundcrewError `STORE_TOO_NEW`, `STORE_CORRUPT` for a schema `groundcrew` of another program, `STORE_UNAVAILABLE`
 * for missing rights, `STORE_BUSY`
 */
export async function migrate(sql: Connected, migrations: readonly Migration[], location: string): Promise<void> {
  const found = await current(sql, location);
  for (let version = found?.version ?? 0; version < migrations.length; ) {
    version = await patiently(location, () => step(sql, migrations, location));
  }
  if (found && found.works_for > migrations.length) throw tooNew(found, migrations.length, location);
}

/** One migration, whichever is next behind the lock. @returns the version that the schema then has. */
async function step(sql: Connected, migrations: readonly Migration[], location: string): Promise<number> {
  // Read committed, whatever the server's default is: what is read behind the lock has to be what the one before has written.
  await sql.query("begin isolation level read committed");
  try {
    await sql.query("set local statement_timeout = 0"); // an index over a large table takes its time
    await sql.query(`select pg_advisory_xact_lock(${LOCK})`);
    const before = await prepared(sql, location);
    const migration = migrations[before.version];
    if (migration) {
      await sql.query(`set local lock_timeout = ${MIGRATION_LOCK_MS}`);
      await sql.query(migration.sql);
      await sql.query("update groundcrew.meta set version = $1, works_for = $2", [before.version + 1, migration.worksFor]);
    } else if (before.works_for > migrations.length) {
      throw tooNew(before, migrations.length, location); // a newer process was faster
    }
    failpoint("commit.before");
    await sql.query("commit");
    failpoint("commit.after");
    return migration ? before.version + 1 : before.version;
  } catch (error) {
    await sql.query("rollback").catch(() => {}); // a connection that is lost has none to roll back
    throw error;
  }
}

/** The version that the schema has, where it is already ours. */
async function current(sql: Connected, location: string): Promise<Version | null> {
  try {
    const [found] = await sql.query<Version>("select version, works_for from groundcrew.meta");
    if (found) return found;
  } catch (error) {
    const code = codeOf(error);
    if (code === UNDEFINED_TABLE || code === UNDEFINED_SCHEMA) return null;
    if (code === NO_RIGHT) throw noRight(location, error);
    if (code !== UNDEFINED_COLUMN) throw error;
  }
  throw foreign(location);
}

/** Makes what is missing before the first migration can be recorded. */
async function prepared(sql: Connected, location: string): Promise<Version> {
  const [schema] = await sql.query<{ made: boolean; ours: boolean; used: boolean }>(`
    select to_regnamespace('groundcrew') is not null as made, to_regclass('groundcrew.meta') is not null as ours,
      exists (select 1 from pg_class where relnamespace = to_regnamespace('groundcrew')) as used`);
  if (schema?.ours) {
    const found = await current(sql, location);
    if (found) return found;
  }
  if (schema?.used) throw foreign(location);
  if (!schema?.made) await sql.query("create schema groundcrew"); // asked first: `if not exists` wants the right even where there is one
  await sql.query(`
    create table groundcrew.meta (
      only_row  boolean not null primary key default true check (only_row),
      version   integer not null,
      works_for integer not null
    );
    insert into groundcrew.meta (version, works_for) values (0, 0)`);
  return { version: 0, works_for: 0 };
}

/**
 * A table in use is waited for only shortly, for whoever comes after the migration has to wait behind it: the running processes
 * get their turn between two tries.
 */
async function patiently<T>(location: string, attempt: () => Promise<T>): Promise<T> {
  const until = performance.now() + MIGRATION_PATIENCE_MS;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (codeOf(error) === NO_RIGHT) throw noRight(location, error);
      if (codeOf(error) !== LOCKED) throw error;
      if (performance.now() >= until) throw busy(location, error);
    }
    await pause(MAX_POSTGRES_PAUSE_MS);
  }
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown } | null)?.code;
}

function tooNew(found: Version, known: number, location: string): GroundcrewError {
  return new GroundcrewError(
    "STORE_TOO_NEW",
    `${location} has schema version ${found.version}, for releases that know version ${found.works_for} or later; this one knows versions up to ${known}.`,
    { fix: "Start the release that migrated it, or a newer one." },
  );
}

function foreign(location: string): GroundcrewError {
  return new GroundcrewError("STORE_CORRUPT", `${location} has a schema \`groundcrew\` that is not a store of Groundcrew.`, {
    fix: "Name another database, or restore this one from a backup.",
  });
}

function noRight(location: string, cause: unknown): GroundcrewError {
  const said = cause instanceof Error ? cause.message : String(cause);
  return new GroundcrewError("STORE_UNAVAILABLE", `This user lacks a right on ${location}: ${said}.`, {
    cause,
    fix: "Let an administrator run `create schema groundcrew authorization <user>`, or make this user the owner of the schema and its tables.",
  });
}

function busy(location: string, cause: unknown): GroundcrewError {
  return new GroundcrewError("STORE_BUSY", `A table of ${location} was in use for too long to be migrated.`, {
    cause,
    retryAfterMs: MIGRATION_LOCK_MS,
    fix: "End the session that holds a transaction on it open: see pg_stat_activity.",
  });
}
