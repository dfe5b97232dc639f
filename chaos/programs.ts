/**
 * What the workers are given to do: random programs, each a tree that follows from its order alone. A worker process makes the
 * tree anew from the run's input, the model from what it is told, the checks from what was ordered: nobody sends it around.
 */
import type { Effect } from "../groundcrew/src/index.ts";
import { mixed, Random } from "./random.ts";

/** A run's whole input. */
export interface Order {
  /** Unique; the world knows effects by it. */
  label: string;
  seed: number;
  shape: Shape;
  depth: number;
}

/**
 * `crash` kills its process once; `fails` ends in an error; `waits` never ends by itself; `cut` is work that is cancelled in
 * the middle; `expires` waits past its deadline.
 */
export type Shape = "work" | "agent" | "crash" | "agent-crash" | "fails" | "waits" | "cut" | "expires" | "session";

/** What the world does with a call: answers, declines, takes it and says nothing, or takes it and has the caller's process die. */
export type Manner = "ok" | "decline" | "hang" | "crash";

export interface Act {
  type: "act";
  name: string;
  effect: Effect;
  manner: Manner;
  /** How long the world takes. */
  ms: number;
  /** For `once`: whether there is a `reconcile` hook. Otherwise a person has to look. */
  canLookUp: boolean;
}

/** A model call that the provider first answers with an error, or breaks off in the middle, when it falters. */
export interface Ask {
  type: "ask";
  name: string;
  falters: Falter | undefined;
}

export type Falter = "refuses" | "breaks off";

export type Node =
  | Act
  | Ask
  | { type: "all"; name: string; nodes: Node[] }
  | { type: "sleep"; name: string; ms: number }
  | { type: "signal"; name: string; isSent: boolean }
  /** Waits for a signal that never comes, and gives up. */
  | { type: "lapse"; name: string; ms: number }
  | { type: "child"; name: string; order: Order };

export interface FlowProgram {
  label: string;
  nodes: Node[];
  fails: boolean;
}

export interface AgentProgram {
  label: string;
  /** The tool calls of each answer of the model; behind the last one it says what came of them. */
  rounds: Act[][];
  falters: (Falter | undefined)[];
}

/** Time for a `hang`: so long that the call nearly always arrives before it is over. */
export const HANG_MS = 800;

/** For everything else: never reached. */
export const PATIENCE_MS = 120_000;

/** Tools have one timeout each: calls that nobody answers go to tools of their own. */
export function toolFor(name: string, manner: Manner): string {
  return manner === "hang" ? `${name}-briefly` : name;
}

export function isAgent(shape: Shape): boolean {
  return shape === "agent" || shape === "agent-crash";
}

export function flowOf({ label, seed, shape, depth }: Order): FlowProgram {
  const random = new Random(seed);
  const kinds = depth === 0 ? KINDS : CHILD_KINDS;
  const nodes = Array.from({ length: random.between(2, depth === 0 ? 6 : 3) }, (_, i) => nodeOf(random, kinds, label, `n${i + 1}`, depth));
  if (shape === "crash") nodes.splice(random.between(0, nodes.length), 0, { ...actOf(random, "crash"), manner: "crash" });
  if (shape === "waits" || shape === "expires") nodes.push({ type: "signal", name: "never", isSent: false });
  return { label, nodes, fails: shape === "fails" };
}

type Kinds = Record<Node["type"], number>;

const KINDS: Kinds = { act: 50, all: 12, sleep: 10, signal: 8, lapse: 3, child: 9, ask: 8 };
/** Nobody can send a signal to a child before it is there. */
const CHILD_KINDS: Kinds = { ...KINDS, signal: 0, child: 4 };
const SIDE_BY_SIDE: Kinds = { ...KINDS, all: 0, child: 2 };

