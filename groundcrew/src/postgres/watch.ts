/**
 * Who wants to know of changes. Own ones are told at once; other processes announce theirs by NOTIFY, which is a hint: it may
 * be lost on the way, or swallowed by a pooler, so a watcher also looks by itself, seldom while it hears and often while not.
 *
 * An announcement is no part of the transaction it is about: PostgreSQL lets transactions that notify commit only one after
 * the other.
 */
import { randomUUID } from "node:crypto";
import type { Client } from "pg";
import type { Clock } from "../clock.ts";
import {
  ANNOUNCE_EVERY_MS,
  DEAF_POLL_MS,
  EAR_LINGER_MS,
  ECHO_MS,
  LISTENING_POLL_MS,
  MAX_ANNOUNCEMENT_BYTES,
  RELISTEN_MS,
} from "../limits.ts";
import type { Change } from "../persistence/store.ts";
import type { Connection } from "./connection.ts";

const CHANNEL = "groundcrew";

/** What is said: who says it, whether a run may have become due, and which runs changed; null for more than fit in. */
interface Announcement {
  from: string;
  due: boolean;
  runs: string[] | null;
  ended: string[];
}

type Told = Extract<Change, { ended: unknown }>;

export class Watch {
  readonly #connection: Connection;
  readonly #clock: Clock;
  readonly #pollMs: number | undefined;
  readonly #self = randomUUID();
  readonly #listeners = new Set<(change: Change) => void>();
  #ear: Client | undefined;
  #listening: Promise<void> | undefined;
  #hears = false;
  #isClosed = false;
  #stopPolling = () => {};
  #stopRetry = () => {};
  #unsaid: { runs: Set<string>; ended: Set<string>; due: boolean } | undefined;
  #rests = false;

  /** @param pollMs how often to look by itself, whether it hears or not. Default: `LISTENING_POLL_MS` or `DEAF_POLL_MS`. */
  constructor(connection: Connection, clock: Clock, pollMs: number | undefined) {
    this.#connection = connection;
    this.#clock = clock;
    this.#pollMs = pollMs;
  }

