/**
 * The store on one machine: one SQLite file, any number of processes. Write-ahead log, `synchronous=FULL`, one connection
 * per process that writes in group commits on the calling thread (docs/decisions/0004-sqlite-journal.md says why there).
 */
import type { DatabaseSync } from "node:sqlite";
import type { Clock } from "../clock.ts";
import { GroundcrewError, isError } from "../errors.ts";
import { failpoint } from "../failpoint.ts";
import { MAX_BATCH_ROWS, MAX_STORE_PAUSE_MS } from "../limits.ts";
import { type Amended, type Amendment, type ApprovalFilter, type ApprovalRow, checkNews } from "../persistence/approval.ts";
import type { AuditEntry, AuditHead, StoredAudit } from "../persistence/audit.ts";
import type { Delivery, DeliveryOutcome } from "../persistence/delivery.ts";
import { type DumpPage, type StoredUnit, unitBytes } from "../persistence/dump.ts";
import { GroupCommit, type Outcome } from "../persistence/group-commit.ts";
import { prepareAppend } from "../persistence/prepare.ts";
import type {
  Append,
  Appended,
  Breaker,
  Change,
  Claim,
  Created,
  Cursor,
  NewRun,
  Page,
  Quotas,
  RunFilter,
  RunRow,
  SessionFilter,
  SessionRow,
  Signal,
  Stop,
  Store,
  SweepPolicy,
  SweepReport,
  WorkerIdentity,
} from "../persistence/store.ts";
import { openAppend } from "./append.ts";
import { openApprovals } from "./approval.ts";
import { openAudit } from "./audit.ts";
import { openBreakers } from "./breaker.ts";
import { Checkpointer, PAGE_BYTES } from "./checkpoint.ts";
import { openClaims } from "./claim.ts";
import { openDeliveries } from "./delivery.ts";
import { openDump } from "./dump.ts";
import { isStoreFailure, mayPass, storeError } from "./error.ts";
import { openInbox } from "./inbox.ts";
import { openJournal } from "./journal.ts";
import { openLeases } from "./lease.ts";
import { openLists } from "./list.ts";
import { patiently } from "./patience.ts";
import type { Transaction } from "./row.ts";
import { checkStart, openStart } from "./start.ts";
import { openStops } from "./stop.ts";
import { openSweep } from "./sweep.ts";
import { Watch } from "./watch.ts";

/** A verb, to be run inside a transaction with others. It throws our errors before its first change, and none after it. */
type Write = { run(tx: Transaction): unknown; bytes: number };

export class SqliteStore implements Store {
  readonly location: string;
  readonly sharesCommits = true;
  readonly #db: DatabaseSync;
  readonly #clock: Clock;
  readonly #verbs: ReturnType<typeof openVerbs>;
  readonly #commits: GroupCommit<Write>;
  readonly #checkpointer: Checkpointer;
  readonly #watch: Watch;
  #closing: Promise<void> | null = null;