function nodeOf(random: Random, kinds: Kinds, label: string, name: string, depth: number): Node {
  const type = random.weighted(kinds);
  switch (type) {
    case "act":
      return actOf(random, name);
    case "ask":
      return { type, name, falters: falterOf(random) };
    case "all": {
      const inner = depth === 0 ? SIDE_BY_SIDE : { ...SIDE_BY_SIDE, signal: 0 };
      return {
        type,
        name,
        nodes: Array.from({ length: random.between(2, 4) }, (_, i) => nodeOf(random, inner, label, `${name}.${i + 1}`, depth)),
      };
    }
    case "sleep":
      return { type, name, ms: random.chance(0.1) ? random.between(1_000, 3_000) : random.between(1, 400) };
    case "signal":
      return { type, name, isSent: true };
    case "lapse":
      return { type, name, ms: random.between(1, 300) };
    case "child": {
      const shape = random.weighted({ work: 6, agent: 3, fails: 1 });
      return { type, name, order: { label: `${label}_${name}`, seed: random.seed(), shape, depth: depth + 1 } };
    }
  }
}

function actOf(random: Random, name: string): Act {
  return {
    type: "act",
    name,
    effect: random.weighted<Effect>({ read: 3, idempotent: 2, keyed: 2, once: 3 }),
    manner: random.weighted<Manner>({ ok: 85, decline: 8, hang: 7, crash: 0 }),
    ms: random.chance(0.15) ? random.between(200, 900) : random.between(0, 40),
    canLookUp: random.chance(0.5),
  };
}

function falterOf(random: Random): Falter | undefined {
  return random.chance(0.15) ? random.pick(["refuses", "breaks off"] as const) : undefined;
}

export function agentOf({ label, seed, shape }: Order): AgentProgram {
  const random = new Random(seed);
  const rounds = Array.from({ length: random.between(1, 3) }, (_, r) =>
    Array.from({ length: random.between(1, 3) }, (_, i) => actOf(random, `c${r + 1}.${i + 1}`)),
  );
  if (shape === "agent-crash") random.pick(rounds).push({ ...actOf(random, "crash"), manner: "crash" });
  return { label, rounds, falters: [...rounds, []].map(() => falterOf(random)) };
}

/** A conversation: what each of its clients says, one after the other, while the others speak too. */
export interface Conversation {
  label: string;
  clients: Remark[][];
}

export interface Remark {
  token: string;
  whenBusy: "queue" | "steer" | "interrupt";
  pauseMs: number;
}

export function conversationOf({ label, seed }: Order): Conversation {
  const random = new Random(seed);
  const isCalm = random.chance(0.4);
  const clients = Array.from({ length: random.between(2, 3) }, (_, client) =>
    Array.from({ length: random.between(2, 4) }, (_, n): Remark => {
      const whenBusy = isCalm ? "queue" : random.weighted({ queue: 4, steer: 4, interrupt: 2 });
      return { token: `${label}:${client}:${n}:${random.seed()}`, whenBusy, pauseMs: random.between(0, 700) };
    }),
  );
  return { label, clients };
}

/** What the model wants done about a remark before it answers; nothing for some. */
export function errandsOf(token: string): Act[] {
  const random = new Random(Number(token.split(":").at(-1)));
  if (random.chance(0.3)) return [];
  const label = token.replaceAll(":", "-");
  return Array.from({ length: random.between(0, 2) }, (_, i) => ({ ...actOf(random, `${label}-${i + 1}`), manner: "ok" }));
}

export function orderOf(seed: number, index: number): Order {
  const deck = new Random(mixed(seed, -1 - Math.floor(index / DECK.length))).shuffled(DECK);
  return { label: `p${index}`, seed: mixed(seed, index) >>> 0, shape: deck[index % DECK.length] as Shape, depth: 0 };
}

/** Each hundred programs hold all shapes: a short run leaves nothing out. */
const COUNTS: Record<Shape, number> = {
  work: 56,
  agent: 20,
  session: 6,
  fails: 4,
  waits: 4,
  cut: 4,
  expires: 4,
  crash: 1,
  "agent-crash": 1,
};
const DECK = Object.entries(COUNTS).flatMap(([shape, count]) => Array<Shape>(count).fill(shape as Shape));
