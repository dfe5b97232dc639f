/** The one PostgreSQL of a test run, as test files see it; `postgres-global.ts` starts it. */
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { describe, inject } from "vitest";
import { findPackage, hasPostgres } from "./postgres-binaries.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** The port that tells where the PostgreSQL of this test run is. */
    postgres: number;
  }
}

/** Tests that need a PostgreSQL. Where there is none they are skipped, and say that they did not run. */
export function describePostgres(name: string, tests: () => void): void {
  describeIf(hasPostgres, name, tests);
}

/** Tests that start a PostgreSQL of their own: one that is named for the tests does not help them. */
export function describeOwnPostgres(name: string, tests: () => void): void {
  describeIf(findPackage() !== null, name, tests);
}

function describeIf(condition: boolean, name: string, tests: () => void): void {
  if (condition) describe(name, tests);
  else describe.skip(`${name} (not run: no PostgreSQL here)`, tests);
}

/** The server of this test run; the first who asks starts it. @returns the URL of its database `postgres` */
export async function sharedPostgres(): Promise<string> {
  const answer = JSON.parse(await text(connect(inject("postgres"), "127.0.0.1"))) as { url: string } | { error: string };
  if ("error" in answer) throw new Error(answer.error);
  return answer.url;
}
