import { readFileSync } from "node:fs";
import { findPackageJSON } from "node:module";

/** Name and version of an installed package, as it was really loaded. */
export function versionOf(name: string): string {
  const path = findPackageJSON(name, import.meta.url);
  if (!path) throw new Error(`The package "${name}" is not installed.`);
  return `${name} ${(JSON.parse(readFileSync(path, "utf8")) as { version: string }).version}`;
}
