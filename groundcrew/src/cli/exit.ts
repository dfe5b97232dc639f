/** How a command can end: the table in `docs/cli.md`. */
import type { ErrorCode } from "../errors.ts";

export const exit = {
  ok: 0,
  /** The run did not succeed, or the command could not be done for a reason that no other code names. */
  failed: 1,
  /** Arguments, config, input or credentials were not accepted. */
  usage: 2,
  notFound: 3,
  /** A state or a race said no; nothing was changed. */
  conflict: 4,
  /** The run waits for somebody; nothing is wrong. */
  parked: 5,
  /** Server or store cannot be reached or used right now. */
  unavailable: 69,
  /** Ctrl-C while following. The run goes on. */
  interrupted: 130,
} as const;

export type ExitCode = (typeof exit)[keyof typeof exit];

type Class = Exclude<keyof typeof exit, "ok" | "parked" | "interrupted">;

const classes: Record<Exclude<Class, "failed">, readonly ErrorCode[]> = {
  usage: [
    "CONFIG_INVALID",
    "AGENT_INVALID",
    "AGENT_DUPLICATE",
    "POLICY_INVALID",
    "DURATION_INVALID",
    "INPUT_INVALID",
    "VALUE_UNSERIALIZABLE",
    "LIMIT_EXCEEDED",
    "CURSOR_INVALID",
    "UNAUTHENTICATED",
    "FORBIDDEN",
    "BIND_REFUSED",
  ],
  notFound: ["ROUTE_NOT_FOUND", "AGENT_NOT_FOUND", "RUN_NOT_FOUND", "SESSION_NOT_FOUND", "STEP_NOT_FOUND"],
  conflict: ["START_CONFLICT", "SESSION_BUSY", "RUN_FINISHED", "RUN_ACTIVE", "STEP_NOT_UNKNOWN", "INBOX_FULL"],
  unavailable: ["STORE_UNAVAILABLE", "STORE_BUSY", "STORE_FULL", "STORE_CORRUPT", "STORE_TOO_NEW", "CLOSED", "UNREACHABLE"],
};

/** @param code as the error says it; a server may be newer and know more codes. */
export function exitCodeOf(code: string): ExitCode {
  for (const [name, codes] of Object.entries(classes)) {
    if ((codes as readonly string[]).includes(code)) return exit[name as Class];
  }
  return exit.failed;
}
