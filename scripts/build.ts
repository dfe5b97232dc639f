/**
 * `npm run build`: compiles the published package into `groundcrew/dist`, or into the folder that is named, which then holds
 * nothing but this build: the code, and the pages that `groundcrew help CODE` prints.
 */
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";

const root = join(import.meta.dirname, "..");
const dist = resolve(process.argv[2] ?? join(root, "groundcrew/dist"));
const tsc = join(root, "node_modules/typescript/bin/tsc");

rmSync(dist, { recursive: true, force: true }); // a file whose source is gone must not be published
const { status } = spawnSync(process.execPath, [tsc, "-p", "groundcrew/tsconfig.build.json", "--outDir", dist], {
  cwd: root,
  stdio: "inherit",
});
if (status === 0) {
  chmodSync(join(dist, "cli/main.js"), 0o755);
  cpSync(join(root, "docs/errors"), join(dist, "errors"), { recursive: true });
}
process.exitCode = status ?? 1;
