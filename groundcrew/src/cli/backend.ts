/** What commands act on: a server somewhere, or the store right here. Commands are written once, over this. */
import { existsSync } from "node:fs";
import { userInfo } from "node:os";
import { resolve } from "node:path";
import { connect, type RemoteRun } from "../client/client.ts";
import { GroundcrewError, isError } from "../errors.ts";
import type { SweepReport } from "../persistence/store.ts";
import type { Crew, Run } from "../runtime.ts";
import type { Event, FeedItem, RunSummary, RunsQuery, RunView } from "../wire.ts";
import { type Invocation, usage } from "./arguments.ts";
import { findConfig, loadCrew, requireConfig } from "./config.ts";
import { shellWord } from "./terminal.ts";

/** What a run is to do, as far as a command line can say it. */
export interface RunRequest {
  prompt?: string;
  input?: unknown;
  session?: string;
  key?: string;
}

/** A run, wherever it is. */
export interface Handle {
  readonly id: string;
  view(): Promise<RunView>;
  /** @param options.tell a line for the reader: what became of the connection. */
  events(options: { after?: string; signal: AbortSignal; tell: (line: string) => void }): AsyncIterable<FeedItem>;
  journal(): Promise<Event[]>;
  cancel(why: string | undefined): Promise<void>;
  signal(name: string, value: unknown, id: string | undefined): Promise<void>;
  resolve(step: string, answer: { resolution: "happened" | "did_not_happen"; result?: unknown }): Promise<void>;
  /** @returns the run that goes on. */
  retry(): Promise<string>;
  /** @returns the new run. */
  fork(from: string): Promise<string>;
}

export interface Backend {
  /** Whether somebody else executes the runs: then a follower that leaves changes nothing. */
  readonly isServer: boolean;
  start(agent: string, request: RunRequest): Promise<Handle>;
  run(id: string): Promise<Handle>;
  runs(query: RunsQuery): Promise<RunSummary[]>;
  cleanup(dryRun: boolean): Promise<SweepReport>;
  close(): Promise<void>;
}

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
  return local(await loadCrew(config === undefined ? requirePlace() : requireConfig(config), need === "worker"));
}

function openServer(url: string, apiKey: string | undefined): Backend {
  const client = connect(url, apiKey === undefined ? {} : { apiKey });
  return {
    isServer: true,
    start: async (agent, request) => remoteHandle(await client.start(agent, request), url),
    run: async (id) => remoteHandle(client.run(id), url),
    runs: async (query) => (await client.runs(query)).runs,
    cleanup: async () => {
      throw usage("A server's worker cleans up by itself.", "For a pass by hand, name the config file with --config.");
    },
    close: async () => {},
  };
}

function remoteHandle(run: RemoteRun, url: string): Handle {
  return {
    id: run.id,
    view: () => run.view(),
    events: (options) => followed(run, url, options),
    journal: () => run.journal(),
    cancel: (why) => run.cancel(why),
    signal: (name, value, id) => run.signal(name, value, id === undefined ? {} : { id }),
    resolve: (step, answer) => run.resolve(step, answer),
    retry: async () => (await run.retry()).id,
    fork: async (from) => (await run.fork({ from })).id,
  };
}

/** The second failure in a row is a server that is gone; the first may be a connection that had its time. */
async function* followed(run: RemoteRun, url: string, { tell, ...options }: Parameters<Handle["events"]>[0]): AsyncGenerator<FeedItem> {
  const onReconnect = (failures: number) => {
    if (failures === 2) tell("The server does not answer; trying again. The run goes on by itself.");
  };
  try {
    yield* run.events({ ...options, onReconnect });
  } catch (error) {
    if (!isError(error, "UNREACHABLE")) throw error;
    const fix = `The run is recorded: \`groundcrew tail ${shellWord(run.id)} --url ${shellWord(url)}\``;
    throw new GroundcrewError("UNREACHABLE", "The server does not answer.", { fix, cause: error, run: run.id });
  }
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
  return local(groundcrew({ agents: [], store, worker: false }));
}

function local(crew: Crew): Backend {
  const by = userInfo().username;
  return {
    isServer: false,
    start: async (agent, request) => localHandle(await crew.start(agent, request), by),
    run: async (id) => localHandle(await crew.run(id), by),
    runs: async (query) => {
      const [{ runSummaryOf }, rows] = await Promise.all([import("../wire.ts"), crew.runs(query)]);
      return rows.map(runSummaryOf);
    },
    cleanup: (dryRun) => crew.cleanup({ dryRun }),
    close: () => crew.close(),
  };
}

function localHandle(run: Run, by: string): Handle {
  return {
    id: run.id,
    view: () => run.view(),
    events: ({ after, signal }) => run.events({ after, signal }),
    journal: () => run.journal(),
    cancel: (why) => run.cancel(why, by),
    signal: (name, value, id) => run.signal(name, value, { by, ...(id !== undefined && { id }) }),
    resolve: (step, answer) => run.resolve(step, { ...answer, by }),
    retry: async () => (await run.retry(by)).id,
    fork: async (from) => (await run.fork({ from, by })).id,
  };
}
