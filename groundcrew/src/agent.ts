/**
 * What an author brings: an agent (an AI SDK model, instructions and tools, untouched, with a policy beside the tools) or a
 * flow (a plain async function). Both are checked here, before anything runs.
 */
import type { LanguageModel, ModelMessage, OutputInterface, ToolLoopAgentSettings, ToolSet } from "ai";
import type { ApproverRules } from "./approval.ts";
import { type Duration, duration } from "./clock.ts";
import { describe, type ErrorCode, GroundcrewError, misset } from "./errors.ts";
import type { Classify } from "./failure.ts";
import {
  type CheckedFallback,
  type CheckedFaults,
  checkFallbacks,
  checkFaults,
  checkTimeouts,
  type Fallback,
  type Faults,
  isModel,
  type Timeouts,
} from "./faults.ts";
import { DEFAULT_HISTORY_TURNS, DEFAULT_RUN_DEADLINE_MS, DEFAULT_STEP_CAP, MAX_NAME_CHARS, MAX_STEP_CAP } from "./limits.ts";
import { type CheckedPolicy, checkPolicies, type Effect, type PolicyMap, type Reconciled } from "./policy.ts";

/** How much of something may be at work, over all workers. What is over the limit waits; nothing fails of it. */
export interface Limits {
  /** Runs at work at the same time. One that is parked takes no place. */
  concurrency?: number;
  /** New runs that begin per time, e.g. `{ runs: 100, per: "1m" }`; twice as many in one such time after a quiet one. */
  rate?: { runs: number; per: Duration };
}

/** What Groundcrew adds to the settings of an AI SDK `ToolLoopAgent`. Every field is optional. */
export interface AgentOptions<TOOLS extends ToolSet> {
  /** Facts about tools, by tool name. */
  policy?: PolicyMap<TOOLS>;
  /** Model steps of one run, at most. Default 20. */
  steps?: number;
  /** A run's whole life, waiting included. Default 7 days. */
  deadline?: Duration;
  /** Past turns of a session that the model is shown, newest kept. Default 100. */
  historyTurns?: number;
  /** How many of its runs may be at work, over all workers. Default: any number. */
  limits?: Limits;
  /** Models that take over, in this order, when the agent's own is down. */
  fallback?: readonly Fallback[];
  /** What happens when models and tools fail. */
  faults?: Faults;
}

// biome-ignore lint/suspicious/noExplicitAny: the AI SDK's own variance for settings of any tools, context and output
type AnySettings = ToolLoopAgentSettings<any, any, any, any>;

export interface Agent<TOOLS extends ToolSet = ToolSet, OUTPUT = unknown> {
  readonly kind: "agent";
  readonly name: string;
  /** The AI SDK settings, as the author gave them. */
  readonly settings: AnySettings;
  readonly tools: TOOLS;
  readonly policy: ReadonlyMap<string, CheckedPolicy>;
  readonly steps: number;
  readonly deadlineMs: number;
  readonly historyTurns: number;
  readonly limits: CheckedLimits | undefined;
  readonly fallback: readonly CheckedFallback[];
  readonly faults: CheckedFaults;
  readonly timeouts: Timeouts;
  /** Settings that have no meaning under a durable loop and are not used; empty for most agents. */
  readonly ignored: readonly string[];
  /** Tools that say themselves that they destroy something, and that nobody is asked about. */
  readonly ungated: readonly string[];
  /** Only for types: what a run of this agent gives. */
  readonly output?: OUTPUT;
}

export interface CheckedLimits {
  concurrency?: number;
  rate?: { runs: number; perMs: number };
}

/** The AI SDK does not name this type of its own. */
type Context = Record<string, unknown>;

type OutputOf<OUTPUT> = [OUTPUT] extends [never]
  ? string
  : OUTPUT extends OutputInterface<infer COMPLETE, infer _P, infer _E>
    ? COMPLETE
    : string;

/**
 * An agent as the runtime takes it: the settings of an AI SDK `ToolLoopAgent`, with facts about its tools beside them.
 *
 * ```ts
 * const support = agent("support", {
 *   model, instructions, tools: { lookupOrder, refund },
 *   policy: { lookupOrder: { effect: "read" }, refund: { effect: "keyed", key: (input) => input.orderId } },
 * });
 * ```
 * @throws GroundcrewError `AGENT_INVALID`, `POLICY_INVALID`, `DURATION_INVALID`, naming the field, the value and the fix.
 */
