/** The composition root: the only file that knows everyone. */

import type { Agent, Definition, Flow } from "./agent.ts";
import { type Clock, type Duration, duration, systemClock } from "./clock.ts";
import { describe, GroundcrewError } from "./errors.ts";
import { Breakers } from "./fault/breaker.ts";
import { Paces } from "./fault/pace.ts";
import { DEFAULT_CONCURRENCY, DEFAULT_LEASE_MS, KEEP_ALIVE_MS, MIN_LEASE_MS, MIN_SECRET_CHARS } from "./limits.ts";
import type { NotifyChannel } from "./notify/channel.ts";
import type { ApprovalFilter, ApprovalRow } from "./persistence/approval.ts";
import type { AuditHead, StoredAudit } from "./persistence/audit.ts";
import { Codec } from "./persistence/codec.ts";
import { fold } from "./persistence/fold.ts";
import { thisWorker } from "./persistence/host.ts";
import type { ClassCodec } from "./persistence/rich.ts";
import type { Quotas, RunFilter, RunRow, SessionFilter, SessionRow, Stop, Store, SweepReport } from "./persistence/store.ts";
import { type Actor, DEFAULT_TENANT, localPrincipal } from "./principal.ts";
import { Cleaner, type Retention, retentionOf } from "./run/cleaner.ts";
import { Courier } from "./run/courier.ts";
import { type Decision, Desk, type Shown, type Stopped } from "./run/desk.ts";
import { Run } from "./run/handle.ts";
import { Ticker } from "./run/journal.ts";
import { quotasOf, type TenantLimits } from "./run/quotas.ts";
import { type Session, sessionOf } from "./run/session.ts";
import { type AgentRequest, type FlowRequest, newRunOf, type StartRequest } from "./run/start.ts";
import { Worker } from "./run/worker.ts";
import { openStore } from "./store.ts";
import { mustHaveAuditKey } from "./supervision/audit-key.ts";
import { People, type PersonOptions } from "./supervision/people.ts";
import { Stops } from "./supervision/stops.ts";

export type { Retention } from "./run/cleaner.ts";
export type { Decision, InFlight, Shown, Stopped } from "./run/desk.ts";
export type { By } from "./run/handle.ts";
export { Run } from "./run/handle.ts";
export type { TenantLimits } from "./run/quotas.ts";
export type { Session } from "./run/session.ts";
export type { AgentRequest, FlowRequest, StartOptions, StartRequest } from "./run/start.ts";
export type { RunView } from "./run/view.ts";
export { mayDecide } from "./supervision/judge.ts";
export type { PersonOptions } from "./supervision/people.ts";

export interface Health {
  ready: boolean;
  /** Why not, for operators. */
  problems: string[];
  store: string;
  worker: { id: string; runs: number; concurrency: number; draining: boolean } | null;
}

export interface CrewOptions {
  agents: readonly Definition[];
  /** A path for SQLite, a `postgres://` URL, or a store. Default: the environment's `DATABASE_URL`, or `.groundcrew/crew.db`. */
  store?: string | Store;
  /** `false` for a process that only starts and reads runs. */
  worker?: false | { concurrency?: number; lease?: Duration };
  /** How many runs of one tenant may be at work, over all workers. Default: any number; tenants take turns in any case. */
  tenants?: TenantLimits;
  retention?: Retention;
  /** Classes whose instances may be recorded. */
  classes?: readonly ClassCodec[];
  /** Who people are: their roles, and how each is known in Slack and by e-mail. By user name. */
  people?: Readonly<Record<string, PersonOptions>>;
  supervision?: SupervisionOptions;
  /** Told what no run can be told: the store is gone, a lease was lost. Default: a line on standard error. */
  onTrouble?: (error: unknown) => void;
  /** Where the time comes from; for tests. */
  clock?: Clock;
}

