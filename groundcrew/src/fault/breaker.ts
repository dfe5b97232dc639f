/**
 * Breakers: what is down is not asked, but for one call at a time of all workers, which finds out whether it is up again.
 *
 * Each process counts for itself, so a call that goes well costs no store access. When more than half of the calls of a minute,
 * and at least five of them, have failed, the breaker opens, for all workers: for 5 s, then for twice as long each time that its probe
 * fails, up to a minute. Then the first who asks becomes the probe, by compare-and-set in the store; the others are sent away,
 * each until another moment.
 *
 * How often what is down is asked, whatever the number of runs: the calls in flight when it goes down (one per run at most), those
 * that workers begin before they have heard of it (their first failure or the next `refresh`, whichever comes first), then one
 * probe per opening: after 5, 10, 20, 40 s and then every 60 s, which is 62 in an hour. With 1,000 runs: at most 1,062 calls in that hour.
 *
 * The store being away never touches a run: a process then goes by what it knows itself, and tells the others later.
 */
import { randomUUID } from "node:crypto";
import type { Failure, FailureReason } from "../failure.ts";
import { BREAKER_FAILURES, BREAKER_LOOK_MS, BREAKER_SPREAD, FIRST_BREAKER_MS, MAX_BREAKER_MS, MAX_BREAKERS } from "../limits.ts";
import { type Breaker, isBreakerKey, type Store, unknownBreaker } from "../persistence/store.ts";
import { Window } from "./window.ts";

/** Leave to call; goes back to `settle` with what came of it. */
export interface Pass {
  readonly go: true;
  /** Whether this call finds out for all others. */
  readonly isProbe: boolean;
  /** What is called was down, and this is the first call of this process since: many may be waiting to go behind it. */
  readonly isReturning: boolean;
  /** The breaker's, when it was given. */
  readonly version: number;
  readonly opened: number;
}

/** When to ask again, on the wall clock of the store, and why not now. */
export interface SentAway {
  readonly go: false;
  readonly until: number;
  readonly why: string;
}

export type Admission = Pass | SentAway;

export interface BreakerDeps {
  store: Pick<Store, "breakers" | "turn" | "now">;
  /** Between 0 and 1. */
  random: () => number;
  /** Told once when the store is away, not once per call. */
  onTrouble: (error: unknown) => void;
}

/** What this process knows of one. */
interface Entry {
  breaker: Breaker;
  readonly window: Window;
  /** Whether the store has it as well. */
  isShared: boolean;
  /** Turns that the store has not answered: what is read meanwhile may be from before them. */
  turning: number;
  /** A key that no store takes: known here alone. */
  readonly isPrivate: boolean;
  isReturning: boolean;
}

/** What something becomes; undefined: it is left as it is. */
type Change = (from: Breaker) => Breaker | undefined;

const FREE: Pass = { go: true, isProbe: false, isReturning: false, version: 0, opened: 0 };

const DOWN: ReadonlySet<FailureReason> = new Set(["overloaded", "server_error", "timeout", "network", "bad_response"]);

/** Nobody was asked, or nobody waited for the answer. */
const SILENT: ReadonlySet<FailureReason> = new Set(["aborted", "unavailable"]);

export class Breakers {
  readonly #deps: BreakerDeps;
  readonly #id = randomUUID();
  #turns = 0;
  readonly #entries = new Map<string, Entry>();
  #isStoreAway = false;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #refreshing: Promise<void> | undefined;

  constructor(deps: BreakerDeps) {
    this.#deps = deps;
  }

  /** May it be called? At once where nothing is wrong. */
  admit(key: string): Admission | Promise<Admission> {
    const entry = this.#entries.get(key);
    if (!entry) return FREE;
    const { breaker, isReturning } = entry;
    const { version, opened } = breaker;
    if (breaker.state === "closed") {
      entry.isReturning = false;
      return { go: true, isProbe: false, isReturning, version, opened };
    }
    const now = this.#deps.store.now();
    return isDue(breaker, now) ? this.#probe(key, entry, now) : this.#sendAway(breaker, now);
  }

