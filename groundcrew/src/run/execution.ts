/**
 * One stay of a run in a worker: from the claim to the write that gives the run up again.
 *
 * Whoever works on the run (the agent loop, a flow's body) does two things with it: it enters and leaves steps, and it
 * blocks on things that only time or somebody else can bring. When nothing is in flight and all that is left is blocked, the
 * run parks and its memory goes. There is no other way to wait.
 */
import type { Definition } from "../agent.ts";
import { type Clock, span } from "../clock.ts";
import { type ErrorCode, GroundcrewError } from "../errors.ts";
import type { Bounds } from "../fault/timeout.ts";
import type { Codec } from "../persistence/codec.ts";
import type { Event, Fact, ParkReason } from "../persistence/event.ts";
import type { RunState } from "../persistence/fold.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import type { Claim, RunRow, Signal, Store } from "../persistence/store.ts";
import type { GateDeps } from "./gates.ts";
import { Journal, type Ticker } from "./journal.ts";
import type { SessionState } from "./session-state.ts";
import { childSignal } from "./signal.ts";
import type { LoopWatch } from "./stall.ts";

export interface ExecutionDeps extends GateDeps {
  store: Store;
  codec: Codec;
  clock: Clock;
  ticker: Ticker;
  worker: string;
  agents: ReadonlyMap<string, Definition>;
  /** `once` effects that are at work in this process, also those that nobody waits for any more; by run and step. */
  unsettled: Map<string, Promise<void>>;
  /** Sees when a step keeps all others in this process waiting. */
  watch: LoopWatch;
  /** From 0 to 1; spreads retries. */
  random: () => number;
  supervision: Supervision;
}

/** How people are asked. */
export interface Supervision {
  /** Names of the channels by which they are told. */
  channels: readonly string[];
  /** Nobody is asked: what would have been asked is only recorded. */
  isShadow: boolean;
}

/** What a change to an approval tells its run. */
type ApprovalFact = Extract<Fact, { type: "approval.escalated" | "approval.reminded" | "approval.ended" }>;

/** Why the work on a run stops before its body has ended. */
export type Halt =
  | { to: "parked"; reason: ParkReason; dueAt: number; detail: string; code?: ErrorCode }
  | { to: "queued"; why: string }
  | { to: "cancelled"; why: string; by?: string }
  | { to: "expired"; why?: string }
  | { to: "lost"; error: unknown };

/** Something only time or somebody else can bring. */
export interface Block<T> {
  reason: ParkReason;
  /** For `attention`: what it is about. */
  code?: ErrorCode;
  /** When it comes by itself, or null. */
  dueAt: number | null;
  /** For people: what is waited for. */
  detail: string;
  /** Takes what was waited for, if it is there. */
  take: () => T | undefined;
}

interface Waiting extends Block<unknown> {
  resolve: (value: unknown) => void;
}

const never = new Promise<never>(() => {});

export class Execution {
  readonly run: RunRow;
  readonly deps: ExecutionDeps;
  readonly journal: Journal;
  /** Loaded before any step begins. */
  sessionState!: SessionState;
  /** Resolves once, when the work has to stop before its end. */
  readonly halted: Promise<Halt>;
  /** Resolves when something has come of a run that was suspected to kill its process. */
  readonly cleared: Promise<void>;
  readonly #abort = new AbortController();
  readonly #waiting = new Set<Waiting>();
  readonly #settled = new Set<() => void>();
  #halt: Halt | undefined;
  #resolveHalt!: (halt: Halt) => void;
  #resolveCleared!: () => void;
  #cancelLimit: (() => void) | undefined;
  #inFlight = 0;
  #handBack: string | undefined;
  #idleCheck = false;
  #cancelTimer: (() => void) | undefined;

  constructor(deps: ExecutionDeps, claim: Claim, events: readonly Event[]) {
    this.deps = deps;
    this.run = claim.run;
    this.halted = new Promise((resolve) => {
      this.#resolveHalt = resolve;
    });
    this.cleared = new Promise((resolve) => {
      this.#resolveCleared = resolve;
    });
    this.journal = new Journal(deps, claim, events, (error) => this.halt({ to: "lost", error }));
  }

  get state(): RunState {
    return this.journal.state;
  }

  /** Fires when no step of the run may go on: cancelled, expired, or taken by another worker. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Derived, so that it need not be recorded: the same for every attempt, also of the run that tries this one again; and for no other step. */
  keyOf(step: string): string {
    return `${this.state.created?.forked?.keysOf ?? this.run.id}/${step}`;
  }

  /** What an effect of this run is bounded by. */
  bounds(name: string, timeoutMs: number, graceMs: number): Bounds {
    return { name, timeoutMs, clock: this.deps.clock, signal: this.signal, graceMs };
  }

