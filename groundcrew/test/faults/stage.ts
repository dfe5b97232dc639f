/** Worker processes that die, a provider and a world that outlive them, and this process beside them, which works on nothing. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import { type Crew, groundcrew } from "../../src/runtime.ts";
import { bundle } from "../support/bundle.ts";
import { tempStore } from "../support/crew.ts";
import { type Provider, startProvider } from "../support/provider.ts";
import { agentsOf, type Job, type Verdict } from "./worker.ts";

const worker = await bundle(new URL("./worker.ts", import.meta.url));

export interface WorkerProcess {
  /** How it ended. */
  ended: Promise<number | NodeJS.Signals>;
  isOver: () => boolean;
  kill(signal: NodeJS.Signals): void;
}

export interface Stage {
  provider: Provider;
  crew: Crew;
  /** Calls of tools, by what they were called with. */
  calls: string[];
  /** What becomes of a call. Waited for. */
  decide: (name: string) => Verdict | Promise<Verdict>;
  /** Resolves when it works, or has died before. */
  spawn(): Promise<WorkerProcess>;
}

export async function setStage(): Promise<Stage> {
  const provider = await startProvider();
  const server = createServer(async (request, response) => {
    const name = (request.url ?? "/").slice(1);
    stage.calls.push(name);
    response.setHeader("content-type", "application/json").end(JSON.stringify(await stage.decide(name)));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const world = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const job: Job = { store: tempStore(), model: provider.url, world };
  const crew = groundcrew({ agents: Object.values(agentsOf(job)), store: job.store, worker: false, onTrouble: () => {} });
  const living = new Set<ChildProcess>();
  const stage: Stage = {
    provider,
    crew,
    calls: [],
    decide: (name) => ({ gives: `done: ${name}` }),
    spawn: async () => {
      const child = fork(worker, [JSON.stringify(job)], { execArgv: [] });
      living.add(child);
      const ended = once(child, "exit").then(([code, signal]): number | NodeJS.Signals => {
        living.delete(child);
        return signal ?? code;
      });
      await Promise.race([once(child, "message"), ended]);
      return { ended, isOver: () => !living.has(child), kill: (signal) => child.kill(signal) };
    },
  };
  onTestFinished(async () => {
    for (const child of living) child.kill("SIGKILL");
    await crew.close();
    await provider.close();
    server.close();
    server.closeAllConnections();
  });
  return stage;
}
