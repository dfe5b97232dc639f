/**
 * A flow's body meets its journal. The body runs from the top at each stay; steps with a recorded outcome give it back at
 * once, and the first one without is where the work goes on.
 */
import type { CallOptions, CheckpointOptions, Definition, Flow, FlowContext, FlowStep, GenerateRequest, StepOptions } from "../agent.ts";
import { checkApprovers } from "../approval.ts";
import { type Duration, duration } from "../clock.ts";
import { describe, GroundcrewError } from "../errors.ts";
import { toJson } from "../json.ts";
import {
  DEFAULT_MODEL_ATTEMPTS,
  DEFAULT_MODEL_TIMEOUT_MS,
  DEFAULT_PATIENCE_MS,
  DEFAULT_TOOL_TIMEOUT_MS,
  REPLAY_HOLD_MS,
} from "../limits.ts";
import { callModel } from "../model/model.ts";
import { breakerOf, nameOf, providerOf } from "../model/route.ts";
import { hashValue } from "../persistence/hash.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import { contentOf, textOf } from "../persistence/model-step.ts";
import { attemptsOf, EFFECTS } from "../policy.ts";
import { tooLarge } from "./approval.ts";
import type { Execution } from "./execution.ts";
import { exhaustionOf } from "./models.ts";
import { checkSignalName } from "./signal.ts";
import { messagesOf, type StartRequest } from "./start.ts";
import { mismatch, perform, untilResumed } from "./step.ts";
import { callChild, sleep, waitForApproval, waitForSignal } from "./wait.ts";

export async function runFlow(execution: Execution, flow: Flow): Promise<unknown> {
  const replay = new Replay(execution);
  const input = await execution.journal.decode(execution.state.created?.input);
  const output = await flow.body(contextOf(execution, replay), input);
  await replay.finish();
  await untilResumed(execution); // nobody can hold what has succeeded
  return output;
}

function contextOf(execution: Execution, replay: Replay): FlowContext {
  return {
    run: execution.run.id,
    signal: execution.signal,
    step: handled(<T>(name: string, second: StepOptions<T> | StepBody<T>, third?: StepBody<T>) =>
      typeof second === "function" ? codeStep(execution, replay, name, {}, second) : codeStep(execution, replay, name, second, third),
    ) as FlowContext["step"],
    generate: handled((name: string, request: GenerateRequest) => generate(execution, replay, name, request)),
    all: settleAll as FlowContext["all"],
    sleep: handled(async (time: Duration) => {
      const ms = duration(time, "sleep");
      return sleep(execution, await replay.visit("sleep"), ms);
    }),
    waitFor: handled(async (name: string, options: { within?: Duration } = {}) => {
      checkSignalName(name);
      const within = options.within === undefined ? undefined : duration(options.within, `waitFor "${name}".within`);
      return waitForSignal(execution, await replay.visit(`signal:${name}`), name, within);
    }) as FlowContext["waitFor"],
    approval: handled(async (name: string, options: CheckpointOptions = {}) => {
      const { show, why = `the flow asks for it`, ...rules } = options;
      const ask = { name, why, input: shownAs(name, show), rules: checkApprovers(`approval "${name}"`, rules) };
      return waitForApproval(execution, await replay.visit(`approval:${name}`), ask);
    }),
    call: handled(async (definition: Definition, { name = definition.name, ...request }: CallOptions & StartRequest) => {
      const input = definition.kind === "flow" ? request.input : { messages: messagesOf(definition, request) };
      return callChild(execution, await replay.visit(`call:${name}`), definition, input);
    }) as FlowContext["call"],
    progress: (fraction, what) => {
      if (!replay.isUnderway) execution.journal.progress(fraction, what); // what is behind the last recorded step was told before
    },
  };
}

/** What people are shown, as they can read it. */
function shownAs(name: string, show: unknown): JsonValue | undefined {
  const input = show === undefined ? undefined : (JSON.parse(toJson(show)) as JsonValue);
  const problem = tooLarge({ name, input });
  if (problem !== undefined) throw new GroundcrewError("LIMIT_EXCEEDED", problem);
  return input;
}

/** A step that fails before anybody awaits it must not end the process; who awaits it is told all the same. */
function handled<A extends unknown[], T>(verb: (...args: A) => Promise<T>): (...args: A) => Promise<T> {
  return (...args) => {
    const outcome = verb(...args);
    outcome.catch(() => {});
    return outcome;
  };
}

type StepBody<T> = (step: FlowStep) => Promise<T> | T;

function checkStep(name: unknown, effect: unknown, body: unknown): asserts body is StepBody<unknown> {
  if (typeof name !== "string" || name === "") {
    throw new GroundcrewError("INPUT_INVALID", `Expected the step's name to be a text that is not empty, got ${describe(name)}.`, {
      value: name,
    });
  }
  if (typeof body !== "function") throw new GroundcrewError("INPUT_INVALID", `Step "${name}" has no function to run.`, { value: body });
  if (effect !== undefined && !EFFECTS.some((known) => known === effect)) {
    const fix = `Write one of ${EFFECTS.join(", ")}.`;
    throw new GroundcrewError("POLICY_INVALID", `Step "${name}" has an \`effect\` that does not exist: ${describe(effect)}.`, {
      value: effect,
      fix,
    });
  }
}