export function agent<TOOLS extends ToolSet = Record<never, never>, CALL = never, CONTEXT extends Context = Context>(
  name: string,
  settings: ToolLoopAgentSettings<CALL, TOOLS, CONTEXT, never> & AgentOptions<TOOLS>,
): Agent<TOOLS, string>;
export function agent<TOOLS extends ToolSet, OUTPUT extends OutputInterface, CALL = never, CONTEXT extends Context = Context>(
  name: string,
  settings: ToolLoopAgentSettings<CALL, TOOLS, CONTEXT, OUTPUT> & AgentOptions<TOOLS>,
): Agent<TOOLS, OutputOf<OUTPUT>>;
export function agent(name: string, given: unknown): Agent {
  checkName("AGENT_INVALID", "agent name", name);
  checkSettings(name, given);
  const settings = given as AnySettings & AgentOptions<ToolSet>;
  const { policy, steps, deadline, historyTurns, limits, fallback, faults, timeout, ...rest } = settings;
  const tools: ToolSet = settings.tools ?? {};
  checkTools(name, tools);
  return Object.freeze({
    kind: "agent",
    name,
    settings: rest,
    tools,
    policy: checkPolicies(name, tools, policy ?? {}),
    steps: checkCount(`agent "${name}".steps`, steps ?? DEFAULT_STEP_CAP, MAX_STEP_CAP),
    deadlineMs: deadline === undefined ? DEFAULT_RUN_DEADLINE_MS : duration(deadline, `agent "${name}".deadline`),
    historyTurns: checkCount(`agent "${name}".historyTurns`, historyTurns ?? DEFAULT_HISTORY_TURNS, MAX_STEP_CAP),
    limits: checkLimits(`agent "${name}".limits`, limits, "AGENT_INVALID"),
    fallback: checkFallbacks(`agent "${name}".fallback`, fallback),
    faults: checkFaults(`agent "${name}".faults`, faults),
    timeouts: checkTimeouts(`agent "${name}".timeout`, timeout),
    ignored: ignoredOf(name, settings),
    ungated: ungatedOf(name, tools, policy ?? {}),
  } as const);
}

/** Says so at once: a callback that saves or bills would otherwise be missed in production. */
function ignoredOf(name: string, settings: object): string[] {
  const ignored = IGNORED.filter((field) => Reflect.get(settings, field) !== undefined);
  if (ignored.length > 0) {
    process.emitWarning(
      `Agent "${name}" sets ${ignored.join(", ")}, which a durable run does not use; read the run's events instead.`,
      "GroundcrewWarning",
    );
  }
  return ignored;
}

/** An MCP server says `destructiveHint` of a tool; the AI SDK hands it on in the tool's metadata. */
function ungatedOf(name: string, tools: ToolSet, policy: PolicyMap<ToolSet>): string[] {
  const isDestructive = (tool: object) =>
    hintsOf(tool).some((hints) => hints["destructiveHint"] === true && hints["readOnlyHint"] !== true);
  const ungated = Object.entries(tools).flatMap(([toolName, tool]) =>
    isDestructive(tool) && !(Object.hasOwn(policy, toolName) && policy[toolName]?.approve !== undefined) ? toolName : [],
  );
  if (ungated.length > 0) {
    process.emitWarning(
      `Agent "${name}" may use ${ungated.join(", ")}, which can destroy something, without asking anybody; set \`approve\` in its policy.`,
      "GroundcrewWarning",
    );
  }
  return ungated;
}

function hintsOf(tool: object): Record<string, unknown>[] {
  const { annotations, metadata, _meta } = tool as Record<string, unknown>;
  return [annotations, metadata, Object(metadata).annotations, _meta].filter(
    (found) => typeof found === "object" && found !== null,
  ) as Record<string, unknown>[];
}

/** Callbacks around a whole call of the SDK: a durable run has no single call. Read the run's events instead. */
export const WHOLE_CALL = [
  "onStart",
  "experimental_onStart",
  "onEnd",
  "onFinish",
  "onToolExecutionStart",
  "onToolExecutionEnd",
  "onError",
  "onAbort",
] as const;

/** Settings that are not used. */
const IGNORED = [...WHOLE_CALL, "toolCallConcurrency"];

/** Settings that would change what is allowed to happen: taking them and not honouring them would be worse than refusing. */
const REFUSED = ["toolApproval", "experimental_toolApprovalSecret", "experimental_toolCallers"];

function checkSettings(name: string, settings: unknown): void {
  if (typeof settings !== "object" || settings === null) {
    throw misset(`agent "${name}" settings`, "an object with a `model`", settings);
  }
  const given = settings as Record<string, unknown>;
  if (given["version"] === "agent-v1") {
    throw new GroundcrewError("AGENT_INVALID", `Expected the settings of agent "${name}", got an agent object.`, {
      fix: "An AI SDK agent keeps its model and instructions private. Pass `agent()` the settings object that you gave to `new ToolLoopAgent(…)`.",
    });
  }
  const model = given["model"];
  if (!isModel(model)) throw misset(`agent "${name}".model`, 'an AI SDK model or a model id such as "openai/gpt-5.6"', model);
  for (const field of REFUSED) {
    if (given[field] !== undefined) {
      throw new GroundcrewError("AGENT_INVALID", `Agent "${name}" sets \`${field}\`, which a durable run does not use.`, {
        value: given[field],
        fix: "Remove it: a gate that looks set and is not would be worse than none. Approvals are said in the policy: `approve`.",
      });
    }
  }
}

