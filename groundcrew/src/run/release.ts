/** May this call begin? What its author's rules, and the people whom they name, say of a tool call before it runs. */
import { isDeepStrictEqual } from "node:util";
import { asSchema, type ModelMessage, type Tool } from "ai";
import type { Agent } from "../agent.ts";
import { type CheckedApprovers, questionOf, type RunFacts } from "../approval.ts";
import type { ErrorCode } from "../errors.ts";
import type { Verdict } from "../persistence/approval.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import type { ToolCall } from "../persistence/model-step.ts";
import type { CheckedApproval } from "../policy.ts";
import { contextOf, rulingOf, spentOf, toolVersionOf } from "../supervision/request.ts";
import { type Agreed, type Ask, agree, agreedOn, lapseOf, latest, tooLarge, withdraw } from "./approval.ts";
import type { Execution } from "./execution.ts";
import { toolStepKey } from "./transcript.ts";

/** What may run. */
export type Release =
  | { is: "free" }
  /** It has begun, and nobody knows whether it has happened: that is found out first. */
  | { is: "in doubt" }
  /** Somebody agreed; `edited` to other arguments than the model's. */
  | { is: "approved"; approval: string; edited?: JsonValue }
  /** A person's answer is the call's result. */
  | { is: "answered"; answer: JsonValue }
  | { is: "refused"; code: ErrorCode; why: string; isFatal?: boolean };

/** What people have to be asked about a call, or that they need not be; `skipped`: why they would have been, were this not shadow mode. */
export type Gated = { ask: Ask; approval: CheckedApproval | undefined } | { release: Release; skipped?: string };

/** Who wants to know it of which call. */
export interface Caller {
  execution: Execution;
  agent: Agent;
  call: ToolCall;
  /** The conversation, up to the call. */
  messages: readonly ModelMessage[];
}

/** Looks at a call that is open; nothing is asked yet. */
export async function gatedOf({ execution, agent, call, messages }: Caller): Promise<Gated> {
  const { state, deps } = execution;
  const tool = toolNamed(agent, call.toolName);
  const step = toolStepKey(call.toolCallId);
  if (state.steps.get(step)?.status === "unknown") return { release: { is: "in doubt" } };
  if (!tool || call.invalid !== undefined) return { release: { is: "free" } }; // it will be refused for what it is
  const askOf = async (kind: Ask["kind"], rules: CheckedApprovers, why: string): Promise<Gated> => {
    const input = call.input as JsonValue | undefined;
    const ask = { kind, step, name: call.toolName, input, tool: await toolVersionOf(tool), rules, why, context: contextOf(messages) };
    const problem = tooLarge(ask);
    if (problem !== undefined) return { release: { is: "refused", code: "LIMIT_EXCEEDED", why: `The call did not run: ${problem}` } };
    return { ask, approval };
  };
  const question = questionOf(tool);
  const approval = agent.policy.get(call.toolName)?.approval;
  if (question) return askOf("question", question, "the agent asks a person");
  const said = saidOf(execution, step);
  if (!approval) return { release: said ?? { is: "free" } };
  const ruling = rulingOf(approval, call.toolName, call.input, factsOf(execution, agent, { step, name: call.toolName }));
  if (ruling.is === "never") return { release: never(ruling.why, state.steps.has(step)) };
  if (ruling.is === "free" && !latest(execution, step)) return { release: { is: "free" } };
  if (deps.supervision.isShadow) return { release: said ?? { is: "free" }, ...(!said && ruling.is === "asked" && { skipped: ruling.why }) };
  return askOf("tool", approval, ruling.is === "asked" ? ruling.why : "somebody was asked before");
}

/** Where nobody has to be asked any more: what somebody has said of the call all the same counts. */
function saidOf(execution: Execution, step: string): Release | undefined {
  const agreed = agreedOn(execution, step);
  const isSaid = agreed?.verdict.outcome === "approved" || agreed?.verdict.outcome === "denied";
  return agreed && isSaid ? releaseBy(agreed) : undefined;
}

/** Waits for what people say, as often as it takes. */
export async function released(caller: Caller): Promise<Release> {
  const { execution, call } = caller;
  for (;;) {
    const gated = await gatedOf(caller);
    if ("release" in gated) {
      const step = toolStepKey(call.toolCallId);
      await withdraw(execution, step);
      if (gated.skipped !== undefined && !execution.state.steps.has(step))
        execution.journal.note({ type: "approval.skipped", step, name: call.toolName, why: gated.skipped });
      return gated.release;
    }
    const agreed = await agree(execution, gated.ask, (verdict) => recheck(caller, gated, verdict));
    if (agreed) return releaseBy(agreed, gated.ask);
  }
}

