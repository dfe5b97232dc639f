/** The kill switch, as this process knows it: never older than half a second when an effect starts. It fails closed. */
import { STOP_LOOK_MS } from "../limits.ts";
import type { Quotas, Stop, Store } from "../persistence/store.ts";

/** Stops everything. */
export const EVERYTHING = "*";

export class Stops {
  readonly #store: Pick<Store, "stops">;
  #known: readonly Stop[] = [];
  #lookedAt = Number.NEGATIVE_INFINITY;
  #looking: { since: number; done: Promise<void> } | undefined;

  constructor(store: Pick<Store, "stops">) {
    this.#store = store;
  }

  /** Whether `agent` may start something. At once where that is known. @throws what the store throws: then nothing may start. */
  of(agent: string): Stop | undefined | Promise<Stop | undefined> {
    return this.#isFresh() ? this.#find(agent) : this.#learn().then(() => this.#find(agent));
  }

  /** Before runs are claimed. Without a stop nobody waits for this: the gate looks again. */
  async refresh(): Promise<void> {
    if (this.#known.length > 0) await this.#learn();
    else if (!this.#isFresh()) void this.#learn().catch(() => {}); // the gate will be told as well
  }

  #isFresh(): boolean {
    return performance.now() - this.#lookedAt < STOP_LOOK_MS;
  }

  /** One look serves all who come while it is young. Of one that takes long the answer may be old when it comes. */
  #learn(): Promise<void> {
    const now = performance.now();
    if (this.#looking && now - this.#looking.since < STOP_LOOK_MS) return this.#looking.done;
    const looking = { since: now, done: this.#look(now) };
    const over = () => {
      if (this.#looking === looking) this.#looking = undefined;
    };
    looking.done.then(over, over);
    this.#looking = looking;
    return looking.done;
  }

  async #look(askedAt: number): Promise<void> {
    const stops = await this.#store.stops();
    if (askedAt < this.#lookedAt) return; // a later look was faster
    this.#known = stops;
    this.#lookedAt = askedAt;
  }

  #find(agent: string): Stop | undefined {
    return this.#known.find((stop) => stop.agent === EVERYTHING || stop.agent === agent);
  }

  /** `quotas` with no place for what is stopped: it is not taken up, only ended where it was cancelled or is past its deadline. */
  within(quotas: Quotas | undefined): Quotas | undefined {
    if (this.#known.length === 0) return quotas;
    return {
      agent: (name) => (this.#find(name) ? { concurrency: 0 } : quotas?.agent(name)),
      tenant: (tenant) => quotas?.tenant(tenant),
    };
  }
}
