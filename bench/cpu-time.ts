/** CPU time of whole process trees, as Linux counts it: whoever does the work for a step, client or server, is in the sum. */
import { readdirSync, readFileSync } from "node:fs";

/** Linux counts in hundredths of a second on every machine that Node runs on. */
const TICK_MS = 10;

interface Process {
  parent: number;
  /** Its own time, and that of its children which have ended. */
  ticks: number;
}

/** Milliseconds that these processes, their children and the children of those have used, user and system, dead ones included. */
export function cpuMs(roots: readonly number[]): number {
  const processes = new Map(readdirSync("/proc").filter(isPid).flatMap(read));
  const children = Map.groupBy(processes, ([, { parent }]) => parent);
  const ticksOf = (pid: number): number =>
    (processes.get(pid)?.ticks ?? 0) + (children.get(pid) ?? []).reduce((sum, [child]) => sum + ticksOf(child), 0);
  return roots.reduce((sum, pid) => sum + ticksOf(pid), 0) * TICK_MS;
}

/** Milliseconds that all processors of the machine were at work, for whomever, since it was started. */
export function machineCpuMs(): number {
  const [user, nice, system, , , irq, softirq, steal] =
    readFileSync("/proc/stat", "latin1").split("\n", 1)[0]?.split(/ +/).slice(1).map(Number) ?? [];
  return [user, nice, system, irq, softirq, steal].reduce((sum: number, ticks = 0) => sum + ticks, 0) * TICK_MS;
}

function isPid(name: string): boolean {
  return /^\d+$/.test(name);
}

function read(pid: string): [number, Process][] {
  try {
    // The name stands in parentheses and may hold anything, spaces and parentheses too.
    const fields = readFileSync(`/proc/${pid}/stat`, "latin1")
      .replace(/^.*\) /s, "")
      .split(" ")
      .map(Number);
    const [parent, user, system, childrenUser, childrenSystem] = [fields[1], fields[11], fields[12], fields[13], fields[14]] as number[];
    return [[Number(pid), { parent: parent ?? 0, ticks: (user ?? 0) + (system ?? 0) + (childrenUser ?? 0) + (childrenSystem ?? 0) }]];
  } catch {
    return []; // it has ended since its name was read
  }
}
