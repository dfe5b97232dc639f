/**
 * Every error a user can meet: its stable code, its HTTP status, and the sentence an end user may read. The operator's
 * detail is the error's `message`; it never leaves the process towards an end user. Each code has a page in `docs/errors/`.
 */
const ERRORS = {
  // Definition: the author's mistake, found before anything runs.
  CONFIG_INVALID: { status: 500, user: "The service is not set up correctly." },
  AGENT_INVALID: { status: 500, user: "The service is not set up correctly." },
  AGENT_DUPLICATE: { status: 500, user: "The service is not set up correctly." },
  POLICY_INVALID: { status: 500, user: "The service is not set up correctly." },
  DURATION_INVALID: { status: 400, user: "A duration in the request could not be read." },

  // Requests: what came in cannot be taken.
  INPUT_INVALID: { status: 400, user: "The request could not be understood." },
  VALUE_UNSERIALIZABLE: { status: 422, user: "A value could not be stored." },
  LIMIT_EXCEEDED: { status: 413, user: "The request is larger than this service accepts." },
  CURSOR_INVALID: { status: 400, user: "The stream position is not valid. Start again from the beginning." },
  UNAUTHENTICATED: { status: 401, user: "Sign in to use this service." },
  FORBIDDEN: { status: 403, user: "You may not do this." },
  LINK_INVALID: { status: 403, user: "This link is not valid, or not any more." },
  ROUTE_NOT_FOUND: { status: 404, user: "This address does not exist." },
  AGENT_NOT_FOUND: { status: 404, user: "This agent does not exist." },
  RUN_NOT_FOUND: { status: 404, user: "This run does not exist." },
  SESSION_NOT_FOUND: { status: 404, user: "This conversation does not exist." },
  APPROVAL_NOT_FOUND: { status: 404, user: "This request does not exist." },
  STEP_NOT_FOUND: { status: 404, user: "This step does not exist." },

  // Conflicts: a race or a state that says no.
  START_CONFLICT: { status: 409, user: "The same request key was used for a different request." },
  SESSION_BUSY: { status: 409, user: "The previous message is still being answered." },
  RUN_FINISHED: { status: 409, user: "This run has already finished." },
  RUN_ACTIVE: { status: 409, user: "This run is still active." },
  STEP_NOT_UNKNOWN: { status: 409, user: "The outcome of this step is already known." },
  APPROVAL_ENDED: { status: 409, user: "This request has already been decided." },
  OVERLOADED: { status: 429, user: "The service has too much to do. Try again in a moment." },
  INBOX_FULL: { status: 429, user: "Too many messages are waiting. Try again in a moment." },

  // Runs: how one can end, other than well.
  RUN_CANCELLED: { status: 409, user: "The run was cancelled." },
  RUN_EXPIRED: { status: 504, user: "The run took longer than it may and was ended." },
  STEP_CAP_REACHED: { status: 500, user: "The assistant did not come to an answer within its limit of steps." },
  STEP_TIMEOUT: { status: 504, user: "A step took too long." },
  STEP_UNKNOWN: { status: 500, user: "An action was requested but its result is unknown. It is being checked." },
  MODEL_FAILED: { status: 502, user: "The AI model could not answer." },
  TOOL_FAILED: { status: 502, user: "A tool that the assistant needed has failed." },
  APPROVAL_DENIED: { status: 403, user: "A person did not allow this action." },
  APPROVAL_EXPIRED: { status: 504, user: "Nobody decided in time, so this action was not taken." },
  APPROVALS_FLOODED: { status: 429, user: "The assistant asks for too many approvals. An operator has to look at it." },
  PAUSED: { status: 409, user: "Paused by a person." },
  RETRIES_EXHAUSTED: { status: 502, user: "A service that is needed is not available. An operator has to look at it." },
  QUARANTINED: { status: 500, user: "The run was stopped because it disturbs the service. An operator has to look at it." },
  STEP_FAILED: { status: 500, user: "A step of the work has failed." },
  CHILD_FAILED: { status: 500, user: "A part of the work has failed." },
  OUTPUT_INVALID: { status: 500, user: "The assistant's answer did not have the expected form." },
  FLOW_MISMATCH: { status: 500, user: "The program changed while this run was waiting. An operator has to look at it." },
  FLOW_FAILED: { status: 500, user: "The run has failed." },

  // Store and worker: the ground the runs stand on.
  STORE_UNAVAILABLE: { status: 503, user: "The service is not available right now. Try again in a moment." },
  STORE_BUSY: { status: 503, user: "The service is busy. Try again in a moment." },
  STORE_FULL: { status: 503, user: "The service cannot store anything right now. Try again later." },
  STORE_CORRUPT: { status: 503, user: "The service is not available right now." },
  STORE_TOO_NEW: { status: 503, user: "The service is being updated. Try again in a moment." },
  STORE_DIFFERS: { status: 409, user: "The service is being moved. Try again in a moment." },
  EVENT_UNREADABLE: { status: 500, user: "The record of this run cannot be read. An operator has to look at it." },
  SUPERSEDED: { status: 409, user: "The run was continued elsewhere." },
  LOOP_BLOCKED: { status: 503, user: "The service is busy. Try again in a moment." },
  CLOSED: { status: 503, user: "The service is shutting down. Try again in a moment." },
  UNREACHABLE: { status: 503, user: "The service cannot be reached. Try again in a moment." },
  NOTIFY_FAILED: { status: 502, user: "A message to the people in charge did not arrive. An operator has to look at it." },
  BIND_REFUSED: { status: 500, user: "The service is not set up correctly." },
  ADDRESS_IN_USE: { status: 500, user: "The service is not set up correctly." },
  INTERNAL: { status: 500, user: "Something went wrong." },
} as const satisfies Record<string, { status: number; user: string }>;

