/** The calls of a model's answer: each a step of its own, of which the model is told what became. */
import type { ModelMessage, Tool } from "ai";
import type { Agent } from "../agent.ts";
import { coerceError, describe, GroundcrewError, isError } from "../errors.ts";
import type { Exhausted } from "../faults.ts";
import { MAX_NAME_CHARS, MAX_PARALLEL_TOOLS, NO_CALL_MS } from "../limits.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import type { ToolCall } from "../persistence/model-step.ts";
import { type CheckedPolicy, UNDECLARED } from "../policy.ts";
import type { Answer } from "../tool/escalation.ts";
import { executeTool, noted, toModelOutput } from "../tool/tool.ts";
import { latest, request } from "./approval.ts";
import type { Execution } from "./execution.ts";
import { type Caller, gatedOf, holds, misfitOf, type Release, released, toolNamed } from "./release.ts";
import { perform } from "./step.ts";
import { type Candidate, type Exhaustion, Lapsed } from "./step-spec.ts";
import { type Transcript, toolStepKey } from "./transcript.ts";

/**
 * Runs the open calls side by side. One that fails is an answer for the model; one in doubt makes the run wait once the others are done.
 * @param isResumed whether an earlier stay asked for them: the agent may have been another one then.
 */
export async function runTools(
  execution: Execution,
  agent: Agent,
  { messages, openCalls }: Transcript,
  history: readonly ModelMessage[],
  isResumed: boolean,
): Promise<void> {
  const shown = [...history, ...messages];
  const callers = openCalls.map((call): Caller => ({ execution, agent, call, messages: shown }));
  if (isResumed) await Promise.all(openCalls.map((call) => meetNewTool(execution, agent, call)));
  const gated = await Promise.all(callers.map(gatedOf));
  // Everything that people have to decide is asked for at once; what nobody has to decide does not wait for it.
  const fresh = gated.flatMap((one) => ("ask" in one && !latest(execution, one.ask.step) ? one.ask : []));
  const asking = request(execution, fresh);
  const lanes = new Lanes(MAX_PARALLEL_TOOLS);
  const bringToEnd = async (caller: Caller, index: number) => {
    if ("ask" in (gated[index] ?? {})) await asking;
    for (let isOver = false; !isOver; ) {
      const release = await released(caller);
      isOver = await lanes.in(() => runTool(caller, release));
    }
  };
  await Promise.all([asking, ...callers.map(bringToEnd)]);
}

