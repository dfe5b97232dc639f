/** Facts about tools, beside the tools: what each does to the world, and what happens when it fails. Checked at definition. */
import type { InferToolInput, InferToolOutput, ToolSet } from "ai";
import {
  APPROVER_FIELDS,
  type ApproverRules,
  type CheckedApprovers,
  checkApprovers,
  questionOf,
  type RuleVerdict,
  type RunFacts,
} from "./approval.ts";
import { type Duration, duration } from "./clock.ts";
import { GroundcrewError, misset } from "./errors.ts";
import type { Classify } from "./failure.ts";
import { DEFAULT_TOOL_ATTEMPTS, MAX_STEP_ATTEMPTS } from "./limits.ts";

/** What happens to the world when a step runs; see G3. `once`, the default, is never repeated on a guess. */
export type Effect = "read" | "idempotent" | "keyed" | "once";

/** When somebody has to agree to a call: always, or as this says of its arguments and its run. Throwing means that somebody has to. */
export type ApprovalRule<INPUT> = true | ((input: INPUT, facts: RunFacts) => RuleVerdict);

/** Facts about one tool, beside the tool. With `approve`, also who has to agree to a call, and until when. */
export interface ToolPolicy<INPUT = unknown, OUTPUT = unknown> extends ApproverRules {
  /** When a person has to agree before a call runs; see `docs/supervision.md`. Default: nobody has to. */
  approve?: ApprovalRule<INPUT>;
  /** Default `once`. */
  effect?: Effect;
  /**
   * For `keyed`: what makes two calls the same action, e.g. `(input) => input.orderId`. The tool finds the whole key in
   * `currentCall().key` and hands it to its provider. Default: one key per call, the same for each attempt.
   */
  key?: (input: INPUT) => string;
  /** One attempt may take this long. Default 5 minutes. A `once` tool past it has an unknown outcome, any other has failed. */
  timeout?: Duration;
  /**
   * For `once`: finds out what became of a call whose outcome nobody saw. Must not act, only look. Answering `"unknown"`, or
   * throwing, leaves the question to a person.
   */
  reconcile?: (input: INPUT, call: { key: string; signal: AbortSignal }) => Promise<Reconciled<OUTPUT>> | Reconciled<OUTPUT>;
  /**
   * Attempts, when one fails in a way that may pass (see `docs/faults.md`). Default 3, and always 1 for `once`, which may have
   * happened.
   */
  attempts?: number;
  /**
   * `true`: when it is down the run goes on without it, the model is told so in a structured result, and the user sees what is
   * missing. `false`: the run cannot do without it, and waits or fails as the agent's `faults.exhausted` says. Default: the model
   * reads the error, as with the AI SDK alone.
   */
  optional?: boolean;
  /**
   * For `read` and `idempotent`: what answers when the tool is down: another tool of the agent, by name, or a function of the
   * input. The call counts as degraded. A tool that people have to agree to stands in for none: nobody would be asked.
   */
  fallback?: string | ((input: INPUT) => Promise<OUTPUT> | OUTPUT);
  /**
   * What is up or down together, when that is not the tool as a whole: e.g. `(input) => new URL(input.url).host` of one that
   * fetches from anywhere. `false`: nothing is; each call is made.
   */
  breaker?: false | ((input: INPUT) => string);
  /** Says what a failure is worth when the runtime's own verdict is wrong. Throwing, or undefined, leaves that verdict. */
  classify?: Classify;
}

export type Reconciled<OUTPUT> = { happened: true; result?: OUTPUT } | { happened: false } | "unknown";

export type PolicyMap<TOOLS extends ToolSet> = {
  [NAME in keyof TOOLS]?: ToolPolicy<InferToolInput<TOOLS[NAME]>, InferToolOutput<TOOLS[NAME]>>;
};

/** A policy with its defaults filled in. */
export interface CheckedPolicy {
  effect: Effect;
  /** Undefined: the agent's own time-out, or the default. */
  timeoutMs: number | undefined;
  attempts: number;
  key: ((input: unknown) => string) | undefined;
  reconcile: ToolPolicy["reconcile"] | undefined;
  optional: boolean | undefined;
  fallback: ToolPolicy["fallback"] | undefined;
  classify: Classify | undefined;
  breaker: ToolPolicy["breaker"] | undefined;
  approval: CheckedApproval | undefined;
}

