/** May this call begin? What its author's rules, and the people whom they name, say of a tool call before it runs. */
import { asSchema, type ModelMessage, type Tool } from "ai";
import type { Agent } from "../agent.ts";
import type { CheckedApprovers, RunFacts } from "../approval.ts";
import type { ErrorCode } from "../errors.ts";
import type { Verdict } from "../persistence/approval.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import type { ToolCall } from "../persistence/model-step.ts";
import type { CheckedApproval } from "../policy.ts";
import { releaseOf } from "../supervision/aside.ts";
import { contextOf, rulingOf, spentOf, toolVersionOf } from "../supervision/request.ts";
import { escalationOf } from "../tool/escalation.ts";
import { type Agreed, type Ask, agree, latest, tooLarge } from "./approval.ts";
import type { Execution } from "./execution.ts";
import { toolStepKey } from "./transcript.ts";

/** What may run. */
export type Release =
  | { is: "free" }
  /** Somebody agreed; `edited` to other arguments than the model's. */
  | { is: "approved"; approval: string; by: readonly string[]; edited?: JsonValue }
  /** A person's answer is the call's result. */
  | { is: "answered"; by: string; answer: JsonValue }
  | { is: "refused"; code: ErrorCode; why: string; isFatal?: boolean };

/** What a call has to be asked for, worked out once. */
export type Gated = { call: ToolCall; ask: Ask; approval: CheckedApproval | undefined } | { call: ToolCall; release: Release };

/** Looks at a call that is open; nothing is asked yet. */
export async function gatedOf(execution: Execution, agent: Agent, call: ToolCall, messages: readonly ModelMessage[]): Promise<Gated> {
  const tool = Object.hasOwn(agent.tools, call.toolName) ? agent.tools[call.toolName] : undefined;
  const question = tool && escalationOf(tool);
  const approval = agent.policy.get(call.toolName)?.approval;
  const step = toolStepKey(call.toolCallId);
  if (execution.state.steps.has(step)) return { call, release: onRecord(execution, step) };
  if (!tool || call.invalid !== undefined) return { call, release: { is: "free" } }; // it will be refused for what it is
  const askOf = async (kind: Ask["kind"], rules: CheckedApprovers, why: string): Promise<Gated> => {
    const input = call.input as JsonValue | undefined;
    const ask = { kind, step, name: call.toolName, input, tool: await toolVersionOf(tool), rules, why, context: contextOf(messages) };
    const problem = tooLarge(ask);
    if (problem !== undefined) return { call, release: { is: "refused", code: "LIMIT_EXCEEDED", why: `The call did not run: ${problem}` } };
    return { call, ask, approval };
  };
  if (question) return askOf("question", question, "the agent asks a person");
  if (!approval) return { call, release: { is: "free" } };
  const ruling = rulingOf(
    approval,
    call.toolName,
    call.input,
    factsOf(execution, agent, { step: toolStepKey(call.toolCallId), name: call.toolName }),
  );
  if (ruling.is === "never") return { call, release: never(ruling.why) };
  if (ruling.is === "free" && !latest(execution, step)) return { call, release: { is: "free" } };
  const why = ruling.is === "asked" ? ruling.why : "somebody was asked before";
  if (!execution.deps.supervision.isShadow) return askOf("tool", approval, why);
  execution.journal.note({ type: "approval.skipped", step, name: call.toolName, why });
  return { call, release: { is: "free" } };
}

/** It began in an earlier stay: under the approval that it had then. */
function onRecord({ state, run }: Execution, step: string): Release {
  const released = releaseOf(run, state, step);
  return released?.verdict ? approved({ approval: released.approval, verdict: released.verdict }) : { is: "free" };
}

