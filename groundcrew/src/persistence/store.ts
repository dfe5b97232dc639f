/**
 * The store seam: the life of a run in verbs. SQLite implements it for one machine, PostgreSQL for many; one conformance
 * suite (`test/persistence/conformance.ts`) says what the verbs mean.
 *
 * Three rules hold for every verb that writes. It is durable when its promise resolves. It happens whole or not at all. And
 * what a worker writes about a run carries the run's epoch and the worker's id and is checked in the same transaction, on
 * the store's clock: a worker that lost its lease changes nothing and gets `SUPERSEDED`.
 */
import type { Principal } from "../principal.ts";
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
}

export interface NewRun {
  id: string;
  agent: string;
  principal: Principal;
  deadline: number;
  /** Not before; wall-clock milliseconds. */
  dueAt: number;
  /** Idempotency key of the start, unique per tenant and agent, with the hash of what was asked. */
  start?: { key: string; hash: string };
  session?: { id: string; busy: BusyPolicy; message: JsonValue };
  parent?: { run: string; step: string };
  /** The journal it begins with: `run.created`, and for a fork the events it takes over. */
  events: readonly Event[];
  blobs: readonly Blob[];
}

/** How a start ended: a new run; the run that the same key started before; or the running turn that took the message. */
export type Created = { outcome: "created" | "existing" | "steered"; run: RunRow };

export type SignalKind = "signal" | "message" | "cancel" | "resolve" | "retry" | "child";

/** A durable message to a run, from any process. */
export interface Signal {
  /** Chosen by the sender; the same id twice is one signal. */
  id: string;
  run: string;
  kind: SignalKind;
  name: string;
  value?: JsonValue;
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
}

/** Where the run goes with a write. `sessionState` is the typed state of its session from then on. */
export type Transition =
  | { to: "parked"; reason: ParkReason; dueAt: number | null }
  | { to: "queued" }
  | { to: TerminalStatus; sessionState?: JsonValue };

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
export type Change = { runs: ReadonlySet<string>; ended: ReadonlySet<string> } | { runs: null };

export interface Store {
  /** For people: a path, or a URL without its password. */
  readonly location: string;

  // A worker's life. Leases are per worker: one small write renews all its runs.
  join(worker: WorkerIdentity, leaseMs: number): Promise<void>;
  /** @returns false when the lease was already lost: everything the worker holds is, or will be, another's. */
  renew(worker: string, leaseMs: number): Promise<boolean>;
  /** Whether its lease holds and, as far as can be told from here, its process is there. */
  isAlive(worker: string): Promise<boolean>;
  /** Hands back whatever the worker still holds, due at once, and forgets the worker. */
  leave(worker: string): Promise<void>;

  // A run's life.
  /** @throws GroundcrewError `START_CONFLICT`, `SESSION_BUSY`, `SESSION_NOT_FOUND`, `INBOX_FULL` for too many waiting turns, `INPUT_INVALID` */
  create(run: NewRun): Promise<Created>;
  /** Due runs: queued, woken, timed, and those of workers whose lease ran out or whose process is gone. Oldest due first. @throws GroundcrewError `SUPERSEDED` */
  claim(worker: string, agents: readonly string[], limit: number): Promise<Claim[]>;
  /** @throws GroundcrewError `SUPERSEDED` */
  append(write: Append): Promise<Appended>;
  /**
   * A cancel, or a retry, that waits already is the same once more. Neither they nor an answer meet a full inbox.
   * @returns false when a signal with this id was there before.
   * @throws GroundcrewError `RUN_NOT_FOUND`, `RUN_FINISHED`, `INBOX_FULL`
   */
  signal(signal: Omit<Signal, "at">): Promise<boolean>;
  /** Signals not yet consumed, of the runs this worker holds. */
  inbox(worker: string): Promise<Signal[]>;
  /** When the next run is due, or null. */
  nextDue(agents: readonly string[]): Promise<number | null>;

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

  /** Deletes what has outlived its purpose; never an open run, never a run of a session that is kept. */
  sweep(policy: SweepPolicy): Promise<SweepReport>;
  /** Calls `listener` after each change, soon (own process) or within some tens of milliseconds (another). */
  watch(listener: (change: Change) => void): () => void;
  close(): Promise<void>;
}

export const terminal: ReadonlySet<RunStatus> = new Set(["succeeded", "failed", "cancelled", "expired"]);

export function isTerminal(status: RunStatus): status is TerminalStatus {
  return terminal.has(status);
}