/** Whether what a call was released for holds now: what has to be true at the moment when it begins, each time it does. */
export async function holds(caller: Caller, release: Release): Promise<boolean> {
  const gated = await gatedOf(caller);
  if ("release" in gated) return isDeepStrictEqual(gated.release, release);
  const { execution } = caller;
  const agreed = agreedOn(execution, gated.ask.step);
  if (!agreed || !isDeepStrictEqual(releaseBy(agreed, gated.ask), release)) return false;
  const why = await lapseOf(execution, gated.ask, agreed, (verdict) => recheck(caller, gated, verdict));
  return why === undefined;
}

/** What the tool and its rule say, now, of what was agreed to. */
async function recheck(
  { execution, agent, call }: Caller,
  { ask, approval }: Extract<Gated, { ask: Ask }>,
  { input }: Verdict,
): Promise<string | undefined> {
  const misfit = input === undefined ? undefined : await exactMisfitOf(agent, call.toolName, input);
  if (misfit !== undefined) return `the edited arguments do not fit the tool (${misfit})`;
  if (!approval) return undefined;
  const ruling = rulingOf(approval, call.toolName, input ?? call.input, factsOf(execution, agent, { step: ask.step, name: call.toolName }));
  return ruling.is === "never" ? ruling.why : undefined;
}

/** What somebody's word makes of the call. Whose it is stays out of it: what a model reads it may tell the user. */
function releaseBy({ approval, verdict }: Agreed, ask?: Ask): Release {
  switch (verdict.outcome) {
    case "approved":
      return { is: "approved", approval, ...(verdict.input !== undefined && { edited: verdict.input }) };
    case "answered":
      return { is: "answered", answer: verdict.answer ?? null };
    case "denied":
      return {
        is: "refused",
        code: "APPROVAL_DENIED",
        why: `A person did not allow this call. Their reason: ${verdict.reason ?? "none was given"}`,
      };
    default:
      return expired(ask);
  }
}

/** Not a denial, and not to be taken for one. */
function expired(ask: Ask | undefined): Release {
  const what = ask?.kind === "question" ? "answered" : "decided on this call";
  const why = `Nobody has ${what} in time, so it did not run. That is not a refusal.`;
  return { is: "refused", code: "APPROVAL_EXPIRED", why, isFatal: ask?.rules.onExpire === "fail" };
}

function never(why: string, hasBegun: boolean): Release {
  const what = hasBegun ? "The call is not tried again" : "The call did not run";
  return { is: "refused", code: "APPROVAL_DENIED", why: `${what}: ${why}. Nobody can allow it.` };
}

/** What a rule is told of the run. @param call the one that it is about */
export function factsOf({ run, state }: Pick<Execution, "run" | "state">, agent: Agent, call: { step: string; name: string }): RunFacts {
  const done = [...state.steps.values()].filter(
    ({ step, kind, status }) => kind === "tool" && status === "succeeded" && step !== call.step,
  );
  return {
    run: run.id,
    agent: agent.name,
    session: run.session,
    principal: run.principal,
    spent: spentOf(state),
    degraded: state.degraded.map(({ name }) => name),
    isFirstUse: !done.some(({ name }) => name === call.name),
  };
}

/** What is wrong with the input, if anything: its tool may have changed since the model, or a person, wrote it. */
export async function misfitOf(tool: Tool, input: unknown): Promise<string | undefined> {
  const checked = await asSchema(tool.inputSchema).validate?.(structuredClone(input));
  return !checked || checked.success ? undefined : checked.error.message;
}

/** As `misfitOf`, for what a person has written: a key that the tool would drop is wrong, because somebody thinks that it does something. */
export async function exactMisfitOf(agent: Agent, name: string, input: unknown): Promise<string | undefined> {
  const tool = toolNamed(agent, name);
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

/** Own only: a model may ask for a tool by a name that every object inherits. */
export function toolNamed(agent: Agent, name: string): Tool | undefined {
  return Object.hasOwn(agent.tools, name) ? agent.tools[name] : undefined;
}