  constructor(
    db: DatabaseSync,
    location: string,
    { clock, pollMs, auditKey }: { clock: Clock; pollMs: number; auditKey: string | undefined },
  ) {
    this.#db = db;
    this.location = location;
    this.#clock = clock;
    this.#verbs = openVerbs(db, auditKey);
    this.#commits = new GroupCommit({
      flush: (batch) => this.#flush(batch),
      transient: (failure) => (mayPass(failure) ? storeError(failure, location) : null),
      maxPauseMs: MAX_STORE_PAUSE_MS,
    });
    this.#checkpointer = new Checkpointer(location, () => this.#commits.hold());
    this.#watch = new Watch(clock, pollMs, () => this.#dataVersion());
  }

  now(): number {
    return this.#clock.now();
  }

  join(worker: WorkerIdentity, leaseMs: number): Promise<void> {
    return this.#write((tx) => this.#verbs.leases.join(tx, worker, leaseMs));
  }

  renew(worker: string, leaseMs: number): Promise<boolean> {
    return this.#write((tx) => this.#verbs.leases.renew(tx, worker, leaseMs));
  }

  isAlive(worker: string): Promise<boolean> {
    return this.#query(() => this.#verbs.leases.isAlive(worker, this.#clock.now()));
  }

  leave(worker: string): Promise<void> {
    return this.#write((tx) => this.#verbs.leases.leave(tx, worker));
  }

  async create(run: NewRun): Promise<Created> {
    checkStart(run);
    return this.#write((tx) => {
      const created = this.#verbs.start(tx, run);
      if (run.audit && created.outcome === "created") this.#verbs.audit.append(tx, run.audit);
      return created;
    });
  }

  claim(worker: string, agents: readonly string[], limit: number, quotas?: Quotas): Promise<Claim[]> {
    return this.#write((tx) => this.#verbs.claims.claim(tx, worker, agents, limit, quotas));
  }

  async append(write: Append): Promise<Appended> {
    const prepared = prepareAppend(write);
    return this.#write((tx) => this.#verbs.append(tx, prepared), prepared.bytes);
  }

  signal(signal: Omit<Signal, "at">, audit: readonly AuditEntry[] = []): Promise<boolean> {
    return this.#write((tx) => {
      const isNew = this.#verbs.inbox.signal(tx, signal);
      if (isNew) this.#verbs.audit.append(tx, audit);
      return isNew;
    });
  }

  async amend(amendment: Amendment): Promise<Amended> {
    checkNews(amendment.deliveries);
    const bytes = JSON.stringify(amendment.next).length;
    return this.#write((tx) => this.#verbs.approvals.amend(tx, amendment), bytes);
  }

  approval(id: string): Promise<ApprovalRow | null> {
    return this.#query(() => this.#verbs.approvals.get(id));
  }

  approvals(filter: ApprovalFilter): Promise<ApprovalRow[]> {
    return this.#query(() => this.#verbs.approvals.list(filter));
  }

  record(entries: readonly AuditEntry[]): Promise<void> {
    return this.#write((tx) => this.#verbs.audit.append(tx, entries));
  }

  audit(tenant: string, after: number, limit: number): Promise<StoredAudit[]> {
    return this.#query(() => this.#verbs.audit.page(tenant, after, limit));
  }

  auditHeads(tenant?: string): Promise<AuditHead[]> {
    return this.#query(() => this.#verbs.audit.heads(tenant));
  }

  takeDeliveries(limit: number, leaseMs: number): Promise<Delivery[]> {
    return this.#write((tx) => this.#verbs.deliveries.take(tx, limit, leaseMs));
  }

  settleDelivery(id: string, outcome: DeliveryOutcome, audit: readonly AuditEntry[]): Promise<void> {
    return this.#write((tx) => {
      if (this.#verbs.deliveries.settle(tx, id, outcome)) this.#verbs.audit.append(tx, audit);
    });
  }

  nextDelivery(): Promise<number | null> {
    return this.#query(() => this.#verbs.deliveries.next());
  }

  stops(): Promise<Stop[]> {
    return this.#query(() => this.#verbs.stops.all());
  }

  stop(stop: Omit<Stop, "at">, audit: readonly AuditEntry[]): Promise<void> {
    return this.#write((tx) => {
      this.#verbs.stops.set(tx, stop);
      this.#verbs.audit.append(tx, audit);
    });
  }

  lift(agent: string, audit: readonly AuditEntry[]): Promise<boolean> {
    return this.#write((tx) => {
      const wasSet = this.#verbs.stops.lift(tx, agent);
      if (wasSet) this.#verbs.audit.append(tx, audit);
      return wasSet;
    });
  }

  inbox(worker: string): Promise<Signal[]> {
    return this.#query(() => this.#verbs.inbox.ofWorker(worker));
  }

  nextDue(agents: readonly string[]): Promise<number | null> {
    return this.#read(() => this.#verbs.claims.nextDue(agents));
  }

  breakers(): Promise<Breaker[]> {
    return this.#query(() => this.#verbs.breakers.notClosed());
  }

  turn(next: Breaker): Promise<Breaker> {
    return this.#write((tx) => this.#verbs.breakers.turn(tx, next));
  }

  run(id: string): Promise<RunRow | null> {
    return this.#query(() => this.#verbs.lists.run(id));
  }

  runs(filter: RunFilter): Promise<RunRow[]> {
    return this.#read(() => this.#verbs.lists.runs(filter));
  }

  read(run: string, after: Cursor, limit: number): Promise<Page> {
    return this.#read(() => this.#verbs.journal.read(run, after, limit));
  }

  journal(run: string): ReturnType<Store["journal"]> {
    return this.#read(() => this.#verbs.journal.journal(run));
  }

  last(run: string): ReturnType<Store["last"]> {
    return this.#query(() => this.#verbs.journal.last(run));
  }

  session(tenant: string, id: string): Promise<SessionRow | null> {
    return this.#read(() => this.#verbs.lists.session(tenant, id));
  }

  sessions(filter: SessionFilter): Promise<SessionRow[]> {
    return this.#read(() => this.#verbs.lists.sessions(filter));
  }

  blob(hash: string): Promise<string | null> {
    return this.#query(() => this.#verbs.journal.blob(hash));
  }

  sweep(policy: SweepPolicy): Promise<SweepReport> {
    if (policy.dryRun) return this.#read(() => this.#verbs.sweep(policy, this.#clock.now()));
    return this.#write(({ now }) => this.#verbs.sweep(policy, now), MAX_BATCH_ROWS * PAGE_BYTES); // in a batch of its own
  }

  dump(after: string | null, limit: number): Promise<DumpPage> {
    return this.#read(() => this.#verbs.dump.page(after, limit, this.#clock.now()));
  }

  load(units: readonly StoredUnit[]): Promise<void> {
    const bytes = units.reduce((sum, unit) => sum + unitBytes(unit), 0);
    return this.#write((tx) => this.#verbs.dump.load(tx, units), bytes);
  }

  watch(listener: (change: Change) => void): () => void {
    return this.#watch.add(listener);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#watch.close();
    await this.#commits.close();
    await this.#checkpointer.close();
    this.#db.close();
  }

  #write<T>(run: (tx: Transaction) => T, bytes = 0): Promise<T> {
    return this.#commits.submit({ run, bytes }, 1 + Math.floor(bytes / PAGE_BYTES)) as Promise<T>;
  }

  /** A read of one statement, which is a snapshot by itself. */
  async #query<T>(query: () => T): Promise<T> {
    return patiently(this.location, () => {
      if (this.#closing) throw new GroundcrewError("CLOSED", "The store is closed.");
      return query();
    });
  }

  /** One snapshot for all statements of a read. */
  #read<T>(query: () => T): Promise<T> {
    return this.#query(() => {
      this.#verbs.begin.run();
      try {
        const found = query();
        this.#verbs.commit.run();
        return found;
      } finally {
        if (this.#db.isTransaction) this.#db.exec("rollback");
      }
    });
  }

  #flush(batch: readonly Write[]): Outcome[] {
    const refused = new Map<Write, Outcome>();
    for (;;) {
      const tx = { ...noChange(), now: 0, leases: new Map<string, boolean>() };
      try {
        this.#verbs.beginImmediate.run();
        tx.now = this.#clock.now();
        const outcomes = batch.map((write) => refused.get(write) ?? attempt(write, tx));
        failpoint("commit.before");
        this.#verbs.commit.run();
        failpoint("commit.after");
        this.#committed(batch, tx);
        return outcomes;
      } catch (failure) {
        if (this.#db.isTransaction) this.#db.exec("rollback");
        if (!(failure instanceof Broken)) throw mayPass(failure) ? failure : storeError(failure, this.location);
        // One write broke half-way. It is to blame alone: the others run again without it.
        refused.set(failure.write, { error: storeError(failure.cause, this.location) });
      }
    }
  }

  #committed(batch: readonly Write[], tx: Transaction): void {
    this.#checkpointer.wrote(batch.reduce((sum, write) => sum + write.bytes, 0));
    if (tx.changed.size > 0 || tx.told) this.#watch.tell({ runs: tx.changed, ended: tx.ended, due: tx.due.size > 0 || tx.told });
  }

  #dataVersion(): unknown {
    try {
      return this.#verbs.dataVersion.get()?.["data_version"];
    } catch (error) {
      if (!isStoreFailure(error)) throw error;
      return error; // unlike any version: whoever watches looks, and meets the failure where it can be handled
    }
  }
}

