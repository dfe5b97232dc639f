/** Where the command line points: a server, the store of a config file, or a bare store. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { type ErrorCode, GroundcrewError } from "../errors.ts";
import { type Invocation, usage } from "./arguments.ts";
import type { Backend } from "./backend.ts";
import { findConfig, loadCrew, requireConfig } from "./config.ts";
import { local } from "./local.ts";
import { known, withoutFix } from "./output.ts";
import { openServer } from "./remote.ts";

/** Holds the key of the audit log, for commands that have no config file. */
export const AUDIT_KEY_VARIABLE = "GROUNDCREW_AUDIT_KEY";

/** What a command needs when it works on the store: only the runs; the config file too; or also to execute runs itself. */
export type Need = "runs" | "config" | "worker";

/**
 * Where the command line points: the place that is named there, or the server of the environment, or the config file here.
 * @throws GroundcrewError `INPUT_INVALID`, `CONFIG_INVALID`, `STORE_UNAVAILABLE`
 */
export async function openBackend(call: Invocation, need: Need): Promise<Backend> {
  const [url, config, store] = [call.text("url"), call.text("config"), call.text("store")];
  const named = Object.entries({ "--url": url, "--config": config, "--store": store }).filter(([, value]) => value !== undefined);
  if (named.length > 1) throw usage(`${named.map(([option]) => option).join(" and ")} name different places.`, "Give one of them.");
  if (store !== undefined) return openStore(store, need);
  const server = url ?? (config === undefined ? process.env["GROUNDCREW_URL"] : undefined);
  if (server) return openServer(server, call.text("api-key") ?? process.env["GROUNDCREW_API_KEY"]);
  const path = config === undefined ? requirePlace() : requireConfig(config);
  return local(await loadCrew(path, need === "worker").catch((thrown: unknown) => refuse(thrown, need)));
}

/** A secret that only the server's terminal has must not keep an operator from looking: most commands do not need what it is for. */
function refuse(thrown: unknown, need: Need): never {
  const error = known(thrown);
  if (need !== "runs" || error.code === "INTERNAL") throw thrown;
  const others = "This command can do without the config file: name the running server with --url, or the store with --store.";
  throw new GroundcrewError(error.code as ErrorCode, withoutFix(error), {
    fix: error.fix ? `${error.fix} ${others}` : others,
    cause: thrown,
  });
}

function requirePlace(): string {
  const path = findConfig(undefined);
  if (path !== undefined) return path;
  throw new GroundcrewError("CONFIG_INVALID", `Nothing says where the runs are: there is no groundcrew.config.ts in ${process.cwd()}.`, {
    fix: "Go to your project, or name a place: --url, --config or --store.",
  });
}

async function openStore(path: string, need: Need): Promise<Backend> {
  if (need !== "runs")
    throw usage("A bare store has neither agents nor a stated retention.", "Name the config file with --config instead.");
  const [{ fileOf, isPostgres }, { groundcrew }] = await Promise.all([import("../store.ts"), import("../runtime.ts")]);
  const store = isPostgres(path) ? path : resolve(fileOf(path));
  if (!isPostgres(path) && !existsSync(store)) {
    throw new GroundcrewError("STORE_UNAVAILABLE", `There is no store file ${store}.`, {
      value: path,
      fix: "The default is .groundcrew/crew.db in your project.",
    });
  }
  const auditKey = process.env[AUDIT_KEY_VARIABLE];
  const crew = groundcrew({ agents: [], store, worker: false, ...(auditKey && { supervision: { auditKey } }) });
  return local(crew);
}
