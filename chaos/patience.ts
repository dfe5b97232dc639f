/** How a client behaves whose requests meet a store that is away: it asks again, with the same key. */
import { setTimeout as sleep } from "node:timers/promises";
import { isError } from "../groundcrew/src/index.ts";

const PAUSE_MS = 200;
const PATIENCE_MS = 180_000;

/** @throws what is no trouble of the store, and whatever does not pass */
export async function insist<T>(what: string, ask: () => Promise<T>): Promise<T> {
  for (const deadline = performance.now() + PATIENCE_MS; ; ) {
    try {
      return await ask();
    } catch (error) {
      if (!isError(error) || !error.code.startsWith("STORE_")) throw error;
      if (performance.now() > deadline) throw new Error(`${what} was refused for ${PATIENCE_MS} ms: ${error.message}`, { cause: error });
    }
    await sleep(PAUSE_MS);
  }
}