async function codeStep<T>(
  execution: Execution,
  replay: Replay,
  name: string,
  options: StepOptions<T>,
  body: StepBody<T> | undefined,
): Promise<T> {
  checkStep(name, options?.effect, body);
  const step = replay.name(name);
  const effect = options.effect ?? "once";
  if (replay.isNew(step)) await replay.hold(step);
  return perform<T>(execution, {
    step,
    kind: "code",
    candidates: [
      {
        name,
        effect,
        timeoutMs: options.timeout === undefined ? DEFAULT_TOOL_TIMEOUT_MS : duration(options.timeout, `step "${name}".timeout`),
        attempts: attemptsOf(`step "${name}"`, effect, options.attempts),
        run: body,
        reconcile: options.reconcile as never,
      },
    ],
    classify: [options.classify],
    patienceMs: DEFAULT_PATIENCE_MS,
    exhausted: () => "tell", // it is thrown to the flow, which may know better
    argsHash:
      options.args === undefined ? undefined : hashValue(execution.deps.codec.encode(options.args, `arguments of step "${name}"`).json),
    failure: "STEP_FAILED",
  });
}

async function generate(
  execution: Execution,
  replay: Replay,
  name: string,
  request: GenerateRequest,
): Promise<{ text: string; usage: unknown }> {
  const step = await replay.visit(name);
  return perform(execution, {
    step,
    kind: "model",
    failure: "MODEL_FAILED",
    patienceMs: DEFAULT_PATIENCE_MS,
    exhausted: (failure) => exhaustionOf(failure, "park"),
    candidates: [
      {
        name: nameOf(request.model),
        effect: "read",
        timeoutMs: DEFAULT_MODEL_TIMEOUT_MS,
        attempts: DEFAULT_MODEL_ATTEMPTS,
        breaker: breakerOf(request.model),
        provider: providerOf(request.model),
        run: async ({ signal, attempt }) => {
          const onChunk = (chunk: { type: string }) => {
            if (chunk.type.startsWith("text-")) execution.journal.chunk(step, attempt, chunk as unknown as JsonValue);
          };
          const { model, instructions } = request;
          const agent = { settings: { model, ...(instructions !== undefined && { instructions }) }, tools: {} };
          const messages = request.messages ?? [{ role: "user", content: request.prompt ?? "" } as const];
          const { clock } = execution.deps;
          const { step: said, usage } = await callModel({ agent, messages, steps: [], timeouts: {}, clock, signal, onChunk });
          return { text: textOf(contentOf(said)), usage };
        },
      },
    ],
    describe: ({ usage }) => ({ usage: execution.journal.encode(usage, "usage") }),
  });
}

/** Lets every promise end before the first failure is thrown: no step goes on behind a flow that has failed. */
async function settleAll(promises: readonly unknown[]): Promise<unknown[]> {
  const outcomes = await Promise.allSettled(promises);
  const failed = outcomes.find((outcome) => outcome.status === "rejected");
  if (failed) throw failed.reason;
  return outcomes.map((outcome) => (outcome as PromiseFulfilledResult<unknown>).value);
}

/**
 * Names the steps of one pass through the body, and watches that the pass meets every recorded step before it begins anything
 * new: a step that was renamed or removed would otherwise run a second time under its new name.
 */
class Replay {
  readonly #execution: Execution;
  readonly #ordinals = new Map<string, number>();
  readonly #used = new Set<string>();
  readonly #unmet: Set<string>;
  #held: (() => void)[] = [];

  constructor(execution: Execution) {
    this.#execution = execution;
    const [first, last] = execution.state.created?.forked?.behind ?? [0, 0];
    const mustMeet = [...execution.state.steps.values()].filter(({ seq }) => seq < first || seq > last);
    this.#unmet = new Set(mustMeet.map(({ step }) => step));
  }

  /** The key of the next step of this name: the name itself, then `name#2`, `name#3`, …; never one that another step has. */
  name(name: string): string {
    let ordinal = this.#ordinals.get(name) ?? 0;
    let step: string;
    do step = ++ordinal === 1 ? name : `${name}#${ordinal}`;
    while (this.#used.has(step));
    this.#ordinals.set(name, ordinal);
    this.#used.add(step);
    if (this.#unmet.size > 0 && this.#unmet.delete(step) && this.#unmet.size === 0) {
      for (const go of this.#held) go();
      this.#held = [];
    }
    return step;
  }

  /** Whether recorded outcomes are still to be met. */
  get isUnderway(): boolean {
    return this.#unmet.size > 0;
  }

  isNew(step: string): boolean {
    return this.isUnderway && !this.#execution.state.steps.has(step);
  }

  async visit(name: string): Promise<string> {
    const step = this.name(name);
    if (this.isNew(step)) await this.hold(step);
    return step;
  }

  /** A new step waits until the pass has met all that is recorded. */
  async hold(step: string): Promise<void> {
    let cancel = () => {};
    const isMet = await new Promise<boolean>((resolve) => {
      this.#held.push(() => resolve(true));
      cancel = this.#execution.deps.clock.after(REPLAY_HOLD_MS, () => resolve(false));
    });
    cancel();
    if (!isMet) await mismatch(this.#execution, `it begins "${step}" and has not come by ${this.#list()}`);
  }

  /** The body has ended: it must have met everything. */
  async finish(): Promise<void> {
    if (this.#unmet.size > 0) await mismatch(this.#execution, `it ends without having come by ${this.#list()}`);
  }

  #list(): string {
    const names = [...this.#unmet];
    const shown = names.slice(0, 3).map((name) => `"${name}"`);
    return names.length > 3 ? `${shown.join(", ")} and ${names.length - 3} more` : shown.join(", ");
  }
}
