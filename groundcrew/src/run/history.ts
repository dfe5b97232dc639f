import type { ModelMessage } from "ai";
import type { Agent } from "../agent.ts";
import { fold } from "../persistence/fold.ts";
import { isTerminal, type RunRow } from "../persistence/store.ts";
import type { Execution } from "./execution.ts";
import { closedTranscript } from "./transcript.ts";

/** What was said in the session's earlier turns, oldest first. */
export async function historyOf(execution: Execution, agent: Agent): Promise<ModelMessage[]> {
  const { run, deps, journal } = execution;
  if (run.session === null) return [];
  const turns = await earlierTurns(execution, agent.historyTurns);
  const messages: ModelMessage[] = [];
  for (const turn of turns) {
    const state = fold(await deps.store.journal(turn.id));
    messages.push(...(await closedTranscript(state, (json) => journal.decode(json))));
  }
  return messages;
}

async function earlierTurns({ run, deps }: Execution, limit: number): Promise<RunRow[]> {
  const newestFirst = await deps.store.runs({ tenant: run.principal.tenant, session: run.session ?? "", before: run.id, limit });
  return newestFirst.filter((turn) => isTerminal(turn.status)).reverse();
}
