/**
 * The gate that people keep (G9): what needs somebody's agreement is asked for, waited for without holding anything, and looked at
 * once more before it begins. The store's row decides between those who decide; the journal says what came of it.
 */
import type { CheckedApprovers } from "../approval.ts";
import { APPROVAL_FLOOD_MS, MAX_APPROVAL_BYTES, MAX_APPROVALS_PER_MINUTE } from "../limits.ts";
import { type ApprovalKind, approvalId, type Verdict } from "../persistence/approval.ts";
import type { ApprovalRequested, Fact } from "../persistence/event.ts";
import type { ApprovalState } from "../persistence/fold.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import { isOwn } from "../supervision/aside.ts";
import { bind, rulesVersionOf, spentOf } from "../supervision/request.ts";
import { hold, supersede, waitForVerdict } from "./approval-wait.ts";
import type { Execution } from "./execution.ts";

/** What somebody is to agree to. */
export interface Ask {
  kind: ApprovalKind;
  step: string;
  name: string;
  input: JsonValue | undefined;
  /** The version of what would run. */
  tool: string;
  rules: CheckedApprovers;
  why: string;
  context: readonly string[];
}

/** How it ended; never `superseded`. */
export interface Agreed {
  approval: string;
  verdict: Verdict;
}

/** Another reason why what was agreed to must not run now; asked each time before it begins. */
export type Recheck = (verdict: Verdict) => Promise<string | undefined>;

/**
 * Brings a question before those who may decide, and waits for what becomes of it. What is on record is not asked again, unless
 * what would run is not what was asked for any more.
 * @returns undefined when what was agreed to holds no longer: it is void, and whoever asks looks again whether, and what, to ask.
 * Never returns when the run has to stop or wait.
 */
export async function agree(execution: Execution, ask: Ask, recheck?: Recheck): Promise<Agreed | undefined> {
  for (;;) {
    const agreed = agreedOn(execution, ask.step);
    if (!agreed) {
      await pursue(execution, ask);
      continue;
    }
    const why = await lapseOf(execution, ask, agreed, recheck);
    if (why === undefined) return agreed;
    await execution.journal.commit({ type: "approval.voided", approval: agreed.approval, why });
    return undefined;
  }
}

/** What people have said about the step, where that still counts. */
export function agreedOn(execution: Execution, step: string): Agreed | undefined {
  const { approval, verdict, voided } = latest(execution, step) ?? {};
  if (approval === undefined || !verdict || voided !== undefined || verdict.outcome === "superseded") return undefined;
  return { approval, verdict };
}

/** Why what was agreed to must not run any more, if so. Only a yes runs anything. */
export async function lapseOf(
  execution: Execution,
  ask: Ask,
  { approval, verdict }: Agreed,
  recheck?: Recheck,
): Promise<string | undefined> {
  if (verdict.outcome !== "approved") return undefined;
  const asked = execution.state.approvals.get(approval);
  return (asked && whyNot(execution, asked, verdict, ask)) ?? recheck?.(verdict);
}

/** Asks, unless that is done; then waits for what comes next. */
async function pursue(execution: Execution, ask: Ask): Promise<void> {
  const asked = latest(execution, ask.step);
  if (!asked || asked.voided !== undefined || asked.verdict) await request(execution, [ask]);
  else if (isStale(execution, asked, ask)) await supersede(execution, asked, "the tool or its rules have changed");
  else await waitForVerdict(execution, asked, ask.rules);
}

/** Nobody has to decide it any more: those who were asked are not left with it. */
export async function withdraw(execution: Execution, step: string): Promise<void> {
  const asked = latest(execution, step);
  if (asked && !asked.verdict && asked.voided === undefined) await supersede(execution, asked, "nobody has to decide it any more");
}

/** The run's own last request about the step; those of the run that it was forked from bind nobody here. */
export function latest({ state, run }: Execution, step: string): ApprovalState | undefined {
  return [...state.approvals.values()].findLast(({ approval, request }) => request.step === step && isOwn(run, approval));
}

/** Asks what is not asked for yet: all of it at once, so that people hear of it once. On disk when it returns. */
export async function request(execution: Execution, asks: readonly Ask[]): Promise<void> {
  const { journal } = execution;
  for (const ask of asks) {
    await untilCalm(execution);
    journal.note(...factsOf(execution, ask));
  }
  if (asks.length === 0) return;
  await execution.enter();
  try {
    await journal.commit();
  } finally {
    execution.leave();
  }
}

