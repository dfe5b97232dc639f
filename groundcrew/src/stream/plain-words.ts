/** What anybody may be told of a run, in plain words: nothing here was written for operators, and nothing says how it works. */
import { userMessageOf } from "../errors.ts";
import type { ParkReason } from "../persistence/event.ts";

/** What a run goes on without. */
export interface Missing {
  name: string;
  /** What stands in for it. */
  instead?: string | undefined;
}

const PARKED: Record<ParkReason, string> = {
  approval: "Waiting for an approval.",
  signal: "Waiting for an answer.",
  timer: "Waiting until it is time.",
  child: "Waiting for another task to finish.",
  budget: "Paused: the budget is used up.",
  authorization: "Waiting for a sign-in.",
  unknown_outcome: userMessageOf("STEP_UNKNOWN"),
  retry: "Something did not work. Trying again in a moment.",
  attention: "Paused: an operator has to look at it.",
};

export const TRYING_AGAIN = "Trying again…";
export const OTHER_MODEL = "Going on with another model.";
export const TAKEN_OVER = "A person has joined the conversation.";
export const HANDED_BACK = "The assistant goes on.";

/** What a parked run waits for. @param code says it better, where there is one. */
export function parkedText(reason: ParkReason, code?: string): string {
  return code === undefined ? PARKED[reason] : userMessageOf(code);
}

/** Each thing that is missing once, as it was last. */
export function eachOnce<T extends Missing>(missing: readonly T[]): T[] {
  return [...new Map(missing.map((one) => [JSON.stringify([one.name, one.instead]), one])).values()];
}

/** `without weather and news, with a stand-in instead of rates`; empty when nothing is missing. */
export function withoutText(missing: readonly Missing[]): string {
  const each = eachOnce(missing);
  const gone = each.filter(({ instead }) => instead === undefined).map(({ name }) => name);
  const replaced = each.filter(({ instead }) => instead !== undefined).map(({ name, instead }) => `with ${instead} instead of ${name}`);
  return [...(gone.length > 0 ? [`without ${gone.join(" and ")}`] : []), ...replaced].join(", ");
}
