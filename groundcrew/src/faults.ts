/** What an author may say about the failures of an agent's models, and the time its calls may take. Checked at definition. */
import type { LanguageModel } from "ai";
import { type Duration, duration } from "./clock.ts";
import { GroundcrewError, misset } from "./errors.ts";
import { type Classify, FAILURE_REASONS, type FailureReason } from "./failure.ts";
import {
  DEFAULT_MODEL_ATTEMPTS,
  DEFAULT_MODEL_TIMEOUT_MS,
  DEFAULT_PATIENCE_MS,
  DEFAULT_TOOL_TIMEOUT_MS,
  MAX_FALLBACKS,
  MAX_STEP_ATTEMPTS,
  MAX_TIMER_MS,
} from "./limits.ts";

/** What happens to a run when a model, or a tool that it cannot do without, stays down. */
export type Exhausted = "park" | "fail";

export interface Faults {
  /** Failed attempts of one model step before it is given up. Default 8. Those that find the model known to be down do not count. */
  attempts?: number;
  /** How long one model step is tried, waiting included. Default a day. */
  patience?: Duration;
  /** `park` (default): the run waits for somebody, who may say `retry`. `fail`: it fails. */
  exhausted?: Exhausted;
  /** Says what a failure is worth when the runtime's own verdict is wrong; for the models, and for tools without one of their own. */
  classify?: Classify;
  /** How long a fallback that has answered is kept: for the rest of the run (default), or for that step. */
  sticky?: "run" | "step";
}

/** A model that takes over when those before it are down. What is not said is taken to be there. */
export type Fallback =
  | LanguageModel
  | {
      model: LanguageModel;
      /** For which failures of the model before it. Default: all, but for a request that is wrong in itself. */
      on?: readonly FailureReason[];
      /** Longest prompt in tokens, estimated at three characters each. A longer one passes it by. */
      contextTokens?: number;
      /** `false`: passed by when the agent has tools. */
      tools?: boolean;
      /** `false`: passed by when the prompt has images or other files. */
      images?: boolean;
    };

export interface CheckedFaults {
  attempts: number;
  patienceMs: number;
  exhausted: Exhausted;
  classify: Classify | undefined;
  sticky: "run" | "step";
}

export interface CheckedFallback {
  model: LanguageModel;
  on: ReadonlySet<FailureReason>;
  contextTokens: number;
  tools: boolean;
  images: boolean;
}

/** The AI SDK's `timeout` setting. All in milliseconds. */
export interface Timeouts {
  /** All the time that workers spend on the run; what it spends parked is its deadline's. */
  totalMs: number | undefined;
  /** One attempt of a model step. */
  stepMs: number;
  firstChunkMs: number | undefined;
  chunkMs: number | undefined;
  /** One attempt of a tool. */
  toolMs: number;
  /** By tool name. */
  tools: ReadonlyMap<string, number>;
}

const FIELDS = ["attempts", "patience", "exhausted", "classify", "sticky"] satisfies (keyof Faults)[];

/** @throws GroundcrewError `AGENT_INVALID`, `DURATION_INVALID` */
export function checkFaults(field: string, faults: Faults = {}): CheckedFaults {
  refuseUnknown(field, faults, FIELDS);
  const { attempts = DEFAULT_MODEL_ATTEMPTS, patience, exhausted = "park", classify, sticky = "run" } = faults;
  if (!Number.isInteger(attempts) || attempts < 1 || attempts > MAX_STEP_ATTEMPTS) {
    throw misset(`${field}.attempts`, `a whole number from 1 to ${MAX_STEP_ATTEMPTS}`, attempts);
  }
  if (exhausted !== "park" && exhausted !== "fail") throw misset(`${field}.exhausted`, '"park" or "fail"', exhausted);
  if (sticky !== "run" && sticky !== "step") throw misset(`${field}.sticky`, '"run" or "step"', sticky);
  if (classify !== undefined && typeof classify !== "function")
    throw misset(`${field}.classify`, "a function of the error and the verdict", classify);
  return {
    attempts,
    exhausted,
    classify,
    sticky,
    patienceMs: patience === undefined ? DEFAULT_PATIENCE_MS : duration(patience, `${field}.patience`),
  };
}

