/** The kill switch, as this process knows it: never older than half a second when an effect starts. It fails closed. */
import { STOP_LOOK_MS } from "../limits.ts";
import type { Quotas, Stop, Store } from "../persistence/store.ts";

/** Stops everything. */
export const EVERYTHING = "*";

export class Stops {
  readonly #store: Pick<Store, "stops">;
  #known: readonly Stop[] = [];
  #lookedAt = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> | undefined;

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

  #learn(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #look(): Promise<void> {
    const askedAt = performance.now();
    this.#known = await this.#store.stops();
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
