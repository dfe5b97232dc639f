/**
 * `npm run bench -- peers [name…] [--json]`: the same work on Groundcrew and on what a user would weigh it against, one after the
 * other on this machine: 64 runs side by side, ten steps each, a kilobyte from every step. Each contender has a process of its own
 * and a fresh database on one PostgreSQL with default durability, or a directory of its own. Nobody is tuned; what was set is told.
 */
import { type ChildProcess, fork } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { dropDatabase, run } from "../groundcrew/test/support/database.ts";
import { type Postgres, startPostgres } from "../groundcrew/test/support/postgres.ts";
import type { Message, Outcome } from "./contender.ts";
import { Folder } from "./folder.ts";

/** In this order. Those of the first line need nothing that the root's install lacks. */
const OWN = ["bare", "groundcrew", "groundcrew-sqlite"];
const PEERS = ["dbos", "restate", "langgraph-postgres", "langgraph-sqlite", "mastra"];
export const CONTENDERS: readonly string[] = [...OWN, ...PEERS];
/** A contender that is silent for so long is stuck. */
const PATIENCE_MS = 180_000;
const KEEP_ALIVE_MS = 60_000;
const LAST_CHARS = 600;

/** What a contender did, or why it did nothing. */
export type Entry = { name: string; outcome: Measured } | { name: string; notRun: string };

export interface Measured extends Outcome {
  bytesPerRun: number;
}

export function needsInstall(names: readonly string[]): boolean {
  return names.some((name) => PEERS.includes(name));
}

export async function sideBySide(names: readonly string[], onBegin: (name: string) => void): Promise<Entry[]> {
  const alive = setInterval(() => {}, KEEP_ALIVE_MS); // waiting for the server does not keep a process alive by itself
  const postgres = await startPostgres();
  try {
    const entries: Entry[] = [];
    for (const name of names) {
      onBegin(name);
      entries.push(await entryOf(name, postgres));
    }
    return entries;
  } finally {
    await postgres.remove();
    clearInterval(alive);
  }
}

async function entryOf(name: string, postgres: Postgres): Promise<Entry> {
  using folder = new Folder();
  const url = await postgres.database();
  await run(url, "checkpoint"); // what the one before has left is not this one's to write
  try {
    return { name, outcome: await measured(name, url, folder, postgres.pid) };
  } catch (error) {
    return { name, notRun: error instanceof Error ? error.message : String(error) };
  } finally {
    await dropDatabase(url);
  }
}

async function measured(name: string, url: string, folder: Folder, server: number): Promise<Measured> {
  const env = { ...process.env, NODE_ENV: "production" };
  const script = new URL(`./peers/${name}.ts`, import.meta.url);
  const log = join(folder.path, "log");
  const out = openSync(log, "w");
  const child = fork(script, [url, folder.path, String(server)], { env, stdio: ["ignore", out, out, "ipc"], detached: true });
  closeSync(out);
  try {
    await told(child, "ready");
    const before = await bytes(url, folder);
    child.send("go");
    const { outcome } = await told(child, "outcome");
    return { ...outcome, bytesPerRun: ((await bytes(url, folder)) - before) / (outcome.runs - 1) };
  } catch (error) {
    throw new Error(`${(error as Error).message} ${lastWords(readFileSync(log, "utf8"))}`.trim());
  } finally {
    endGroup(child);
  }
}

/** What a process said that ended before its time: the error, if it looks like one, else its last words. */
function lastWords(log: string): string {
  return log.split("\n").find((line) => /^\w*Error\b/.test(line)) ?? log.trim().slice(-LAST_CHARS);
}

function told<W extends Message["what"]>(child: ChildProcess, what: W): Promise<Extract<Message, { what: W }>> {
  const { promise, resolve, reject } = Promise.withResolvers<Extract<Message, { what: W }>>();
  const timer = setTimeout(() => reject(new Error(`Nothing was heard of it for ${PATIENCE_MS / 1_000} s.`)), PATIENCE_MS);
  const onMessage = (message: Message) => {
    if (message.what === what) resolve(message as Extract<Message, { what: W }>);
  };
  const onExit = (code: number | null, signal: string | null) => reject(new Error(`Its process ended (${signal ?? `exit ${code}`}).`));
  child.on("message", onMessage).on("close", onExit);
  return promise.finally(() => {
    clearTimeout(timer);
    child.off("message", onMessage).off("close", onExit);
  });
}

/** A contender may have started a server. */
function endGroup(child: ChildProcess): void {
  try {
    process.kill(-(child.pid as number), "SIGKILL");
  } catch {
    // all of it has ended by itself
  }
}

/** What the database and the directory weigh; most contenders use one of the two. */
async function bytes(url: string, folder: Folder): Promise<number> {
  const [row] = await run<{ size: string }>(url, "select pg_database_size(current_database()) as size");
  const files = readdirSync(folder.path, { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && entry.name !== "log",
  );
  return files.reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, Number(row?.size));
}
