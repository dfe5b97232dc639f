import { isTerminal } from "../persistence/store.ts";
import type { RunView } from "../wire.ts";
import { type ExitCode, exit } from "./exit.ts";

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
