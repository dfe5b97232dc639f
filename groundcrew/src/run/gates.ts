/**
 * The gates: what every effect passes before it may begin, and what is learnt from how it ended. The product's policy on one
 * screen: concerns do not know each other, they meet here, outermost first.
 */
import type { Failure } from "../failure.ts";
import type { Breakers } from "../fault/breaker.ts";
import type { Paces } from "../fault/pace.ts";
import type { Stop } from "../persistence/store.ts";
import type { Stops } from "../supervision/stops.ts";

/** What a gate is told of the attempt that wants to begin. */
export interface Passage {
  agent: string;
  /** Which breaker guards what is called; undefined: none. */
  breaker: string | undefined;
  /** Whose limits on calls it counts against; undefined: nobody's. */
  provider: string | undefined;
  /** Fires when the run has to stop. */
  signal: AbortSignal;
  /** Somebody wants it tried now, whatever is known. */
  isPressed: boolean;
  /** Set by the breaker: the one call that finds out whether what was down is up again. */
  isProbe: boolean;
}

/** Nothing was begun. */
export interface Refused {
  failure: Failure;
  /** When to ask again; wall-clock milliseconds. */
  until: number;
  /** For people. */
  why: string;
}

/** What became of an attempt. Without value, failure and refusal it was given up, or nobody knows. */
export interface Outcome<T> {
  value?: { of: T };
  failure?: Failure;
  refused?: Refused;
  /** An operator has stopped the agent. */
  stopped?: Stop;
}

export interface GateDeps {
  stops: Stops;
  breakers: Breakers;
  paces: Paces;
}

type Gate = <T>(deps: GateDeps, passage: Passage, next: () => Promise<Outcome<T>>) => Promise<Outcome<T>>;

/**
 * Twice whether it is allowed: first, so that what is stopped takes from nobody the one probe or a turn; and last, because a turn may
 * be long in coming. When nothing had to be waited for the second look costs nothing.
 */
const gates: readonly Gate[] = [isAllowed, isUp, atPace, isAllowed];

/** Lets an attempt through all gates, or tells which one has refused. */
export function pass<T>(deps: GateDeps, passage: Passage, attempt: () => Promise<Outcome<T>>): Promise<Outcome<T>> {
  const through = gates.reduceRight<() => Promise<Outcome<T>>>((next, gate) => () => gate(deps, passage, next), attempt);
  return through();
}

/** Has an operator stopped it? Where that cannot be read, nothing begins. */
async function isAllowed<T>({ stops }: GateDeps, { agent }: Passage, next: () => Promise<Outcome<T>>): Promise<Outcome<T>> {
  const stopped = await stops.of(agent);
  return stopped ? { stopped } : next();
}

/** Is it up? What is known to be down is not asked, but for one probe at a time of all workers. */
async function isUp<T>({ breakers, paces }: GateDeps, passage: Passage, next: () => Promise<Outcome<T>>): Promise<Outcome<T>> {
  const { breaker, provider } = passage;
  if (breaker === undefined) return next();
  const admission = await breakers.admit(breaker);
  if (!admission.go) return passage.isPressed ? next() : refused(admission);
  if (admission.isReturning && provider !== undefined) paces.ramp(provider); // all that waited for it will come
  passage.isProbe = admission.isProbe;
  let outcome: Outcome<T> = {};
  try {
    outcome = await next();
    return outcome;
  } finally {
    await breakers.settle(breaker, admission, failureOf(outcome)); // also when the run was taken away: nobody else may probe until then
  }
}

function refused<T>({ until, why }: { until: number; why: string }): Outcome<T> {
  return { refused: { until, why, failure: { chance: "later", reason: "unavailable", at: until } } };
}

/** One that was given up, or stopped in the last moment, says nothing of what it called: the next one probes. */
function failureOf<T>({ value, failure, refused }: Outcome<T>): Failure | undefined {
  if (value) return undefined;
  return failure ?? refused?.failure ?? { chance: "never", reason: "aborted" };
}

/** How many at once? A provider that has had too much is asked less, and what waits takes its turn. */
async function atPace<T>(
  { paces }: GateDeps,
  { provider, signal, isPressed }: Passage,
  next: () => Promise<Outcome<T>>,
): Promise<Outcome<T>> {
  if (provider === undefined || isPressed) return next();
  const turn = await paces.enter(provider, signal);
  if (!turn.go) return refused(turn);
  try {
    const outcome = await next();
    const { failure } = outcome;
    if (failure?.reason === "rate_limited" || failure?.reason === "overloaded") paces.slow(provider, failure.at);
    else if (outcome.value) paces.eased(provider);
    return outcome;
  } finally {
    turn.leave();
  }
}