/** So many at a time; the others wait their turn. */
class Lanes {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  async in<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((go) => this.#waiting.push(go));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}

/**
 * The agent may have changed since its model asked for this call. One that has not begun, and does not fit its tool any more, is
 * refused like one that never fitted. One that had begun when its tool was taken away may have happened: that is not for a
 * tool that is gone to deny.
 */
async function meetNewTool({ state, journal }: Execution, agent: Agent, call: ToolCall): Promise<void> {
  const tool = toolNamed(agent, call.toolName);
  const step = state.steps.get(toolStepKey(call.toolCallId));
  if (tool && !step) {
    const problem = await misfitOf(tool, call.input);
    if (problem !== undefined)
      call.invalid ??= `The call did not run: its input does not fit the tool any more, which has changed meanwhile (${problem}).`;
  } else if (!tool && step?.status === "abandoned" && step.effect !== "read" && step.resolution === undefined) {
    journal.note({ type: "step.unknown", step: step.step, attempt: step.attempt, why: "its tool was removed while it was in flight" });
  }
}

/** @returns whether it has ended; otherwise what it was released for holds no longer, and it has to be released anew. */
async function runTool(caller: Caller, release: Release): Promise<boolean> {
  const { execution, agent, call: asked, messages } = caller;
  const { journal } = execution;
  const step = toolStepKey(asked.toolCallId);
  const policy = agent.policy.get(asked.toolName) ?? UNDECLARED;
  const tool = toolNamed(agent, asked.toolName);
  const call = { ...asked, input: await inputOf(execution, asked, release) };
  const { key, refused } = refusalOf(execution, agent, policy, call, release);
  if (refused && release.is === "approved") journal.note({ type: "approval.voided", approval: release.approval, why: refused.message });
  try {
    await perform<unknown>(execution, {
      step,
      kind: "tool",
      candidates: refused ? [unasked(call, policy)] : candidatesOf(execution, agent, call, messages, key, release),
      refused,
      holds: () => holds(caller, release),
      input: journal.encode(call.input, `input of tool "${call.toolName}"`),
      failure: "TOOL_FAILED",
      classify: [policy.classify, agent.faults.classify],
      patienceMs: agent.faults.patienceMs,
      exhausted: () => (refused ? (isFatal(release) ? "fail" : "tell") : exhaustionOfTool(policy.optional, agent.faults.exhausted)),
      describe: async (output) => ({ shown: await shownTo(execution, tool, call, output, release) }),
    });
  } catch (thrown) {
    if (thrown instanceof Lapsed) return false;
    const error = coerceError(thrown);
    if (execution.state.steps.get(step)?.status !== "failed" || isError(error, "SUPERSEDED")) throw error;
    // Recorded as failed: the model is told, or the loop fails the run.
  }
  return true;
}

/** The model's arguments, or those that a person has put in their place; of a call in doubt those that it has begun with. */
async function inputOf({ state, journal }: Execution, { toolCallId, input }: ToolCall, release: Release): Promise<unknown> {
  if (release.is === "approved" && release.edited !== undefined) return release.edited;
  const step = state.steps.get(toolStepKey(toolCallId));
  return release.is === "in doubt" && step?.input !== undefined ? journal.decode(step.input) : input;
}

function isFatal(release: Release): boolean {
  return release.is === "refused" && release.isFatal === true;
}

/** Why the call does not run, if it does not; otherwise its idempotency key, where it has one of its own. */
function refusalOf(
  execution: Execution,
  agent: Agent,
  policy: CheckedPolicy,
  call: ToolCall,
  release: Release,
): { key?: string; refused?: Error } {
  if (release.is === "refused") return { refused: new GroundcrewError(release.code, release.why) };
  if (release.is === "in doubt") return {}; // it does not begin
  if (!toolNamed(agent, call.toolName)) {
    return { refused: new GroundcrewError("TOOL_FAILED", `There is no tool "${call.toolName}" any more.`) };
  }
  if (call.invalid !== undefined) return { refused: new GroundcrewError("TOOL_FAILED", call.invalid) };
  const { key, refused } = keyOf(execution, agent, policy, call);
  if (refused !== undefined) return { refused: new GroundcrewError("TOOL_FAILED", refused) };
  const own = key ?? (release.is === "approved" ? release.approval : undefined);
  return own === undefined ? {} : { key: own };
}

/** A person's answer is there already; anything else is the tool's to do. */
function candidatesOf(
  execution: Execution,
  agent: Agent,
  call: ToolCall,
  messages: readonly ModelMessage[],
  key: string | undefined,
  release: Release,
): [Candidate<unknown>, ...Candidate<unknown>[]] {
  if (release.is !== "answered") return toolsOf(execution, agent, call, messages, key);
  const run = (): Answer => ({ answeredBy: "a person", answer: release.answer });
  return [{ name: call.toolName, effect: "read", attempts: 1, timeoutMs: NO_CALL_MS, run }];
}

/** What it means to the run when the tool has failed for good. */
function exhaustionOfTool(optional: boolean | undefined, required: Exhausted): Exhaustion {
  if (optional === undefined) return "tell";
  return optional ? "degrade" : required;
}

/** The tool that was asked for, and what stands in for it. */
function toolsOf(
  execution: Execution,
  agent: Agent,
  call: ToolCall,
  messages: readonly ModelMessage[],
  key: string | undefined,
): [Candidate<unknown>, ...Candidate<unknown>[]] {
  const { fallback } = agent.policy.get(call.toolName) ?? UNDECLARED;
  const first = toolCandidate(execution, agent, call, messages, call.toolName);
  if (key !== undefined) first.key = key;
  if (fallback === undefined) return [first];
  const standsFor = typeof fallback === "string" ? fallback : "a stand-in";
  if (typeof fallback === "string") return [first, { ...toolCandidate(execution, agent, call, messages, fallback), standsFor }];
  const run = () => fallback(structuredClone(call.input));
  return [first, { ...first, name: `${call.toolName} (stand-in)`, attempts: 1, breaker: undefined, run, standsFor }];
}

function toolCandidate(
  execution: Execution,
  agent: Agent,
  call: ToolCall,
  messages: readonly ModelMessage[],
  name: string,
): Candidate<unknown> {
  const policy = agent.policy.get(name) ?? UNDECLARED;
  const tool = toolNamed(agent, name);
  return {
    name,
    effect: policy.effect,
    attempts: policy.attempts,
    timeoutMs: policy.timeoutMs ?? agent.timeouts.tools.get(name) ?? agent.timeouts.toolMs,
    breaker: breakerOf(agent, name, call.input),
    reconcile: policy.reconcile && ((context) => policy.reconcile?.(structuredClone(call.input), context) ?? "unknown"),
    run: ({ step, signal, attempt }) => {
      if (!tool?.execute) throw new GroundcrewError("TOOL_FAILED", `There is no tool "${name}" any more.`);
      const onPreliminary = (output: unknown) => {
        const part = preliminary(execution, call, output);
        if (part !== undefined) execution.journal.chunk(step, attempt, part);
      };
      // The tool gets its own copy: what it does to its input must not reach the transcript.
      return executeTool(tool, structuredClone(call.input), {
        toolCallId: call.toolCallId,
        messages: [...messages],
        signal,
        context: contextOf(agent, name),
        onPreliminary,
      });
    },
  };
}

/** Own only: a tool may have a name that every object inherits, such as `constructor`. */
function contextOf({ settings }: Agent, name: string): unknown {
  const contexts = settings.toolsContext as Record<string, unknown> | undefined;
  return contexts && Object.hasOwn(contexts, name) ? contexts[name] : undefined;
}

/** One whose key cannot be told has none: the call itself will show what is wrong with its input. */
function breakerOf(agent: Agent, name: string, input: unknown): string | undefined {
  const { breaker } = agent.policy.get(name) ?? UNDECLARED;
  const whole = `tool:${agent.name}/${name}`;
  if (breaker === undefined) return whole;
  if (breaker === false) return undefined;
  try {
    const part: unknown = breaker(structuredClone(input));
    return typeof part === "string" ? `${whole}/${part.toWellFormed().slice(0, MAX_NAME_CHARS)}` : undefined;
  } catch {
    return undefined;
  }
}

/** What a call that cannot be made is on record as. */
function unasked({ toolName }: ToolCall, { effect }: CheckedPolicy): Candidate<never> {
  const run = () => {
    throw new GroundcrewError("INTERNAL", `"${toolName}" was refused, and begun all the same.`);
  };
  return { name: toolName, effect, attempts: 1, timeoutMs: NO_CALL_MS, run };
}

/**
 * What the model reads, where that is not the result as it is: what the tool itself wants it to read, and what a person has
 * changed before it ran.
 */
async function shownTo(
  execution: Execution,
  tool: Tool | undefined,
  call: ToolCall,
  result: unknown,
  release: Release,
): Promise<JsonValue | undefined> {
  const edited = release.is === "approved" ? release.edited : undefined;
  if (edited === undefined && !tool?.toModelOutput) return undefined;
  const output = await toModelOutput(tool, call.toolCallId, call.input, result);
  return execution.journal.encode(edited === undefined ? output : noted(output, edited), `model output of tool "${call.toolName}"`);
}

/** What makes two calls of a `keyed` tool the same action. Without a key of which that can be said, the call is refused. */
function keyOf({ run }: Execution, agent: Agent, policy: CheckedPolicy, call: ToolCall): { key?: string; refused?: string } {
  if (!policy.key) return {};
  try {
    const key: unknown = policy.key(structuredClone(call.input));
    if ((typeof key === "string" && key !== "") || typeof key === "number") {
      return { key: `${run.principal.tenant}/${agent.name}/${call.toolName}/${key}` };
    }
    return { refused: `The call did not run: \`policy.${call.toolName}.key\` gave ${describe(key)} for it, which is no key.` };
  } catch (thrown) {
    return { refused: `The call did not run: \`policy.${call.toolName}.key\` failed: ${coerceError(thrown).message}` };
  }
}

/** A result before the last, for readers only. One that is too large to stand in the stream is not shown. */
function preliminary(execution: Execution, call: ToolCall, output: unknown): JsonValue | undefined {
  const { json, blob } = execution.deps.codec.encode(output, `preliminary result of tool "${call.toolName}"`);
  if (blob || json === undefined) return undefined;
  return { type: "tool-output-available", toolCallId: call.toolCallId, preliminary: true, output: json };
}
