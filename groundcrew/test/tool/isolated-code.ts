/** What isolated code may do, by name: all of it in a process of its own. */
import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import type { IsolatedCall } from "../../src/tool/isolated.ts";

export interface Task {
  do: string;
  with?: unknown;
}

// biome-ignore lint/style/noDefaultExport: an isolated module has one
export default async function run(task: Task, call: IsolatedCall | undefined): Promise<unknown> {
  const held: unknown[] = [];
  switch (task.do) {
    case "give back":
      return task.with;
    case "tell of its call":
      call?.progress(0.5, "half way");
      return call && { run: call.run, step: call.step, attempt: call.attempt, key: call.key };
    case "give its process":
      return process.pid;
    case "tell its process and spin":
      call?.progress(0, String(process.pid));
      await sleep(1); // on its way
      for (;;);
    case "tell its process and wait":
      call?.progress(0, String(process.pid));
      return sleep(60_000);
    case "spin":
      for (;;);
    case "leave timers behind":
      setInterval(() => {}, 1);
      return "done";
    case "give a function":
      return () => {};
    case "throw":
      throw Object.assign(new Error("no", { cause: Object.assign(new Error("down"), { code: "ECONNREFUSED" }) }), { statusCode: 503 });
    case "throw a text":
      throw "no";
    case "throw behind its back":
      setTimeout(() => {
        throw new Error("behind");
      }, 1);
      return sleep(60_000);
    case "exit":
      return process.exit(3);
    case "be killed":
      return process.kill(process.pid, "SIGSEGV") && sleep(60_000);
    case "fill objects":
      for (;;) held.push({ x: Math.random(), y: [1, 2, 3] });
    case "fill one array":
      for (;;) held.push(new Array(3e7).fill({}));
    case "fill strings":
      for (;;) held.push(`x${Math.random()}`.repeat(1e6).split("").join(""));
    case "fill buffers":
      for (;;) held.push(Buffer.alloc(1e7, 1));
    case "wait for another program":
      return execFileSync("sleep", ["60"]).length;
    default:
      return undefined;
  }
}
