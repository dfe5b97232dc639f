import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { GroundcrewError } from "../errors.ts";
import type { Failpoint } from "../failpoint.ts";

/** A module that has not come by its end in this time is taken not to come by the point either. */
const MAX_LIFE_MS = 60_000;

export interface KillOptions {
  /** At which pass by the point, from 1. Default 1. */
  nth?: number;
  /** Added to this process's environment. */
  env?: Record<string, string>;
  /** For the module. */
  args?: readonly string[];
}

/**
 * Runs a module in a process of its own, and has it killed (SIGKILL, as when the power is cut) at a named point. What it leaves
 * in its store is what a crash exactly there leaves; a crew on the same store goes on with it.
 *
 * Points: `commit.before`, `commit.after` (a write of the store), `effect.before`, `effect.after` (a model, a tool, a step), `chunk`,
 * `reconcile.before`, `reconcile.after`.
 * @throws GroundcrewError `INTERNAL` when it ended, or lived for a minute, without coming by
 */
export async function killAt(point: Failpoint, module: URL, { nth = 1, env = {}, args = [] }: KillOptions = {}): Promise<void> {
  const child = spawn(process.execPath, [fileURLToPath(module), ...args], {
    env: { ...process.env, ...env, GROUNDCREW_FAILPOINT: `${point}:${nth}` },
    stdio: ["ignore", "ignore", "pipe"],
    timeout: MAX_LIFE_MS,
    killSignal: "SIGTERM",
  });
  const [said, [code, signal]] = await Promise.all([text(child.stderr), once(child, "exit") as Promise<[number | null, string | null]>]);
  if (signal === "SIGKILL") return;
  throw new GroundcrewError("INTERNAL", `${module.pathname} ended (${signal ?? code}) without coming by "${point}" ${nth} times.`, {
    value: said.slice(-2_000),
    fix: said === "" ? "Let it start a run that comes by there, and wait for it." : `It said: ${said.slice(-2_000)}`,
  });
}