/** The request; and where an earlier verdict covers it, that verdict. */
function factsOf(execution: Execution, ask: Ask): Fact[] {
  const fact = requestOf(execution, ask);
  const covering = coverOf(execution, ask);
  if (!covering?.verdict) return [fact];
  const { similar: _similar, input: _input, ...verdict } = covering.verdict;
  const { approval } = fact;
  const now = execution.deps.clock.now();
  const like: Verdict = { ...verdict, hash: fact.request.hash, at: now, channel: "runtime", reason: `like ${covering.approval}` };
  return [
    { ...fact, like: covering.approval },
    { type: "approval.ended", id: `approval:${approval}:ended`, approval, verdict: like },
  ];
}

function requestOf({ state, run, deps }: Execution, ask: Ask): ApprovalRequested {
  const { kind, step, name, input, tool, rules, why, context } = ask;
  const own = [...state.approvals.keys()].filter((approval) => isOwn(run, approval));
  const rulesVersion = rulesVersionOf(rules);
  const isEndless = rules.withinMs === null || rules.onExpire === "wait";
  return {
    type: "approval.requested",
    approval: approvalId(run.id, own.length + 1),
    to: rules.by,
    ...(!isEndless && { until: deps.clock.now() + (rules.withinMs ?? 0) }),
    request: {
      kind,
      name,
      step,
      agent: run.agent,
      session: run.session,
      user: run.principal.user,
      ...(input !== undefined && { input }),
      hash: bind({ run: run.id, step, name, tool, rules: rulesVersion, input }),
      tool,
      rules: rulesVersion,
      why,
      spent: spentOf(state),
      context,
      quorum: rules.quorum,
      selfApproval: rules.selfApproval,
      onExpire: rules.onExpire,
    },
  };
}

/** Why nobody can be asked: a person is shown all of it or nothing. */
export function tooLarge({ input, name }: Pick<Ask, "input" | "name">): string | undefined {
  const bytes = input === undefined ? 0 : Buffer.byteLength(JSON.stringify(input));
  if (bytes <= MAX_APPROVAL_BYTES) return undefined;
  return `What "${name}" would be approved for has ${bytes} bytes, and a person is shown ${MAX_APPROVAL_BYTES} at most. Give an address instead of the data.`;
}

/** An approval that says that calls like this need nobody: same tool, same rules, not too many, not too late. */
function coverOf({ state, run, deps }: Execution, { kind, name, tool, rules }: Ask): ApprovalState | undefined {
  if (kind !== "tool") return undefined;
  const own = [...state.approvals.values()].filter(({ approval, request }) => isOwn(run, approval) && request.name === name);
  return own.find(({ approval, request, verdict, voided }) => {
    const { similar } = verdict ?? {};
    if (!similar || voided !== undefined || request.tool !== tool || request.rules !== rulesVersionOf(rules)) return false;
    return deps.clock.now() < similar.until && own.filter(({ like }) => like === approval).length < similar.uses;
  });
}

/** A run that asks all the time makes people say yes without looking: it stops until an operator says `retry`. */
async function untilCalm(execution: Execution): Promise<void> {
  const { state, deps } = execution;
  const isTooMuch = state.askedAt.filter((at) => at > deps.clock.now() - APPROVAL_FLOOD_MS).length >= MAX_APPROVALS_PER_MINUTE;
  if (!isTooMuch && !state.isFlooding) return;
  const detail = `it has asked for ${MAX_APPROVALS_PER_MINUTE} approvals within a minute. \`retry\` lets it go on asking`;
  await hold(execution, { code: "APPROVALS_FLOODED", detail, isOver: () => state.askedAt.length === 0 });
}

/** Whether what would run is another call than the one that was asked for: a deploy has changed the tool or its rules. */
function isStale({ run }: Execution, { request }: ApprovalState, { step, name, tool, rules, input }: Ask): boolean {
  return request.hash !== bind({ run: run.id, step, name, tool, rules: rulesVersionOf(rules), input });
}

/** Why what was approved must not run, if so. */
function whyNot({ run, deps }: Execution, asked: ApprovalState, verdict: Verdict, ask: Ask): string | undefined {
  const { step, name, tool, rules } = ask;
  const input = verdict.input ?? ask.input;
  if (asked.request.tool !== tool) return "the tool has changed since";
  if (asked.request.rules !== rulesVersionOf(rules)) return "the rules have changed since";
  if (verdict.hash !== bind({ run: run.id, step, name, tool, rules: rulesVersionOf(rules), input }))
    return "the arguments are others than those approved";
  if (rules.withinMs !== null && deps.clock.now() > verdict.at + rules.withinMs) return "it was approved too long ago";
  return undefined;
}
