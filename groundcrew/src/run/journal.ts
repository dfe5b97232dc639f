/**
 * The pen of the one worker that holds a run. What it writes is folded into `state` at once and stored under the claim's
 * epoch; a write that is refused ends the execution, so `state` is never ahead of a journal that somebody else continues.
 *
 * Most facts need not wait for the disk by themselves: `note` keeps them until the next `commit`, or until the ticker comes
 * by, so a read step costs one durable write and a stream of tokens some twenty a second.
 */
import type { Clock } from "../clock.ts";
import { GroundcrewError } from "../errors.ts";
import { failpoint } from "../failpoint.ts";
import { COALESCE_MS, MAX_EVENTS_PER_RUN, MAX_PROGRESS_CHARS } from "../limits.ts";
import type { Codec } from "../persistence/codec.ts";
import type { Chunk, Event, Fact } from "../persistence/event.ts";
import { apply, fold, type RunState } from "../persistence/fold.ts";
import type { Blob, JsonValue } from "../persistence/json-value.ts";
import type { Append, Appended, Claim, Store, Transition } from "../persistence/store.ts";
import { loadValue } from "../persistence/value.ts";
import { asideOf } from "../supervision/aside.ts";

export interface JournalDeps {
  store: Store;
  codec: Codec;
  clock: Clock;
  ticker: Ticker;
  worker: string;
  supervision: { channels: readonly string[] };
}

export class Journal {
  readonly state: RunState;
  readonly #deps: JournalDeps;
  readonly #claim: Claim;
  readonly #onLost: (error: unknown) => void;
  #events: Event[] = [];
  #chunks: Chunk[] = [];
  #blobs: Blob[] = [];
  #consumed: string[] = [];
  #chunksSinceEvent = 0;
  #broken: unknown;

  /** @param onLost told once, when a write was refused or could not be made: the run is no longer ours to continue. */
  constructor(deps: JournalDeps, claim: Claim, events: readonly Event[], onLost: (error: unknown) => void) {
    this.#deps = deps;
    this.#claim = claim;
    this.#onLost = onLost;
    this.state = fold(events);
  }

  /** A value as it stands in an event. @throws GroundcrewError `VALUE_UNSERIALIZABLE`, `LIMIT_EXCEEDED` */
  encode(value: unknown, root: string): JsonValue | undefined {
    const { json, blob } = this.#deps.codec.encode(value, root);
    if (blob) this.#blobs.push(blob);
    return json;
  }

  /** As `encode`, but apart from the value: what its owner does to it later does not reach the record. */
  encodeApart(value: unknown, root: string): JsonValue | undefined {
    const { json, text, blob } = this.#deps.codec.encode(value, root);
    if (blob) this.#blobs.push(blob);
    return json === value && text !== undefined ? (JSON.parse(text) as JsonValue) : json;
  }