export interface CheckedApproval extends CheckedApprovers {
  rule: ApprovalRule<unknown>;
}

/** What a tool gets when its author says nothing about it. */
export const UNDECLARED: CheckedPolicy = {
  effect: "once",
  timeoutMs: undefined,
  attempts: 1,
  key: undefined,
  reconcile: undefined,
  optional: undefined,
  fallback: undefined,
  classify: undefined,
  breaker: undefined,
  approval: undefined,
};

/** @throws GroundcrewError `POLICY_INVALID`, `DURATION_INVALID` */
export function checkPolicies(name: string, tools: ToolSet, policies: PolicyMap<ToolSet>): ReadonlyMap<string, CheckedPolicy> {
  for (const toolName of Object.keys(policies)) {
    if (!Object.hasOwn(tools, toolName)) {
      const known = Object.keys(tools).join(", ") || "none";
      throw new GroundcrewError("POLICY_INVALID", `Agent "${name}" has a policy for "${toolName}", but no such tool.`, {
        value: toolName,
        fix: `Its tools are: ${known}.`,
      });
    }
  }
  return new Map(
    Object.keys(tools).map((toolName) => [
      toolName,
      checkPolicy(`agent "${name}".policy.${toolName}`, toolName, policyOf(policies, toolName), { tools, policies }),
    ]),
  );
}

/** Own only: a tool may have a name that every object inherits, such as `constructor`. */
function policyOf(policies: PolicyMap<ToolSet>, toolName: string): ToolPolicy {
  return (Object.hasOwn(policies, toolName) ? policies[toolName] : undefined) ?? {};
}

export const EFFECTS: readonly Effect[] = ["read", "idempotent", "keyed", "once"];
const POLICY_FIELDS = [
  "effect",
  "key",
  "timeout",
  "reconcile",
  "attempts",
  "optional",
  "fallback",
  "classify",
  "breaker",
  "approve",
  ...APPROVER_FIELDS,
] satisfies (keyof ToolPolicy)[];

/** All tools of the agent, and what is said of them. */
interface Around {
  tools: ToolSet;
  policies: PolicyMap<ToolSet>;
}

function checkPolicy(field: string, toolName: string, policy: ToolPolicy, around: Around): CheckedPolicy {
  if (typeof policy !== "object" || policy === null) throw misset(field, "an object", policy, "POLICY_INVALID");
  for (const given of Object.keys(policy)) {
    if (!POLICY_FIELDS.some((known) => known === given)) {
      throw new GroundcrewError("POLICY_INVALID", `\`${field}.${given}\` is not a policy field.`, {
        value: given,
        fix: `Known fields: ${POLICY_FIELDS.join(", ")}.`,
      });
    }
  }
  const { effect = "once", timeout, optional, classify, breaker } = policy;
  if (!EFFECTS.includes(effect)) throw misset(`${field}.effect`, `one of ${EFFECTS.join(", ")}`, effect, "POLICY_INVALID");
  if (optional !== undefined && typeof optional !== "boolean")
    throw misset(`${field}.optional`, "true or false", optional, "POLICY_INVALID");
  checkFunction(`${field}.classify`, "a function of the error and the verdict", classify);
  if (breaker !== false) checkFunction(`${field}.breaker`, "false or a function of the tool's input", breaker);
  checkKey(field, effect, policy);
  checkReconcile(field, effect, policy);
  checkFallback(field, effect, toolName, policy, around);
  return {
    effect,
    timeoutMs: timeout === undefined ? undefined : duration(timeout, `${field}.timeout`),
    attempts: attemptsOf(field, effect, policy.attempts),
    key: policy.key as CheckedPolicy["key"],
    reconcile: policy.reconcile,
    optional,
    fallback: policy.fallback,
    classify,
    breaker,
    approval: checkApproval(field, policy),
  };
}

