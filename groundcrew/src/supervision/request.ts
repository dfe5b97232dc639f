/** What somebody is asked: exactly what would be done, bound by one hash, and what they need to know to decide it. */
import { asSchema, type ModelMessage, type Tool } from "ai";
import type { CheckedApprovers, RuleVerdict, RunFacts } from "../approval.ts";
import { coerceError } from "../errors.ts";
import { MAX_CONTEXT_CHARS, MAX_CONTEXT_LINES } from "../limits.ts";
import type { RunState } from "../persistence/fold.ts";
import { hashValue } from "../persistence/hash.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import type { CheckedApproval } from "../policy.ts";

/** What the rule makes of a call. */
export type Ruling = { is: "free" } | { is: "asked"; why: string } | { is: "never"; why: string };

/** A rule that fails has not said that nobody needs to be asked. */
export function rulingOf({ rule }: CheckedApproval, name: string, input: unknown, facts: RunFacts): Ruling {
  if (rule === true) return { is: "asked", why: `"${name}" always needs an approval` };
  try {
    return read(rule(structuredClone(input), facts), name);
  } catch (thrown) {
    return { is: "asked", why: `the rule of "${name}" has failed: ${coerceError(thrown).message}` };
  }
}

function read(verdict: RuleVerdict, name: string): Ruling {
  if (verdict === false) return { is: "free" };
  if (verdict === true) return { is: "asked", why: `the rule of "${name}" asks for it` };
  if (typeof verdict === "string") return { is: "asked", why: verdict };
  const deny: unknown = Object(verdict).deny;
  if (typeof deny === "string") return { is: "never", why: deny };
  return { is: "asked", why: `the rule of "${name}" gave no answer` };
}

/** What the run has used so far. */
export function spentOf(state: RunState): RunFacts["spent"] {
  const spent = { modelSteps: 0, inputTokens: 0, outputTokens: 0 };
  for (const { kind, status, usage } of state.steps.values()) {
    if (kind !== "model" || status !== "succeeded") continue;
    const { inputTokens, outputTokens } = Object(usage) as Record<string, unknown>;
    spent.modelSteps++;
    spent.inputTokens += countOf(inputTokens);
    spent.outputTokens += countOf(outputTokens);
  }
  return spent;
}

function countOf(tokens: unknown): number {
  return typeof tokens === "number" && Number.isFinite(tokens) ? tokens : 0;
}

/** The last things said, newest last. */
export function contextOf(messages: readonly ModelMessage[]): string[] {
  const lines = messages.flatMap(({ role, content }) => {
    const text = typeof content === "string" ? content : content.flatMap((part) => (part.type === "text" ? part.text : [])).join(" ");
    const isSaid = (role === "user" || role === "assistant") && text.trim() !== "";
    return isSaid ? `${role}: ${text.length > MAX_CONTEXT_CHARS ? `${text.slice(0, MAX_CONTEXT_CHARS)}…` : text}` : [];
  });
  return lines.slice(-MAX_CONTEXT_LINES);
}

const versions = new WeakMap<Tool, Promise<string>>();

/** The tool as its model knows it: another when its description or its schema is. */
export function toolVersionOf(tool: Tool): Promise<string> {
  const known = versions.get(tool);
  if (known) return known;
  const version = Promise.resolve(asSchema(tool.inputSchema).jsonSchema).then((schema) =>
    hashValue({
      description: typeof tool.description === "string" ? tool.description : null,
      schema: JSON.parse(JSON.stringify(schema ?? null)),
    }),
  );
  versions.set(tool, version);
  return version;
}

/** The rules by which it is decided: not when people are told, nor until when. */
export function rulesVersionOf({ by, quorum, selfApproval }: CheckedApprovers): string {
  return hashValue({ by: [...by], quorum, selfApproval });
}

/** Binds what is decided to one call of one run. */
export interface Bound {
  run: string;
  step: string;
  name: string;
  tool: string;
  rules: string;
  input: JsonValue | undefined;
}

export function bind({ run, step, name, tool, rules, input }: Bound): string {
  return hashValue({ v: 1, run, step, name, tool, rules, input: input ?? null, isShown: input !== undefined });
}
