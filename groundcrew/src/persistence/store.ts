/**
 * The store seam: the life of a run in verbs. SQLite implements it for one machine, PostgreSQL for many; one conformance
 * suite (`test/persistence/conformance.ts`) says what the verbs mean.
 *
 * Three rules hold for every verb that writes. It is durable when its promise resolves. It happens whole or not at all. And
 * what a worker writes about a run carries the run's epoch and the worker's id and is checked in the same transaction, on
 * the store's clock: a worker that lost its lease changes nothing and gets `SUPERSEDED`.
 */
import { GroundcrewError } from "../errors.ts";
import { MAX_BREAKER_KEY_CHARS } from "../limits.ts";
import type { Principal } from "../principal.ts";
import type { Amended, Amendment, ApprovalFilter, ApprovalRow } from "./approval.ts";
import type { AuditEntry, AuditHead, StoredAudit } from "./audit.ts";
import type { Delivery, DeliveryOutcome, NewDelivery } from "./delivery.ts";
import type { DumpPage, StoredUnit } from "./dump.ts";
import type { Chunk, Event, ParkReason } from "./event.ts";
import type { Blob, JsonValue } from "./json-value.ts";

export type RunStatus = "queued" | "running" | "parked" | "succeeded" | "failed" | "cancelled" | "expired";
export type TerminalStatus = "succeeded" | "failed" | "cancelled" | "expired";

/** What a session does with a message that comes while a turn is running. */
export type BusyPolicy = "queue" | "reject" | "interrupt" | "steer";

/** One run as lists and decisions need it, without its journal. */
export interface RunRow {
  id: string;
  agent: string;
  status: RunStatus;
  /** Why it is parked. */
  reason: ParkReason | null;
  /** When it will be taken up again by itself; null while only somebody else can move it. */
  dueAt: number | null;
  principal: Principal;
  session: string | null;
  turn: number | null;
  parent: string | null;
  key: string | null;
  worker: string | null;
  epoch: number;
  createdAt: number;
  /** Last change of `status`. */
  changedAt: number;
  deadline: number;
  /** Its place among the due runs of its tenant: 1 goes first, 5 last. */
  priority: Priority;
}

export type Priority = 1 | 2 | 3 | 4 | 5;

export const DEFAULT_PRIORITY: Priority = 3;

export interface NewRun {
  id: string;
  agent: string;
  principal: Principal;
  deadline: number;
  /** Not before; wall-clock milliseconds. */
  dueAt: number;
  /** Default 3. */
  priority?: Priority;
  /** Idempotency key of the start, unique per tenant and agent, with the hash of what was asked. */
  start?: { key: string; hash: string };
  session?: { id: string; busy: BusyPolicy; message: JsonValue };
  /** The run that calls it, and who writes for that run: a worker that does not hold it any more starts no child. */
  parent?: { run: string; step: string; worker: string; epoch: number };
  /** The journal it begins with: `run.created`, and for a fork the events it takes over. */
  events: readonly Event[];
  blobs: readonly Blob[];
  /** What is on record of its beginning; written with it, and only if it begins now. */
  audit?: readonly AuditEntry[];
}

/** How a start ended: a new run; the run that the same key started before; or the running turn that took the message. */
export type Created = {
  outcome: "created" | "existing" | "steered";
  run: RunRow;
  /** The new run is its worker's already. */
  claim?: Claim;
};

export type SignalKind =
  | "signal"
  | "message"
  | "cancel"
  | "resolve"
  | "retry"
  | "child"
  | "pause"
  | "resume"
  | "raise"
  | "handover"
  /** What became of an approval; only `amend` sends it. */
  | "approval";

/** A durable message to a run, from any process. */
export interface Signal {
  /** Chosen by the sender; the same id twice is one signal. */
  id: string;
  run: string;
  kind: SignalKind;
  name: string;
  value?: JsonValue;
  /** What it brought was damaged in the store: nobody may go on as if it had brought nothing. */
  isDamaged?: true;
  from?: string;
  at: number;
}

/** Which process this is, so that another on the same machine can see that it is gone without waiting for its lease. */
export interface WorkerIdentity {
  id: string;
  /** Machine, boot and process namespace; two workers with the same host can look at each other's process. */
  host: string;
  pid: number;
  /** When the process began, as the kernel tells: a pid alone is used again. */
  startedAt: string;
}

/** A run given to a worker. `epoch` goes into each of its writes. */
export interface Claim {
  run: RunRow;
  epoch: number;
  /** The previous holder did not give the run up by itself. */
  takeover: boolean;
  signals: Signal[];
  /** The whole journal, where it need not be read: of a run that was claimed by the commit that created it. */
  events?: readonly Event[];
}

