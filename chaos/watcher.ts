/** Sees which runs have ended and which wait for a person, by one list for all of them. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Crew, RunRow } from "../groundcrew/src/index.ts";
import { insist } from "./patience.ts";

const LOOK_MS = 150;
const MOST_OPEN_RUNS = 50_000;

export class Watcher {
  readonly #crew: Crew;
  readonly #onParked: (row: RunRow) => void;
  readonly #waiting = new Map<string, () => void>();
  readonly #looking: Promise<void>;
  #isOver = false;
  /** As of the last look. */
  open: readonly RunRow[] = [];

  /** @param onParked told of each run that is parked, at each look. */
  constructor(crew: Crew, onParked: (row: RunRow) => void) {
    this.#crew = crew;
    this.#onParked = onParked;
    this.#looking = this.#look();
    this.#looking.catch(() => {}); // told to whoever stops it
  }

  /** Resolves when the run is in no list of open runs any more. */
  ended(run: string): Promise<void> {
    return new Promise((resolve) => this.#waiting.set(run, resolve));
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#looking;
  }

  async #look(): Promise<void> {
    while (!this.#isOver) {
      const asked = [...this.#waiting];
      this.open = await insist("the list of open runs", () =>
        this.#crew.runs({ status: ["queued", "running", "parked"], limit: MOST_OPEN_RUNS }),
      );
      const open = new Set(this.open.map(({ id }) => id));
      for (const [run, tell] of asked) {
        if (open.has(run)) continue;
        this.#waiting.delete(run);
        tell();
      }
      for (const row of this.open) if (row.status === "parked") this.#onParked(row);
      await sleep(LOOK_MS);
    }
  }
}
