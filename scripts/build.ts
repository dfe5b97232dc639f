/** `npm run build`: compiles the published package into `groundcrew/dist`, which holds nothing but this build. */
import { spawnSync } from "node:child_process";
import { chmodSync, rmSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const dist = join(root, "groundcrew/dist");

rmSync(dist, { recursive: true, force: true }); // a file whose source is gone must not be published
const { status } = spawnSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", "groundcrew/tsconfig.build.json"], {
  cwd: root,
  stdio: "inherit",
});
if (status === 0) chmodSync(join(dist, "cli/main.js"), 0o755);
process.exitCode = status ?? 1;
