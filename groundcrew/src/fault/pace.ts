/**
 * Pace: how many calls of this process are in flight to one provider. No limit of ours until there is trouble. Then half of what
 * was in flight, at least one; one more after each full round of calls that went well; and none again when a minute has brought no
 * trouble and nobody waits. Who waits is served in turn. A provider that names a time gets no call before it.
 */
import type { Clock } from "../clock.ts";
import {
  LONGEST_PACE_WAIT_MS,
  MAX_BREAKERS,
  MAX_PACE_WAITERS,
  MAX_RETRY_WAIT_MS,
  PACE_QUIET_MS,
  PACE_STEP_MS,
  RETRY_SPREAD,
} from "../limits.ts";

/** Leave to call. */
export interface Place {
  readonly go: true;
  /** To be called when the call is over. */
  leave(): void;
}

/** Waiting for it would be too long to sit through. */
export interface TurnedAway {
  readonly go: false;
  /** Wall clock. */
  readonly until: number;
  readonly why: string;
}

export type Turn = Place | TurnedAway;

export interface PaceDeps {
  clock: Clock;
  /** Between 0 and 1. */
  random: () => number;
}

interface Lane {
  inFlight: number;
  /** What trouble has left of it. */
  limit: number;
  /** In turn. */
  readonly waiters: Set<Waiter>;
  /** Calls that went well since the limit was changed. */
  wins: number;
  /** Whether each of them raises it, which doubles it with each round: what came back is not known to be short of anything. */
  isRamp: boolean;
  slowedAt: number;
  troubledAt: number;
  hold: { until: number; cancel: () => void } | undefined;
}

type Waiter = (turn: Turn) => void;

export class Paces {
  readonly #deps: PaceDeps;
  readonly #lanes = new Map<string, Lane>();

  constructor(deps: PaceDeps) {
    this.#deps = deps;
  }

  /** Waits for a turn. @throws what `signal` was aborted with */
  async enter(provider: string, signal: AbortSignal): Promise<Turn> {
    signal.throwIfAborted();
    const lane = this.#laneOf(provider);
    this.#relax(lane);
    if (hasRoom(lane)) return this.#begin(lane);
    if (lane.hold && lane.hold.until - this.#deps.clock.now() > LONGEST_PACE_WAIT_MS) return this.#heldBack(lane.hold.until);
    if (lane.waiters.size >= MAX_PACE_WAITERS) return this.#full();
    return this.#wait(lane, signal);
  }

  /**
   * The provider has had too much.
   * @param until when it wants to be asked again; wall clock.
   */
  slow(provider: string, until?: number): void {
    const lane = this.#laneOf(provider);
    const now = this.#deps.clock.now();
    if (until !== undefined) this.#holdBack(lane, until, now);
    lane.isRamp = false;
    lane.troubledAt = now;
    if (Math.abs(now - lane.slowedAt) < PACE_STEP_MS) return;
    lane.slowedAt = now;
    lane.limit = Math.max(1, Math.floor(Math.min(lane.limit, lane.inFlight) / 2));
    lane.wins = 0;
  }

  /** What was down has come back, and many may have waited for it: one call first, then two, four, eight. */
  ramp(provider: string): void {
    const lane = this.#laneOf(provider);
    if (lane.limit !== Number.POSITIVE_INFINITY) return;
    lane.limit = Math.max(1, lane.inFlight); // another model of this provider may have been up all the time
    lane.wins = 0;
    lane.isRamp = true;
    lane.troubledAt = this.#deps.clock.now();
  }

  /** A call went well. */
  eased(provider: string): void {
    const lane = this.#lanes.get(provider);
    if (!lane || lane.limit === Number.POSITIVE_INFINITY) return;
    lane.wins += 1;
    if (lane.isRamp || lane.wins >= lane.limit) {
      lane.limit += 1;
      lane.wins = 0;
    }
    this.#relax(lane);
    this.#serve(lane);
  }

  #begin(lane: Lane): Turn {
    lane.inFlight += 1;
    let isOver = false;
    const leave = () => {
      if (isOver) return;
      isOver = true;
      lane.inFlight -= 1;
      this.#serve(lane);
    };
    return { go: true, leave };
  }

