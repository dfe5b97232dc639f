/**
 * A worker claims due runs, keeps its lease while it works on them, and gives up what it can no longer be sure to hold.
 * What is done with a run is `drive.ts`'s.
 */
import type { Clock } from "../clock.ts";
import { GroundcrewError, isError } from "../errors.ts";
import { isSuspect } from "../fault/quarantine.ts";
import { BREAKER_REFRESH_MS, CLAIM_BATCH, CLOCK_PAUSE_MS, DRAIN_MS, POLL_MS, REJOIN_WAIT_MS } from "../limits.ts";
import type { Change, Claim, Created, NewRun, Quotas, RunRow, Store, WorkerIdentity } from "../persistence/store.ts";
import { drive, setAside, takeUp } from "./drive.ts";
import type { Execution, ExecutionDeps } from "./execution.ts";
import { type Block, LoopWatch, loopBlocked } from "./stall.ts";
import { isStoreTrouble } from "./trouble.ts";

export interface WorkerOptions {
  concurrency: number;
  leaseMs: number;
  /** What bounds agents and tenants, over all workers. */
  quotas?: Quotas | undefined;
  /** A fresh identity of this process; asked for again when a lease was lost. */
  identity: () => WorkerIdentity;
  /** Told what no run can be told: the store is gone, a run could not be taken up. */
  onTrouble: (error: unknown) => void;
}

const SHUTTING_DOWN = "the worker is shutting down";

type Deps = Omit<ExecutionDeps, "worker" | "watch">;

/** A run held here, under the worker id of its claim; while it is being loaded it has no execution yet. */
interface Holding {
  worker: string;
  execution?: Execution;
}

export class Worker {
  readonly #deps: Deps;
  readonly #watch: LoopWatch;
  readonly #options: WorkerOptions;
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #agents: readonly string[];
  readonly #held = new Map<string, Holding>();
  #id = "";
  #state: "new" | "working" | "rejoining" | "draining" | "closed" = "new";
  #renewedAt = 0;
  #refreshedAt = 0;
  #rejoined: Promise<void> = Promise.resolve();
  #claiming: Promise<void> | undefined;
  #lookAgain = false;
  /** Whether the last look ended because this worker was full: then more may be due than it took. */
  #isCut = false;
  #lastTook = 0;
  /** Places that a look may fill that is under way. */
  #wanted = 0;
  /** Whether a signal may have come for a run held here. */
  #isSignalled = false;
  /** Ends when the suspect that runs now, and all before it, are cleared or gone. */
  #trial: Promise<void> = Promise.resolve();
  #unwatch = () => {};
  #cancelPoll = () => {};
  #cancelRenewal = () => {};
  #onEmpty: (() => void)[] = [];

  constructor(deps: Deps, options: WorkerOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#watch = new LoopWatch(deps.clock, (block) => this.#tellBlock(block));
    this.#store = deps.store;
    this.#clock = deps.clock;
    this.#agents = [...deps.agents.keys()];
  }

  get id(): string {
    return this.#id;
  }

  get size(): number {
    return this.#held.size;
  }

  /** Whether it takes up runs: not while it has lost its lease, nor while it shuts down. */
  get isWorking(): boolean {
    return this.#state === "working";
  }

  get isDraining(): boolean {
    return this.#state === "draining" || this.#state === "closed";
  }

  async start(): Promise<void> {
    await this.#join();
    this.#unwatch = this.#store.watch((change) => this.#hear(change));
    this.#watch.start();
    await this.#deps.breakers.refresh();
    this.poke();
  }