  /**
   * What came of a call.
   * @param failure undefined: it went well.
   */
  settle(key: string, pass: Pass, failure: Failure | undefined): void | Promise<void> {
    if (pass.isProbe) return this.#settleProbe(key, pass, failure);
    if (failure && SILENT.has(failure.reason)) return;
    const entry = this.#entryOf(key);
    const { version, state } = entry.breaker;
    if (pass.version !== version || state !== "closed") return; // begun before a turn: it says nothing of the time since
    const now = this.#deps.store.now();
    const isDown = failure !== undefined && DOWN.has(failure.reason);
    entry.window.count(now, isDown);
    if (!isDown) return;
    const { calls, failures } = entry.window.sum(now);
    if (failures < BREAKER_FAILURES || 2 * failures <= calls) return this.#lookAround(now);
    const why = `${failures} of ${calls} calls failed within a minute, the last with ${said(failure)}`;
    return this.#turn(entry, (from) => (from.state === "closed" ? this.#opened({ ...from, trips: 0 }, why) : undefined)).then(() => {});
  }

  /** Reads what the others know, and tells them what they do not. To be called every few seconds. */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  /** Calls begin to fail here: the others may know more. */
  #lookAround(now: number): void | Promise<void> {
    if (Math.abs(now - this.#lookedAt) < BREAKER_LOOK_MS) return;
    this.#lookedAt = now;
    return this.refresh();
  }

  async #probe(key: string, entry: Entry, now: number): Promise<Admission> {
    const isMine = await this.#turn(entry, (from) => {
      if (from.state === "closed" || !isDue(from, now)) return undefined;
      return this.#next(from, { state: "probing", until: now + MAX_BREAKER_MS });
    });
    if (!isMine) return this.admit(key); // somebody was faster
    const { version, opened } = isMine;
    return { go: true, isProbe: true, isReturning: false, version, opened };
  }

  async #settleProbe(key: string, pass: Pass, failure: Failure | undefined): Promise<void> {
    const entry = this.#entryOf(key);
    const isMine = (from: Breaker) => from.state === "probing" && from.version === pass.version;
    if (failure && DOWN.has(failure.reason)) {
      const why = `still down when asked again: ${said(failure)}`;
      await this.#turn(entry, (from) => (isMine(from) ? this.#opened(from, why) : undefined));
    } else if (failure && SILENT.has(failure.reason)) {
      const until = this.#deps.store.now();
      await this.#turn(entry, (from) => (isMine(from) ? this.#next(from, { state: "open", until }) : undefined));
    } else {
      // Also where another probe has begun because this one took long: both were begun after the breaker opened.
      const isSameTrip = (from: Breaker) => from.state !== "closed" && from.opened === pass.opened;
      await this.#turn(entry, (from) => (isSameTrip(from) ? this.#closed(from) : undefined));
    }
  }

  #sendAway(breaker: Breaker, now: number): Admission {
    const wait = openMs(breaker.trips);
    // How long a probe takes nobody knows: as long as the breaker was open is soon enough.
    const from = breaker.state === "open" ? breaker.until : Math.min(breaker.until, now + wait);
    const until = Math.ceil(from + this.#deps.random() * BREAKER_SPREAD * wait);
    return { go: false, until, why: breaker.state === "open" ? breaker.why : `${breaker.why}; one call finds out whether it still is` };
  }

  #next(from: Breaker, change: Partial<Breaker>): Breaker {
    this.#turns += 1; // so that no two turns are alike, not even two of this process
    return { ...from, ...change, version: from.version + 1, by: `${this.#id}/${this.#turns}` };
  }

  #opened(from: Breaker, why: string): Breaker {
    const trips = from.trips + 1;
    const until = this.#deps.store.now() + openMs(trips);
    return this.#next(from, { state: "open", until, trips, why, opened: from.version + 1 });
  }

  #closed(from: Breaker): Breaker {
    return this.#next(from, { state: "closed", until: this.#deps.store.now(), trips: 0, why: "" });
  }

  /**
   * Here it counts at once, so that nobody in this process waits for the store. When somebody has turned it before, theirs
   * counts, and `change` is asked once more what to make of that.
   * @returns what it became; undefined when nothing was to be done.
   */
  async #turn(entry: Entry, change: Change, known = entry.breaker): Promise<Breaker | undefined> {
    for (let from = known; ; ) {
      const next = change(from);
      if (!next) return undefined;
      set(entry, next);
      entry.isShared = false;
      entry.turning += 1;
      const stored = entry.isPrivate ? undefined : await this.#ask((store) => store.turn(next));
      entry.turning -= 1;
      if (!stored) return next;
      const isMine = stored.version === next.version && stored.by === next.by;
      if (entry.breaker === next) adopt(entry, stored);
      if (isMine) return next;
      from = stored;
    }
  }

  async #refresh(): Promise<void> {
    const before = new Map<string, Breaker>();
    for (const [key, { breaker, turning }] of this.#entries) if (turning === 0) before.set(key, breaker);
    const rows = await this.#ask((store) => store.breakers());
    if (!rows) return;
    const isUntouched = (key: string, { breaker }: Entry) => breaker === before.get(key);
    const told = new Set<string>();
    const changes: Promise<void>[] = [];
    for (const row of rows) {
      told.add(row.key);
      const isNew = !this.#entries.has(row.key);
      const entry = this.#entryOf(row.key);
      if (isNew || isUntouched(row.key, entry)) changes.push(this.#hear(entry, row));
    }
    for (const [key, entry] of this.#entries) {
      if (!told.has(key) && isUntouched(key, entry)) changes.push(this.#hear(entry, undefined));
    }
    await Promise.all(changes);
  }

  /** What the store has of it, set against what is known here. @param row undefined: it is closed, or nobody has turned it. */
  async #hear(entry: Entry, row: Breaker | undefined): Promise<void> {
    const { breaker: here, isShared, isPrivate } = entry;
    if (isPrivate) return;
    if (row) {
      const isClosedHere = !isShared && here.state === "closed" && here.opened === row.opened;
      if (isClosedHere) await this.#turn(entry, (from) => (from.opened === row.opened ? this.#closed(from) : undefined), row);
      else adopt(entry, row);
    } else if (here.state !== "closed") {
      if (isShared) adopt(entry, { ...here, state: "closed", trips: 0, why: "" });
      else await this.#turn(entry, (from) => (from.state === "closed" ? this.#retold(from, here) : undefined), unknownBreaker(here.key));
    }
  }

  /** What happened here while the store was away, said on top of what it has. */
  #retold(from: Breaker, here: Breaker): Breaker {
    return this.#next({ ...here, version: from.version }, {});
  }

  /** Whatever the store answers; undefined when it is away. */
  async #ask<T>(question: (store: BreakerDeps["store"]) => Promise<T>): Promise<T | undefined> {
    try {
      const answer = await question(this.#deps.store);
      this.#isStoreAway = false;
      return answer;
    } catch (error) {
      if (!this.#isStoreAway) this.#deps.onTrouble(error);
      this.#isStoreAway = true;
      return undefined;
    }
  }

  #entryOf(key: string): Entry {
    const known = this.#entries.get(key);
    if (known) return known;
    if (this.#entries.size >= MAX_BREAKERS) this.#forgetOne();
    const entry: Entry = {
      breaker: unknownBreaker(key),
      window: new Window(),
      isShared: true,
      turning: 0,
      isPrivate: !isBreakerKey(key),
      isReturning: false,
    };
    this.#entries.set(key, entry);
    return entry;
  }

  /** The oldest that is closed. */
  #forgetOne(): void {
    let found: string | undefined;
    for (const [key, { breaker }] of this.#entries) {
      found ??= key;
      if (breaker.state !== "closed") continue;
      found = key;
      break;
    }
    if (found !== undefined) this.#entries.delete(found);
  }
}

/** Takes over what the store has. */
function adopt(entry: Entry, stored: Breaker): void {
  entry.isShared = true;
  const { version, by, state } = entry.breaker;
  if (stored.version === version && stored.by === by && stored.state === state) return;
  set(entry, stored);
}

function set(entry: Entry, breaker: Breaker): void {
  if (breaker.state === "closed") entry.isReturning ||= entry.breaker.state !== "closed";
  entry.breaker = breaker;
  entry.window.clear();
}

/** A time that is much further away than any that is set is from before the clock jumped back. A little is in the nature of clocks. */
function isDue({ until }: Breaker, now: number): boolean {
  return until <= now || until - now > 2 * MAX_BREAKER_MS;
}

function openMs(trips: number): number {
  return Math.min(MAX_BREAKER_MS, FIRST_BREAKER_MS * 2 ** (trips - 1));
}

function said({ reason, status }: Failure): string {
  return status === undefined ? reason : `${reason} (${status})`;
}
