/**
 * Runs that take their process down with them (out of memory, a crash in native code, a loop without end) would take down one
 * worker after the other. They are told from runs that merely stood beside them by what they were at when the process died.
 */
import { MAX_BARREN_TAKEOVERS, MAX_DEATHS, SUSPECT_DEATHS } from "../limits.ts";

/** What is held against a run; the fold keeps it. */
export interface Losses {
  /** Processes in a row that died while the run's own code was at work in them. */
  deaths: number;
  /** Takeovers in a row without a step that ended. */
  barren: number;
}

/** Whether it has to run alone, so that the next death tells whose doing it is. */
export function isSuspect({ deaths }: Losses): boolean {
  return deaths >= SUSPECT_DEATHS;
}

/** Why it may not be taken up any more; undefined: it may. */
export function dangerOf({ deaths, barren }: Losses): string | undefined {
  if (deaths >= MAX_DEATHS) return `${deaths} processes in a row have died while its code was at work in them`;
  if (barren >= MAX_BARREN_TAKEOVERS) return `it was taken over ${barren} times in a row without one step that came to an end`;
  return undefined;
}
