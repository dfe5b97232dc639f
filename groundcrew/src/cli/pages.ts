/** The pages about error codes, as `groundcrew help CODE` prints them. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { type ErrorCode, errorCodes } from "../errors.ts";

/** Where the build puts them, and where they stand in the repository, for a command that runs from its source. */
const FOLDERS = ["../errors/", "../../../docs/errors/"].map((path) => new URL(path, import.meta.url));

/** @param word as somebody typed it, who may not have held the shift key. */
export function codeOf(word: string): ErrorCode | undefined {
  return errorCodes.find((code) => code === word.toUpperCase());
}

/** The page without the addresses of its links, which lead nowhere in a terminal. */
export async function pageOf(code: ErrorCode): Promise<string> {
  const [file] = FOLDERS.map((folder) => new URL(`${code}.md`, folder)).filter((candidate) => existsSync(candidate));
  if (file === undefined) throw new Error(`The page about ${code} is missing from this installation.`);
  return (await readFile(file, "utf8")).replaceAll(/\[([^\]]+)\]\([^)]+\)/g, "$1").trimEnd();
}
