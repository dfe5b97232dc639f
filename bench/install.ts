/** Brings what Groundcrew is held against. It stands outside the root's install: nobody who works on Groundcrew needs it. */
import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = new URL("./peers/", import.meta.url);
/** One more try for each package: a network that is away is to be told of in seconds. */
const TRIES = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=2000"];
const OFFLINE = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|ETIMEDOUT|ECONNRESET/;

/** @returns why they could not be installed, or null */
export function installPeers(): string | null {
  if (isInstalled()) return null;
  console.error("Installing the peers into bench/peers/node_modules, once (about 450 MB) …");
  const args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", ...TRIES];
  const npm = spawnSync("npm", args, { cwd: fileURLToPath(folder), encoding: "utf8", stdio: ["ignore", "ignore", "pipe"] });
  if (npm.status === 0) return null;
  const said = npm.error?.message ?? npm.stderr;
  const offline = OFFLINE.exec(said);
  if (offline) return `The npm registry cannot be reached (${offline[0]}); the peers have to be installed from it once.`;
  return `npm could not install the peers:\n${said}`;
}

/** npm writes its own copy of the lockfile when it is through. */
function isInstalled(): boolean {
  const [done, wanted] = [new URL("node_modules/.package-lock.json", folder), new URL("package-lock.json", folder)];
  return existsSync(done) && statSync(done).mtimeMs >= statSync(wanted).mtimeMs;
}
