import { closeSync, fdatasyncSync, openSync, statfsSync, writeSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { percentile } from "./figure.ts";
import { Folder } from "./folder.ts";

const SYNCS = 300;
const PAGE = Buffer.alloc(4_096, 1);
const TMPFS = 0x01021994;

/** What the figures depend on and a reader of them cannot see. */
export function machine(): string {
  using folder = new Folder();
  const [p50, p99] = fsync(folder.file("sync"));
  const disk = statfsSync(folder.path).type === TMPFS ? "a file system in memory (set BENCH_DIR to a directory on a disk)" : "disk";
  const cpu = cpus()[0]?.model ?? "unknown processor";
  return `Node ${process.version}, ${availableParallelism()} cores (${cpu}), ${disk}: 4 KB write and fdatasync p50 ${p50} ms, p99 ${p99} ms`;
}

function fsync(path: string): [p50: string, p99: string] {
  const file = openSync(path, "w");
  const times: number[] = [];
  for (let i = 0; i < SYNCS; i++) {
    const begun = performance.now();
    writeSync(file, PAGE);
    fdatasyncSync(file);
    times.push(performance.now() - begun);
  }
  closeSync(file);
  return [percentile(times, 50).toFixed(3), percentile(times, 99).toFixed(3)];
}
