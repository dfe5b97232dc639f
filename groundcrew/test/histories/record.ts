/**
 * Records the stored histories of this release, one file per program, as the pieces of a dump: `node groundcrew/test/histories/record.ts`.
 * Done once per release, before it is published. What an earlier release recorded is never recorded again.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { groundcrew } from "../../src/runtime.ts";
import { openSqlite } from "../../src/sqlite/open.ts";
import { JumpingClock } from "../support/clock.ts";
import { definitions, programs, RECORDED_AT, type World } from "./programs.ts";

const PAGE = 1_000;

/** A name as a file has it. */
export const fileOf = (program: string) => `${program.replaceAll(" ", "-")}.ndjson`;

function recordAll(folder: string): Promise<void> {
  mkdirSync(folder);
  return Object.keys(programs).reduce(async (before, name) => {
    await before;
    const place = mkdtempSync(join(tmpdir(), "groundcrew-record-"));
    const store = join(place, "crew.db");
    await inProcess("record", name, store);
    if (programs[name]?.goOn) await inProcess("goOn", name, store);
    writeFileSync(join(folder, fileOf(name)), await dumped(store));
    rmSync(place, { recursive: true });
  }, Promise.resolve());
}

/** In one of its own: it may die. */
async function inProcess(what: "record" | "goOn", name: string, store: string): Promise<void> {
  const child = spawn(process.execPath, [import.meta.filename, what, name, store], { stdio: "inherit" });
  const [code, signal] = await once(child, "exit");
  if (code !== 0 && signal !== "SIGKILL") throw new Error(`${name}: ended with ${code ?? signal}`);
}

async function act(what: "record" | "goOn", name: string, file: string): Promise<void> {
  const program = programs[name];
  const clock = new JumpingClock();
  clock.jump(RECORDED_AT - Date.now());
  const crew = groundcrew({ agents: definitions(hanging(program?.hangs ?? {})), store: file, clock });
  await crew.work();
  if (what === "record") await program?.record(crew, die);
  else await program?.goOn?.(crew);
  await crew.close();
}

function die(): never {
  process.kill(process.pid, "SIGKILL");
  throw new Error("dead");
}

function hanging(from: Record<string, number>): World {
  const times = new Map<string, number>();
  return {
    happened: () => {},
    async begins(effect) {
      const time = (times.get(effect) ?? 0) + 1;
      times.set(effect, time);
      if (time >= (from[effect] ?? Number.POSITIVE_INFINITY)) await new Promise(() => {});
    },
  };
}

async function dumped(file: string): Promise<string> {
  const store = await openSqlite(file);
  const { units, next } = await store.dump(null, PAGE);
  await store.close();
  if (next !== null) throw new Error("A history is small.");
  return units.map((unit) => `${JSON.stringify(unit)}\n`).join("");
}

if (import.meta.main) {
  const [what, name = "", file = ""] = process.argv.slice(2);
  if (what === "record" || what === "goOn") await act(what, name, file);
  else {
    const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "../../package.json"), "utf8"));
    const folder = join(import.meta.dirname, version);
    if (existsSync(folder)) throw new Error(`${version} has recorded its histories already: they are what it left behind, and stay.`);
    await recordAll(folder);
  }
}
