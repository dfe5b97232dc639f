/**
 * `node scripts/node.mjs script.ts …`: runs a script of this repository on Node 24, whatever Node npm itself runs on. Plain
 * JavaScript, because an older Node has to be able to read it.
 *
 * npm 11 would find the installed Node by itself, in `node_modules/.bin`. npm 10 does not: when it leaves out the package for
 * the other kind of processor, it removes the link of the one that it installed.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, dirname } from "node:path";
import { fileURLToPath } from "node:url";

const NEEDED = 24;
const installed = fileURLToPath(new URL(`../node_modules/node-${process.platform}-${process.arch}/bin/node`, import.meta.url));

function findNode() {
  if (existsSync(installed)) return installed;
  if (Number.parseInt(process.versions.node, 10) >= NEEDED) return process.execPath;
  console.error(
    `This needs Node ${NEEDED} or newer, and this is Node ${process.versions.node}. On Linux \`npm ci\` brings it; elsewhere install it.`,
  );
  process.exit(1);
}

const node = findNode();
const env = { ...process.env, PATH: `${dirname(node)}${delimiter}${process.env.PATH ?? ""}` }; // what the script starts is to find the same Node
const child = spawn(node, process.argv.slice(2), { stdio: "inherit", env });

process.on("SIGINT", () => {}); // the terminal sends it to both; the script decides when it ends
process.on("SIGTERM", () => child.kill("SIGTERM"));
child.on("exit", (code) => process.exit(code ?? 1));
