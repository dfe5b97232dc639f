import { type ErrorCode, GroundcrewError, isError } from "../errors.ts";

/** SQLite's primary result codes, as far as they tell a user something. https://sqlite.org/rescode.html */
const meanings: Record<number, { code: ErrorCode; what: string; fix: string }> = {
  3: {
    code: "STORE_UNAVAILABLE",
    what: "may not be opened",
    fix: "Give this user the right to read and write the file and its directory.",
  },
  5: { code: "STORE_BUSY", what: "is locked by another program", fix: "End the program that holds a transaction on it open." },
  6: { code: "STORE_BUSY", what: "is locked by another connection", fix: "Try again." },
  8: { code: "STORE_UNAVAILABLE", what: "is read-only", fix: "Give this user the right to write the file and its directory." },
  10: { code: "STORE_UNAVAILABLE", what: "cannot be read or written", fix: "Look for errors of the disk in the system's log." },
  11: { code: "STORE_CORRUPT", what: "is damaged", fix: "Restore it from a backup." },
  13: { code: "STORE_FULL", what: "is on a disk that is full", fix: "Free some space; nothing that was accepted is lost." },
  14: {
    code: "STORE_UNAVAILABLE",
    what: "cannot be opened",
    fix: "Check that it is a file, and that this user may read and write it and its directory.",
  },
  26: { code: "STORE_CORRUPT", what: "is not a database", fix: "Name another file, or restore this one from a backup." },
};

const BUSY = 5;
const FULL = 13;
const IO_ERROR = 10;

/** The primary result code of an error that SQLite raised; null for any other error. */
function resultCode(error: unknown): number | null {
  const errcode = (error as { errcode?: unknown } | null)?.errcode;
  return typeof errcode === "number" ? errcode & 0xff : null; // the upper bits say more about the same failure
}

/** Whether the failure is one of the store, which no single write is to blame for. */
export function isStoreFailure(error: unknown): boolean {
  const code = resultCode(error);
  return code !== null && code in meanings;
}

/** Whether the failure may pass by itself. An I/O error is none: after a failed fsync nobody knows what the disk holds. */
export function mayPass(error: unknown): boolean {
  const code = resultCode(error);
  return code === BUSY || code === FULL;
}

/** Any failure as an error of ours, which names the store and says what can be done. */
export function storeError(error: unknown, location: string): GroundcrewError {
  if (isError(error)) return error;
  const code = resultCode(error);
  const meaning = code === null ? undefined : meanings[code];
  const said = error instanceof Error ? error.message : String(error);
  if (!meaning) return new GroundcrewError("INTERNAL", `The store ${location} failed: ${said}.`, { cause: error });
  const detail = code === IO_ERROR ? ` (${said})` : "";
  return new GroundcrewError(meaning.code, `The store ${location} ${meaning.what}${detail}.`, {
    fix: meaning.fix,
    cause: error,
    ...(mayPass(error) ? { retryAfterMs: 1_000 } : {}),
  });
}