function checkTools(name: string, tools: ToolSet): void {
  for (const [toolName, tool] of Object.entries(tools)) {
    if (typeof tool !== "object" || tool === null) throw misset(`agent "${name}".tools.${toolName}`, "an AI SDK tool", tool);
    const isOurs = tool.type === undefined || tool.type === "function" || tool.type === "dynamic";
    if (isOurs && typeof tool.execute !== "function") {
      throw new GroundcrewError("AGENT_INVALID", `Tool "${toolName}" of agent "${name}" has no \`execute\`.`, {
        fix: "Nobody would answer its calls in an unattended run. Give it an `execute`, or leave it out.",
      });
    }
    if (tool.needsApproval !== undefined) {
      throw new GroundcrewError(
        "AGENT_INVALID",
        `Tool "${toolName}" of agent "${name}" sets \`needsApproval\`, which says neither who decides nor until when.`,
        {
          fix: `Remove it, and say so in the policy: \`policy: { ${toolName}: { approve: true, by: "role:…" } }\`.`,
        },
      );
    }
  }
}

/** One step of a flow, as the step's function sees it. */
export interface FlowStep {
  /** Fires when the run is cancelled, the step's time is over, or another worker has taken the run. */
  signal: AbortSignal;
  /** Idempotency key: the same for every attempt. */
  key: string;
  /** From 1. */
  attempt: number;
}

export interface StepOptions<OUTPUT> {
  /** Default `once`. */
  effect?: Effect;
  /** One attempt may take this long. Default 5 minutes. */
  timeout?: Duration;
  /** Attempts, when one fails in a way that may pass. Default 3, and always 1 for `once`. */
  attempts?: number;
  /** Says what a failure is worth when the runtime's own verdict is wrong: see `ToolPolicy.classify`. */
  classify?: Classify;
  /** What the step depends on. When a resumed run comes with other arguments, the step is refused instead of reusing the old value. */
  args?: unknown;
  /** For `once`: see `ToolPolicy.reconcile`. */
  reconcile?: (call: { key: string; signal: AbortSignal }) => Promise<Reconciled<OUTPUT>> | Reconciled<OUTPUT>;
}

export interface GenerateRequest {
  model: LanguageModel;
  instructions?: string;
  prompt?: string;
  messages?: ModelMessage[];
}

export interface CallOptions {
  /** Tells this call from others of the same agent. Needed for calls whose order may differ from one pass to the next. */
  name?: string;
}

/** What a flow does its work with. Each call is a step: done is done, also after a crash. */
export interface FlowContext {
  readonly run: string;
  /** Fires when the run is cancelled. */
  readonly signal: AbortSignal;
  /** Runs `fn` as a step. @throws what `fn` throws; `FLOW_MISMATCH` when the recorded step was another one. */
  step<T>(name: string, fn: (step: FlowStep) => Promise<T> | T): Promise<T>;
  step<T>(name: string, options: StepOptions<T>, fn: (step: FlowStep) => Promise<T> | T): Promise<T>;
  /** One model call without tools; its text streams to the run's readers. */
  generate(name: string, request: GenerateRequest): Promise<{ text: string; usage: unknown }>;
  /** Waits for all, also when one fails, and then throws the first failure: no step is left running behind a failed flow. */
  all<T extends readonly unknown[]>(promises: { [K in keyof T]: Promise<T[K]> | T[K] }): Promise<T>;
  /** Parks the run; costs nothing while it waits. */
  sleep(time: Duration): Promise<void>;
  /** Waits for the next signal of this name. @returns its value; undefined when `within` has passed. */
  waitFor<T = unknown>(name: string): Promise<T>;
  waitFor<T = unknown>(name: string, options: { within?: Duration }): Promise<T | undefined>;
  /**
   * Parks until somebody allows it to go on.
   * @throws GroundcrewError `APPROVAL_DENIED`, `APPROVAL_EXPIRED`
   */
  approval(name: string, options?: CheckpointOptions): Promise<Approved>;
  /** Runs an agent or a flow as a child run. @returns its output. @throws `CHILD_FAILED` */
  // biome-ignore lint/suspicious/noExplicitAny: any agent, whatever its tools
  call<OUTPUT>(agent: Agent<any, OUTPUT>, request: ({ prompt: string } | { messages: ModelMessage[] }) & CallOptions): Promise<OUTPUT>;
  call<INPUT, OUTPUT>(flow: Flow<INPUT, OUTPUT>, request: { input: INPUT } & CallOptions): Promise<OUTPUT>;
  /** Tells every reader how far the work is. `fraction` from 0 to 1. */
  progress(fraction: number, what: string): void;
}

