/**
 * A crew on the other side of HTTP, for programs and browsers: typed by the same contract as the server, with the same errors,
 * and streams that reconnect by themselves.
 */
import { type ErrorCode, GroundcrewError } from "../errors.ts";
import { MAX_LONG_POLL_MS } from "../limits.ts";
import type {
  AgentView,
  Event,
  FeedItem,
  ReadyView,
  ResolveRequest,
  RunResult,
  RunsPage,
  RunsQuery,
  RunView,
  SessionsPage,
  SessionsQuery,
  SessionView,
  StartRequest,
} from "../wire.ts";
import { type FollowOptions, follow } from "./follow.ts";
import { type Ask, Patience, type Send, sender, toCode } from "./http.ts";

export type {
  AgentView,
  Event,
  FeedItem,
  ReadyView,
  ResolveRequest,
  RunSummary,
  RunsPage,
  RunsQuery,
  RunView,
  SessionSummary,
  SessionsPage,
  SessionsQuery,
  SessionView,
  StartRequest,
} from "../wire.ts";
export type { FollowOptions } from "./follow.ts";

export interface ClientOptions {
  apiKey?: string;
  /** Default: the platform's. Give your own to send cookies or further headers. */
  fetch?: typeof globalThis.fetch;
}

/** Every call throws a `GroundcrewError` with the server's code, and `UNREACHABLE` when there is no answer. */
export interface Client {
  agents(): Promise<AgentView[]>;
  /** Durable when it returns. @param request.key the same key with the same request is the same run, so it can be sent again. */
  start(agent: string, request: StartRequest & { key?: string }): Promise<RemoteRun>;
  runs(query?: RunsQuery): Promise<RunsPage>;
  /** A handle; asks nothing by itself. */
  run(id: string): RemoteRun;
  sessions(query?: SessionsQuery): Promise<SessionsPage>;
  session(id: string): Promise<SessionView>;
  /** The conversation so far, as model messages of the AI SDK. */
  messages(session: string): Promise<unknown[]>;
  /** Whether the server can take work; for operators also why not. */
  health(): Promise<ReadyView>;
}

export interface RemoteRun {
  readonly id: string;
  view(): Promise<RunView>;
  /** Every recorded fact. Operators only. */
  journal(): Promise<Event[]>;
  /** Everything behind `after`, then live, up to the run's end. Reconnects by itself. */
  events(options?: FollowOptions): AsyncIterable<FeedItem>;
  /** Waits for the end. @throws GroundcrewError with the run's own code when it did not succeed */
  result(options?: { signal?: AbortSignal }): Promise<unknown>;
  cancel(why?: string): Promise<void>;
  /** @param options.id the same id twice is one signal, so it can be sent again. */
  signal(name: string, value?: unknown, options?: { id?: string }): Promise<void>;
  /** Says what became of a step whose outcome is unknown. Operators only. */
  resolve(step: string, answer: Omit<ResolveRequest, "step">): Promise<void>;
  /** @returns the run that goes on. */
  retry(): Promise<RemoteRun>;
  /** @param options.from a step's key. */
  fork(options: { from: string }): Promise<RemoteRun>;
}

/**
 * A client of the server at `url`.
 *
 * ```ts
 * const crew = connect("http://127.0.0.1:4280");
 * const run = await crew.start("support", { prompt: "Where is my order?", session: "s1" });
 * for await (const item of run.events()) console.log(item.type);
 * ```
 * @throws GroundcrewError `CONFIG_INVALID`
 */
export function connect(url: string, options: ClientOptions = {}): Client {
  const send = sender(url, options.apiKey, options.fetch ?? globalThis.fetch);
  const get = async <T>(path: string, ask: Ask = {}) => (await send(path, ask)).json() as Promise<T>;
  return {
    agents: async () => (await get<{ agents: AgentView[] }>("/v1/agents")).agents,
    async start(agent, { key, ...body }) {
      const ask: Ask = { method: "POST", body, ...(key !== undefined && { headers: { "idempotency-key": key } }) };
      const started = await get<{ id: string }>(`/v1/agents/${encodeURIComponent(agent)}/runs`, ask);
      return remoteRun(send, started.id);
    },
    runs: (query = {}) => get("/v1/runs", { query }),
    run: (id) => remoteRun(send, id),
    sessions: (query = {}) => get("/v1/sessions", { query }),
    session: (id) => get(`/v1/sessions/${encodeURIComponent(id)}`),
    messages: async (id) => (await get<{ messages: unknown[] }>(`/v1/sessions/${encodeURIComponent(id)}/messages`)).messages,
    health: () => health(send),
  };
}

/** A server that is not ready says so with a status that is no failure of the question. */
async function health(send: Send): Promise<ReadyView> {
  return (await send("/readyz", { accept: 503 })).json() as Promise<ReadyView>;
}

function remoteRun(send: Send, id: string): RemoteRun {
  const path = `/v1/runs/${encodeURIComponent(id)}`;
  const post = async (command: string, body: unknown) => {
    const response = await send(`${path}/${command}`, { method: "POST", body });
    return remoteRun(send, ((await response.json()) as { id: string }).id);
  };
  return {
    id,
    view: async () => (await send(path)).json() as Promise<RunView>,
    journal: async () => ((await (await send(`${path}/journal`)).json()) as { events: Event[] }).events,
    events: (options = {}) => follow(send, `${path}/events`, options),
    result: ({ signal } = {}) => result(send, `${path}/result`, signal),
    async cancel(why) {
      await post("cancel", { why });
    },
    async signal(name, value, { id: signalId } = {}) {
      await post("signal", { name, value, id: signalId });
    },
    async resolve(step, answer) {
      await post("resolve", { step, ...answer });
    },
    retry: () => post("retry", {}),
    fork: ({ from }) => post("fork", { from }),
  };
}

/** Asks again and again, each time waiting as long as the server lets us; a server that closes does not let us. */
async function result(send: Send, path: string, signal: AbortSignal | undefined): Promise<unknown> {
  const patience = new Patience();
  const whenEarly = new Patience();
  const ask = async () => (await send(path, { query: { wait: MAX_LONG_POLL_MS }, ...(signal && { signal }) })).json() as Promise<RunResult>;
  for (;;) {
    signal?.throwIfAborted();
    const asked = performance.now();
    const answer = await ask().catch((error: unknown) => (signal?.aborted ? undefined : patience.spend(error, signal)));
    if (!answer) continue;
    patience.reset();
    if (answer.status === "succeeded") return answer.output;
    const code = answer.error ? toCode(answer.error.code) : ENDS[answer.status];
    if (code) throw new GroundcrewError(code, answer.error?.message ?? `The run is ${answer.status}.`, { run: answer.id });
    if (performance.now() - asked < MAX_LONG_POLL_MS / 2) await whenEarly.rest(signal);
    else whenEarly.reset();
  }
}

/** What an end counts as when it comes without an error. */
const ENDS: Partial<Record<RunResult["status"], ErrorCode>> = { failed: "INTERNAL", cancelled: "RUN_CANCELLED", expired: "RUN_EXPIRED" };
