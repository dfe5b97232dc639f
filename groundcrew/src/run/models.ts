/** Which models a step may ask, and what it means when none of them answers. */
import type { LanguageModel } from "ai";
import type { Agent } from "../agent.ts";
import type { Call } from "../call.ts";
import type { Failure } from "../failure.ts";
import type { Exhausted } from "../faults.ts";
import { breakerOf, MENDABLE, nameOf, type Prompt, providerOf, takes } from "../model/route.ts";
import type { ModelStep } from "../persistence/model-step.ts";
import type { Candidate, Exhaustion } from "./step-spec.ts";

type AskOne = (model: LanguageModel, call: Call) => Promise<ModelStep>;

/** The agent's model and its fallbacks. */
export function modelsOf(agent: Agent, prompt: Prompt, ask: AskOne): [Candidate<ModelStep>, ...Candidate<ModelStep>[]] {
  const hasTools = Object.keys(agent.tools).length > 0;
  const candidateOf = (model: LanguageModel): Candidate<ModelStep> => ({
    name: nameOf(model),
    effect: "read",
    timeoutMs: agent.timeouts.stepMs,
    attempts: agent.faults.attempts,
    breaker: breakerOf(model),
    provider: providerOf(model),
    run: (call) => ask(model, call),
  });
  const fallbacks = agent.fallback.map((fallback) => ({
    ...candidateOf(fallback.model),
    suits: (failure: Failure) => fallback.on.has(failure.reason) && takes(fallback, prompt, hasTools),
  }));
  return [candidateOf(agent.settings.model), ...fallbacks];
}

/** What nobody can mend fails the run; what somebody can, or time will, is the author's to decide. */
export function exhaustionOf({ chance, reason }: Failure, wanted: Exhausted): Exhaustion {
  return chance !== "never" || MENDABLE.has(reason) ? wanted : "fail";
}
