import type { Store } from "groundcrew";

/** Takes the time of every claim that a store answers, from the worker's call to the runs. */
export class ClaimTimes {
  /** Milliseconds, of the claims that brought something. */
  times: number[] = [];

  of(store: Store): Store {
    return new Proxy(store, {
      get: (target, name) => {
        if (name === "claim") return (...args: Parameters<Store["claim"]>) => this.#claim(target, args);
        const member: unknown = Reflect.get(target, name, target);
        return typeof member === "function" ? member.bind(target) : member;
      },
    });
  }

  async #claim(store: Store, args: Parameters<Store["claim"]>): ReturnType<Store["claim"]> {
    const begun = performance.now();
    const claims = await store.claim(...args);
    if (claims.length > 0) this.times.push(performance.now() - begun);
    return claims;
  }
}