/** Waits for what people say. */
export async function released(execution: Execution, agent: Agent, gated: Gated): Promise<Release> {
  if ("release" in gated) return gated.release;
  const { call, ask, approval } = gated;
  const recheck = async (verdict: Verdict) => {
    if (verdict.input !== undefined) {
      const misfit = await exactMisfitOf(agent, call.toolName, verdict.input);
      if (misfit !== undefined) return `the edited arguments do not fit the tool (${misfit})`;
    }
    if (!approval) return undefined;
    const facts = factsOf(execution, agent, { step: ask.step, name: call.toolName });
    const ruling = rulingOf(approval, call.toolName, verdict.input ?? call.input, facts);
    return ruling.is === "never" ? ruling.why : undefined;
  };
  const agreed = await agree(execution, ask, recheck);
  const { verdict } = agreed;
  const by = verdict.by.join(" and ");
  switch (verdict.outcome) {
    case "approved":
      return approved(agreed);
    case "answered":
      return { is: "answered", by, answer: verdict.answer ?? null };
    case "denied":
      return {
        is: "refused",
        code: "APPROVAL_DENIED",
        why: `A person (${by}) did not allow this call. Their reason: ${verdict.reason ?? "none was given"}`,
      };
    default:
      return expired(ask);
  }
}

function approved({ approval, verdict }: Agreed): Release {
  return { is: "approved", approval, by: verdict.by, ...(verdict.input !== undefined && { edited: verdict.input }) };
}

/** Not a denial, and not to be taken for one. */
function expired({ kind, rules }: Ask): Release {
  const what = kind === "question" ? "answered" : "decided on this call";
  const why = `Nobody has ${what} in time, so it did not run. That is not a refusal.`;
  return { is: "refused", code: "APPROVAL_EXPIRED", why, isFatal: rules.onExpire === "fail" };
}

function never(why: string): Release {
  return { is: "refused", code: "APPROVAL_DENIED", why: `The call did not run: ${why}. Nobody can allow it.` };
}

/** What a rule is told of the run. @param call the one that it is about */
export function factsOf({ run, state }: Pick<Execution, "run" | "state">, agent: Agent, call: { step: string; name: string }): RunFacts {
  const others = [...state.steps.values()].filter(({ step, kind }) => kind === "tool" && step !== call.step);
  return {
    run: run.id,
    agent: agent.name,
    session: run.session,
    principal: run.principal,
    spent: spentOf(state),
    degraded: state.degraded.map(({ name }) => name),
    isFirstUse: !others.some(({ name }) => name === call.name),
  };
}

/** What is wrong with the input, if anything: its tool may have changed since the model, or a person, wrote it. */
export async function misfitOf(tool: Tool, input: unknown): Promise<string | undefined> {
  const checked = await asSchema(tool.inputSchema).validate?.(structuredClone(input));
  return !checked || checked.success ? undefined : checked.error.message;
}

/** As `misfitOf`, for what a person has written: a key that the tool would drop is wrong, because somebody thinks that it does something. */
export async function exactMisfitOf(agent: Agent, name: string, input: unknown): Promise<string | undefined> {
  const tool = Object.hasOwn(agent.tools, name) ? agent.tools[name] : undefined;
  if (!tool) return `there is no tool "${name}" any more`;
  const checked = await asSchema(tool.inputSchema).validate?.(structuredClone(input));
  if (!checked) return undefined;
  if (!checked.success) return checked.error.message;
  const extra = droppedKey(input, checked.value);
  return extra === undefined ? undefined : `it does not take \`${extra}\``;
}

/** A key of `given` that is not in `taken`. */
function droppedKey(given: unknown, taken: unknown, path = ""): string | undefined {
  if (typeof given !== "object" || given === null || typeof taken !== "object" || taken === null) return undefined;
  if (!Array.isArray(taken) && Object.getPrototypeOf(taken) !== Object.prototype) return undefined; // a Date, a Map: made of the text given
  for (const [key, value] of Object.entries(given)) {
    if (!Object.hasOwn(taken, key)) return `${path}${key}`;
    const inner = droppedKey(value, (taken as Record<string, unknown>)[key], `${path}${key}.`);
    if (inner !== undefined) return inner;
  }
  return undefined;
}
