import { Client } from "pg";
import { type Clock, systemClock } from "../clock.ts";
import { coerceError, GroundcrewError } from "../errors.ts";
import type { Store } from "../persistence/store.ts";
import { Connection, type QueryObserver } from "./connection.ts";
import { migrate } from "./migrate.ts";
import type { Sql } from "./row.ts";
import { migrations } from "./schema.ts";
import { PostgresStore } from "./store.ts";

export interface PostgresOptions {
  /** Where the time comes from instead of the server; for tests. */
  clock?: Clock;
  /** How often a watcher looks for changes of other processes by itself, whether or not it hears of them. */
  pollMs?: number;
  /** Makes the audit log an HMAC chain. */
  auditKey?: string | undefined;
  /** Told the text of every statement. */
  onQuery?: QueryObserver;
  /** Whether to lock rows of one shard at a time. Default: whether the tables are distributed. */
  isDistributed?: boolean;
}

/**
 * Opens the store in a PostgreSQL database, and brings its tables up to date.
 * @param url `postgres://user:password@host:port/database?sslmode=…`
 * @throws GroundcrewError `STORE_UNAVAILABLE`, `STORE_BUSY`, `STORE_CORRUPT`, `STORE_TOO_NEW`, `CONFIG_INVALID`
 */
export async function openPostgres(url: string, options: PostgresOptions = {}): Promise<Store> {
  const { clock, onQuery, pollMs, auditKey } = options;
  const location = locationOf(url);
  const first = new Connection(url, location, { isDistributed: false });
  const isDistributed = await first
    .alone(async (sql) => {
      await mustBePrimary(sql, location);
      await migrate(sql, migrations, location);
      return areTablesDistributed(sql);
    })
    .finally(() => first.close());
  const connection = new Connection(url, location, { clock, onQuery, isDistributed: options.isDistributed ?? isDistributed });
  await connection.learnBoot();
  const [told] = await connection.query<{ now: number }>(`select ${connection.now} as now`);
  if (told) connection.hearTime(told.now);
  return new PostgresStore(connection, clock ?? systemClock, { pollMs, auditKey });
}

/**
 * The URL as people may see it: without its password.
 * @throws GroundcrewError `CONFIG_INVALID`, which says nothing of what stands in it: the error of a URL quotes it whole
 */
function locationOf(url: string): string {
  if (!URL.canParse(url)) throw invalidUrl("is no URL");
  const { protocol, username, host, pathname, searchParams, hash } = new URL(url);
  if (!host && !searchParams.has("host")) throw invalidUrl("names no host");
  if (/[@/]/.test(pathname.slice(1))) throw invalidUrl("has an @ or a / where the name of the database stands");
  if (hash !== "") throw invalidUrl("has a # in it, behind which nothing is read");
  try {
    new Client({ connectionString: url }); // connects to nothing: reads what the URL says, and the files that it names
  } catch (error) {
    throw invalidUrl(`cannot be used: ${coerceError(error).message}`);
  }
  return `${protocol}//${username ? `${username}@` : ""}${host}${pathname}`;
}

function invalidUrl(why: string): GroundcrewError {
  return new GroundcrewError("CONFIG_INVALID", `The address of the PostgreSQL store ${why}.`, {
    fix: "Write postgres://user:password@host:5432/database; in the password @ as %40, # as %23, / as %2F, ? as %3F and % as %25.",
  });
}

type Queries = Pick<Sql, "query">;

async function mustBePrimary(sql: Queries, location: string): Promise<void> {
  const [found] = await sql.query<{ replica: boolean; version: number; encoding: string }>(
    `select pg_is_in_recovery() or current_setting('default_transaction_read_only')::boolean as replica,
       current_setting('server_version_num')::int as version, current_setting('server_encoding') as encoding`,
  );
  if (found?.replica) {
    throw new GroundcrewError("STORE_UNAVAILABLE", `The store ${location} is read-only.`, {
      fix: "Name the primary server, not a replica, and see that `default_transaction_read_only` is off.",
      retryAfterMs: 1_000,
    });
  }
  if (found && found.version < OLDEST) {
    throw new GroundcrewError("CONFIG_INVALID", `The store ${location} is PostgreSQL ${Math.floor(found.version / 10_000)}.`, {
      fix: "Use PostgreSQL 14 or newer.",
    });
  }
  if (found && found.encoding !== ENCODING) {
    throw new GroundcrewError("CONFIG_INVALID", `The store ${location} has the encoding ${found.encoding}.`, {
      fix: "Name a database that was made with `encoding 'UTF8'`.",
    });
  }
}

const OLDEST = 140_000;
/** Any other encoding refuses characters that people and models write. */
const ENCODING = "UTF8";

async function areTablesDistributed(sql: Queries): Promise<boolean> {
  const [citus] = await sql.query<{ there: boolean }>("select to_regclass('pg_catalog.pg_dist_partition') is not null as there");
  if (!citus?.there) return false;
  const found = await sql.query("select 1 from pg_dist_partition where logicalrelid = 'groundcrew.runs'::regclass and partmethod = 'h'");
  return found.length > 0;
}
