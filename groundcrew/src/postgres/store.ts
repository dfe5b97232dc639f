/**
 * The store for many machines: any PostgreSQL from version 14 on, any number of processes. Appends and starts of one process
 * go in group commits, everything else in a transaction of its own (docs/decisions/0009-postgres-store.md).
 */
import type { Clock } from "../clock.ts";
import { GroundcrewError, isError } from "../errors.ts";
import { MAX_JOURNALS, MAX_POSTGRES_PAUSE_MS } from "../limits.ts";
import { type Amended, type Amendment, type ApprovalFilter, type ApprovalRow, checkNews } from "../persistence/approval.ts";
import type { AuditEntry, AuditHead, StoredAudit } from "../persistence/audit.ts";
import type { Delivery, DeliveryOutcome } from "../persistence/delivery.ts";
import type { DumpPage, StoredUnit } from "../persistence/dump.ts";
import { GroupCommit, type Outcome } from "../persistence/group-commit.ts";
import { type PreparedAppend, prepareAppend } from "../persistence/prepare.ts";
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
import { Appender } from "./append.ts";
import { amend, findApproval, listApprovals } from "./approval.ts";
import { appendAudit, auditHeads, auditPage } from "./audit.ts";
import { notClosed, turn } from "./breaker.ts";
import { Claims, nextDues } from "./claim.ts";
import type { Committed, Connection } from "./connection.ts";
import { nextDelivery, settleDelivery, takeDeliveries } from "./delivery.ts";
import { dumpPage, mustBeIdle } from "./dump.ts";
import { mayPass, storeError } from "./error.ts";
import { Gathered } from "./gather.ts";
import { type Message, ofWorker, signalAll } from "./inbox.ts";
import { Journals, readBlob } from "./journal.ts";
import { freeUnheld, join, leave, Reaper, renew } from "./lease.ts";
import { findRuns, findSession, listRuns, listSessions } from "./list.ts";
import { loadAll } from "./load.ts";
import { Pages } from "./pages.ts";
import type { Transaction } from "./row.ts";
import { checkStart, createAll, createTurn, refuseTakenId, type Start } from "./start.ts";
import { allStops, liftStop, setStop } from "./stop.ts";
import { sweep } from "./sweep.ts";
import { Watch } from "./watch.ts";

export class PostgresStore implements Store {
  readonly location: string;
  readonly sharesCommits = false;
  readonly #connection: Connection;
  readonly #auditKey: string | undefined;
  readonly #appends: GroupCommit<PreparedAppend>;
  readonly #appender: Appender;
  readonly #starts: GroupCommit<Start>;
  readonly #signals: GroupCommit<Message>;
  readonly #claims: Claims;
  readonly #reaper: Reaper;
  readonly #watch: Watch;
  readonly #pages: Pages;
  readonly #journals: Journals;
  readonly #runs: Gathered<string, RunRow | null>;
  readonly #dues: Gathered<readonly string[], number | null>;
  #closing: Promise<void> | undefined;

  constructor(connection: Connection, clock: Clock, { pollMs, auditKey }: { pollMs: number | undefined; auditKey: string | undefined }) {
    this.#auditKey = auditKey;
    this.location = connection.location;
    this.#connection = connection;
    this.#appender = new Appender(connection, auditKey);
    this.#appends = this.#grouped((batch) => this.#appender.flush(batch));
    this.#starts = this.#grouped((batch) => connection.once((tx) => createAll(tx, batch, auditKey), true).catch(refuseTakenId(batch)));
    this.#signals = this.#grouped((batch) => connection.once((tx) => signalAll(tx, batch, auditKey)));
    this.#claims = new Claims(connection, (work, isAhead) => this.#commit(work, isAhead));
    this.#reaper = new Reaper(connection, (work) => this.#commit(work));
    this.#pages = new Pages(connection);
    this.#journals = new Journals(connection);
    this.#runs = new Gathered(connection.isDistributed ? 1 : MAX_JOURNALS, (ids) => findRuns(connection, ids));
    this.#dues = new Gathered(Number.POSITIVE_INFINITY, (asked) => connection.look((sql) => nextDues(sql, asked)));
    this.#watch = new Watch(connection, clock, pollMs);
  }