  #wait(lane: Lane, signal: AbortSignal): Promise<Turn> {
    return new Promise((resolve, reject) => {
      const stop = () => {
        lane.waiters.delete(waiter);
        reject(signal.reason);
      };
      const waiter: Waiter = (turn) => {
        signal.removeEventListener("abort", stop);
        resolve(turn);
      };
      signal.addEventListener("abort", stop, { once: true });
      lane.waiters.add(waiter);
    });
  }

  #serve(lane: Lane): void {
    for (const waiter of lane.waiters) {
      if (!hasRoom(lane)) return;
      lane.waiters.delete(waiter);
      waiter(this.#begin(lane));
    }
  }

  /** By a timer, which no clock that jumps puts off. */
  #holdBack(lane: Lane, until: number, now: number): void {
    const wait = Math.min(until - now, MAX_RETRY_WAIT_MS);
    if (!(wait > 0) || (lane.hold && now + wait <= lane.hold.until)) return;
    lane.hold?.cancel();
    const cancel = this.#deps.clock.after(wait, () => {
      lane.hold = undefined;
      lane.troubledAt = this.#deps.clock.now();
      this.#serve(lane);
    });
    lane.hold = { until: now + wait, cancel };
    if (wait <= LONGEST_PACE_WAIT_MS) return;
    for (const waiter of lane.waiters) waiter(this.#heldBack(now + wait));
    lane.waiters.clear();
  }

  /** Not all in the same millisecond. */
  #heldBack(at: number): TurnedAway {
    const { clock, random } = this.#deps;
    const now = clock.now();
    const wait = Math.min(at - now, MAX_RETRY_WAIT_MS);
    const until = Math.ceil(now + wait * (1 + random() * RETRY_SPREAD));
    return { go: false, until, why: "its provider wants no call before then" };
  }

  #full(): TurnedAway {
    const { clock, random } = this.#deps;
    const until = Math.ceil(clock.now() + LONGEST_PACE_WAIT_MS * (1 + random()));
    return { go: false, until, why: `${MAX_PACE_WAITERS} calls to its provider wait already for their turn` };
  }

  /** Lifts a limit that nobody meets any more. */
  #relax(lane: Lane): void {
    if (lane.limit === Number.POSITIVE_INFINITY || lane.hold || lane.waiters.size > 0) return;
    if (Math.abs(this.#deps.clock.now() - lane.troubledAt) >= PACE_QUIET_MS) lane.limit = Number.POSITIVE_INFINITY;
  }

  #laneOf(provider: string): Lane {
    const known = this.#lanes.get(provider);
    if (known) return known;
    if (this.#lanes.size >= MAX_BREAKERS) this.#forgetOne();
    const lane: Lane = {
      inFlight: 0,
      limit: Number.POSITIVE_INFINITY,
      waiters: new Set(),
      wins: 0,
      isRamp: false,
      slowedAt: Number.NEGATIVE_INFINITY,
      troubledAt: Number.NEGATIVE_INFINITY,
      hold: undefined,
    };
    this.#lanes.set(provider, lane);
    return lane;
  }

  /** The oldest that nobody uses; one that wants no call yet only where there is no other. */
  #forgetOne(): void {
    const idle = [...this.#lanes].filter(([, { inFlight, waiters }]) => inFlight === 0 && waiters.size === 0);
    const found = idle.find(([, { hold }]) => !hold) ?? idle[0];
    if (!found) return;
    const [provider, { hold }] = found;
    hold?.cancel();
    this.#lanes.delete(provider);
  }
}

function hasRoom({ inFlight, limit, hold }: Lane): boolean {
  return !hold && inFlight < limit;
}
