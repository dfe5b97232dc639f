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

/** What can be done to any worker process. `isShared`: one that stands still may hold a lock that all others need. */
export function processFaults(isShared: boolean): Record<string, Fault> {
  const halt = async (kind: string, { fleet, log }: Target, place: number, ms: number) => {
    const worker = await fleet.at(place);
    const end = log.begin(kind, isShared ? null : worker.pid);
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
  const random = new Random(mixed(seed, -99));
  for (;;) {
    for (const kind of random.shuffled(kinds)) {
      yield { kind, place: random.between(0, places - 1), pauseMs: random.between(100, 1_500), force: random.between(0, 100) / 100 };
    }
  }
}

export class Storm {
  readonly #faults: Record<string, Fault>;
  readonly #target: Target;
  readonly #plan: Generator<Blow, never>;
  readonly #onBlow: (blow: Blow) => void;
  readonly #raging: Promise<void>;
  #isOver = false;
  /** Blows that have begun. */
  blows = 0;

  constructor(faults: Record<string, Fault>, target: Target, seed: number, onBlow: (blow: Blow) => void) {
    this.#faults = faults;
    this.#target = target;
    this.#plan = planOf(seed, Object.keys(faults), target.fleet.size);
    this.#onBlow = onBlow;
    this.#raging = this.#rage();
    this.#raging.catch(() => {}); // told to whoever ends it
  }

  get kinds(): string[] {
    return Object.keys(this.#faults);
  }

  /** Each kind once, at least. */
  get isRoundDone(): boolean {
    return this.blows > this.kinds.length;
  }

  /** No further blow; resolves when the last one is healed. @throws when a fault could not be made or healed */
  async end(): Promise<void> {
    this.#isOver = true;
    await this.#raging;
  }

  async #rage(): Promise<void> {
    while (!this.#isOver) {
      const blow = this.#plan.next().value;
      this.blows++;
      this.#onBlow(blow);
      await sleep(blow.pauseMs);
      await this.#faults[blow.kind]?.(this.#target, blow);
    }
  }
}