/** How much may be at work at once, and how much may begin per time. */
export interface Quota {
  /** Runs at work at the same time, over all workers. A run that is parked takes no place. */
  concurrency?: number;
  /** Runs that begin within any `perMs` milliseconds, over all workers, plus a burst of at most as many again. */
  rate?: { runs: number; perMs: number };
}

/** What bounds a claim. Absent: nothing but the number asked for. */
export interface Quotas {
  agent(name: string): Quota | undefined;
  tenant(tenant: string): Quota | undefined;
}

/** Where the run goes with a write. `sessionState` is the typed state of its session from then on. */
export type Transition =
  | { to: "parked"; reason: ParkReason; dueAt: number | null }
  | { to: "queued" }
  | { to: TerminalStatus; sessionState?: JsonValue; stops?: Stops };

/** Child runs that are asked to end along with their parent: those of them that are still open get a cancel. */
export interface Stops {
  children: readonly string[];
  why: string;
}

/** One fenced write of the worker that holds the run. */
export interface Append {
  run: string;
  worker: string;
  epoch: number;
  /** Consecutive, numbered on from the journal's head. May be empty when only chunks or a transition are written. */
  events: readonly Event[];
  chunks: readonly Chunk[];
  blobs: readonly Blob[];
  /** Ids of signals that these events record. */
  consumed: readonly string[];
  /** Ids of signals that the worker knows and leaves where they are: they do not keep the run from parking. */
  seen?: readonly string[];
  next?: Transition;
  aside?: Aside;
}

/** What is written along with a journal, in the same transaction, for others than the run. */
export interface Aside {
  /** Approvals that the run asks for. */
  opens: readonly ApprovalRow[];
  /** Approvals that are cancelled because the run ends, if they are still open; with when. */
  closes: readonly string[];
  audit: readonly AuditEntry[];
  /** One whose id is there already stays as it is. */
  deliveries: readonly NewDelivery[];
}

/** Nothing of an agent's, or of anything, may start: an operator has said so. */
export interface Stop {
  /** `*`, or an agent's name. */
  agent: string;
  why: string;
  by: string;
  at: number;
}

/**
 * `"written"`; or `"signalled"`: nothing was written, because the run wanted to end while a message to it was waiting. The
 * worker takes the message up and goes on: a message that was accepted is never lost to a run that just ended.
 */
export type Appended = "written" | "signalled";

/** A place in the feed of a run: behind event `seq`, and behind `chunk` chunks that followed it. `{ seq: 0, chunk: 0 }` is the start. */
export interface Cursor {
  seq: number;
  chunk: number;
}

/** Events and chunks behind a cursor, in the one order every reader sees. */
export interface Page {
  items: (Event | Chunk)[];
  /** Whether more stood behind the last item. */
  more: boolean;
}

export interface RunFilter {
  tenant?: string;
  user?: string;
  agent?: string;
  session?: string;
  parent?: string;
  status?: readonly RunStatus[];
  /** Runs created before this run, newest first: the paging key. */
  before?: string;
  limit: number;
}

export interface SessionRow {
  id: string;
  agent: string;
  principal: Principal;
  state: JsonValue | null;
  turns: number;
  createdAt: number;
  activeAt: number;
}

/** Where a session stands in a list, last active first. */
export interface SessionPlace {
  activeAt: number;
  tenant: string;
  id: string;
}

export interface SessionFilter {
  tenant?: string;
  user?: string;
  agent?: string;
  /** The last session of the page before: a session that became active since is on no later page, and none is passed over. */
  before?: SessionPlace;
  limit: number;
}

/** What has outlived its purpose. Ages are wall-clock milliseconds: everything before them goes. */
export interface SweepPolicy {
  /** Finished runs outside sessions. */
  runsBefore: number;
  /** Sessions without an open run and without activity, with all their runs. */
  sessionsBefore: number;
  /** Chunks of finished runs. */
  chunksBefore: number;
  /** Rows one pass may delete: bounds how long it holds the write lock. The first thing due goes whole, whatever it weighs. */
  limit: number;
  /** Only count. */
  dryRun: boolean;
}

export interface SweepReport {
  runs: number;
  sessions: number;
  events: number;
  chunks: number;
  blobs: number;
  /** Whether the limit ended the pass; another pass would find more. */
  more: boolean;
}

/** What changed: these runs, and which of them ended; or, told by another process, anything. */
export type Change =
  | {
      runs: ReadonlySet<string>;
      ended: ReadonlySet<string>;
      /** Whether a run may have become due. */
      due?: boolean;
      /** Another process wrote: to a run that is held here that can only be a signal. */
      isForeign?: boolean;
    }
  | { runs: null };

