/**
 * Which process this is, told so that another process of the same machine can see that it is gone. Where that cannot be told
 * for sure the answer is "not gone", and the lease decides: waiting is safe, taking a run from a living worker is not.
 */
import { randomUUID } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";
import type { WorkerIdentity } from "./store.ts";

/** A new worker in this process. */
export function thisWorker(id: string = randomUUID()): WorkerIdentity {
  return { id, host: thisHost(), pid: process.pid, startedAt: processStat(process.pid)?.startedAt ?? "" };
}

let host: string | undefined;

/** Machine, boot and process namespace: equal for two processes exactly when they see each other under the same pids. */
export function thisHost(): string {
  host ??= [
    hostname(),
    read(() => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()),
    read(() => readlinkSync("/proc/self/ns/pid")),
  ].join(" ");
  return host;
}

/** Whether that worker's process has certainly ended, as seen from `here`. */
export function isGone(worker: WorkerIdentity, here: string): boolean {
  if (worker.host !== here) return false;
  if (!exists(worker.pid)) return true;
  const found = processStat(worker.pid);
  if (!found) return false;
  return found.ended || (worker.startedAt !== "" && found.startedAt !== worker.startedAt);
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH"; // EPERM: it lives, under another user
  }
}

/** From `/proc/<pid>/stat`: state is field 3, start time field 22. The name before them may hold spaces and brackets. */
function processStat(pid: number): { ended: boolean; startedAt: string } | null {
  const stat = read(() => readFileSync(`/proc/${pid}/stat`, "latin1"));
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const state = fields[0];
  const startedAt = fields[19];
  if (!state || !startedAt) return null;
  return { ended: state === "Z" || state === "X", startedAt }; // killed, but its parent has not looked yet
}

/** There is no `/proc` outside Linux. */
function read(from: () => string): string {
  try {
    return from();
  } catch {
    return "";
  }
}
