/** A program with all that it imports in one file: a process of it starts in half the time, and some tests start hundreds. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

const source = new URL("../../src/", import.meta.url);

/** What runs in threads and processes of its own: found beside the code that starts it. */
const BESIDE = ["sqlite/checkpoint-thread", "tool/isolate-process", "tool/isolate-guard"];

/** @returns the file; it goes when this process ends */
export async function bundle(program: URL): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "groundcrew-bundle-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  const beside = BESIDE.map((name) => [basename(name), fileURLToPath(new URL(`${name}.ts`, source))]);
  const input = { program: fileURLToPath(program), ...Object.fromEntries(beside) };
  await using build = await rolldown({ input, platform: "node" });
  await build.write({ dir: folder, entryFileNames: "[name].mjs", chunkFileNames: "[name]-[hash].mjs" });
  return join(folder, "program.mjs");
}