/** What all workers know of something that is called, a model or a tool: whether it is up. One that is not known is closed, version 0. */
export interface Breaker {
  key: string;
  /** One more with each turn, so that of many who turn it at once one does. */
  version: number;
  /** `open`: not to be asked. `probing`: one call is finding out. */
  state: "open" | "probing" | "closed";
  /** Until when it is open, or its probe is waited for; since when it is closed. Wall clock of the store. */
  until: number;
  /** How often in a row it was opened. */
  trips: number;
  /** For people. */
  why: string;
  /** The version that opened it last: calls from before say nothing about it. */
  opened: number;
  /** Who turned it. */
  by: string;
}

export interface Store {
  /** For people: a path, or a URL without its password. */
  readonly location: string;
  /** The store's time, as well as this process knows it: what is compared with times that stand in the store is taken from here. */
  now(): number;

  /** Whether what is asked for in one turn of the event loop goes into one transaction: then a run can be claimed by the commit that creates it. */
  readonly sharesCommits: boolean;

  // A worker's life. Leases are per worker: one small write renews all its runs.
  join(worker: WorkerIdentity, leaseMs: number): Promise<void>;
  /** @returns false when the lease was already lost: everything the worker holds is, or will be, another's. */
  renew(worker: string, leaseMs: number): Promise<boolean>;
  /** Whether its lease holds and, as far as can be told from here, its process is there. */
  isAlive(worker: string): Promise<boolean>;
  /** Hands back whatever the worker still holds, due at once, and forgets the worker. */
  leave(worker: string): Promise<void>;

  // A run's life.
  /**
   * @param worker who has room for the run, which nothing else waits for: a store may give it to them with the same commit, if their
   * lease holds and no earlier turn of its session is open. Its being due, and quotas, are not looked at
   * @throws GroundcrewError `START_CONFLICT`, `SESSION_BUSY`, `SESSION_NOT_FOUND`, `INBOX_FULL` for too many waiting turns,
   * `INPUT_INVALID`, `SUPERSEDED` for a child whose parent is not held as it says
   */
  create(run: NewRun, worker?: string): Promise<Created>;
  /**
   * Due runs: queued, woken, timed, and those of workers whose lease ran out or whose process is gone. Tenants take turns; of
   * one tenant the lower `priority` number first, then what is due longest. Fewer than `limit` means that nothing else may be
   * taken up now. What is only to be ended, because it was cancelled or has passed its deadline, goes past the quotas.
   * @throws GroundcrewError `SUPERSEDED`
   */
  claim(worker: string, agents: readonly string[], limit: number, quotas?: Quotas): Promise<Claim[]>;
  /** @throws GroundcrewError `SUPERSEDED` */
  append(write: Append): Promise<Appended>;
  /**
   * A cancel, or a retry, that waits already is the same once more. Neither they nor an answer meet a full inbox.
   * @returns false when a signal with this id was there before.
   * @throws GroundcrewError `RUN_NOT_FOUND`, `RUN_FINISHED`, `INBOX_FULL`
   */
  signal(signal: Omit<Signal, "at">, audit?: readonly AuditEntry[]): Promise<boolean>;
  /** Signals not yet consumed, of the runs this worker holds. */
  inbox(worker: string): Promise<Signal[]>;
  /** When the next run that waits for a time will be due, or null. What is due already is `claim`'s. */
  nextDue(agents: readonly string[]): Promise<number | null>;

  // What all workers know of what they call.
  /** Those that are not closed, `MAX_BREAKERS` at most. */
  breakers(): Promise<Breaker[]>;
  /**
   * Stores `next` if its version is one above the one that is stored; none counts as version 0. Beyond `MAX_BREAKERS` those that
   * matter least are forgotten: closed ones, then those whose time ran out first.
   * @returns what is stored afterwards: `next`, or what somebody else has made of it.
   * @throws GroundcrewError `INPUT_INVALID` for a key that cannot be one
   */
  turn(next: Breaker): Promise<Breaker>;

  // People, who decide.
  /**
   * Changes an approval to `next` if it is open and its version is the one before; with the log, the channels and the run's signal, all in
   * one transaction. One whose run has ended meanwhile is cancelled instead.
   * @returns what it is afterwards. @throws GroundcrewError `APPROVAL_NOT_FOUND`
   */
  amend(amendment: Amendment): Promise<Amended>;
  approval(id: string): Promise<ApprovalRow | null>;
  /** Newest first. */
  approvals(filter: ApprovalFilter): Promise<ApprovalRow[]>;