  /** Own signals poke by themselves; those of other processes are heard of here. */
  #hear(change: Change): void {
    if (change.runs === null) return this.poke();
    if (change.isForeign && [...change.runs].some((run) => this.#held.has(run))) return this.poke();
    if (change.due) this.#lookSoon();
  }

  /** Something may be due, or a signal may have come: looks now instead of at the next poll. */
  poke(): void {
    this.#isSignalled = true;
    this.#lookSoon();
  }

  #lookSoon(): void {
    if (this.#state !== "working") return;
    if (this.#claiming) {
      this.#lookAgain = true;
      return;
    }
    this.#claiming = this.#look()
      .catch((error) => this.#rejoin(error)) // it cannot claim: its lease is lost, or the store is out of reach
      .finally(() => {
        this.#claiming = undefined;
        if (this.#lookAgain) this.#lookSoon();
        else this.#armPoll();
      });
  }

  /**
   * Begins a run, with the same commit that creates it where there is room for it and nothing else waits.
   * @throws what the store throws
   */
  async begin(run: NewRun): Promise<Created> {
    if (this.#store.sharesCommits) {
      const creating = this.#store.create(run);
      this.poke(); // now: its claim goes into the same commit
      return creating;
    }
    if (!this.#hasRoom(run)) return this.#store.create(run);
    const holding = { worker: this.#id };
    this.#held.set(run.id, holding);
    try {
      const created = await this.#store.create(run, holding.worker);
      if (created.claim && this.#isStill(holding.worker)) this.#take(created.claim, holding);
      else this.#placeUnused(run.id, holding);
      return created;
    } catch (error) {
      this.#placeUnused(run.id, holding);
      // It may be held here all the same, and nobody would know.
      if (isError(error, "STORE_UNAVAILABLE") && holding.worker === this.#id) this.#rejoin(error);
      throw error;
    }
  }

  /** Whether what that worker was given is still this one's to work on: not when it is giving back all it holds. */
  #isStill(worker: string): boolean {
    return worker === this.#id && this.#state !== "rejoining";
  }

  /** Others may have been made to wait for it. */
  #placeUnused(run: string, holding: Holding): void {
    this.#letGo(run, holding);
    if (this.#isCut) this.#lookSoon();
  }

  /** Whether it may be taken up past all that waits: because, as far as is known here, nothing does. */
  #hasRoom({ agent, dueAt }: NewRun): boolean {
    const { concurrency, quotas } = this.#options;
    const isFree = this.#agents.includes(agent) && dueAt <= this.#store.now() && this.#deps.stops.within(quotas) === undefined;
    if (this.#state !== "working" || !isFree) return false;
    this.#isCut ||= this.#held.size + this.#wanted >= concurrency; // this one will wait, and those that come after it are not to pass
    return !this.#isCut;
  }

  #letGo(run: string, holding: Holding): void {
    if (this.#held.get(run) === holding) this.#held.delete(run);
    if (this.#held.size === 0) for (const tell of this.#onEmpty) tell();
  }

  /** Takes up nothing more, lets steps in flight end, hands back what is left after `graceMs`. */
  async drain(graceMs = DRAIN_MS): Promise<void> {
    if (this.#state === "closed" || this.#state === "new") return;
    this.#state = "draining";
    this.#cancelPoll();
    this.#unwatch();
    await Promise.all([this.#claiming, this.#rejoined]);
    for (const { execution } of this.#held.values()) execution?.handBack(SHUTTING_DOWN);
    await this.#emptied(graceMs);
    this.#state = "closed";
    this.#watch.stop();
    this.#cancelRenewal();
    this.#abandonAll(new GroundcrewError("CLOSED", "The worker has shut down."));
    await this.#store.leave(this.#id);
  }

  async #look(): Promise<void> {
    this.#lookAgain = false;
    const maySignal = this.#isSignalled && this.#held.size > 0; // what was sent to a run before its claim comes with the claim
    this.#isSignalled = false;
    if (maySignal) this.#deliver(await this.#store.inbox(this.#id));
    while (this.#state === "working") {
      const room = Math.min(CLAIM_BATCH, this.#options.concurrency - this.#held.size);
      this.#isCut = room <= 0;
      if (this.#isCut) return;
      const worker = this.#id;
      const taken = await this.#takeUp(worker, room);
      if (taken < room) return;
    }
  }

  /** Up to `room` due runs. Until they are held nobody else takes their places. @returns how many there were */
  async #takeUp(worker: string, room: number): Promise<number> {
    this.#wanted = room;
    try {
      await this.#deps.stops.refresh();
      const claims = await this.#store.claim(worker, this.#agents, room, this.#deps.stops.within(this.#options.quotas));
      if (!this.#isStill(worker)) return 0; // it has left, or is about to, and its claims with it
      this.#lastTook = claims.length;
      for (const claim of claims) this.#take(claim, { worker });
      return claims.length;
    } finally {
      this.#wanted = 0;
    }
  }

  #deliver(signals: Claim["signals"]): void {
    const readable = signals.filter(({ isDamaged }) => !isDamaged); // the others keep their run from parking: its next claim sets it aside
    for (const [run, signalsOfRun] of Map.groupBy(readable, (signal) => signal.run)) {
      const execution = this.#held.get(run)?.execution;
      if (execution) execution.receive(signalsOfRun);
      else this.#isSignalled = true; // it is being loaded: looked at again when it is there
    }
  }

  #take(claim: Claim, holding: Holding): void {
    const { id } = claim.run;
    this.#held.set(id, holding);
    this.#work(claim, holding)
      .catch((error) => this.#giveUp(error))
      .finally(() => {
        this.#letGo(id, holding);
        this.#placeLeft(claim.run);
      });
  }

  /** There is room again, here and under quotas. What has become due by the run's own end has been told by the store. */
  #placeLeft({ agent, principal, parent }: RunRow): void {
    const { quotas } = this.#options;
    const hadPlace = [quotas?.agent(agent), quotas?.tenant(principal.tenant)].some((quota) => quota?.concurrency !== undefined);
    const isParentHere = parent !== null && this.#held.has(parent); // and has been told of its child's end
    if (isParentHere) this.poke();
    else if (this.#isCut || hadPlace) this.#lookSoon();
    else if (!this.#claiming) this.#armPoll(); // it may have parked for a time
  }

  async #work(claim: Claim, holding: Holding): Promise<void> {
    const deps = { ...this.#deps, watch: this.#watch, worker: holding.worker };
    try {
      holding.execution = await takeUp(deps, claim);
    } catch (error) {
      if (isStoreTrouble(error)) throw error;
      this.#options.onTrouble(error);
      return setAside(deps, claim, error);
    }
    if (this.#isSignalled) this.#lookSoon();
    if (this.isDraining) holding.execution.handBack(SHUTTING_DOWN);
    if (isSuspect(holding.execution.state)) await this.#alone(holding.execution);
    else await drive(holding.execution);
  }

  /** One suspect at a time, until something has come of it: when the process dies now, it was this one. */
  async #alone(execution: Execution): Promise<void> {
    const before = this.#trial;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#trial = promise;
    await Promise.race([before, execution.halted]);
    const driving = drive(execution);
    void Promise.race([driving.catch(() => {}), execution.cleared])
      .then(() => before)
      .then(resolve);
    await driving;
  }

  /** The store did not take what a run wrote. Whatever is held may be in the same doubt: hand all of it back and begin anew. */
  #giveUp(error: unknown): void {
    if (isError(error, "SUPERSEDED") || this.#state !== "working") return;
    this.#rejoin(error);
  }

  async #join(): Promise<void> {
    const identity = this.#options.identity();
    const sentAt = this.#clock.now();
    await this.#store.join(identity, this.#options.leaseMs);
    if (this.isDraining) return this.#store.leave(identity.id); // told to stop while it was joining
    this.#id = identity.id;
    this.#renewedAt = sentAt;
    this.#state = "working";
    this.#armRenewal();
  }

  #armRenewal(): void {
    this.#cancelRenewal();
    this.#cancelRenewal = this.#clock.after(this.#options.leaseMs / 3, () => {
      this.#renew().catch((error) => this.#options.onTrouble(error));
    });
  }

  async #renew(): Promise<void> {
    const sentAt = this.#clock.now();
    this.#expireRuns(sentAt);
    this.#armRenewal();
    if (sentAt - this.#refreshedAt >= BREAKER_REFRESH_MS) this.#refresh(sentAt);
    const cancelWatchdog = this.#clock.after(this.#renewedAt + this.#options.leaseMs - sentAt, () => {
      this.#rejoin(new GroundcrewError("STORE_UNAVAILABLE", `Worker ${this.#id} could not renew its lease in time.`));
    });
    try {
      if (await this.#store.renew(this.#id, this.#options.leaseMs)) this.#renewedAt = sentAt;
      else this.#rejoin(new GroundcrewError("SUPERSEDED", `Worker ${this.#id} has lost its lease.`));
    } finally {
      cancelWatchdog();
    }
  }

  /** What other workers have found to be down. Where it cannot be read, calls go by what is known here. */
  #refresh(now: number): void {
    this.#refreshedAt = now;
    void this.#deps.breakers.refresh();
  }

  #expireRuns(now: number): void {
    for (const { execution } of this.#held.values()) if (execution && now >= execution.run.deadline) execution.halt({ to: "expired" });
  }

  /** Stops every step, gives every run back if that is still possible, and comes back as a new worker. */
  #rejoin(error: unknown): void {
    if (this.#state !== "working") return;
    this.#state = "rejoining";
    this.#cancelRenewal();
    this.#abandonAll(error);
    this.#options.onTrouble(error);
    this.#rejoined = this.#comeBack();
  }

  async #comeBack(): Promise<void> {
    while (this.#state === "rejoining") {
      try {
        await this.#store.leave(this.#id);
        await new Promise<void>((resolve) => this.#clock.after(REJOIN_WAIT_MS, resolve)); // trouble that stays must not make it spin
        if (this.#state !== "rejoining") return;
        await this.#join();
        return this.poke();
      } catch (error) {
        this.#options.onTrouble(error);
        await new Promise<void>((resolve) => this.#clock.after(REJOIN_WAIT_MS, resolve));
      }
    }
  }

  /** Nobody got a turn meanwhile. Who, most likely, did it has it on record. */
  #tellBlock(block: Block): void {
    this.#options.onTrouble(loopBlocked(block));
    for (const [run, its] of Map.groupBy(block.steps, (step) => step.run)) {
      const execution = this.#held.get(run)?.execution;
      if (execution && !execution.isHalted)
        execution.journal.note({ type: "loop.blocked", ms: block.blockedMs, steps: its.map(({ step }) => step) });
    }
  }

  #abandonAll(error: unknown): void {
    for (const { execution } of this.#held.values()) execution?.halt({ to: "lost", error });
  }

  /** Looks again when the next timer is due, and at the latest after a while: for what quotas held back, and for workers that are gone. */
  #armPoll(): void {
    this.#cancelPoll();
    if (this.#state !== "working") return;
    this.#cancelPoll = this.#clock.after(POLL_MS, () => this.poke());
    this.#store.nextDue(this.#agents).then((due) => this.#wakeAt(due), this.#options.onTrouble);
  }

  #wakeAt(due: number | null): void {
    if (due === null || this.#state !== "working" || this.#held.size >= this.#options.concurrency) return;
    const left = due - this.#clock.now();
    if (left <= 0 && this.#lastTook > 0) return this.poke();
    const wait = left > 0 ? left : CLOCK_PAUSE_MS;
    if (wait >= POLL_MS) return;
    this.#cancelPoll();
    this.#cancelPoll = this.#clock.after(wait, () => this.poke());
  }

  #emptied(withinMs: number): Promise<void> {
    if (this.#held.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#clock.after(withinMs, resolve);
      this.#onEmpty.push(() => {
        cancel();
        resolve();
      });
    });
  }
}
