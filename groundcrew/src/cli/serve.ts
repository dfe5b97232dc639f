/** `serve`: server and worker for a config file, until a signal says stop. */
import { isError } from "../errors.ts";
import type { Crew } from "../runtime.ts";
import { type Invocation, oneOf, parseCount } from "./arguments.ts";
import { loadCrew, loadServerOptions, requireConfig, type ServerOptions } from "./config.ts";
import { type ExitCode, exit } from "./exit.ts";
import { DEV_VARIABLE, type DevMessage, watchModules } from "./modules.ts";
import type { Output } from "./output.ts";
import { inert, shellWord } from "./terminal.ts";

const ROLES = ["all", "api", "worker"] as const;
const MAX_PORT = 65_535;

export async function serve(call: Invocation, out: Output): Promise<ExitCode> {
  const role = oneOf(call.text("role") ?? "all", "--role", ROLES);
  const address = addressOf(call);
  const path = requireConfig(call.text("config"));
  const tell = toDev();
  if (tell) watchModules(tell);
  const crew = await loadCrew(path, role !== "api");
  const options = await loadServerOptions(path);
  const stop = untilTold();
  try {
    const serving =
      role === "worker"
        ? undefined
        : await listen(crew, { ...options, ...address }).catch((error: unknown) => {
            if (isError(error, "ADDRESS_IN_USE")) tell?.({ isPortTaken: true });
            throw error;
          });
    if (role !== "api") await crew.work();
    await announce(crew, role, serving?.url, out);
    if (serving) tell?.({ url: serving.url, sample: sampleOf(crew) });
    await stop;
    out.note("Stopping: steps in flight may end, their runs are handed back. A second signal ends at once; nothing is lost then either.");
    await crew.drain(); // not ready from here on, and still answering: whoever sends requests here hears of it first
    await serving?.close();
  } finally {
    await crew.close();
  }
  return exit.ok;
}

export interface Address {
  host?: string;
  port?: number;
}

/** @throws GroundcrewError `INPUT_INVALID` */
export function addressOf(call: Invocation): Address {
  const [host, port] = [call.text("host"), call.text("port")];
  return { ...(host !== undefined && { host }), ...(port !== undefined && { port: parseCount(port, "port", 0, MAX_PORT) }) };
}

async function listen(crew: Crew, options: ServerOptions) {
  const server = await import("../server/server.ts");
  const ofServices = (process.env["GROUNDCREW_API_KEY"] ?? "").split(",").filter((key) => key !== ""); // several while one is replaced
  return server.serve(crew, { ...options, apiKeys: [...(options.apiKeys ?? []), ...ofServices] });
}

async function announce(crew: Crew, role: string, url: string | undefined, out: Output): Promise<void> {
  const agents = [...crew.agents.keys()];
  const { store } = await crew.health();
  if (out.json) out.document({ type: "ready", role, url, agents, store, pid: process.pid });
  else out.line(inert(`${url ?? "Worker"}  agents: ${agents.join(", ") || "none"}  store: ${store}`));
}

/** A command line that does something with what is there. */
function sampleOf(crew: Crew): string {
  const [first] = crew.agents.values();
  if (!first) return "groundcrew runs";
  return `groundcrew run ${shellWord(first.name)} ${first.kind === "agent" ? '"Hello"' : "--input '{}'"}`;
}

/** Resolves at the first signal; at the second the process ends at once. */
function untilTold(): Promise<void> {
  return new Promise((resolve) => {
    let told = false;
    const tell = () => {
      if (told) process.exit(exit.interrupted);
      told = true;
      resolve();
    };
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, tell);
    if (process.env[DEV_VARIABLE]) process.once("disconnect", tell); // `groundcrew dev` is gone
  });
}

function toDev(): ((message: DevMessage) => void) | undefined {
  if (!process.env[DEV_VARIABLE] || !process.send) return undefined;
  return (message) => {
    if (process.connected) process.send?.(message);
  };
}
