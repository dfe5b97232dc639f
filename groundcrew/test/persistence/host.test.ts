import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, expect, test } from "vitest";
import { isGone, thisHost, thisWorker } from "../../src/persistence/host.ts";

describe("a process", () => {
  const here = thisHost();

  test("that runs is not gone, and two workers in it are two", () => {
    expect(isGone(thisWorker(), here)).toBe(false);
    expect(thisWorker().id).not.toBe(thisWorker().id);
  });

  test("that was killed is gone, as soon as it is", async () => {
    const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
    const worker = { ...thisWorker(), pid: child.pid ?? 0, startedAt: "" };
    expect(isGone(worker, here)).toBe(false);
    child.kill("SIGSTOP");
    expect(isGone(worker, here)).toBe(false); // it may go on at any moment
    const exit = once(child, "exit");
    child.kill("SIGKILL");
    await exit;
    expect(isGone(worker, here)).toBe(true);
  });

  test.skipIf(process.platform !== "linux")("with the pid of another that began at another time is not that one", () => {
    expect(isGone({ ...thisWorker(), startedAt: "1" }, here)).toBe(true);
  });

  test.skipIf(process.platform !== "linux")("that was killed but not yet looked at by its parent is gone", async () => {
    // The shell starts a child that ends at once, then becomes a program that never looks at its children.
    const parent = spawn("sh", ["-c", "true & echo $!; exec sleep 60"]);
    const [line] = await once(parent.stdout, "data");
    const worker = { ...thisWorker(), pid: Number(String(line)), startedAt: "" };
    await expect.poll(() => isGone(worker, here)).toBe(true);
    parent.kill("SIGKILL");
  });

  test("of another machine, boot or container is never said to be gone", () => {
    expect(isGone({ ...thisWorker(), host: "elsewhere", pid: 2 ** 22 + 1 }, here)).toBe(false);
  });
});
