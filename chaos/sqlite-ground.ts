/** A SQLite file, on a file system of its own where that can be had: one that can be full. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../groundcrew/test/support/until.ts";
import { type Fault, type Faults, workerFaults } from "./faults.ts";
import type { Ground } from "./ground.ts";
import { isInOwnNamespace } from "./namespace.ts";

const ROOMY = "8g"; // of memory, taken only as it is written
const PAGE_BYTES = 4_096;

/** In this time nobody writes for a moment. */
const FILL_MS = 2_000;

export function openSqliteGround(): Ground {
  const folder = mkdtempSync(join(tmpdir(), "groundcrew-chaos-"));
  const disk = join(folder, "disk");
  mkdirSync(disk);
  const groundFaults: Faults = {};
  const notRun: Record<string, string> = {};

  const isMounted = isInOwnNamespace && mount(disk, `size=${ROOMY}`);
  if (isMounted) groundFaults["disk-full"] = fillUp(disk);
  else notRun["disk-full"] = "no file system can be mounted here";
  if (spawnSync("strace", ["-V"]).status === 0) groundFaults["fsync-error"] = failSyncs(folder);
  else notRun["fsync-error"] = "strace is not installed";

  const file = join(disk, "crew.db");
  const clear = () => {
    if (isMounted) spawnSync("umount", [disk]);
    rmSync(folder, { recursive: true, force: true });
  };
  process.once("exit", clear);
  return {
    urlOf: () => file,
    skewOf: () => 0, // processes on one machine share its clock
    hostOf: () => undefined,
    workerFaults: workerFaults(true),
    groundFaults,
    notRun,
    async close(keepAt) {
      if (keepAt !== undefined) cpSync(disk, keepAt, { recursive: true });
      clear();
      process.off("exit", clear);
    },
  };
}

function mount(disk: string, options: string): boolean {
  return spawnSync("mount", ["-t", "tmpfs", "-o", options, "chaos", disk]).status === 0;
}

/** The file system becomes as small as what is on it. */
function fillUp(disk: string): Fault {
  const shrunk = () => mount(disk, `remount,size=${usedBytes(disk)}`); // refused when somebody wrote meanwhile
  return async ({ log }, { force }) => {
    const end = log.begin("disk-full", null);
    const isFull = await until("the disk is full", () => shrunk() && !canWrite(disk), FILL_MS).catch(() => false);
    await sleep(500 + 3_000 * force);
    if (!mount(disk, `remount,size=${ROOMY}`)) throw new Error(`${disk} cannot be given its size back.`);
    end(isFull);
  };
}

function usedBytes(disk: string): number {
  const { blocks, bfree, bsize } = statfsSync(disk);
  return (blocks - bfree) * bsize;
}

function canWrite(disk: string): boolean {
  const file = join(disk, "probe");
  try {
    writeFileSync(file, Buffer.alloc(2 * PAGE_BYTES));
    return true;
  } catch {
    return false;
  } finally {
    rmSync(file, { force: true });
  }
}

/** Each fsync of one worker fails for a while, and is really made to, as strace tells. It has the lock that all need the longer. */
function failSyncs(folder: string): Fault {
  return async ({ fleet, log }, { place, force }) => {
    const worker = await fleet.at(place);
    const report = join(folder, "strace.txt");
    const end = log.begin("fsync-error", null);
    const calls = "fsync,fdatasync";
    const strace = spawn(
      "strace",
      ["-f", "-qq", "-p", String(worker.pid), "-o", report, "-e", `trace=${calls}`, "-e", `inject=${calls}:error=EIO`],
      { stdio: "ignore" },
    );
    const over = once(strace, "exit");
    await sleep(300 + 1_500 * force);
    strace.kill("SIGINT");
    await over;
    end(readFileSync(report, "utf8").includes("(INJECTED)"));
  };
}
