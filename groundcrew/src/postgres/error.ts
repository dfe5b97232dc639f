import { type ErrorCode, GroundcrewError, isError } from "../errors.ts";

interface Meaning {
  code: ErrorCode;
  what: string;
  fix: string;
}

/** Codes of PostgreSQL (https://www.postgresql.org/docs/current/errcodes-appendix.html), as far as they tell a user something. */
const meanings: Record<string, Meaning> = {
  "28P01": { code: "STORE_UNAVAILABLE", what: "refused the password", fix: "Check user and password in DATABASE_URL." },
  "28000": {
    code: "STORE_UNAVAILABLE",
    what: "does not let this user in from here",
    fix: "Check the user; if the server wants TLS, add `?sslmode=require` to DATABASE_URL.",
  },
  "3D000": { code: "STORE_UNAVAILABLE", what: "has no such database", fix: "Create it, or name another one in DATABASE_URL." },
  "42501": {
    code: "STORE_UNAVAILABLE",
    what: "does not allow this user what is needed",
    fix: "Grant `create` on the database, or all rights on the schema `groundcrew` and what is in it.",
  },
  "25006": {
    code: "STORE_UNAVAILABLE",
    what: "is read-only",
    fix: "Name the primary server in DATABASE_URL, not a replica, and see that `default_transaction_read_only` is off.",
  },
  "53100": { code: "STORE_FULL", what: "is on a disk that is full", fix: "Free some space; nothing that was accepted is lost." },
  "53300": {
    code: "STORE_BUSY",
    what: "has no connection left",
    fix: "Raise `max_connections`, put a pooler before it, or run fewer processes (each takes at most eleven).",
  },
  "55000": {
    code: "STORE_UNAVAILABLE",
    what: "is not in a state to do this",
    fix: "See what an administrator has set for this database: `allow_connections`, a restore that is going on.",
  },
  XX001: { code: "STORE_CORRUPT", what: "is damaged", fix: "Restore it from a backup." },
  XX002: { code: "STORE_CORRUPT", what: "is damaged", fix: "Restore it from a backup." },
};

const AWAY: Meaning = { code: "STORE_UNAVAILABLE", what: "cannot be reached", fix: "Check that it runs and that DATABASE_URL names it." };
const NO_TLS: Meaning = {
  code: "STORE_UNAVAILABLE",
  what: "does not offer TLS",
  fix: "Let the server offer it, or write `sslmode=disable` in DATABASE_URL where nobody can listen in between.",
};
const BAD_TLS: Meaning = {
  code: "STORE_UNAVAILABLE",
  what: "cannot be trusted over TLS",
  fix: "Name the authority of its certificate with `sslrootcert=<file>` in DATABASE_URL, and the host by the name in the certificate.",
};
const WAITS: Meaning = { code: "STORE_BUSY", what: "is too busy", fix: "Look for long transactions and locks in pg_stat_activity." };

/** Of the system and of the driver: nobody answers, or the line was cut. */
const AWAY_CODES: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EAI_AGAIN",
]);
const AWAY_TEXT = /terminated|timeout expired|Query read timeout|not queryable|connection error/i;
/** All connections of the pool were in use for too long. */
const FULL_TEXT = /^timeout exceeded when trying to connect/;

/** Deadlock, serialisation, lock and statement time-outs: the same again may well go through. */
const WAITING_CODES: ReadonlySet<string> = new Set(["40001", "40P01", "55P03", "57014"]);

function codeOf(error: unknown): string {
  return String((error as { code?: unknown } | null)?.code ?? "");
}

/** Whether nobody answers. 08: the connection; 57P: the server starts, stops or ended the session. */
export function isAway(error: unknown): boolean {
  const code = codeOf(error);
  if (code.startsWith("08") || code.startsWith("57P") || code === "25P03" || AWAY_CODES.has(code)) return true;
  return code === "" && error instanceof Error && AWAY_TEXT.test(error.message);
}

/** A prepared statement that is not there, or there already: a pooler in transaction mode that knows nothing of them. */
export function isUnnamed(error: unknown): boolean {
  return codeOf(error) === "26000" || codeOf(error) === "42P05";
}

/** A prepared statement from before a migration gave its table a column. Told by the server's own name for it: the text is translated. */
export function isStale(error: unknown): boolean {
  return codeOf(error) === "0A000" && (error as { routine?: unknown }).routine === "RevalidateCachedQuery";
}

/** The server is no primary any more, or not yet: after a failover the next connection may lead to the one that is. */
export function isReadOnly(error: unknown): boolean {
  return codeOf(error) === "25006";
}

/** A transaction "in the future": the server, or the one that took its place, has no trace of it. */
export function isNeverHeardOf(error: unknown): boolean {
  return codeOf(error) === "22023";
}

function isFull(error: unknown): boolean {
  return codeOf(error) === "53300" || codeOf(error) === "53100" || (error instanceof Error && FULL_TEXT.test(error.message));
}

/** Whether the failure may pass by itself. */
export function mayPass(error: unknown): boolean {
  return isAway(error) || isUnnamed(error) || isStale(error) || isReadOnly(error) || isFull(error) || WAITING_CODES.has(codeOf(error));
}

/** Any failure as an error of ours, which names the store and says what can be done. */
export function storeError(error: unknown, location: string): GroundcrewError {
  if (isError(error)) return error;
  const said = saidBy(error);
  const meaning = meaningOf(error, said);
  if (!meaning) return new GroundcrewError("INTERNAL", `The store ${location} failed: ${said}.`, { cause: error });
  return new GroundcrewError(meaning.code, `The store ${location} ${meaning.what} (${said}).`, {
    fix: meaning.fix,
    cause: error,
    ...(mayPass(error) ? { retryAfterMs: 1_000 } : {}),
  });
}

/** A host with several addresses fails with one error for each, and says nothing itself. */
function saidBy(error: unknown): string {
  if (error instanceof AggregateError && error.message === "") return error.errors.map(saidBy).join("; ");
  return error instanceof Error ? error.message : String(error);
}

function meaningOf(error: unknown, said: string): Meaning | undefined {
  const known = meanings[codeOf(error)];
  if (known) return known;
  if (/SASL|password must be a string|no password/i.test(said)) return meanings["28P01"];
  if (/does not support SSL/.test(said)) return NO_TLS;
  if (/certificate|altname|\bTLS\b|\bSSL\b/i.test(said)) return BAD_TLS;
  if (FULL_TEXT.test(said)) return WAITS;
  if (codeOf(error) === "ENOTFOUND") return { ...AWAY, what: "has a host name that does not exist" };
  if (isAway(error)) return AWAY;
  return WAITING_CODES.has(codeOf(error)) ? WAITS : undefined;
}
