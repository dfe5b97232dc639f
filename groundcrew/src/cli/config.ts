/** The user's config file: found, loaded as it is (Node strips the types), checked. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { GroundcrewError } from "../errors.ts";
import type { Crew } from "../runtime.ts";
import type { ServeOptions } from "../server/server.ts";
import { known } from "./output.ts";

const NAMES = ["groundcrew.config.ts", "groundcrew.config.js", "groundcrew.config.mjs"] as const;

/** @returns the path of the config file, or undefined when none was named and none is there. @throws GroundcrewError `CONFIG_INVALID` */
export function findConfig(given: string | undefined): string | undefined {
  const path = given === undefined ? NAMES.map((name) => resolve(name)).find((candidate) => existsSync(candidate)) : resolve(given);
  if (path !== undefined && !existsSync(path))
    throw new GroundcrewError("CONFIG_INVALID", `There is no config file ${path}.`, { value: path });
  return path;
}

/** @throws GroundcrewError `CONFIG_INVALID` */
export function requireConfig(given: string | undefined): string {
  const path = findConfig(given);
  if (path !== undefined) return path;
  throw new GroundcrewError("CONFIG_INVALID", `There is no ${NAMES.join(", ")} in ${process.cwd()}.`, {
    fix: "Go to your project, name the file with --config, or write one: `export default groundcrew({ agents: [yourAgent] });`",
  });
}

/**
 * @param works whether this process may execute runs.
 * @throws GroundcrewError `CONFIG_INVALID`, and what the definitions in the file throw.
 */
export async function loadCrew(path: string, works: boolean): Promise<Crew> {
  const found = (await load(path)).default;
  if (isCrew(found)) {
    if (!works) found.standBy();
    return found;
  }
  throw new GroundcrewError("CONFIG_INVALID", `The default export of ${path} is not a crew.`, {
    fix: "Write `export default groundcrew({ agents: [yourAgent] });`",
  });
}

const SERVER_FIELDS = ["apiKeys", "jwt", "authenticate", "host", "port", "most"] as const;

/** How the crew of a config file is served: its export `server`, where there is one. */
export type ServerOptions = Pick<ServeOptions, (typeof SERVER_FIELDS)[number]>;

/** @throws GroundcrewError `CONFIG_INVALID`. What the fields hold is looked at when the server starts. */
export async function loadServerOptions(path: string): Promise<ServerOptions> {
  const { server = {} } = await load(path);
  const isObject = typeof server === "object" && server !== null;
  const unknown = isObject ? Object.keys(server).find((field) => !SERVER_FIELDS.some((known) => known === field)) : "server";
  if (unknown === undefined) return server as ServerOptions;
  const what = isObject ? `\`server.${unknown}\` of ${path} is not an option` : `The export \`server\` of ${path} is no object`;
  throw new GroundcrewError("CONFIG_INVALID", `${what}.`, { value: unknown, fix: `Known options: ${SERVER_FIELDS.join(", ")}.` });
}

interface ConfigModule {
  default?: unknown;
  server?: unknown;
}

async function load(path: string): Promise<ConfigModule> {
  try {
    return (await import(pathToFileURL(path).href)) as ConfigModule;
  } catch (thrown) {
    const error = known(thrown);
    if (error.code !== "INTERNAL") throw error;
    const isOldSyntax = thrown instanceof Error && "code" in thrown && thrown.code === "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX";
    const fix = isOldSyntax
      ? "Node strips types and runs the rest: leave out enums, namespaces and parameter properties, or name a compiled file with --config."
      : "Mend it; --debug shows the stack.";
    throw new GroundcrewError("CONFIG_INVALID", `${path} could not be loaded: ${told(thrown)}.`, { cause: thrown, fix });
  }
}

/** What was thrown, and where in the user's code. */
function told(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  const frame = thrown.stack?.split("\n").find((line) => line.includes("file://") && !line.includes("/node_modules/"));
  const place = /file:\/\/[^)\s]+/.exec(frame ?? "")?.[0];
  return place === undefined ? thrown.message : `${thrown.message} (${place})`;
}

/** By its shape: the config file may bring its own copy of the library. */
function isCrew(value: unknown): value is Crew {
  if (typeof value !== "object" || value === null) return false;
  return ["start", "run", "runs", "cleanup", "work", "standBy", "health", "drain", "close"].every(
    (verb) => typeof Reflect.get(value, verb) === "function",
  );
}
