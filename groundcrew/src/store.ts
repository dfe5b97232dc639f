/** From what somebody wrote where a store is expected to the store itself. */
import type { Clock } from "./clock.ts";
import { GroundcrewError } from "./errors.ts";
import type { Store } from "./persistence/store.ts";
import { openSqlite } from "./sqlite/open.ts";

export interface StoreOptions {
  clock?: Clock;
  /** Makes the audit log an HMAC chain. */
  auditKey?: string | undefined;
}

/**
 * @param where a path or `file:` URL for SQLite, a `postgres://` URL, or a store, which is given back. Default: the
 * environment's `DATABASE_URL`, or `.groundcrew/crew.db`.
 * @throws GroundcrewError `CONFIG_INVALID`, and what opening the store throws
 */
export async function openStore(where: string | Store | undefined, options: StoreOptions = {}): Promise<Store> {
  if (typeof where === "object") return where;
  const location = where ?? process.env["DATABASE_URL"] ?? ".groundcrew/crew.db";
  if (isPostgres(location)) return (await loadPostgres()).openPostgres(location, { auditKey: options.auditKey }); // its time is the server's, whatever a process's clock says
  return openSqlite(fileOf(location), options);
}

export function isPostgres(location: string): boolean {
  return /^postgres(ql)?:/i.test(location);
}

/** The path of a SQLite store. @throws GroundcrewError `CONFIG_INVALID` for an address that is neither kind of store */
export function fileOf(location: string): string {
  const [, scheme] = /^([a-z][a-z0-9+.-]*):\/\//i.exec(location) ?? [];
  if (scheme !== undefined && scheme.toLowerCase() !== "file") {
    throw new GroundcrewError("CONFIG_INVALID", `A store is kept in a SQLite file or in PostgreSQL, not in "${scheme}".`, {
      fix: "Name a file, such as `.groundcrew/crew.db`, or a `postgres://` URL.",
    });
  }
  return location.replace(/^file:(\/\/)?/i, "");
}

/** Loaded when it is asked for: who keeps a file needs no `pg`. */
async function loadPostgres() {
  try {
    return await import("./postgres/open.ts");
  } catch (cause) {
    if (!isMissing(cause)) throw cause;
    throw new GroundcrewError("CONFIG_INVALID", "A store in PostgreSQL needs the package `pg`, which is not installed.", {
      cause,
      fix: "Run `npm install pg`.",
    });
  }
}

function isMissing(error: unknown): boolean {
  const { code, message } = error as NodeJS.ErrnoException;
  return code === "ERR_MODULE_NOT_FOUND" && /'pg'/.test(message);
}