function checkApproval(field: string, policy: ToolPolicy): CheckedApproval | undefined {
  const { approve: rule } = policy;
  if (rule === undefined) {
    const idle = APPROVER_FIELDS.find((given) => policy[given] !== undefined);
    if (idle === undefined) return undefined;
    throw new GroundcrewError("POLICY_INVALID", `\`${field}.${idle}\` is set, but nobody is ever asked.`, {
      fix: "Set `approve: true`, or a function that says when.",
    });
  }
  if (rule !== true && typeof rule !== "function")
    throw misset(`${field}.approve`, "true or a function of the input", rule, "POLICY_INVALID");
  return { rule, ...checkApprovers(field, policy) };
}

function checkFunction(field: string, expected: string, given: unknown): void {
  if (given !== undefined && typeof given !== "function") throw misset(field, expected, given, "POLICY_INVALID");
}

function checkKey(field: string, effect: Effect, { key }: ToolPolicy): void {
  checkFunction(`${field}.key`, "a function of the tool's input", key);
  if (key === undefined || effect === "keyed") return;
  throw new GroundcrewError("POLICY_INVALID", `\`${field}.key\` is set, but the effect is "${effect}".`, { fix: 'Set `effect: "keyed"`.' });
}

function checkReconcile(field: string, effect: Effect, { reconcile }: ToolPolicy): void {
  checkFunction(`${field}.reconcile`, "a function of the tool's input", reconcile);
  if (reconcile === undefined || effect === "once") return;
  throw new GroundcrewError("POLICY_INVALID", `\`${field}.reconcile\` is set, but a "${effect}" tool is simply repeated.`, {
    fix: 'Remove it, or set `effect: "once"`.',
  });
}

/** What may have taken effect although it failed must not be done a second time by something else. */
function checkFallback(field: string, effect: Effect, toolName: string, { fallback }: ToolPolicy, around: Around): void {
  if (fallback === undefined) return;
  const isTool = typeof fallback === "string" && fallback !== toolName && Object.hasOwn(around.tools, fallback);
  if (!isTool && typeof fallback !== "function") {
    throw misset(
      `${field}.fallback`,
      "the name of another tool of the agent, or a function of the tool's input",
      fallback,
      "POLICY_INVALID",
    );
  }
  if (isTool) refuseGated(field, fallback, around);
  if (effect === "read" || effect === "idempotent") return;
  throw new GroundcrewError("POLICY_INVALID", `\`${field}.fallback\` is set, but the effect is "${effect}".`, {
    fix: "A call that failed may have taken effect all the same: what stands in for it would do it twice. Only `read` and `idempotent` tools take one.",
  });
}

/** As a stand-in it would run without anybody being asked: gates are kept before a call, and the call is another tool's. */
function refuseGated(field: string, fallback: string, { tools, policies }: Around): void {
  const isQuestion = questionOf(tools[fallback] ?? {}) !== undefined;
  if (!isQuestion && policyOf(policies, fallback).approve === undefined) return;
  const what = isQuestion ? "is a question to people" : "people have to agree to";
  throw new GroundcrewError(
    "POLICY_INVALID",
    `\`${field}.fallback\` names "${fallback}", which ${what}: as a stand-in it would ask nobody.`,
    {
      value: fallback,
      fix: `Leave it out, or name something that needs nobody. A model that reads that the tool is down can ask for "${fallback}" by itself; then people are asked.`,
    },
  );
}

/** @throws GroundcrewError `POLICY_INVALID` */
export function attemptsOf(field: string, effect: Effect, attempts: number | undefined): number {
  if (attempts === undefined) return effect === "once" ? 1 : DEFAULT_TOOL_ATTEMPTS;
  if (!Number.isInteger(attempts) || attempts < 1 || attempts > MAX_STEP_ATTEMPTS) {
    throw misset(`${field}.attempts`, `a whole number from 1 to ${MAX_STEP_ATTEMPTS}`, attempts, "POLICY_INVALID");
  }
  if (effect !== "once" || attempts === 1) return attempts;
  throw new GroundcrewError("POLICY_INVALID", `\`${field}.attempts\` is ${attempts}, but the effect is "once".`, {
    value: attempts,
    fix: "A call that failed may have taken effect all the same. Declare the effect that makes a repeat safe, or leave it at one attempt.",
  });
}
