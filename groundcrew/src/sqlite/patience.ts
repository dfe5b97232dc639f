import { MAX_STORE_PAUSE_MS, STORE_PATIENCE_MS } from "../limits.ts";
import { mayPass, storeError } from "./error.ts";

/** Outside of a group commit: tries again while another process holds a lock. */
export async function patiently<T>(location: string, attempt: () => T): Promise<T> {
  for (let waited = 0; ; waited += MAX_STORE_PAUSE_MS) {
    try {
      return attempt();
    } catch (error) {
      if (!mayPass(error) || waited >= STORE_PATIENCE_MS) throw storeError(error, location);
    }
    await new Promise((resume) => setTimeout(resume, MAX_STORE_PAUSE_MS));
  }
}
