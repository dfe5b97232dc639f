import type { DatabaseSync } from "node:sqlite";
import { GroundcrewError } from "../errors.ts";
import { failpoint } from "../failpoint.ts";

/** In the header of the file: tells a Groundcrew store from any other SQLite database. "GCRW". */
const APPLICATION_ID = 0x47435257;

/**
 * Brings the schema up to the last of `migrations`, the first of which makes version 1. The write lock lets one process at a
 * time do it; the others find it done.
 * @throws GroundcrewError `STORE_TOO_NEW` for a schema this release does not know, `STORE_CORRUPT` for another program's database
 */
export function migrate(db: DatabaseSync, migrations: readonly string[], location: string): void {
  if (pragma(db, "user_version") === migrations.length && pragma(db, "application_id") === APPLICATION_ID) return;

  db.exec("begin immediate");
  try {
    mustBeOurs(db, location); // another program may have been faster
    const from = pragma(db, "user_version");
    if (from > migrations.length) throw tooNew(from, migrations.length, location);
    for (const migration of migrations.slice(from)) db.exec(migration);
    db.exec(`pragma user_version = ${migrations.length}; pragma application_id = ${APPLICATION_ID}`);
    failpoint("commit.before");
    db.exec("commit");
    failpoint("commit.after");
  } finally {
    if (db.isTransaction) db.exec("rollback");
  }
}

/** Whether the database is a Groundcrew store or still empty. @throws GroundcrewError `STORE_CORRUPT` */
export function mustBeOurs(db: DatabaseSync, location: string): void {
  const tables = db.prepare("select count(*) as n from sqlite_schema").get();
  if (pragma(db, "user_version") === 0 && tables?.["n"] === 0) return;
  // Asked last: another process may just be making the store, and its tables come together with this.
  if (pragma(db, "application_id") === APPLICATION_ID) return;
  throw new GroundcrewError("STORE_CORRUPT", `${location} is a database of another program.`, { fix: "Name another file." });
}

function tooNew(found: number, known: number, location: string): GroundcrewError {
  return new GroundcrewError("STORE_TOO_NEW", `${location} has schema version ${found}; this release knows versions up to ${known}.`, {
    fix: "Start the release that wrote it, or a newer one.",
  });
}

function pragma(db: DatabaseSync, name: string): number {
  return Number(db.prepare(`pragma ${name}`).get()?.[name]);
}
