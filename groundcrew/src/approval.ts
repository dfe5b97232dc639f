/** Who must agree before something is done, and until when: what an author says beside a tool or in a flow. Checked at definition. */
import { type Duration, duration } from "./clock.ts";
import { type ErrorCode, GroundcrewError, misset } from "./errors.ts";
import { DEFAULT_APPROVAL_MS, MAX_APPROVERS, MAX_ESCALATIONS, MAX_NAME_CHARS, MAX_QUORUM, MIN_REMIND_MS } from "./limits.ts";

/** What a rule is told of the run. */
export interface RunFacts {
  run: string;
  agent: string;
  session: string | null;
  principal: { tenant: string; user: string; roles: readonly string[] };
  /** What the run has used so far. */
  spent: { modelSteps: number; inputTokens: number; outputTokens: number };
  /** Tools that the run goes on without. */
  degraded: readonly string[];
  /** Whether no call of the tool has succeeded in this run so far. */
  isFirstUse: boolean;
}

/** `true` or a text, which says why: somebody is asked. `false`: nobody is. `deny`: it is never allowed, whoever agrees. */
export type RuleVerdict = boolean | string | { deny: string };

export interface Escalation {
  /** `"role:lead"`, `"user:ana"`; they may decide from then on, beside those asked before. */
  to: string | readonly string[];
  /** Since the request, or since the step before. */
  after: Duration;
  /** How often they are told, every `after`. Default 1. */
  times?: number;
}

/** By whom, how many, and until when. */
export interface ApproverRules {
  /**
   * Who may decide: `"user:ana"`, `"role:finance"`, or `"requester"`, whoever the run works for. Default: `role:operator`.
   */
  by?: string | readonly string[];
  /** How many different people have to agree. Default 1. One who denies is enough. */
  quorum?: number;
  /** Whether whoever the run works for may be one of them. Default no; `by: "requester"` says yes. */
  selfApproval?: boolean;
  /** When nobody has decided by then, it has expired. Default 3 days. `false`: never. */
  within?: Duration | false;
  /** Those who may decide are told again, this often, until somebody has decided. Default: not. */
  remind?: Duration;
  /** Who may decide as well when nobody has. A name alone: after half of `within`. */
  escalate?: string | Escalation | readonly Escalation[];
  /** When nobody has decided in time: the model is told (`deny`), the run fails, or it goes on waiting. Default `deny`. */
  onExpire?: "deny" | "fail" | "wait";
}

/** Rules with their defaults filled in. */
export interface CheckedApprovers {
  by: readonly string[];
  quorum: number;
  selfApproval: boolean;
  withinMs: number | null;
  remindMs: number | null;
  escalate: readonly { to: readonly string[]; afterMs: number; times: number }[];
  onExpire: "deny" | "fail" | "wait";
}

export const APPROVER_FIELDS = [
  "by",
  "quorum",
  "selfApproval",
  "within",
  "remind",
  "escalate",
  "onExpire",
] satisfies (keyof ApproverRules)[];

/** Tools that are questions to people, and who answers them. Here, so that a policy can be checked against it. */
const questions = new WeakMap<object, CheckedApprovers>();

export function markQuestion(tool: object, answered: CheckedApprovers): void {
  questions.set(tool, answered);
}

/** Who answers, when `tool` is a question to people. */
export function questionOf(tool: object): CheckedApprovers | undefined {
  return questions.get(tool);
}

/** Whoever the run works for. */
export const REQUESTER = "requester";

/** @throws GroundcrewError `POLICY_INVALID`, `DURATION_INVALID` */
export function checkApprovers(field: string, rules: ApproverRules): CheckedApprovers {
  const { by = "role:operator", quorum = 1, within, remind, onExpire = "deny" } = rules;
  const targets = checkTargets(`${field}.by`, by);
  const isToRequester = targets.includes(REQUESTER);
  const { selfApproval = isToRequester } = rules;
  if (!Number.isInteger(quorum) || quorum < 1 || quorum > MAX_QUORUM) {
    throw misset(`${field}.quorum`, `a whole number from 1 to ${MAX_QUORUM}`, quorum, "POLICY_INVALID");
  }
  if (typeof selfApproval !== "boolean") throw misset(`${field}.selfApproval`, "true or false", selfApproval, "POLICY_INVALID");
  if (isToRequester && !selfApproval) {
    throw new GroundcrewError("POLICY_INVALID", `\`${field}.by\` names the requester, and \`selfApproval\` says no.`, {
      fix: "Leave one of them out.",
    });
  }
  if (!["deny", "fail", "wait"].includes(onExpire))
    throw misset(`${field}.onExpire`, "one of deny, fail, wait", onExpire, "POLICY_INVALID");
  const people = targets.filter((target) => !target.startsWith("role:")).length;
  if (people === targets.length && quorum > people) {
    throw misset(`${field}.quorum`, `no more than the ${people} people in \`by\``, quorum, "POLICY_INVALID");
  }
  const withinMs = within === false ? null : within === undefined ? DEFAULT_APPROVAL_MS : positive(`${field}.within`, within);
  const remindMs = remind === undefined ? null : positive(`${field}.remind`, remind);
  if (remindMs !== null && remindMs < MIN_REMIND_MS) {
    throw misset(`${field}.remind`, `at least ${MIN_REMIND_MS} ms: people who are told more often look away`, remind, "POLICY_INVALID");
  }
  return {
    by: targets,
    quorum,
    selfApproval,
    withinMs,
    remindMs,
    escalate: checkEscalate(`${field}.escalate`, rules.escalate, withinMs),
    onExpire,
  };
}

function positive(field: string, value: Duration): number {
  const ms = duration(value, field);
  if (ms > 0) return ms;
  throw misset(field, "longer than nothing", value, "POLICY_INVALID");
}

function checkEscalate(field: string, given: ApproverRules["escalate"], withinMs: number | null): CheckedApprovers["escalate"] {
  if (given === undefined) return [];
  if (typeof given === "string") {
    if (withinMs === null) throw misset(field, "`{ to, after }`, because nothing ever expires here", given, "POLICY_INVALID");
    return [{ to: checkTargets(field, given), afterMs: Math.ceil(withinMs / 2), times: 1 }];
  }
  const steps = [given].flat() as Escalation[];
  const total = steps.reduce((sum, { times = 1 }) => sum + times, 0);
  if (total > MAX_ESCALATIONS) throw misset(field, `at most ${MAX_ESCALATIONS} escalations, repeats included`, total, "POLICY_INVALID");
  return steps.map((step, index) => {
    const at = `${field}[${index}]`;
    if (typeof step !== "object" || step === null) throw misset(at, "`{ to, after }`", step, "POLICY_INVALID");
    const { to, after, times = 1 } = step;
    if (!Number.isInteger(times) || times < 1) throw misset(`${at}.times`, "a whole number from 1", times, "POLICY_INVALID");
    return { to: checkTargets(`${at}.to`, to), afterMs: positive(`${at}.after`, after), times };
  });
}

/** @throws GroundcrewError with `code` */
export function checkTargets(field: string, given: unknown, code: ErrorCode = "POLICY_INVALID"): readonly string[] {
  const targets = [given].flat();
  const isTarget = (target: unknown) =>
    target === REQUESTER || (typeof target === "string" && /^(user|role):.+$/s.test(target) && target.length <= MAX_NAME_CHARS);
  if (targets.length > 0 && targets.length <= MAX_APPROVERS && targets.every(isTarget)) return targets as string[];
  throw misset(field, `"user:…", "role:…" or "${REQUESTER}", or a list of at most ${MAX_APPROVERS} of them`, given, code);
}