  /** @throws GroundcrewError `EVENT_UNREADABLE` */
  decode(json: JsonValue | undefined): Promise<unknown> {
    return loadValue(this.#deps.store, this.#deps.codec, json);
  }

  /** Records facts without waiting: they ride along with the next durable write. */
  note(...facts: Fact[]): void {
    for (const fact of facts) this.#push(fact);
    this.#deps.ticker.add(this);
  }

  /** Progress for every reader; of what comes within a tick the last counts. A fraction out of range must not end a run. */
  progress(fraction: number, what: string, of?: { step: string; attempt: number }): void {
    if (of && !this.#isOpen(of.step, of.attempt)) return;
    const step = of?.step;
    const inRange = Number.isFinite(fraction) ? Math.min(1, Math.max(0, fraction)) : 0;
    const fact: Extract<Fact, { type: "progress" }> = {
      type: "progress",
      fraction: inRange,
      what: String(what).slice(0, MAX_PROGRESS_CHARS),
      ...(step !== undefined && { step }),
    };
    const { progress } = this.state;
    if (progress?.fraction === fact.fraction && progress.what === fact.what) return; // a resumed flow says again what it said

    if (this.state.head >= MAX_EVENTS_PER_RUN) return; // it will be told to start no more steps; this is no reason to end it

    const last = this.#events.at(-1);
    if (last?.type !== "progress" || last.step !== step) return this.note(fact);
    Object.assign(last, fact);
    apply(this.state, last);
  }

  /** What an attempt still says when it was given up, or has ended, is for nobody: readers have been told that it is over. */
  #isOpen(step: string, attempt: number): boolean {
    const state = this.state.steps.get(step);
    return state?.status === "running" && state.attempt === attempt;
  }

  /** Marks a signal as taken by what is noted with it. */
  consume(signal: string): void {
    this.#consumed.push(signal);
  }

  /** Output of a step in flight. Deltas of one part that come within a tick are one chunk. */
  chunk(step: string, attempt: number, part: JsonValue): void {
    if (!this.#isOpen(step, attempt)) return;
    failpoint("chunk");
    const last = this.#chunks.at(-1);
    const isSame = last !== undefined && last.after === this.state.head && last.step === step && last.attempt === attempt;
    const merged = isSame ? mergeDelta(last.part, part) : undefined;
    if (merged !== undefined && last) last.part = merged;
    else {
      const index = ++this.#chunksSinceEvent;
      this.#chunks.push({ after: this.state.head, index, at: this.#deps.clock.now(), step, attempt, part });
    }
    this.#deps.ticker.add(this);
  }

  /** Records facts and waits until they, and all before them, are durable. */
  async commit(...facts: Fact[]): Promise<void> {
    for (const fact of facts) this.#push(fact);
    await this.#append(undefined);
  }

  /** Gives the run up: the last write under this claim. @returns `"signalled"` when a message came first: go on. */
  async end(next: Transition, fact: Fact): Promise<Appended> {
    this.flush();
    const event: Event = { ...fact, seq: this.state.head + 1, at: this.#deps.clock.now() };
    const taken = this.#take();
    const result = await this.#write({ ...taken, events: [event], next });
    if (result === "written") apply(this.state, event);
    else this.#putBack(taken);
    return result;
  }

  /** Writes what is waiting, without waiting for it. */
  flush(): void {
    this.#deps.ticker.remove(this);
    if (this.#events.length === 0 && this.#chunks.length === 0) return;
    this.#append(undefined).catch(() => {}); // told to `onLost`, and to whoever writes next
  }

  #push(fact: Fact): void {
    if (fact.type === "step.started" && this.state.head >= MAX_EVENTS_PER_RUN) {
      throw new GroundcrewError("LIMIT_EXCEEDED", `Run ${this.#claim.run.id} has reached ${MAX_EVENTS_PER_RUN} events.`, {
        run: this.#claim.run.id,
        fix: "Split the work into child runs.",
      });
    }
    const event = fact as Event; // ours from here on: the callers hand over a fresh object
    event.seq = this.state.head + 1;
    event.at = this.#deps.clock.now();
    apply(this.state, event);
    this.#events.push(event);
    this.#chunksSinceEvent = 0;
  }

  async #append(next: Transition | undefined): Promise<void> {
    this.#deps.ticker.remove(this);
    await this.#write({ ...this.#take(), ...(next && { next }) });
  }

  #take(): Pick<Append, "events" | "chunks" | "blobs" | "consumed"> {
    const taken = { events: this.#events, chunks: this.#chunks, blobs: this.#blobs, consumed: this.#consumed };
    this.#events = [];
    this.#chunks = [];
    this.#blobs = [];
    this.#consumed = [];
    return taken;
  }

  /** Nothing of it was written. */
  #putBack({ blobs, consumed }: Pick<Append, "blobs" | "consumed">): void {
    this.#blobs.unshift(...blobs);
    this.#consumed.unshift(...consumed);
  }

  async #write(what: Pick<Append, "events" | "chunks" | "blobs" | "consumed" | "next">): Promise<Appended> {
    if (this.#broken !== undefined) throw this.#broken;
    const { run, epoch } = this.#claim;
    const { store, worker, supervision } = this.#deps;
    const aside = asideOf(run, what.events, this.state, supervision.channels);
    try {
      return await store.append({ run: run.id, worker, epoch, ...what, ...(aside && { aside }) });
    } catch (error) {
      if (this.#broken === undefined) {
        this.#broken = error;
        this.#deps.ticker.remove(this);
        this.#onLost(error);
      }
      throw error;
    }
  }
}

/** `text-delta`, `reasoning-delta` and `tool-input-delta` of one part, put together; undefined for anything else. */
function mergeDelta(last: JsonValue, next: JsonValue): JsonValue | undefined {
  if (!isRecord(last) || !isRecord(next) || last["type"] !== next["type"] || last["providerMetadata"] || next["providerMetadata"])
    return undefined;
  const field = next["type"] === "tool-input-delta" ? "inputTextDelta" : "delta";
  const id = next["type"] === "tool-input-delta" ? "toolCallId" : "id";
  const [before, after] = [last[field], next[field]];
  if (typeof before !== "string" || typeof after !== "string" || last[id] !== next[id]) return undefined;
  return { ...last, [field]: before + after };
}

function isRecord(value: JsonValue): value is Record<string, JsonValue> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** One timer for all journals of a worker: comes by every 50 ms while something is waiting. */
export class Ticker {
  readonly #clock: Clock;
  readonly #waiting = new Set<Journal>();
  #cancel: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(journal: Journal): void {
    this.#waiting.add(journal);
    this.#cancel ??= this.#clock.after(COALESCE_MS, () => {
      this.#cancel = undefined;
      for (const waiting of [...this.#waiting]) waiting.flush();
    });
  }

  remove(journal: Journal): void {
    this.#waiting.delete(journal);
  }
}
