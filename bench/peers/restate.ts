import { type ChildProcess, spawn } from "node:child_process";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Context, serve, service } from "@restatedev/restate-sdk";
import { connect } from "@restatedev/restate-sdk-clients";
import { contend, work } from "../contender.ts";
import { STEP_NAMES } from "../record.ts";
import { versionOf } from "./version.ts";

const START_MS = 60_000;

const tenSteps = service({
  name: "tenSteps",
  handlers: {
    run: async (ctx: Context) => {
      for (const [i, name] of STEP_NAMES.entries()) await ctx.run(name, () => work(i));
      return { done: STEP_NAMES.length };
    },
  },
});

await contend(async ({ folder }) => {
  const [ingress, admin, node, endpoint] = (await freePorts(4)) as [number, number, number, number];
  const server = startServer(folder, { ingress, admin, node });
  process.on("exit", () => server.kill("SIGKILL"));
  await serve({ services: [tenSteps], port: endpoint });
  await register(server, `http://127.0.0.1:${admin}/deployments`, `http://127.0.0.1:${endpoint}`);
  const client = connect({ url: `http://127.0.0.1:${ingress}` }).serviceClient(tenSteps);
  return {
    version: `${versionOf("@restatedev/restate-server")}, ${versionOf("@restatedev/restate-sdk")}`,
    settings:
      "one server with its defaults (replicated loglet with fsync, 24 partitions); handler and client in one process, HTTP/2 to the handler",
    run: async () => client.run(),
    close: async () => void server.kill(),
  };
});

function startServer(folder: string, ports: { ingress: number; admin: number; node: number }): ChildProcess {
  const binary = fileURLToPath(import.meta.resolve(`@restatedev/restate-server-${process.platform}-${process.arch}/bin/restate-server`));
  const env = {
    ...process.env,
    RESTATE_INGRESS__BIND_ADDRESS: `127.0.0.1:${ports.ingress}`,
    RESTATE_ADMIN__BIND_ADDRESS: `127.0.0.1:${ports.admin}`,
    RESTATE_BIND_ADDRESS: `127.0.0.1:${ports.node}`,
    RESTATE_ADVERTISED_ADDRESS: `http://127.0.0.1:${ports.node}`,
    RESTATE_LISTEN_MODE: "tcp",
    RESTATE_DISABLE_TELEMETRY: "true",
  };
  return spawn(binary, ["--base-dir", join(folder, "restate"), "--node-name", "bench"], { env, stdio: "inherit" });
}

/** As an operator does once, when the server is up. */
async function register(server: ChildProcess, url: string, uri: string): Promise<void> {
  const deadline = Date.now() + START_MS;
  for (;;) {
    if (server.exitCode !== null) throw new Error(`The Restate server ended with ${server.exitCode}.`);
    const answer = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ uri }),
    }).catch(() => undefined);
    if (answer?.ok) return;
    if (Date.now() > deadline)
      throw new Error(`The Restate server did not take the service within ${START_MS} ms: ${await answer?.text()}`);
    await sleep(100);
  }
}

async function freePorts(count: number): Promise<number[]> {
  const listeners = await Promise.all(
    Array.from({ length: count }, async () => {
      const listener = createServer().listen(0, "127.0.0.1");
      await new Promise((resolve) => listener.once("listening", resolve));
      return listener;
    }),
  );
  return Promise.all(
    listeners.map(async (listener) => {
      const { port } = listener.address() as { port: number };
      await new Promise((resolve) => listener.close(resolve));
      return port;
    }),
  );
}
