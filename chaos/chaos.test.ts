/** The short form of the proof: `npm run chaos` says what it does. The long forms are run on demand, for hours. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, expect, test } from "vitest";
import { describePostgres } from "../groundcrew/test/support/shared-postgres.ts";

const PROGRAMS = 150;
const LEAST_OPERATIONS = 3 * PROGRAMS;
const SHORT_MS = 180_000;

async function chaos(...args: string[]): Promise<{ code: number; result: Record<string, unknown>; said: string }> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "main.ts"), ...args], { stdio: ["ignore", "pipe", "pipe"] });
  const exit = once(child, "exit");
  const [output, said, [code]] = await Promise.all([text(child.stdout), text(child.stderr), exit]);
  return { code: code as number, result: JSON.parse(output.trimEnd().split("\n").at(-1) || "{}"), said };
}

async function survives(store: "sqlite" | "postgres", faults: string[]): Promise<void> {
  const { code, result, said } = await chaos("--store", store, "--programs", String(PROGRAMS), "--json");
  console.log(JSON.stringify(result));
  expect(result, said).toMatchObject({ verdict: "ok", store, lost: 0, doubled: 0, programs: PROGRAMS });
  expect(result["operations"]).toBeGreaterThanOrEqual(LEAST_OPERATIONS);
  for (const fault of faults) expect(result["faults"]).toHaveProperty(fault);
  expect(code).toBe(0);
}

describe("workers on one SQLite file that are killed, stopped, cut short and deployed over", () => {
  test("lose nothing and double nothing that may not be", () => survives("sqlite", ["kill", "stop", "pause", "deploy", "crash"]), SHORT_MS);
});

describePostgres("workers of several machines whose PostgreSQL is killed and cut off as well", () => {
  const faults = ["kill", "stop", "pause", "deploy", "crash", "restart", "postmaster", "cut", "black-hole", "skew"];
  test("lose nothing and double nothing that may not be", () => survives("postgres", faults), SHORT_MS);
});

describe("a chaos run", () => {
  test("says how it is used when it is asked for what there is not, and proves nothing then", async () => {
    for (const args of [
      ["--store", "paper"],
      ["--store", "sqlite", "--programs", "0"],
      ["--store", "sqlite", "--workers", "1"],
      ["--seed"],
    ]) {
      const { code, result, said } = await chaos(...args);
      expect(code, said).toBe(2);
      expect(said).toContain("Usage: npm run chaos");
      expect(result).toEqual({});
    }
  });
});
