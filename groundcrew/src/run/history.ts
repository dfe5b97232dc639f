import type { ModelMessage } from "ai";
import { fold } from "../persistence/fold.ts";
import { isTerminal, type RunRow, type Store } from "../persistence/store.ts";
import { closedTranscript, type Decode } from "./transcript.ts";

/**
 * What was said in the session before this run, oldest first; nothing for a run outside a session.
 * @param turns how many earlier turns, newest kept.
 */
export async function historyOf(store: Store, run: RunRow, turns: number, decode: Decode): Promise<ModelMessage[]> {
  if (run.session === null) return [];
  const filter = { tenant: run.principal.tenant, session: run.session, before: run.id, limit: turns };
  const earlier = (await store.runs(filter)).filter((turn) => isTerminal(turn.status)).reverse();
  const messages: ModelMessage[] = [];
  for (const turn of earlier) messages.push(...(await closedTranscript(fold(await store.journal(turn.id)), decode)));
  return messages;
}
