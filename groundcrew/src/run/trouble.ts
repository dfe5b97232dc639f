import { type GroundcrewError, isError } from "../errors.ts";

/** Trouble of the store, or of this worker's hold on its runs: not of one run. */
export function isStoreTrouble(error: unknown): error is GroundcrewError {
  return isError(error) && (error.code.startsWith("STORE_") || error.code === "SUPERSEDED" || error.code === "CLOSED");
}
