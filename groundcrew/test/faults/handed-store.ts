import type { Clock } from "../../src/clock.ts";
import type { Store } from "../../src/persistence/store.ts";
import { openPostgres } from "../../src/postgres/open.ts";
import { openSqlite } from "../../src/sqlite/open.ts";

/** A store whose time is the test's. @param location as a crew is told */
export function openAt(location: string, clock: Clock): Promise<Store> {
  return location.startsWith("postgres") ? openPostgres(location, { clock }) : openSqlite(location, { clock, pollMs: 1_000 });
}
