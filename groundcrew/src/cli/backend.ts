/** What commands act on: a server somewhere, or the store right here. Commands are written once, over this. */
import type { ApprovalRow } from "../persistence/approval.ts";
import type { AuditHead, StoredAudit } from "../persistence/audit.ts";
import type { Stop, SweepReport } from "../persistence/store.ts";
import type { Decision, Stopped } from "../runtime.ts";
import type { Event, FeedItem, RunSummary, RunsQuery, RunView } from "../wire.ts";

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
  pause(why: string): Promise<void>;
  resume(): Promise<void>;
  say(text: string): Promise<void>;
  raise(steps: number): Promise<void>;
  takeOver(): Promise<void>;
  speak(text: string): Promise<void>;
  handBack(): Promise<void>;
}

export interface Backend {
  /** Whether somebody else executes the runs: then a follower that leaves changes nothing. */
  readonly isServer: boolean;
  /** Names of those that are configured here. */
  agents(): Promise<string[]>;
  start(agent: string, request: RunRequest): Promise<Handle>;
  run(id: string): Promise<Handle>;
  runs(query: RunsQuery): Promise<RunSummary[]>;
  /** Open requests, newest first. @param page.all also those that others have to decide. */
  inbox(page: { all: boolean; limit: number; before?: string }): Promise<ApprovalRow[]>;
  /** Open requests about runs that work for whoever asks and that are not `theirs` to decide; none where that cannot be told. */
  withheld(theirs: readonly ApprovalRow[]): Promise<ApprovalRow[]>;
  /** Puts on record that it was shown. */
  approval(id: string): Promise<ApprovalRow>;
  /** @param hash of the arguments that were looked at: refused when they are others by now. */
  decide(id: string, decision: Decision, hash?: string): Promise<ApprovalRow>;
  stops(): Promise<Stop[]>;
  stop(what: { agent: string; why: string }): Promise<Stopped>;
  /** @returns whether it was stopped. */
  lift(agent: string): Promise<boolean>;
  /** Of a tenant's log, or of the own one: what stands behind record `after`. */
  audit(page: { tenant?: string; after: number; limit: number }): Promise<StoredAudit[]>;
  /** Where logs end: that of `tenant`, or all that can be seen from here. */
  auditHeads(tenant?: string): Promise<AuditHead[]>;
  /** What the log is verified with, where the configuration has it. */
  readonly auditKey: string | undefined;
  cleanup(dryRun: boolean): Promise<SweepReport>;
  close(): Promise<void>;
}
