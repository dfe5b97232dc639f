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
import type {
  ApprovalsPage,
  ApprovalsQuery,
  ApprovalView,
  ApproveRequest,
  AuditPage,
  DelegateRequest,
  StoppedView,
  StopRequest,
  StopView,
} from "../wire-approvals.ts";
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
export type {
  ApprovalsPage,
  ApprovalsQuery,
  ApprovalView,
  ApproveRequest,
  AuditPage,
  DelegateRequest,
  StoppedView,
  StopRequest,
  StopView,
} from "../wire-approvals.ts";
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
  /** What you may decide, newest first; `all` for operators: also what others have to decide. */
  approvals(query?: ApprovalsQuery): Promise<ApprovalsPage>;
  /** Puts on record that it was shown. */
  approval(id: string): Promise<ApprovalView>;
  /** @throws GroundcrewError `APPROVAL_ENDED` when somebody was faster, saying who and when; `FORBIDDEN` */
  approve(id: string, body?: ApproveRequest): Promise<ApprovalView>;
  deny(id: string, reason: string): Promise<ApprovalView>;
  /** To a question. */
  answer(id: string, answer: unknown): Promise<ApprovalView>;
  /** Lets others decide as well. */
  delegate(id: string, body: DelegateRequest): Promise<ApprovalView>;
  stops(): Promise<StopView[]>;
  /** Nothing of the agent, or of anything, starts from then on. Operators of the default tenant only. */
  stop(what: StopRequest): Promise<StoppedView>;
  /** @param agent default `*`. @returns whether it was stopped */
  lift(agent?: string): Promise<boolean>;
  /** The audit log of your tenant. Operators only. */
  audit(query?: { after?: number; limit?: number }): Promise<AuditPage>;
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
  /** No step begins until `resume`. Operators only, like all below. */
  pause(why: string): Promise<void>;
  resume(): Promise<void>;
  /** Guidance that the agent reads at its next step. */
  say(text: string): Promise<void>;
  raise(more: { steps: number }): Promise<void>;
  /** From then on you speak to the user in the agent's place, by `speak`, until `handBack`. */
  takeOver(): Promise<void>;
  speak(text: string): Promise<void>;
  handBack(): Promise<void>;
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
  const approvalPath = (id: string) => `/v1/approvals/${encodeURIComponent(id)}`;
  const decide = (id: string, what: string, body: unknown) => get<ApprovalView>(`${approvalPath(id)}/${what}`, { method: "POST", body });
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
    approvals: ({ all, ...query } = {}) => get("/v1/approvals", { query: { ...query, ...(all !== undefined && { all: String(all) }) } }),
    approval: (id) => get(approvalPath(id)),
    approve: (id, body = {}) => decide(id, "approve", body),
    deny: (id, reason) => decide(id, "deny", { reason }),
    answer: (id, answer) => decide(id, "answer", { answer }),
    delegate: (id, body) => decide(id, "delegate", body),
    stops: async () => (await get<{ stops: StopView[] }>("/v1/stops")).stops,
    stop: (body) => get("/v1/stops", { method: "POST", body }),
    lift: async (agent = "*") => (await get<{ lifted: boolean }>("/v1/stops/lift", { method: "POST", body: { agent } })).lifted,
    audit: (query = {}) => get("/v1/audit", { query }),
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
    async pause(why) {
      await post("pause", { why });
    },
    async resume() {
      await post("resume", {});
    },
    async say(text) {
      await post("say", { text });
    },
    async raise({ steps }) {
      await post("raise", { steps });
    },
    async takeOver() {
      await post("takeover", {});
    },
    async speak(text) {
      await post("speak", { text });
    },
    async handBack() {
      await post("handback", {});
    },
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
