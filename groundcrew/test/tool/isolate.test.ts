/** Isolated code does its worst; what must not happen is that anything but its own call notices. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { type Call, withCall } from "../../src/call.ts";
import { classify } from "../../src/fault/classify.ts";
import { MAX_ISOLATED_CALLS } from "../../src/limits.ts";
import { isolate } from "../../src/tool/isolate.ts";
import { until, within } from "../support/until.ts";
import type { Task } from "./isolated-code.ts";

const code = new URL("./isolated-code.ts", import.meta.url);
const run = isolate<Task, unknown>(code, { memoryMb: 100 });
const ask = (what: string, value?: unknown, abortSignal?: AbortSignal) => run({ do: what, with: value }, { abortSignal });

/** A call of a run, and what it was told. */
function inRun(what: string, abortSignal?: AbortSignal) {
  const told: [number, string][] = [];
  const progress = (...said: [number, string]) => void told.push(said);
  const call = { run: "r1", step: "tool:c1", attempt: 2, key: "r1/tool:c1", progress } as unknown as Call;
  const result = withCall(call, () => ask(what, undefined, abortSignal));
  result.catch(() => {}); // looked at later
  return { result, told };
}

const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

describe("a call", () => {
  test("gives back what the code gives, copied, with all that a structured clone keeps", async () => {
    const value = { at: new Date(0), map: new Map([["a", new Set([1])]]), bytes: new Uint8Array([1, 2]), none: undefined };
    expect(await ask("give back", value)).toEqual(value);
    expect(await ask("give back", undefined)).toBeUndefined();
  });

  test("tells the code which run, step and attempt it is and which key it has, and passes its progress on", async () => {
    const { result, told } = inRun("tell of its call");
    expect(await result).toEqual({ run: "r1", step: "tool:c1", attempt: 2, key: "r1/tool:c1" });
    expect(told).toEqual([[0.5, "half way"]]);
    expect(await ask("tell of its call")).toBeUndefined(); // without a run
  });

  test("ends its process when the code is done, whatever that has left behind", async () => {
    expect(await ask("leave timers behind")).toBe("done");
    const pid = (await ask("give its process")) as number;
    expect(pid).not.toBe(process.pid);
    await until("it is gone", () => !isAlive(pid));
  });

  test("throws what the code throws, so that it can be told what that was", async () => {
    const error = await ask("throw").catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "Error", message: "no", statusCode: 503, cause: { message: "down", code: "ECONNREFUSED" } });
    expect(classify(error, 0)).toMatchObject({ chance: "again", reason: "overloaded" });
    await expect(ask("throw a text")).rejects.toThrow("no");
  });

  test("refuses what cannot be copied, in and out", async () => {
    await expect(ask("give back", () => {})).rejects.toMatchObject({ code: "VALUE_UNSERIALIZABLE" });
    await expect(ask("give a function")).rejects.toMatchObject({ code: "VALUE_UNSERIALIZABLE" });
  });

  test.each<[string, string]>([
    ["exit", "ended with 3"],
    ["be killed", "SIGSEGV"],
    ["throw behind its back", "ended with 1"],
    ["fill objects", "100 MB"],
    ["fill one array", "100 MB"],
    ["fill strings", "100 MB"],
    ["fill buffers", "100 MB"],
  ])("may %s: it fails, saying so, and this process goes on", async (what, said) => {
    const error = await within(
      "it fails",
      ask(what).catch((thrown: unknown) => thrown),
    );
    expect(error).toMatchObject({ code: "STEP_UNKNOWN", message: expect.stringContaining(said) });
    expect(classify(error, 0)).toMatchObject({ chance: "never" });
  });
});

describe("the end of its time", () => {
  test.each(["tell its process and spin", "tell its process and wait"])(
    "comes at once to code that may %s, and its process ends",
    async (what) => {
      const stop = new AbortController();
      const { result, told } = inRun(what, stop.signal);
      const [, pid] = await until("it has begun", () => told[0]);
      stop.abort(new Error("over"));
      await expect(within("it ends", result)).rejects.toThrow("over");
      await until("it is gone", () => !isAlive(Number(pid)));
    },
  );

  test("does not have to come to another program that the code waits for", async () => {
    const stop = new AbortController();
    const { result } = inRun("wait for another program", stop.signal);
    stop.abort(new Error("over"));
    await expect(within("it ends", result)).rejects.toThrow("over");
  });

  test("that has come before it began begins nothing", async () => {
    await expect(ask("spin", undefined, AbortSignal.abort(new Error("over")))).rejects.toThrow("over");
  });
});

test("no more than so many are at work, the rest wait in line, and one that leaves the line has not begun", async () => {
  const stop = new AbortController();
  const working = Array.from({ length: MAX_ISOLATED_CALLS }, () => inRun("tell its process and spin", stop.signal));
  await until("all places are taken", () => working.every(({ told }) => told.length > 0));
  const leave = new AbortController();
  const impatient = inRun("tell of its call", leave.signal);
  const patient = inRun("tell of its call");
  leave.abort(new Error("over"));
  await expect(impatient.result).rejects.toThrow("over");
  expect([...impatient.told, ...patient.told]).toEqual([]);
  stop.abort(new Error("stop"));
  expect(await within("its turn", patient.result)).toMatchObject({ run: "r1" });
  for (const { result } of working) await expect(result).rejects.toThrow("stop");
  expect(impatient.told).toEqual([]);
});

test("code that spins does not outlive the process that called it", async () => {
  const parent = spawn(process.execPath, [fileURLToPath(new URL("./isolate-parent.ts", import.meta.url))], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void parent.kill("SIGKILL"));
  const [said] = await within("it spins", once(parent.stdout, "data"));
  const pid = Number(String(said));
  expect(isAlive(pid)).toBe(true);
  parent.kill("SIGKILL");
  await until("it is gone", () => !isAlive(pid));
});

test("a program that was given as a flag does not run once more", async () => {
  const file = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
  const program = `
    const { isolate } = await import(${file("../../src/tool/isolate.ts")});
    if (process.send) process.exit(1);
    console.log(await isolate(new URL(${file("./isolated-code.ts")}))({ do: "give back", with: "once" }, {}));
  `;
  const parent = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void parent.kill("SIGKILL"));
  const [said] = await within("it is done", once(parent.stdout, "data"));
  expect(String(said)).toBe("once\n");
});

test("a module that is not there is found before anything runs, one that has no function when it is called", async () => {
  const missing = new URL("./not-there.ts", import.meta.url);
  expect(() => isolate(missing)).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
  expect(() => isolate(new URL("https://example.com/a.ts"))).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
  expect(() => isolate(code, { memoryMb: 0 })).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
  const none = isolate<null, void>(new URL("../../src/limits.ts", import.meta.url));
  await expect(none(null, {})).rejects.toThrow("no default export");
});