  get isHalted(): boolean {
    return this.#halt !== undefined;
  }

  /** Stops the work. The first reason counts. */
  halt(halt: Halt): void {
    if (this.#halt) return;
    this.#halt = halt;
    this.#cancelTimer?.();
    if (halt.to === "cancelled" || halt.to === "expired" || halt.to === "lost") this.#abort.abort(reasonOf(halt));
    this.#resolveHalt(halt);
  }

  /** Before a step's effect: the one place where a run that has to stop stops. Never returns when it does. */
  async enter(): Promise<void> {
    if (this.#handBack !== undefined && this.#inFlight === 0) this.halt({ to: "queued", why: this.#handBack });
    if (this.#halt || this.#handBack !== undefined) await never; // what is in flight may end before the run goes
    this.#inFlight++;
  }

  leave(): void {
    this.#inFlight--;
    if (this.state.deaths === 0) this.#resolveCleared();
    if (this.#inFlight > 0) return;
    for (const tell of this.#settled) tell();
    this.#settled.clear();
    if (this.#handBack !== undefined) this.halt({ to: "queued", why: this.#handBack });
    this.#checkIdle();
  }

  get isBusy(): boolean {
    return this.#inFlight > 0;
  }

  /** Resolves when no step is in flight. */
  settled(): Promise<void> {
    return this.#inFlight === 0 ? Promise.resolve() : new Promise((resolve) => this.#settled.add(resolve));
  }

  /**
   * Waits for something that only time or somebody else can bring; in memory as long as a step is in flight, parked after.
   * @param record what is to be written about it. The run counts as busy from the taking to the end of this, so that it does
   * not park for another wait with half of it done.
   */
  async block<T, R>(block: Block<T>, record: (taken: T) => Promise<R>): Promise<R> {
    const taken = this.#take(block) ?? (await this.#untilTaken(block));
    try {
      return await record(taken);
    } finally {
      this.leave();
    }
  }

  #untilTaken<T>(block: Block<T>): Promise<T> {
    return new Promise<T>((resolve) => {
      this.#waiting.add({ ...block, resolve: resolve as (value: unknown) => void });
      this.#checkIdle();
    });
  }

  #take<T>(block: Block<T>): T | undefined {
    const taken = block.take();
    if (taken !== undefined) this.#inFlight++;
    return taken;
  }

  /** Looks whether time or a signal brought what is waited for. */
  poke(): void {
    if (this.#halt) return;
    for (const waiting of [...this.#waiting]) {
      const taken = this.#take(waiting);
      if (taken === undefined) continue;
      this.#waiting.delete(waiting);
      waiting.resolve(taken);
    }
    this.#checkIdle();
  }

  /** Ends it when workers have spent this long on it, earlier stays included. */
  limitWork(totalMs: number): void {
    const why = `workers have spent ${span(totalMs)} on it, which is all it may take`;
    this.#cancelLimit = this.deps.clock.after(Math.max(0, totalMs - this.state.worked.ms), () => this.halt({ to: "expired", why }));
  }

  /** Its stay is over. */
  end(): void {
    this.#cancelLimit?.();
    this.#cancelTimer?.();
  }

  /** From now on no new step begins here; the run is handed back at the next boundary. */
  handBack(why: string): void {
    this.#handBack ??= why;
    if (this.#inFlight === 0) this.halt({ to: "queued", why: this.#handBack });
  }

  /** What waits in the store for this run. */
  async ownSignals(): Promise<Signal[]> {
    const signals = await this.deps.store.inbox(this.deps.worker);
    return signals.filter((signal) => signal.run === this.run.id);
  }

  /** Records signals, once each, and lets them work. */
  receive(signals: readonly Signal[]): void {
    if (this.#halt) return;
    const fresh = signals.filter(({ id }) => !this.state.received.has(id));
    for (const signal of signals) this.journal.consume(signal.id);
    for (const signal of fresh) this.#record(signal);
    if (fresh.length === 0) return;
    this.journal.flush();
    this.heedCancel();
    this.poke();
  }

  /** A cancel that is on record ends the run, also when the worker that recorded it did not come to that. */
  heedCancel(): void {
    const { cancel } = this.state;
    if (cancel) this.halt({ to: "cancelled", why: cancel.why, ...(cancel.from !== undefined && { by: cancel.from }) });
  }

  /** Keeps what people said to a run that ends without an answer: it belongs to the conversation. */
  recordMessages(signals: readonly Signal[]): void {
    for (const signal of signals) {
      if (signal.kind !== "message" || this.state.received.has(signal.id)) continue;
      this.journal.consume(signal.id);
      this.#record(signal);
    }
  }

  #record(signal: Signal): void {
    const from = signal.from === undefined ? {} : { from: signal.from };
    switch (signal.kind) {
      case "signal":
      case "child": {
        const name = signal.kind === "child" ? childSignal(signal.name) : signal.name;
        this.journal.note({
          type: "signal.received",
          id: signal.id,
          name,
          ...(signal.value !== undefined && { value: signal.value }),
          ...from,
        });
        return;
      }
      case "message":
        this.journal.note({ type: "message.received", id: signal.id, message: signal.value ?? null, ...from });
        return;
      case "cancel":
        this.journal.note({
          type: "cancel.requested",
          id: signal.id,
          why: textOf(signal.value, "cancelled"),
          ...from,
        });
        return;
      case "retry":
        this.journal.note({ type: "retry.requested", id: signal.id, ...from });
        return;
      case "pause":
        this.journal.note({ type: "run.paused", id: signal.id, why: textOf(signal.value, "paused"), ...from });
        return;
      case "resume":
        this.journal.note({ type: "run.resumed", id: signal.id, ...from });
        return;
      case "raise":
        this.journal.note({ type: "limit.raised", id: signal.id, steps: Number(signal.value) || 0, ...from });
        return;
      case "handover":
        this.#handOver(signal);
        return;
      case "approval":
        this.journal.note({ ...(signal.value as object), id: signal.id, approval: signal.name } as ApprovalFact);
        return;
      case "resolve":
        this.#resolveStep(signal);
    }
  }

  /** A person takes the conversation, says something in it, or gives it back. */
  #handOver({ id, name, value, from = "a person" }: Signal): void {
    if (name === "take") this.journal.note({ type: "handover.began", id, from });
    else if (name === "back") this.journal.note({ type: "handover.ended", id, from, message: HANDED_BACK });
    else this.journal.note({ type: "handover.said", id, message: value ?? null, from });
  }

  /** A person's answer for a step in doubt. One that comes when the doubt is over is recorded as what it is: too late. */
  #resolveStep(signal: Signal): void {
    const answer = signal.value as { resolution: "happened" | "did_not_happen"; result?: JsonValue };
    this.journal.note({ type: "signal.received", id: signal.id, name: `resolve:${signal.name}`, value: signal.value ?? null });
    if (this.state.steps.get(signal.name)?.status !== "unknown") return;
    this.journal.note({
      type: "step.resolved",
      step: signal.name,
      resolution: answer.resolution,
      by: signal.from ?? "a person",
      ...(answer.result !== undefined && { value: answer.result }),
    });
  }

  /** Parks when nothing is in flight, something is waited for, and the body had its chance to begin another step. */
  #checkIdle(): void {
    this.#armTimer();
    if (this.#idleCheck || this.#inFlight > 0 || this.#waiting.size === 0 || this.#halt) return;
    this.#idleCheck = true;
    setImmediate(() => {
      this.#idleCheck = false;
      if (this.#inFlight > 0 || this.#waiting.size === 0 || this.#halt) return;
      const waiting = [...this.#waiting];
      const isForPeople = (block: Waiting) => block.reason === "attention";
      const first = waiting.find(isForPeople) ?? waiting.find((block) => block.dueAt === null) ?? waiting[0];
      if (!first) return;
      const dueAt = Math.min(this.run.deadline, ...waiting.map((block) => block.dueAt ?? this.run.deadline));
      const code = first.code === undefined ? {} : { code: first.code };
      this.halt({ to: "parked", reason: first.reason, dueAt, detail: waiting.map((block) => block.detail).join("; "), ...code });
    });
  }

  /** While a step is in flight beside a wait, the wait's time is kept here; parked, the store keeps it. */
  #armTimer(): void {
    this.#cancelTimer?.();
    if (this.#halt || this.#waiting.size === 0) return;
    const due = [...this.#waiting].flatMap((block) => block.dueAt ?? []);
    if (due.length > 0) this.#cancelTimer = this.deps.clock.after(Math.min(...due) - this.deps.clock.now(), () => this.poke());
  }
}

/** What its model is told. Not by whom: it would tell the user. */
const HANDED_BACK: JsonValue = {
  role: "user",
  content: "[The conversation was with a person, and is handed back to you now. Go on from here.]",
};

function textOf(value: JsonValue | undefined, otherwise: string): string {
  return typeof value === "string" ? value : otherwise;
}

function reasonOf(halt: Halt): GroundcrewError {
  if (halt.to === "lost") return new GroundcrewError("SUPERSEDED", "The run was continued elsewhere.", { cause: halt.error });
  if (halt.to === "expired")
    return new GroundcrewError("RUN_EXPIRED", `The run has passed its deadline${halt.why ? `: ${halt.why}` : ""}.`);
  return new GroundcrewError("RUN_CANCELLED", "The run was cancelled.");
}