  now(): number {
    return this.#connection.localNow();
  }

  join(worker: WorkerIdentity, leaseMs: number): Promise<void> {
    return this.#commit(async (tx) => {
      await join(tx, worker, leaseMs);
      await freeUnheld(tx);
    });
  }

  renew(worker: string, leaseMs: number): Promise<boolean> {
    return this.#commit((tx) => renew(tx, worker, leaseMs));
  }

  isAlive(worker: string): Promise<boolean> {
    return this.#reaper.isAlive(worker);
  }

  leave(worker: string): Promise<void> {
    return this.#commit((tx) => leave(tx, worker));
  }

  async create(run: NewRun, worker?: string): Promise<Created> {
    checkStart(run);
    const { session } = run;
    const start: Start = { run, worker: worker === undefined || this.#connection.isDistributed ? null : worker };
    const created = session
      ? await this.#commit((tx) => createTurn(tx, start, session, this.#auditKey))
      : ((await this.#starts.submit(start, weight(run.events.length * 200 + sizeOf(run.blobs)))) as Created);
    if (created.claim) this.#appender.remember(created.claim, run.events.length);
    return created;
  }

  async claim(worker: string, agents: readonly string[], limit: number, quotas?: Quotas): Promise<Claim[]> {
    await this.#reaper.reap(worker, this.now());
    return this.#claims.claim(worker, agents, limit, quotas);
  }

  async append(write: Append): Promise<Appended> {
    const prepared = prepareAppend(write);
    return this.#appends.submit(prepared, weight(prepared.bytes)) as Promise<Appended>;
  }

  signal(signal: Omit<Signal, "at">, audit: readonly AuditEntry[] = []): Promise<boolean> {
    return this.#signals.submit({ signal, audit }) as Promise<boolean>;
  }

  async amend(amendment: Amendment): Promise<Amended> {
    checkNews(amendment.deliveries);
    return this.#commit((tx) => amend(tx, amendment, this.#auditKey));
  }

  async approval(id: string): Promise<ApprovalRow | null> {
    return findApproval(this.#connection, id);
  }

  approvals(filter: ApprovalFilter): Promise<ApprovalRow[]> {
    return listApprovals(this.#connection, filter);
  }

  record(entries: readonly AuditEntry[]): Promise<void> {
    return this.#commit((tx) => appendAudit(tx, entries, this.#auditKey));
  }

  audit(tenant: string, after: number, limit: number): Promise<StoredAudit[]> {
    return auditPage(this.#connection, tenant, after, limit);
  }

  auditHeads(tenant?: string): Promise<AuditHead[]> {
    return auditHeads(this.#connection, tenant);
  }

  takeDeliveries(limit: number, leaseMs: number): Promise<Delivery[]> {
    return this.#commit((tx) => takeDeliveries(tx, limit, leaseMs));
  }

  settleDelivery(id: string, outcome: DeliveryOutcome, audit: readonly AuditEntry[]): Promise<void> {
    return this.#commit(async (tx) => {
      if (await settleDelivery(tx, id, outcome)) await appendAudit(tx, audit, this.#auditKey);
    });
  }

  nextDelivery(): Promise<number | null> {
    return nextDelivery(this.#connection);
  }

  stops(): Promise<Stop[]> {
    return allStops(this.#connection);
  }

  stop(stop: Omit<Stop, "at">, audit: readonly AuditEntry[]): Promise<void> {
    return this.#commit(async (tx) => {
      await setStop(tx, stop);
      await appendAudit(tx, audit, this.#auditKey);
    });
  }

  lift(agent: string, audit: readonly AuditEntry[]): Promise<boolean> {
    return this.#commit(async (tx) => {
      const wasStopped = await liftStop(tx, agent);
      if (wasStopped) await appendAudit(tx, audit, this.#auditKey);
      return wasStopped;
    });
  }

  inbox(worker: string): Promise<Signal[]> {
    return this.#connection.look((sql) => ofWorker(sql, worker));
  }

  nextDue(agents: readonly string[]): Promise<number | null> {
    return this.#dues.ask(agents);
  }

  breakers(): Promise<Breaker[]> {
    return notClosed(this.#connection);
  }

  turn(next: Breaker): Promise<Breaker> {
    return this.#commit((tx) => turn(tx, next));
  }

  run(id: string): Promise<RunRow | null> {
    return this.#runs.ask(id);
  }

  runs(filter: RunFilter): Promise<RunRow[]> {
    return listRuns(this.#connection, filter);
  }

  read(run: string, after: Cursor, limit: number): Promise<Page> {
    return this.#pages.read(run, after, limit);
  }

  journal(run: string): ReturnType<Store["journal"]> {
    return this.#journals.read(run);
  }

  last(run: string): ReturnType<Store["last"]> {
    return this.#journals.last(run);
  }

  session(tenant: string, id: string): Promise<SessionRow | null> {
    return findSession(this.#connection, tenant, id);
  }

  sessions(filter: SessionFilter): Promise<SessionRow[]> {
    return listSessions(this.#connection, filter);
  }

  blob(hash: string): Promise<string | null> {
    return readBlob(this.#connection, hash);
  }

  sweep(policy: SweepPolicy): Promise<SweepReport> {
    return this.#commit((tx) => sweep(tx, policy));
  }

  async dump(after: string | null, limit: number): Promise<DumpPage> {
    return this.#connection.read(async (sql) => {
      await mustBeIdle(sql, this.#connection.now, this.location);
      return dumpPage(sql, after, limit, this.location);
    });
  }

  load(units: readonly StoredUnit[]): Promise<void> {
    return this.#commit(async (tx) => {
      await mustBeIdle(tx, tx.now, this.location);
      await loadAll(tx, units);
    });
  }

  watch(listener: (change: Change) => void): () => void {
    return this.#watch.add(listener);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.all([this.#appends.close(), this.#starts.close(), this.#signals.close()]);
    await this.#watch.close();
    await this.#connection.close();
  }

  /** A transaction, and what it changed told. */
  async #commit<T>(work: (tx: Transaction) => Promise<T>, isAhead = false): Promise<T> {
    if (this.#closing) throw new GroundcrewError("CLOSED", "The store is closed.");
    return this.#told(await this.#connection.transaction(work, isAhead));
  }

  #told<T>({ value, changed, ended, due }: Committed<T>): T {
    if (changed.size > 0 || due) this.#watch.tell({ runs: changed, ended, due });
    return value;
  }

  #grouped<W>(write: (batch: readonly W[]) => Promise<Committed<Outcome[]>>): GroupCommit<W> {
    const flush = async (batch: readonly W[]) => this.#told(await write(batch));
    return new GroupCommit<W>({
      flush: (batch) =>
        flush(batch).catch((failure) => {
          if (mayPass(failure) || isError(failure)) throw failure;
          return this.#oneByOne(batch, flush, failure);
        }),
      transient: (failure) => (mayPass(failure) ? storeError(failure, this.location) : null),
      maxPauseMs: MAX_POSTGRES_PAUSE_MS,
    });
  }

  /** One write broke the batch. It is to blame alone: the others are written without it. */
  async #oneByOne<W>(batch: readonly W[], flush: (batch: readonly W[]) => Promise<Outcome[]>, failure: unknown): Promise<Outcome[]> {
    if (batch.length === 1) return [{ error: storeError(failure, this.location) }];
    const outcomes: Outcome[] = [];
    for (const write of batch) outcomes.push(...(await flush([write]).catch((error) => [{ error: storeError(error, this.location) }])));
    return outcomes;
  }
}

/** What a write weighs in a batch, in rows of a few kilobytes. */
function weight(bytes: number): number {
  return 1 + Math.floor(bytes / BYTES_PER_ROW);
}

const BYTES_PER_ROW = 8192;

function sizeOf(blobs: readonly { data: string }[]): number {
  return blobs.reduce((sum, { data }) => sum + data.length, 0);
}
