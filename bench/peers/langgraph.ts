/** The graph that both of LangGraph's checkpointers run: ten nodes in a row, each adds its result to the state. */
import { randomUUID } from "node:crypto";
import { Annotation, type BaseCheckpointSaver, StateGraph } from "@langchain/langgraph";
import { work } from "../contender.ts";
import { STEP_NAMES } from "../record.ts";

const State = Annotation.Root({
  results: Annotation<Record<string, unknown>[]>({ reducer: (all, more) => all.concat(more), default: () => [] }),
});

/** "sync" is the mode that has a step on disk before the next one begins; the default, "async", does not. */
export const DURABILITY = `durability "sync"`;

/** @returns what does one run, on a thread of its own */
export function runnerOf(checkpointer: BaseCheckpointSaver): () => Promise<unknown> {
  const nodes = STEP_NAMES.map((name, i) => [name, async () => ({ results: [work(i)] })] as [string, () => Promise<typeof State.Update>]);
  const graph = new StateGraph(State)
    .addSequence(nodes)
    .addEdge("__start__", STEP_NAMES[0] as string)
    .compile({ checkpointer });
  return () => graph.invoke({ results: [] }, { configurable: { thread_id: randomUUID() }, durability: "sync" });
}