function noChange() {
  return { changed: new Set<string>(), ended: new Set<string>(), due: new Set<string>(), told: false };
}

/** A write that failed for a reason of its own, after it had changed something. */
class Broken extends Error {
  readonly write: Write;
  constructor(write: Write, cause: unknown) {
    super("A write broke half-way.", { cause });
    this.write = write;
  }
}

function attempt(write: Write, tx: Transaction): Outcome {
  try {
    return { value: write.run(tx) };
  } catch (error) {
    if (isError(error)) return { error };
    throw isStoreFailure(error) ? error : new Broken(write, error);
  }
}

function openVerbs(db: DatabaseSync, auditKey: string | undefined) {
  const inbox = openInbox(db);
  const audit = openAudit(db, auditKey);
  const deliveries = openDeliveries(db);
  const approvals = openApprovals(db, inbox, audit, deliveries);
  const journal = openJournal(db);
  const leases = openLeases(db);
  const claims = openClaims(db, leases, inbox);
  return {
    inbox,
    journal,
    leases,
    claims,
    start: openStart(db, leases, inbox, journal),
    append: openAppend(db, leases, claims, inbox, journal, approvals),
    approvals,
    audit,
    deliveries,
    stops: openStops(db),
    lists: openLists(db),
    breakers: openBreakers(db),
    sweep: openSweep(db),
    dump: openDump(db),
    begin: db.prepare("begin"),
    beginImmediate: db.prepare("begin immediate"),
    commit: db.prepare("commit"),
    dataVersion: db.prepare("pragma data_version"),
  };
}
