import { closeSync, existsSync, mkdirSync, openSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type Clock, systemClock } from "../clock.ts";
import { GroundcrewError } from "../errors.ts";
import { DEFAULT_POLL_MS } from "../limits.ts";
import type { Store } from "../persistence/store.ts";
import { BACKSTOP_PAGES, PAGE_BYTES } from "./checkpoint.ts";
import { migrate, mustBeOurs } from "./migrate.ts";
import { patiently } from "./patience.ts";
import { migrations } from "./schema.ts";
import { SqliteStore } from "./store.ts";

export interface SqliteOptions {
  clock?: Clock;
  /** How often a watcher looks for changes of other processes. */
  pollMs?: number;
  /** Makes the audit log an HMAC chain. */
  auditKey?: string | undefined;
}

/**
 * Opens the store in the file `path`; makes it, and its directory, when there is none.
 * @throws GroundcrewError `STORE_UNAVAILABLE`, `STORE_BUSY`, `STORE_CORRUPT`, `STORE_TOO_NEW`, `STORE_FULL`
 */
export async function openSqlite(path: string, options: SqliteOptions = {}): Promise<Store> {
  const location = resolve(path);
  const db = await patiently(location, () => connect(location));
  const { clock = systemClock, pollMs = DEFAULT_POLL_MS, auditKey } = options;
  return new SqliteStore(db, location, { clock: inWholeMs(clock), pollMs, auditKey });
}

/** A clock of somebody's own may know parts of a millisecond, which the tables refuse. Downwards: nothing is due before its time. */
function inWholeMs(clock: Clock): Clock {
  return { now: () => Math.floor(clock.now()), after: (delayMs, task) => clock.after(delayMs, task) };
}

function connect(location: string): DatabaseSync {
  prepareFile(location);
  // No busy timeout: SQLite would sleep on the event loop. Who meets a lock tries again later, see `patiently` and GroupCommit.
  const db = new DatabaseSync(location, { timeout: 0, enableForeignKeyConstraints: false });
  try {
    mustBeOurs(db, location); // before anything is changed, be it only the journal mode
    db.exec(`pragma page_size = ${PAGE_BYTES}`);
    db.exec("pragma journal_mode = wal");
    db.exec("pragma synchronous = full");
    db.exec(`pragma wal_autocheckpoint = ${BACKSTOP_PAGES}`);
    migrate(db, migrations, location);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** Conversations are nobody else's to read. SQLite gives its side files the mode of the database. */
function prepareFile(location: string): void {
  try {
    mkdirSync(dirname(location), { recursive: true, mode: 0o700 });
    if (!existsSync(location)) closeSync(openSync(location, "wx", 0o600));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "EEXIST" && existsSync(location)) return; // another process was faster
    const full = code === "ENOSPC" || code === "EDQUOT";
    throw new GroundcrewError(full ? "STORE_FULL" : "STORE_UNAVAILABLE", `The store ${location} cannot be made: ${message}.`, {
      cause: error,
      fix: full ? "Free some space." : "Name a file in a directory that this user may write.",
    });
  }
}