/** What is shown to those who decide, who they are, and until when. */
export interface CheckpointOptions extends ApproverRules {
  /** All of it is shown, as JSON has it; 128 KiB at most. */
  show?: unknown;
  /** Why somebody is asked. */
  why?: string;
}

/** By whom a flow was allowed to go on. */
export interface Approved {
  by: readonly string[];
  reason?: string;
}

export interface FlowOptions {
  /** A run's whole life, waiting included. Default 7 days. */
  deadline?: Duration;
  /** How many of its runs may be at work, over all workers. Default: any number. */
  limits?: Limits;
}

export interface Flow<INPUT = unknown, OUTPUT = unknown> {
  readonly kind: "flow";
  readonly name: string;
  readonly body: (ctx: FlowContext, input: INPUT) => Promise<OUTPUT>;
  readonly deadlineMs: number;
  readonly limits: CheckedLimits | undefined;
}

/**
 * A plain async function as a durable run. Code between steps runs again when the run resumes; what must not belongs in a
 * step. Steps are found by name and ordinal.
 * @throws GroundcrewError `AGENT_INVALID`, `DURATION_INVALID`
 */
export function flow<INPUT, OUTPUT>(
  name: string,
  body: (ctx: FlowContext, input: INPUT) => Promise<OUTPUT>,
  options: FlowOptions = {},
): Flow<INPUT, OUTPUT> {
  checkName("AGENT_INVALID", "flow name", name);
  if (typeof body !== "function") throw misset(`flow "${name}"`, "an async function", body);
  const deadlineMs = options.deadline === undefined ? DEFAULT_RUN_DEADLINE_MS : duration(options.deadline, `flow "${name}".deadline`);
  const limits = checkLimits(`flow "${name}".limits`, options.limits, "AGENT_INVALID");
  return Object.freeze({ kind: "flow", name, body, deadlineMs, limits } as const);
}

/** Whatever can be run. */
// biome-ignore lint/suspicious/noExplicitAny: tools, input and output of any definition
export type Definition = Agent<any, any> | Flow<any, any>;

/** Names stand in URLs, indexes and terminals. */
export function checkName(code: ErrorCode, what: string, name: unknown): asserts name is string {
  const plain = typeof name === "string" && name.length <= MAX_NAME_CHARS && /^[\p{L}\p{N}][\p{L}\p{N} ._:/@#-]*$/u.test(name);
  if (!plain) {
    throw new GroundcrewError(code, `Expected the ${what} to be a short, printable text, got ${describe(name)}.`, {
      value: name,
      fix: `Use letters, digits, spaces and ._:/@#- (${MAX_NAME_CHARS} characters at most), beginning with a letter or digit.`,
    });
  }
}

const LIMITS = ["concurrency", "rate"];

/** @throws GroundcrewError `code`, `DURATION_INVALID` */
export function checkLimits(field: string, limits: Limits | undefined, code: ErrorCode): CheckedLimits | undefined {
  if (limits === undefined) return undefined;
  const isPlain = typeof limits === "object" && limits !== null && Object.getPrototypeOf(limits) === Object.prototype; // no promise, no list
  if (!isPlain) throw misset(field, "an object with `concurrency`, `rate` or both", limits, code);
  const unknown = Object.keys(limits).find((given) => !LIMITS.includes(given));
  if (unknown !== undefined) {
    throw new GroundcrewError(code, `\`${field}.${unknown}\` is not a limit.`, {
      value: unknown,
      fix: `Known limits: ${LIMITS.join(", ")}.`,
    });
  }
  const { concurrency, rate } = limits;
  if (concurrency !== undefined && !isCount(concurrency)) throw misset(`${field}.concurrency`, "a whole number from 1", concurrency, code);
  return {
    ...(concurrency !== undefined && { concurrency }),
    ...(rate !== undefined && { rate: checkRate(`${field}.rate`, rate, code) }),
  };
}

function checkRate(field: string, rate: NonNullable<Limits["rate"]>, code: ErrorCode): { runs: number; perMs: number } {
  if (typeof rate !== "object" || rate === null) throw misset(field, 'an object such as { runs: 100, per: "1m" }', rate, code);
  if (!isCount(rate.runs)) throw misset(`${field}.runs`, "a whole number from 1", rate.runs, code);
  const perMs = duration(rate.per, `${field}.per`);
  if (perMs < 1) throw misset(`${field}.per`, "at least a millisecond", rate.per, code);
  return { runs: rate.runs, perMs };
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && Number(value) >= 1;
}

function checkCount(field: string, value: number, max: number): number {
  if (!Number.isInteger(value) || value < 1 || value > max) throw misset(field, `a whole number from 1 to ${max}`, value);
  return value;
}
