/** Databases that tests make for themselves. */
import { randomBytes } from "node:crypto";
import { Client } from "pg";

/** @returns the URL of a fresh database on the server of `url`, with what stands in `template`. */
export async function createDatabase(url: string, template = "template1"): Promise<string> {
  const name = `groundcrew_test_${randomBytes(6).toString("hex")}`;
  await run(url, `create database ${name} template ${template}`);
  return withPath(url, name);
}

/** Also while somebody is still connected to it. */
export async function dropDatabase(url: string): Promise<void> {
  await run(withPath(url, "postgres"), `drop database if exists ${nameOf(url)} with (force)`);
}

export function nameOf(url: string): string {
  return new URL(url).pathname.slice(1);
}

/** One statement on a connection of its own. */
export async function run<T extends object>(url: string, sql: string): Promise<T[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<T>(sql)).rows;
  } finally {
    await client.end();
  }
}

function withPath(url: string, name: string): string {
  const changed = new URL(url);
  changed.pathname = `/${name}`;
  return changed.href;
}
