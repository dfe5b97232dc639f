/** How a command can end: the table in `docs/cli.md`. */
import type { ErrorCode } from "../errors.ts";
import { isTerminal } from "../persistence/store.ts";
import type { RunView } from "../wire.ts";

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
    "ADDRESS_IN_USE",
  ],
  notFound: ["ROUTE_NOT_FOUND", "AGENT_NOT_FOUND", "RUN_NOT_FOUND", "SESSION_NOT_FOUND", "STEP_NOT_FOUND", "APPROVAL_NOT_FOUND"],
  conflict: [
    "START_CONFLICT",
    "SESSION_BUSY",
    "RUN_FINISHED",
    "RUN_ACTIVE",
    "STEP_NOT_UNKNOWN",
    "APPROVAL_ENDED",
    "INBOX_FULL",
    "STORE_DIFFERS",
  ],
  unavailable: ["STORE_UNAVAILABLE", "STORE_BUSY", "STORE_FULL", "STORE_CORRUPT", "STORE_TOO_NEW", "CLOSED", "UNREACHABLE"],
};

/** @param code as the error says it; a server may be newer and know more codes. */
export function exitCodeOf(code: string): ExitCode {
  for (const [name, codes] of Object.entries(classes)) {
    if ((codes as readonly string[]).includes(code)) return exit[name as Class];
  }
  return exit.failed;
}

/** How a command that waits for a run ends. */
export function outcomeOf(view: RunView): ExitCode {
  if (view.status === "succeeded") return exit.ok;
  return isTerminal(view.status) ? exit.failed : exit.parked;
}

/** Whether the run stands still until somebody does something: waiting for its end would be waiting for ever. */
export function needsSomebody(view: RunView): boolean {
  if (view.status !== "parked") return false;
  if (view.reason === "timer" || view.reason === "retry" || view.reason === "child") return false;
  return view.dueAt === null || view.dueAt >= view.deadline;
}