export type ErrorCode = keyof typeof ERRORS;

/** Every code, for the pages and the tests that hold them together. */
export const errorCodes = Object.keys(ERRORS) as ErrorCode[];

export interface ErrorDetail {
  /** What was wrong, as it was given. */
  value?: unknown;
  /** What the reader of the error can do about it. */
  fix?: string;
  /** The run it happened in: the reference to quote. */
  run?: string;
  /** After how many milliseconds it makes sense to try again. */
  retryAfterMs?: number;
  cause?: unknown;
}

/**
 * The one error class of the runtime. `code` is stable; `message` is for the operator; `userMessage` is safe to show to
 * anyone.
 */
export class GroundcrewError extends Error {
  override readonly name = "GroundcrewError";
  readonly code: ErrorCode;
  declare readonly value: unknown;
  declare readonly fix: string | undefined;
  declare readonly run: string | undefined;
  declare readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, detail: ErrorDetail = {}) {
    super(detail.fix ? `${message} ${detail.fix}` : message, "cause" in detail ? { cause: detail.cause } : undefined);
    this.code = code;
    // Printed, an error shows what it says, not a dump of the value or a list of what it does not say.
    for (const field of ["value", "fix", "run", "retryAfterMs"] as const) {
      Object.defineProperty(this, field, { value: detail[field], enumerable: field === "run" && detail.run !== undefined });
    }
  }

  /** HTTP status of this class of error. */
  get status(): number {
    return ERRORS[this.code].status;
  }

  /** What an end user may read. */
  get userMessage(): string {
    return ERRORS[this.code].user;
  }

  /** The command that prints the page about this code. */
  get help(): string {
    return `groundcrew help ${this.code}`;
  }
}

/** What an end user may read of an error with this code. @param code a newer release may know more codes */
export function userMessageOf(code: string): string {
  return ERRORS[Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : "INTERNAL"].user;
}

/** Whether `error` is one of ours, with this code when one is named. */
export function isError(error: unknown, code?: ErrorCode): error is GroundcrewError {
  return error instanceof GroundcrewError && (code === undefined || error.code === code);
}

/** Whatever was thrown, as an Error. A tool may throw a text, a number, `null`. */
export function coerceError(thrown: unknown): Error {
  if (thrown instanceof Error) return thrown;
  return new Error(typeof thrown === "string" ? thrown : `A value that is no Error was thrown: ${describe(thrown)}`, { cause: thrown });
}

/** A short, safe description of any value for a message. Never throws and never runs user code that could. */
export function describe(value: unknown): string {
  if (value === null) return "null";
  if (typeof value === "string") return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
  if (typeof value === "object") return Array.isArray(value) ? `an array of ${value.length}` : "an object";
  if (typeof value === "function") return "a function";
  return String(value);
}

/** A setting that is not what it has to be. */
export function misset(field: string, expected: string, value: unknown, code: ErrorCode = "AGENT_INVALID"): GroundcrewError {
  return new GroundcrewError(code, `Expected \`${field}\` to be ${expected}, got ${describe(value)}.`, { value });
}

/** What of an error is recorded in a journal and can be told again: no stack, which differs between two executions. */
export interface ErrorRecord {
  code: ErrorCode;
  name: string;
  /** Operator detail. Goes to operators only. */
  message: string;
  /** Safe for end users. */
  user: string;
}

const MAX_RECORDED_MESSAGE_CHARS = 4_000; // a provider that answers with an HTML page must not fill the journal

/** @param code what an error that is not ours counts as. */
export function toErrorRecord(thrown: unknown, code: ErrorCode): ErrorRecord {
  const error = coerceError(thrown);
  const known = isError(error) ? error.code : code;
  const message = String(error.message).slice(0, MAX_RECORDED_MESSAGE_CHARS);
  return { code: known, name: String(error.name), message, user: ERRORS[known].user };
}

/** The recorded error as something that can be thrown. */
export function fromErrorRecord(record: ErrorRecord, run?: string): GroundcrewError {
  const code = record.code in ERRORS ? record.code : "INTERNAL"; // written by a newer release
  return new GroundcrewError(code, record.message, run === undefined ? {} : { run });
}