  add(listener: (change: Change) => void): () => void {
    const own = (change: Change) => listener(change); // the same function may watch twice
    this.#listeners.add(own);
    if (this.#listeners.size === 1) {
      void this.#listen();
      this.#poll();
    }
    return () => {
      if (this.#listeners.delete(own) && this.#listeners.size === 0) this.#rest();
    };
  }

  /** Own changes, which are durable by now. */
  tell(change: Told): void {
    this.#pass(change);
    this.#unsaid ??= { runs: new Set(), ended: new Set(), due: false };
    for (const run of change.runs) this.#unsaid.runs.add(run);
    for (const run of change.ended) this.#unsaid.ended.add(run);
    this.#unsaid.due ||= change.due === true;
    if (!this.#rests) this.#announce();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#listeners.clear();
    this.#rest();
    await this.#listening;
    await this.#deafen();
  }

  #pass(change: Change): void {
    for (const listener of this.#listeners) queueMicrotask(() => listener(change));
  }

  /** The first change of a burst is announced at once, the others together a little later. */
  #announce(): void {
    const said = this.#unsaid;
    if (!said || this.#isClosed) return;
    this.#unsaid = undefined;
    this.#rests = true;
    const doesFit = said.runs.size > 0 && [...said.runs].join().length < MAX_ANNOUNCEMENT_BYTES / 2;
    const runs = doesFit ? [...said.runs] : null; // without any it is about something else, such as a stop
    const words: Announcement = { from: this.#self, due: said.due, runs, ended: runs ? [...said.ended] : [] };
    this.#notify(words);
    setTimeout(() => {
      this.#rests = false;
      this.#announce();
    }, ANNOUNCE_EVERY_MS).unref();
  }

  /** Whoever misses it looks by itself: a server that is away is noticed by everything else. */
  #notify(words: Announcement): void {
    this.#connection.query("select pg_notify($1, $2)", [CHANNEL, JSON.stringify(words)]).catch(() => {});
  }

  /** One connection at a time, however often watchers come and go. */
  #listen(): Promise<void> {
    this.#listening ??= this.#openEar().finally(() => {
      this.#listening = undefined;
    });
    return this.#listening;
  }

  /** Trouble with listening is trouble of this connection alone, and only makes it poll: what matters is read, not heard. */
  async #openEar(): Promise<void> {
    if (this.#ear || this.#isClosed) return;
    try {
      const ear = await this.#connection.dedicated();
      this.#ear = ear;
      (ear as Client & { unref(): void }).unref(); // to listen is no reason for a process to stay
      ear.on("notification", ({ payload }) => this.#heard(payload ?? ""));
      ear.once("end", () => this.#lost(ear));
      await ear.query(`listen ${CHANNEL}`);
      this.#notify({ from: this.#self, due: false, runs: [], ended: [] }); // to hear oneself: the proof that it does hear
      this.#retryIn(ECHO_MS, () => !this.#hears && this.#lost(ear));
      if (this.#listeners.size === 0) this.#rest(); // they went away meanwhile
    } catch {
      await this.#deafen();
      this.#retryIn(RELISTEN_MS, () => this.#listeners.size > 0 && this.#listen());
    }
  }

  #heard(payload: string): void {
    const words = announcementOf(payload);
    if (!words) return this.#pass({ runs: null }); // another program's, or another release's: anything may have changed
    const { from, due, runs, ended } = words;
    if (!this.#hears) {
      this.#hears = true;
      this.#poll();
    }
    if (from === this.#self || runs?.length === 0) return;
    this.#pass(runs ? { runs: new Set(runs), ended: new Set(ended), due, isForeign: true } : { runs: null });
  }

  #lost(ear: Client): void {
    if (this.#ear !== ear) return;
    this.#ear = undefined;
    this.#hears = false;
    void ear.end().catch(() => {});
    if (this.#listeners.size === 0) return;
    this.#pass({ runs: null }); // something may have been said meanwhile
    this.#poll();
    this.#retryIn(RELISTEN_MS, () => this.#listeners.size > 0 && this.#listen());
  }

  #retryIn(ms: number, task: () => unknown): void {
    this.#stopRetry();
    const timer = setTimeout(task, ms);
    timer.unref();
    this.#stopRetry = () => clearTimeout(timer);
  }

  #poll(): void {
    this.#stopPolling();
    if (this.#listeners.size === 0) return;
    const everyMs = this.#pollMs ?? (this.#hears ? LISTENING_POLL_MS : DEAF_POLL_MS);
    this.#stopPolling = this.#clock.after(everyMs, () => {
      this.#pass({ runs: null });
      this.#poll();
    });
  }

  /** Nobody watches. The connection stays for a while: watchers come and go with every request. */
  #rest(): void {
    this.#stopPolling();
    this.#retryIn(EAR_LINGER_MS, () => this.#listeners.size === 0 && this.#deafen());
  }

  async #deafen(): Promise<void> {
    this.#stopRetry();
    const ear = this.#ear;
    this.#ear = undefined;
    this.#hears = false;
    (ear as (Client & { ref(): void }) | undefined)?.ref(); // its end is waited for: the process must not end before
    await ear?.end().catch(() => {});
  }
}

/** What was said, or null for anything that is not ours to understand: whoever may connect may say something here. */
function announcementOf(payload: string): Announcement | null {
  try {
    const said = JSON.parse(payload) as Partial<Announcement> | null;
    const isList = (list: unknown): list is string[] => Array.isArray(list) && list.every((item) => typeof item === "string");
    if (typeof said?.from !== "string" || !(said.runs === null || isList(said.runs)) || !isList(said.ended)) return null;
    return { from: said.from, due: said.due === true, runs: said.runs, ended: said.ended };
  } catch {
    return null;
  }
}
