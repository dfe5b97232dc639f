/**
 * A thread beside isolated code, which may spin and cannot look after itself: ends its process when the parent is gone, and when
 * it takes more memory than it may, also outside V8's heap.
 */
import { Socket } from "node:net";
import { workerData } from "node:worker_threads";
import { ISOLATED_MEMORY_CHECK_MS } from "../limits.ts";

/** The descriptor of the pipe to the parent that nothing is said on until the end. */
const LIFELINE = 4;

const most = process.memoryUsage.rss() + (workerData as number) * 1024 * 1024;
const end = () => process.kill(process.pid, "SIGKILL");
const lifeline = new Socket({ fd: LIFELINE });
lifeline.on("error", end).on("close", end).resume();
const watch = setInterval(() => {
  if (process.memoryUsage.rss() <= most) return;
  clearInterval(watch);
  lifeline.write("memory", end);
}, ISOLATED_MEMORY_CHECK_MS);