function refuseUnknown(field: string, given: unknown, known: readonly string[]): void {
  if (typeof given !== "object" || given === null || Array.isArray(given)) throw misset(field, "an object", given);
  const unknown = Object.keys(given).find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw new GroundcrewError("AGENT_INVALID", `\`${field}.${unknown}\` is not known.`, {
    value: unknown,
    fix: `Known fields: ${known.join(", ")}.`,
  });
}

export function isModel(model: unknown): model is LanguageModel {
  return typeof model === "string" ? model !== "" : typeof model === "object" && model !== null && "doStream" in model;
}

/** Another model may do no better with these: they are about the request. */
const OF_THE_REQUEST: readonly FailureReason[] = ["invalid_request", "aborted", "error"];

const FALLBACK_FIELDS = ["model", "on", "contextTokens", "tools", "images"];

/** @throws GroundcrewError `AGENT_INVALID` */
export function checkFallbacks(field: string, fallbacks: readonly Fallback[] = []): readonly CheckedFallback[] {
  if (!Array.isArray(fallbacks) || fallbacks.length > MAX_FALLBACKS)
    throw misset(field, `a list of ${MAX_FALLBACKS} models at most`, fallbacks);
  return fallbacks.map((given: Fallback, index) => checkFallback(`${field}[${index}]`, given));
}

function checkFallback(field: string, given: Fallback): CheckedFallback {
  const said = isModel(given) ? { model: given } : given;
  refuseUnknown(field, said, FALLBACK_FIELDS);
  const { model, on, contextTokens = Number.POSITIVE_INFINITY, tools = true, images = true } = said;
  if (!isModel(model)) throw misset(`${field}.model`, "an AI SDK model or a model id", model);
  const wrong = on?.find((reason) => !FAILURE_REASONS.includes(reason));
  if (wrong !== undefined) throw misset(`${field}.on`, `some of ${FAILURE_REASONS.join(", ")}`, wrong);
  if (!(contextTokens > 0)) throw misset(`${field}.contextTokens`, "a number of tokens", contextTokens);
  return { model, on: new Set(on ?? FAILURE_REASONS.filter((reason) => !OF_THE_REQUEST.includes(reason))), contextTokens, tools, images };
}

/** What the AI SDK takes as `timeout`: a number for the whole, or an object. @throws GroundcrewError `AGENT_INVALID` */
export function checkTimeouts(field: string, given: unknown): Timeouts {
  const said = (typeof given === "number" ? { totalMs: given } : (given ?? {})) as Record<string, unknown>;
  refuseUnknown(field, said, ["totalMs", "stepMs", "firstChunkMs", "chunkMs", "toolMs", "tools"]);
  const of = (name: string, value: unknown): number | undefined => {
    if (value === undefined) return undefined;
    if (typeof value === "number" && value > 0 && value <= MAX_TIMER_MS) return value;
    throw misset(`${field}.${name}`, `milliseconds, ${MAX_TIMER_MS} at most`, value);
  };
  const tools = Object.entries((said["tools"] ?? {}) as object).flatMap(([name, value]): [string, number][] => {
    const ms = of(`tools.${name}`, value);
    return ms === undefined ? [] : [[name.replace(/Ms$/, ""), ms]];
  });
  return {
    totalMs: of("totalMs", said["totalMs"]),
    stepMs: of("stepMs", said["stepMs"]) ?? DEFAULT_MODEL_TIMEOUT_MS,
    firstChunkMs: of("firstChunkMs", said["firstChunkMs"]),
    chunkMs: of("chunkMs", said["chunkMs"]),
    toolMs: of("toolMs", said["toolMs"]) ?? DEFAULT_TOOL_TIMEOUT_MS,
    tools: new Map(tools),
  };
}