  // The audit log.
  /** Appends entries, each to the chain of its tenant. */
  record(entries: readonly AuditEntry[]): Promise<void>;
  /** Records of a tenant's chain behind `after`, in order, as they are stored: damage is for the reader to find. */
  audit(tenant: string, after: number, limit: number): Promise<StoredAudit[]>;
  /** Where each tenant's chain ends, or that of one. */
  auditHeads(tenant?: string): Promise<AuditHead[]>;

  // What is to be told outside.
  /** Due ones, which nobody else gets for `leaseMs`. One that is not settled by then is due again. */
  takeDeliveries(limit: number, leaseMs: number): Promise<Delivery[]>;
  settleDelivery(id: string, outcome: DeliveryOutcome, audit: readonly AuditEntry[]): Promise<void>;
  /** When the next one is due, in wall-clock milliseconds, or null. */
  nextDelivery(): Promise<number | null>;

  // Stops.
  stops(): Promise<Stop[]>;
  /** Sets it, or changes why. */
  stop(stop: Omit<Stop, "at">, audit: readonly AuditEntry[]): Promise<void>;
  /** @returns whether there was one. */
  lift(agent: string, audit: readonly AuditEntry[]): Promise<boolean>;

  // Reading. From any process, without a lease.
  run(id: string): Promise<RunRow | null>;
  runs(filter: RunFilter): Promise<RunRow[]>;
  /** @throws GroundcrewError `RUN_NOT_FOUND`, `CURSOR_INVALID` for a place the run has not reached, `EVENT_UNREADABLE` */
  read(run: string, after: Cursor, limit: number): Promise<Page>;
  /** All events, without chunks. @throws GroundcrewError `RUN_NOT_FOUND`, `EVENT_UNREADABLE` */
  journal(run: string): Promise<Event[]>;
  /** The newest event: how a run ended, without its whole journal. @throws GroundcrewError `RUN_NOT_FOUND`, `EVENT_UNREADABLE` */
  last(run: string): Promise<Event>;
  session(tenant: string, id: string): Promise<SessionRow | null>;
  sessions(filter: SessionFilter): Promise<SessionRow[]>;
  blob(hash: string): Promise<string | null>;

  /** Deletes what has outlived its purpose; never an open run, nor a child of one, never a run of a session that is kept. */
  sweep(policy: SweepPolicy): Promise<SweepReport>;

  // Moving to another store, while nobody is at work on either.
  /**
   * What the store holds, in pieces and in one order, which is the same for every store. Ends a page early when it weighs much.
   * @param after the page before said it; null for the beginning.
   * @throws GroundcrewError `STORE_BUSY` while a worker lives
   */
  dump(after: string | null, limit: number): Promise<DumpPage>;
  /** Takes pieces in. One that is there already stays as it is. @throws GroundcrewError `STORE_BUSY` while a worker lives */
  load(units: readonly StoredUnit[]): Promise<void>;

  /** Calls `listener` after each change, soon (own process) or within some tens of milliseconds (another). */
  watch(listener: (change: Change) => void): () => void;
  close(): Promise<void>;
}

/** A signal's value as the tables hold it. */
export function signalValue(text: string | null): Pick<Signal, "value" | "isDamaged"> {
  if (text === null) return {};
  try {
    return { value: JSON.parse(text) as JsonValue };
  } catch {
    return { isDamaged: true };
  }
}

/** Roles as the tables hold them. Nonsense gives none: what cannot be read is no right. */
export function rolesOf(text: string): string[] {
  try {
    const roles: unknown = JSON.parse(text);
    return Array.isArray(roles) ? roles.filter((role) => typeof role === "string") : [];
  } catch {
    return [];
  }
}

export const terminal: ReadonlySet<RunStatus> = new Set(["succeeded", "failed", "cancelled", "expired"]);

export function isTerminal(status: RunStatus): status is TerminalStatus {
  return terminal.has(status);
}

/** What a breaker is that nobody has turned. */
export function unknownBreaker(key: string): Breaker {
  return { key, version: 0, state: "closed", until: 0, trips: 0, why: "", opened: 0, by: "" };
}

/** Whether every store can hold it. */
export function isBreakerKey(key: string): boolean {
  return key.length <= MAX_BREAKER_KEY_CHARS && key.isWellFormed();
}

/** @throws GroundcrewError `INPUT_INVALID` */
export function checkBreaker({ key }: Breaker): void {
  if (isBreakerKey(key)) return;
  throw new GroundcrewError("INPUT_INVALID", `A breaker's key is a well-formed text of at most ${MAX_BREAKER_KEY_CHARS} characters.`, {
    value: key,
  });
}
