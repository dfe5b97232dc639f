/** What counts as the failure of an attempt: what it looks like, and what the author makes of it. */
import { describe } from "../errors.ts";
import type { Classify, Failure } from "../failure.ts";
import { MAX_DURATION_MS } from "../limits.ts";
import { classify } from "./classify.ts";
import { factsOf } from "./facts.ts";

export interface Verdict {
  failure: Failure;
  /** What was wrong with an author's `classify`; the verdict stands without it. */
  note?: string;
}

/** The built-in verdict, and what the author makes of it: the first of `hooks` (the tool's, then the agent's) that says something. */
export function verdict(error: unknown, now: number, ...hooks: readonly (Classify | undefined)[]): Verdict {
  const failure = classify(error, now);
  let note: string | undefined;
  for (const hook of hooks) {
    if (!hook) continue;
    const said = ask(hook, error, failure, now);
    if (said.failure) return { failure: said.failure, ...(note !== undefined && { note }) };
    note ??= said.note;
  }
  return { failure, ...(note !== undefined && { note }) };
}

function ask(hook: Classify, error: unknown, verdict: Failure, now: number): Partial<Verdict> {
  try {
    const said: unknown = hook(error, { ...verdict });
    if (said === undefined) return {};
    const { at, ...bare } = verdict;
    if (said === "never" || said === "again") return { failure: { ...bare, chance: said } };
    if (said === "later") return { failure: at === undefined ? { ...bare, chance: "again" } : { ...bare, chance: said, at } };
    if (said instanceof Date && said.getTime() <= now + MAX_DURATION_MS)
      return { failure: { ...bare, chance: "later", at: said.getTime() } };
    Promise.resolve(said).catch(() => {}); // an async hook is a mistake that must not end the process
    return { note: `\`classify\` returned ${describe(said)}; expected "never", "again", "later", a valid Date or undefined.` };
  } catch (thrown) {
    const [facts] = factsOf(thrown);
    return { note: `\`classify\` has thrown: ${facts ? facts.message : describe(thrown)}` };
  }
}
