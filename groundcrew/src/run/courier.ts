/**
 * Brings out what is to be told. News stands in the store from the moment it is about; a courier of any process takes what is due
 * under a lease, sends it, and settles it. Between sending and settling it may die: then it is sent again, under the same id.
 */
import {
  COURIER_GRACE_MS,
  COURIER_LOOK_MS,
  COURIER_REST_MS,
  DELIVERY_BATCH,
  DELIVERY_LEASE_MS,
  DELIVERY_TIMEOUT_MS,
  MAX_CHANNEL_QUEUE,
  MAX_CHANNEL_SENDS,
} from "../limits.ts";
import type { Delivery } from "../persistence/delivery.ts";
import type { Store } from "../persistence/store.ts";
import { type DeliverDeps, deliver } from "./deliver.ts";

export interface CourierDeps extends DeliverDeps {
  store: Pick<Store, "approval" | "settleDelivery" | "takeDeliveries" | "nextDelivery" | "watch">;
}

/** What waits for its turn at one channel: others do not wait behind it. */
interface Lane {
  waiting: { delivery: Delivery; until: number }[];
  sending: number;
}

export class Courier {
  readonly #deps: CourierDeps;
  readonly #lanes = new Map<string, Lane>();
  readonly #underWay = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  #unwatch = () => {};
  #cancel = () => {};
  #wakesAt = Number.POSITIVE_INFINITY;
  #looking: Promise<void> | undefined;
  #isWanted = false;
  #isStopped = false;
  #isStoreAway = false;

  constructor(deps: CourierDeps) {
    this.#deps = deps;
  }

  start(): void {
    if (this.#deps.channels.length > 0) this.#unwatch = this.#deps.store.watch(() => this.#wakeIn(COURIER_LOOK_MS));
    this.#wakeIn(0);
  }

  /** What is under way may end; what has not begun is due again at once, for others. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#unwatch();
    this.#cancel();
    await this.#looking;
    const waiting = [...this.#lanes.values()].flatMap((lane) => lane.waiting.splice(0));
    const cancel = this.#deps.clock.after(COURIER_GRACE_MS, () => this.#stopping.abort(new Error("The courier stops.")));
    await Promise.all([...this.#underWay, ...waiting.map(({ delivery }) => this.#handBack(delivery))]);
    cancel();
  }

  #wakeIn(ms: number): void {
    const now = this.#deps.clock.now();
    const at = now + ms;
    const isSoonEnough = this.#wakesAt <= at && this.#wakesAt >= now; // one that is late waits for a time that was corrected
    if (this.#isStopped || isSoonEnough) return;
    this.#cancel();
    this.#wakesAt = at;
    this.#cancel = this.#deps.clock.after(ms, () => {
      this.#wakesAt = Number.POSITIVE_INFINITY;
      this.#isWanted = true;
      this.#looking ??= this.#look().finally(() => {
        this.#looking = undefined;
        if (this.#isWanted) this.#wakeIn(COURIER_LOOK_MS); // something has changed while it looked
      });
    });
  }

  async #look(): Promise<void> {
    this.#isWanted = false;
    try {
      const pause = await this.#takeAll();
      this.#isStoreAway = false;
      if (pause !== undefined) this.#wakeIn(pause);
    } catch (error) {
      if (!this.#isStoreAway) this.#deps.onTrouble(error); // once, however long it is away
      this.#isStoreAway = true;
      this.#wakeIn(COURIER_REST_MS);
    }
  }

  /** @returns when to look again; undefined: when the store says that something has changed. */
  async #takeAll(): Promise<number | undefined> {
    const { store, clock } = this.#deps;
    while (!this.#isStopped) {
      const next = await store.nextDelivery();
      if (next === null) return undefined;
      const now = clock.now();
      if (next > now) return next - now;
      const taken = await store.takeDeliveries(DELIVERY_BATCH, DELIVERY_LEASE_MS);
      for (const delivery of taken) this.#queue(delivery, now + DELIVERY_LEASE_MS);
      if (taken.length < DELIVERY_BATCH || this.#isCrowded()) return COURIER_REST_MS;
    }
    return undefined;
  }

  /** A lane that has no room lets it go: it is due again when its lease is over. */
  #queue(delivery: Delivery, until: number): void {
    const lane = this.#lanes.get(delivery.channel) ?? { waiting: [], sending: 0 };
    this.#lanes.set(delivery.channel, lane);
    if (lane.waiting.length < MAX_CHANNEL_QUEUE) lane.waiting.push({ delivery, until });
    this.#send(lane);
  }

  #isCrowded(): boolean {
    return [...this.#lanes.values()].some(({ waiting }) => waiting.length + DELIVERY_BATCH > MAX_CHANNEL_QUEUE);
  }

  #send(lane: Lane): void {
    while (lane.sending < MAX_CHANNEL_SENDS) {
      const next = lane.waiting.shift();
      if (!next) return;
      if (this.#deps.clock.now() + DELIVERY_TIMEOUT_MS > next.until) continue; // its lease could end on the way
      lane.sending++;
      const underWay = this.#run(next.delivery).finally(() => {
        lane.sending--;
        this.#underWay.delete(underWay);
        this.#send(lane);
      });
      this.#underWay.add(underWay);
    }
  }

  async #run(delivery: Delivery): Promise<void> {
    try {
      await deliver(this.#deps, delivery, this.#stopping.signal);
      this.#wakeIn(COURIER_REST_MS); // it may have to be tried again
    } catch (error) {
      this.#deps.onTrouble(error);
    }
  }

  async #handBack({ id }: Delivery): Promise<void> {
    const { store, clock, onTrouble } = this.#deps;
    await store.settleDelivery(id, { state: "waiting", at: clock.now(), why: "the process stops", isUntried: true }, []).catch(onTrouble);
  }
}
