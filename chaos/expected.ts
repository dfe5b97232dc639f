/** What must come of a program, whatever is killed meanwhile. */
import type { Effect } from "../groundcrew/src/index.ts";
import { type Act, agentOf, flowOf, isAgent, type Manner, type Node, type Order } from "./programs.ts";

/** What the world answers to a call that went well. */
export function receiptOf(id: string): string {
  return `done ${id}`;
}

export function idOf(label: string, name: string): string {
  return `${label}/${name}`;
}

/** The value of an act, as a flow keeps it and as a model is told. A `once` call that was not answered is looked up in the end. */
export function outcomeOf(label: string, act: Act): string {
  if (act.manner === "decline") return "declined";
  if (act.manner === "hang" && act.effect !== "once") return "late";
  return receiptOf(idOf(label, act.name));
}

export const DECLINED = "the world declined";

/** What the model says at the end of an agent's run. */
export function summaryOf(label: string, results: readonly [name: string, outcome: string][]): string {
  return `${label}: ${results.map(([name, outcome]) => `${name} ${outcome}`).join(", ")}`;
}

/** What the model says to a plain prompt. */
export function answerTo(id: string): string {
  return `As you ask about ${id}, here is what I think of it, in a few words that come one after the other.`;
}

export type Expected = { output: unknown } | { fails: string };

export function expectedOf(order: Order): Expected {
  const { label } = order;
  if (isAgent(order.shape)) {
    const acts = agentOf(order).rounds.flat();
    return {
      output: summaryOf(
        label,
        acts.map((act) => [act.name, outcomeOf(label, act)]),
      ),
    };
  }
  const { nodes, fails } = flowOf(order);
  if (fails) return { fails: failureOf(label) };
  return { output: nodes.map((node) => whatBecomesOf(label, node)) };
}

export function failureOf(label: string): string {
  return `${label} gives up`;
}

export function whatBecomesOf(label: string, node: Node): unknown {
  switch (node.type) {
    case "act":
      return outcomeOf(label, node);
    case "ask":
      return answerTo(idOf(label, node.name));
    case "all":
      return node.nodes.map((inner) => whatBecomesOf(label, inner));
    case "sleep":
      return "slept";
    case "signal":
      return signalValue(label, node.name);
    case "lapse":
      return "nobody came";
    case "child": {
      const expected = expectedOf(node.order);
      return "output" in expected ? expected.output : "the child failed";
    }
  }
}

export function signalValue(label: string, name: string): string {
  return `signal ${label}/${name}`;
}

/** A call that the world must see, or may see when its run is not let to its end. */
export interface ExpectedCall {
  id: string;
  effect: Effect;
  manner: Manner;
}

/** All calls of a program and of its children, model calls included, which are reads. */
export function callsOf(order: Order): ExpectedCall[] {
  const { label } = order;
  const ofAct = ({ name, effect, manner }: Act): ExpectedCall => ({ id: idOf(label, name), effect, manner });
  const ofModel = (name: string): ExpectedCall => ({ id: idOf(label, name), effect: "read", manner: "ok" });
  if (isAgent(order.shape)) {
    const { rounds } = agentOf(order);
    return [...rounds.flat().map(ofAct), ...[...rounds, []].map((_, i) => ofModel(`model:${i + 1}`))];
  }
  const ofNode = (node: Node): ExpectedCall[] => {
    if (node.type === "act") return [ofAct(node)];
    if (node.type === "ask") return [ofModel(node.name)];
    if (node.type === "all") return node.nodes.flatMap(ofNode);
    if (node.type === "child") return callsOf(node.order);
    return [];
  };
  return flowOf(order).nodes.flatMap(ofNode);
}

/** The signals that somebody has to send to a run. */
export function signalsOf(order: Order): string[] {
  if (isAgent(order.shape)) return [];
  const ofNode = (node: Node): string[] => {
    if (node.type === "all") return node.nodes.flatMap(ofNode);
    return node.type === "signal" && node.isSent ? [node.name] : [];
  };
  return flowOf(order).nodes.flatMap(ofNode);
}