/** How people are asked, and what is written down of it. */
export interface SupervisionOptions {
  /** By which people are told that they are asked: `webhook()`, `slack()`, `email()`. Default: nobody is; there is the inbox. */
  channels?: readonly NotifyChannel[];
  /** Where the server is reached from outside, for links in messages, e.g. `https://agents.example.com`. */
  url?: string;
  /** Signs single-use links; 32 characters or more. Needed by `email()`. */
  secret?: string;
  /** `true`: nobody is asked, and everything runs; what would have been asked is recorded. */
  shadow?: boolean;
  /** Makes the audit log an HMAC chain, 32 characters or more: who can write the tables cannot write a new chain without it. */
  auditKey?: string;
}

/**
 * Agents, a store, and what keeps them flying.
 *
 * ```ts
 * const crew = groundcrew({ agents: [support] });
 * const run = await crew.start(support, { prompt: "Where is my order?" });
 * console.log(await run.result());
 * await crew.close();
 * ```
 * @throws GroundcrewError `CONFIG_INVALID`, `AGENT_DUPLICATE`, `DURATION_INVALID`
 */
export function groundcrew(options: CrewOptions): Crew {
  return new Crew(options);
}

export class Crew {
  readonly agents: ReadonlyMap<string, Definition>;
  readonly #options: CrewOptions;
  readonly #clock: Clock;
  readonly #codec: Codec;
  readonly #retention: ReturnType<typeof retentionOf>;
  readonly #concurrency: number;
  readonly #leaseMs: number;
  readonly #onTrouble: (error: unknown) => void;
  readonly #quotas: Quotas | undefined;
  readonly people: People;
  readonly #supervision: CheckedSupervision;
  #courier: Courier | undefined;
  #store: Promise<Store> | undefined;
  /** Whether the key of the audit log is known to be its own. */
  #hasKey = false;
  #worker: Worker | undefined;
  #working: Promise<void> | undefined;
  #cleaner: Cleaner | undefined;
  #keepAlive: NodeJS.Timeout | undefined;
  #mayWork: boolean;
  #draining: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  /** Fires when nothing more can be read: whoever waits is told. */
  readonly #closed = new AbortController();

  constructor(options: CrewOptions) {
    checkOptions(options);
    this.agents = byName(options.agents);
    this.#options = options;
    this.#mayWork = options.worker !== false;
    this.#clock = options.clock ?? systemClock;
    this.#codec = new Codec(options.classes);
    this.#retention = retentionOf(options.retention ?? {});
    const { concurrency, lease } = options.worker || {};
    this.#concurrency = checkConcurrency(concurrency ?? DEFAULT_CONCURRENCY);
    this.#leaseMs = checkLease(lease === undefined ? DEFAULT_LEASE_MS : duration(lease, "worker.lease"));
    this.#onTrouble = options.onTrouble ?? reportTrouble;
    this.#quotas = quotasOf(this.agents, options.tenants, this.#onTrouble);
    this.people = new People(options.people);
    this.#supervision = checkSupervision(options.supervision ?? {});
  }

