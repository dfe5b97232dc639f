/** A bounded number of places; who finds none waits in line, or leaves it when its signal fires. */
export class Places {
  #free: number;
  readonly #line = new Set<() => void>();

  constructor(size: number) {
    this.#free = size;
  }

  /** @returns gives the place back; once, however often it is called. @throws the signal's reason */
  async enter(signal: AbortSignal | undefined): Promise<() => void> {
    signal?.throwIfAborted();
    if (this.#free > 0) this.#free--;
    else await this.#turn(signal);
    let isHeld = true;
    return () => {
      if (isHeld) this.#pass();
      isHeld = false;
    };
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#line.delete(take);
        reject(signal?.reason);
      };
      const take = () => {
        signal?.removeEventListener("abort", leave);
        resolve();
      };
      signal?.addEventListener("abort", leave, { once: true });
      this.#line.add(take);
    });
  }

  #pass(): void {
    const [next] = this.#line;
    if (!next) {
      this.#free++;
      return;
    }
    this.#line.delete(next);
    next();
  }
}
