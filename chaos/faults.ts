/** What is done to the workers and to the ground they stand on: which fault comes when follows from the seed. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { FaultLog } from "./fault-log.ts";
import type { Fleet } from "./fleet.ts";
import { mixed, Random } from "./random.ts";

/** One blow of the plan. */
export interface Blow {
  kind: string;
  /** Whom it hits. */
  place: number;
  pauseMs: number;
  /** How long it lasts, where it lasts; from 0 to 1 of what is usual for its kind. */
  force: number;
}

export interface Target {
  fleet: Fleet;
  log: FaultLog;
  leaseMs: number;
}

export type Fault = (target: Target, blow: Blow) => Promise<void>;
export type Faults = Record<string, Fault>;

/** What can be done to any worker process. `isShared`: one that stands still may hold a lock that all others need. */
export function workerFaults(isShared: boolean): Faults {
  const halt = async (kind: string, { fleet, log }: Target, place: number, ms: number) => {
    const worker = await fleet.at(place);
    const end = log.begin(kind, isShared ? null : worker.pid, true);
    // A shell of its own wakes it again, also when this process is gone by then.
    const shell = spawn("sh", ["-c", 'kill -STOP "$1"; sleep "$2"; kill -CONT "$1"', "sh", String(worker.pid), String(ms / 1_000)], {
      stdio: "ignore",
    });
    await once(shell, "exit");
    end(!worker.isOver);
  };
  return {
    kill: async ({ fleet }, { place }) => fleet.kill(await fleet.at(place), "kill"),
    /** Past its lease: others take its runs, and then it wakes up. */
    stop: (target, { place, force }) => halt("stop", target, place, target.leaseMs * (1.2 + 0.6 * force)),
    /** Not as long as that. */
    pause: (target, { place, force }) => halt("pause", target, place, target.leaseMs * (0.1 + 0.6 * force)),
    deploy: async ({ fleet, log }, { place }) => {
      await fleet.deploy(await fleet.at(place));
      log.count("deploy");
    },
  };
}

/** The same for the same seed, without end: each round has every kind once, in an order of its own. */
export function* planOf(seed: number, kinds: readonly string[], places: number): Generator<Blow, never> {
  const random = new Random(seed);
  for (;;) {
    for (const kind of random.shuffled(kinds)) {
      yield { kind, place: random.between(0, places - 1), pauseMs: random.between(100, 1_500), force: random.between(0, 100) / 100 };
    }
  }
}

/** Some faults, one after the other. */
class Lane {
  readonly kinds: readonly string[];
  readonly #faults: Faults;
  readonly #plan: Generator<Blow, never>;
  #blows = 0;

  constructor(faults: Faults, seed: number, places: number) {
    this.#faults = faults;
    this.kinds = Object.keys(faults);
    this.#plan = planOf(seed, this.kinds, places);
  }

  /** How much of the first round has begun: 1 when each kind has had its turn. */
  get progress(): number {
    return this.#blows / this.kinds.length;
  }

  async rage(target: Target, onBlow: (blow: Blow) => void, isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      const blow = this.#plan.next().value;
      this.#blows++;
      onBlow(blow);
      await sleep(blow.pauseMs);
      await this.#faults[blow.kind]?.(target, blow);
    }
  }
}

/** What goes on all the time: something is done to a worker, and at the same time something to the ground. */
export class Storm {
  readonly #lanes: Lane[];
  readonly #raging: Promise<unknown>;
  #isOver = false;

  constructor(lanes: readonly Faults[], target: Target, seed: number, onBlow: (blow: Blow) => void) {
    const some = lanes.filter((faults) => Object.keys(faults).length > 0);
    this.#lanes = some.map((faults, i) => new Lane(faults, mixed(seed, -100 - i), target.fleet.size));
    this.#raging = Promise.all(this.#lanes.map((lane) => lane.rage(target, onBlow, () => this.#isOver)));
    this.#raging.catch(() => {}); // told to whoever ends it
  }

  get kinds(): string[] {
    return this.#lanes.flatMap(({ kinds }) => kinds);
  }

  /** How much of the first round of all has begun. */
  get progress(): number {
    return Math.min(1, ...this.#lanes.map(({ progress }) => progress));
  }

  /** No further blow; resolves when the last ones are healed. @throws when a fault could not be made or healed */
  async end(): Promise<void> {
    this.#isOver = true;
    await this.#raging;
  }
}