  /** Durable when it returns. @throws GroundcrewError `AGENT_NOT_FOUND`, `INPUT_INVALID`, `START_CONFLICT`, `SESSION_BUSY`, `SESSION_NOT_FOUND`, `VALUE_UNSERIALIZABLE`, `LIMIT_EXCEEDED` */
  // biome-ignore lint/suspicious/noExplicitAny: any agent, whatever its tools
  start<OUTPUT>(agent: Agent<any, OUTPUT>, request: AgentRequest): Promise<Run<OUTPUT>>;
  start<INPUT, OUTPUT>(flow: Flow<INPUT, OUTPUT>, request: FlowRequest<INPUT>): Promise<Run<OUTPUT>>;
  /** By name, for callers that only have data. */
  start(name: string, request: StartRequest): Promise<Run>;
  async start(what: Definition | string, request: StartRequest): Promise<Run> {
    const name = typeof what === "string" ? what : what.name;
    const definition = this.#definition(name);
    const store = await this.#open();
    if (this.#mayWork) await this.#work();
    const asked = (await isWithAPerson(store, Object(request))) ? { ...request, whenBusy: "steer" as const } : request;
    const beginning = newRunOf(definition, asked, this.#codec, clockOf(store, this.#clock));
    const { run } = await (this.#worker ? this.#worker.begin(beginning) : store.create(beginning));
    if (request.session !== undefined) this.#worker?.poke(); // it may have told a turn at work something, which no claim finds
    return this.#handle(store, run.id);
  }

  /** @throws GroundcrewError `RUN_NOT_FOUND` */
  async run(id: string): Promise<Run> {
    const store = await this.#open();
    if (!(await store.run(id))) throw new GroundcrewError("RUN_NOT_FOUND", `There is no run ${JSON.stringify(id)}.`, { value: id });
    return this.#handle(store, id);
  }

  /** Newest first. */
  async runs(filter: Partial<RunFilter> = {}): Promise<RunRow[]> {
    return (await this.#open()).runs({ limit: 50, ...filter });
  }

  /** @throws GroundcrewError `SESSION_NOT_FOUND` */
  async session(id: string, tenant = DEFAULT_TENANT): Promise<Session> {
    return sessionOf(await this.#open(), this.#codec, tenant, id);
  }

  /** Last active first. */
  async sessions(filter: Partial<SessionFilter> = {}): Promise<SessionRow[]> {
    return (await this.#open()).sessions({ limit: 50, ...filter });
  }

  /** Open requests that `actor` may decide, newest first. */
  async inbox(actor: Actor, page: { limit?: number; before?: string } = {}): Promise<ApprovalRow[]> {
    return (await this.#desk()).inbox(actor, page);
  }

  /** Newest first. */
  async approvals(filter: Partial<ApprovalFilter> = {}): Promise<ApprovalRow[]> {
    return (await this.#open()).approvals({ limit: 50, ...filter });
  }

  /** @throws GroundcrewError `APPROVAL_NOT_FOUND` */
  async approval(id: string): Promise<ApprovalRow> {
    return (await this.#desk()).approval(id);
  }

  /** Puts on record that somebody was shown it. @throws GroundcrewError `APPROVAL_NOT_FOUND` */
  async viewed(id: string, actor: Actor): Promise<void> {
    await this.#mayRecord();
    return (await this.#desk()).viewed(id, actor);
  }

  /**
   * What a person says to a request. One wins; whoever comes later is told who and when.
   * @throws GroundcrewError `APPROVAL_NOT_FOUND`, `APPROVAL_ENDED`, `FORBIDDEN`, `INPUT_INVALID`, `DURATION_INVALID`, `LIMIT_EXCEEDED`, `AGENT_NOT_FOUND`
   */
  async decide(id: string, decision: Decision, actor: Actor, by: Shown = {}): Promise<ApprovalRow> {
    await this.#mayRecord();
    return (await this.#desk()).decide(id, decision, actor, by);
  }

  async stops(): Promise<Stop[]> {
    return (await this.#open()).stops();
  }

  /**
   * Nothing of the agent, or of anything, starts from now on, in any process; within a second. What is in flight goes on and is told.
   * @throws GroundcrewError `FORBIDDEN`, `INPUT_INVALID`
   */
  async stop(what: { agent?: string; why: string }, actor: Actor): Promise<Stopped> {
    await this.#mayRecord();
    return (await this.#desk()).stop(what, actor);
  }

  /** @param agent an agent's name, or `*`. @returns whether it was stopped. @throws GroundcrewError `FORBIDDEN` */
  async lift(agent: string, actor: Actor): Promise<boolean> {
    await this.#mayRecord();
    return (await this.#desk()).lift(agent, actor);
  }

  /** The audit log of a tenant behind record `after`, as it is stored. */
  async audit(tenant: string, after: number, limit: number): Promise<StoredAudit[]> {
    return (await this.#open()).audit(tenant, after, limit);
  }

  /** Where each tenant's audit log ends, or that of one. */
  async auditHeads(tenant?: string): Promise<AuditHead[]> {
    return (await this.#open()).auditHeads(tenant);
  }

  /** With which the audit log is verified, where there is one. */
  get auditKey(): string | undefined {
    return this.#supervision.auditKey;
  }

  /** The channels by which people are told, and what their links are signed with. */
  get supervision(): Pick<CheckedSupervision, "channels" | "secret" | "url"> {
    return this.#supervision;
  }

  async #desk(): Promise<Desk> {
    const store = await this.#open();
    const channels = this.#supervision.channels.map(({ name }) => name);
    return new Desk({ store, agents: this.agents, people: this.people, channels, poke: () => this.#worker?.poke() });
  }

  /** Deletes what has outlived its retention, or only counts it. A running worker does this by itself. */
  async cleanup(options: { dryRun?: boolean } = {}): Promise<SweepReport> {
    const store = await this.#open();
    const cleaner = new Cleaner(store, clockOf(store, this.#clock), this.#retention, this.#onTrouble);
    return cleaner.sweep(options.dryRun ?? false);
  }

  /** From now on `start()` leaves the runs to other processes, as with `worker: false`. */
  standBy(): void {
    this.#mayWork = false;
  }

  /** Takes up runs in this process until `close()`, and keeps the process alive for it. */
  async work(): Promise<void> {
    if (this.#closing || this.#draining) throw closed();
    this.#keepAlive ??= setInterval(() => {}, KEEP_ALIVE_MS);
    await this.#work();
  }

  async health(): Promise<Health> {
    const worker = this.#worker;
    const problems: string[] = [];
    let location = "not open";
    try {
      const store = await this.#open();
      location = store.location;
      await store.runs({ limit: 1 });
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
    }
    if (this.#draining) problems.push("The process is shutting down.");
    else if (worker && !worker.isWorking) problems.push("The worker has lost its lease and is coming back.");
    return {
      ready: problems.length === 0,
      problems,
      store: location,
      worker: worker ? { id: worker.id, runs: worker.size, concurrency: this.#concurrency, draining: worker.isDraining } : null,
    };
  }

  /**
   * From now on it is not ready, and other processes take its runs over: it takes up none, steps in flight may end, what is left
   * is handed back. Runs can be started and read until `close()`.
   */
  drain(): Promise<void> {
    this.#draining ??= this.#drain();
    return this.#draining;
  }

  async #drain(): Promise<void> {
    this.#mayWork = false;
    await this.#working?.catch(() => {}); // one that is only just starting has to be stopped as well
    this.#cleaner?.stop();
    await this.#courier?.stop();
    try {
      await this.#worker?.drain();
    } catch (error) {
      this.#onTrouble(error); // the store is away: others take its runs over when its lease is out
    }
  }

  /** Stops taking up runs, lets steps in flight end or hands their runs back, closes the store. */
  close(): Promise<void> {
    this.#closing ??= this.#shutDown();
    return this.#closing;
  }

  async #shutDown(): Promise<void> {
    clearInterval(this.#keepAlive);
    const store = await this.#store?.catch(() => undefined);
    await this.drain();
    this.#closed.abort(closed());
    if (store && typeof this.#options.store !== "object") await store.close();
  }

  #definition(name: string): Definition {
    const definition = this.agents.get(name);
    if (definition) return definition;
    throw new GroundcrewError("AGENT_NOT_FOUND", `There is no agent or flow ${JSON.stringify(name)}.`, {
      value: name,
      fix: `Known: ${[...this.agents.keys()].join(", ") || "none"}.`,
    });
  }

  #open(): Promise<Store> {
    if (this.#closing) return Promise.reject(closed());
    const { auditKey } = this.#supervision;
    this.#store ??= openStore(this.#options.store, { clock: this.#clock, auditKey }).catch((error) => {
      this.#store = undefined; // the next call may have more luck
      throw error;
    });
    return this.#store;
  }

  /** To be asked before anything that stands in the audit log. A store that was handed in knows its own key. @throws GroundcrewError `CONFIG_INVALID` */
  async #mayRecord(): Promise<void> {
    if (this.#hasKey || typeof this.#options.store === "object") return;
    this.#hasKey = await mustHaveAuditKey(await this.#open(), this.#supervision.auditKey);
  }

  #work(): Promise<void> {
    this.#working ??= this.#startWorker().catch((error) => {
      this.#working = undefined;
      throw error;
    });
    return this.#working;
  }

  async #startWorker(): Promise<void> {
    await this.#mayRecord();
    const store = await this.#open();
    const clock = clockOf(store, this.#clock);
    const deps = {
      store,
      codec: this.#codec,
      clock,
      ticker: new Ticker(clock),
      agents: this.agents,
      unsettled: new Map(),
      random: Math.random,
      breakers: new Breakers({ store, random: Math.random, onTrouble: this.#onTrouble }),
      paces: new Paces({ clock, random: Math.random }),
      stops: new Stops(store),
      supervision: { channels: this.#supervision.channels.map(({ name }) => name), isShadow: this.#supervision.isShadow },
    };
    const options = {
      concurrency: this.#concurrency,
      leaseMs: this.#leaseMs,
      quotas: this.#quotas,
      identity: () => thisWorker(),
      onTrouble: this.#onTrouble,
    };
    this.#worker = new Worker(deps, options);
    await this.#worker.start();
    this.#cleaner = new Cleaner(store, clock, this.#retention, this.#onTrouble);
    this.#cleaner.start();
    const { channels, url, secret } = this.#supervision;
    this.#courier = new Courier({
      store,
      clock,
      channels,
      people: this.people,
      url,
      secret,
      onTrouble: this.#onTrouble,
      random: Math.random,
    });
    this.#courier.start();
  }

  #handle(store: Store, id: string): Run<never> {
    const lendAHand = () => {
      if (this.#mayWork && !this.#closed.signal.aborted) void this.#work().catch(this.#onTrouble);
    };
    return new Run(
      {
        store,
        codec: this.#codec,
        clock: clockOf(store, this.#clock),
        agents: this.agents,
        poke: () => this.#worker?.poke(),
        mayRecord: () => this.#mayRecord(),
        lendAHand,
        closed: this.#closed.signal,
      },
      id,
    );
  }
}

const OPTIONS: readonly string[] = [
  "agents",
  "store",
  "worker",
  "tenants",
  "retention",
  "classes",
  "people",
  "supervision",
  "onTrouble",
  "clock",
] satisfies (keyof CrewOptions)[];

function checkOptions(options: unknown): asserts options is CrewOptions {
  if (typeof options !== "object" || options === null) throw invalid("the options", "an object with `agents`", options);
  const unknown = Object.keys(options).find((field) => !OPTIONS.includes(field));
  if (unknown !== undefined) {
    throw new GroundcrewError("CONFIG_INVALID", `\`${unknown}\` is not an option of a crew.`, {
      value: unknown,
      fix: `Known options: ${OPTIONS.join(", ")}.`,
    });
  }
  const { store, worker } = options as Partial<CrewOptions>;
  const isStore = store === undefined || (typeof store === "string" && store !== "") || (typeof store === "object" && store !== null);
  if (!isStore) throw invalid("`store`", "a path or a store", store);
  const isWorker = worker === undefined || worker === false || (typeof worker === "object" && worker !== null);
  if (!isWorker) throw invalid("`worker`", "false or an object with `concurrency` and `lease`", worker);
}

/** While a person has taken a conversation over, what its user says goes to that person and not into a turn of its own. */
async function isWithAPerson(store: Store, { session, principal }: Partial<StartRequest>): Promise<boolean> {
  if (typeof session !== "string") return false;
  const tenant = principal?.tenant ?? localPrincipal.tenant;
  const [turn] = await store.runs({ tenant, session, status: ["parked"], limit: 1 });
  return turn?.reason === "signal" && fold(await store.journal(turn.id)).handover !== undefined;
}

interface CheckedSupervision {
  channels: readonly NotifyChannel[];
  url: string | undefined;
  secret: string | undefined;
  isShadow: boolean;
  auditKey: string | undefined;
}

const SUPERVISION_FIELDS = ["channels", "url", "secret", "shadow", "auditKey"] satisfies (keyof SupervisionOptions)[];

function checkSupervision(options: SupervisionOptions): CheckedSupervision {
  if (typeof options !== "object" || options === null) throw invalid("`supervision`", "an object", options);
  const unknown = Object.keys(options).find((given) => !SUPERVISION_FIELDS.some((field) => field === given));
  if (unknown !== undefined) throw invalid(`\`supervision.${unknown}\``, `left out (known: ${SUPERVISION_FIELDS.join(", ")})`, unknown);
  const { channels = [], url, secret, shadow = false, auditKey } = options;
  const isChannel = (one: unknown) => typeof one === "object" && one !== null && typeof Reflect.get(one, "send") === "function";
  if (!Array.isArray(channels) || !channels.every(isChannel)) throw invalid("`supervision.channels`", "a list of channels", channels);
  if (new Set(channels.map(({ name }) => name)).size < channels.length)
    throw invalid("`supervision.channels`", "named differently", channels);
  if (url !== undefined && !URL.canParse(url)) throw invalid("`supervision.url`", "an address such as https://agents.example.com", url);
  for (const [field, text] of [
    ["secret", secret],
    ["auditKey", auditKey],
  ] as const) {
    if (text !== undefined && (typeof text !== "string" || text.length < MIN_SECRET_CHARS)) {
      throw new GroundcrewError("CONFIG_INVALID", `Expected \`supervision.${field}\` to have ${MIN_SECRET_CHARS} characters or more.`, {
        fix: "Make one with `openssl rand -hex 32`.",
      });
    }
  }
  if (typeof shadow !== "boolean") throw invalid("`supervision.shadow`", "true or false", shadow);
  return { channels, url, secret, isShadow: shadow, auditKey };
}

function invalid(field: string, expected: string, value: unknown): GroundcrewError {
  return new GroundcrewError("CONFIG_INVALID", `Expected ${field} to be ${expected}, got ${describe(value)}.`, { value });
}

function byName(agents: readonly Definition[]): ReadonlyMap<string, Definition> {
  if (!Array.isArray(agents)) throw invalid("`agents`", "a list of agents and flows", agents);
  const names = new Map<string, Definition>();
  for (const definition of agents) {
    if (definition?.kind !== "agent" && definition?.kind !== "flow") {
      throw invalid("each of `agents`", "what `agent()` or `flow()` gives", definition);
    }
    if (names.has(definition.name)) {
      throw new GroundcrewError("AGENT_DUPLICATE", `Two agents are named "${definition.name}".`, {
        value: definition.name,
        fix: "Runs are recorded under their agent's name: give each its own.",
      });
    }
    names.set(definition.name, definition);
  }
  return names;
}

function checkLease(value: number): number {
  if (value >= MIN_LEASE_MS) return value;
  throw new GroundcrewError("CONFIG_INVALID", `Expected \`worker.lease\` to be at least ${MIN_LEASE_MS} ms, got ${value}.`, {
    value,
    fix: "A lease that is shorter than a slow write is lost again and again.",
  });
}

function checkConcurrency(value: number): number {
  if (Number.isInteger(value) && value >= 1) return value;
  throw new GroundcrewError("CONFIG_INVALID", `Expected \`worker.concurrency\` to be a whole number from 1, got ${value}.`, { value });
}

/** Timers of this process, and the time of the store: workers whose clocks differ agree on what is due. */
function clockOf(store: Store, clock: Clock): Clock {
  return { now: () => store.now(), after: (delayMs, task) => clock.after(delayMs, task) };
}

function closed(): GroundcrewError {
  return new GroundcrewError("CLOSED", "The crew was closed.");
}

function reportTrouble(error: unknown): void {
  console.error(`groundcrew: ${error instanceof Error ? error.message : String(error)}`);
}
