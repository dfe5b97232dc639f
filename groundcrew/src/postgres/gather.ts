/**
 * Questions of one kind that many ask in the same turn of the event loop: they go to the server as one statement. A commit that
 * many waited for sends all of them on at the same moment, each with the same next question about its own run. Nobody waits for that:
 * whoever goes on in this turn has asked before its end.
 */
export class Gathered<Q, A> {
  readonly #answer: (questions: readonly Q[]) => Promise<readonly A[]>;
  readonly #most: number;
  #asked: Asked<Q, A>[] = [];

  /** @param answer all of them, in their order. @param most how many may go together. */
  constructor(most: number, answer: (questions: readonly Q[]) => Promise<readonly A[]>) {
    this.#answer = answer;
    this.#most = most;
  }

  ask(question: Q): Promise<A> {
    const answer = Promise.withResolvers<A>();
    if (this.#asked.length === 0) process.nextTick(() => this.#askAll());
    this.#asked.push({ question, answer });
    return answer.promise;
  }

  #askAll(): void {
    const asked = this.#asked.splice(0);
    for (let from = 0; from < asked.length; from += this.#most) void this.#ask(asked.slice(from, from + this.#most));
  }

  async #ask(asked: readonly Asked<Q, A>[]): Promise<void> {
    try {
      const answers = await this.#answer(asked.map(({ question }) => question));
      for (const [n, { answer }] of asked.entries()) answer.resolve(answers[n] as A);
    } catch (error) {
      for (const { answer } of asked) answer.reject(error);
    }
  }
}

interface Asked<Q, A> {
  question: Q;
  answer: PromiseWithResolvers<A>;
}
