import type { ModelMessage } from "ai";
import { GroundcrewError } from "../errors.ts";
import { MAX_QUEUED_TURNS } from "../limits.ts";
import type { Codec } from "../persistence/codec.ts";
import { fold } from "../persistence/fold.ts";
import { isTerminal, type RunRow, type SessionRow, type Store } from "../persistence/store.ts";
import { loadValue } from "../persistence/value.ts";
import { SessionState } from "./session-state.ts";
import { closedTranscript } from "./transcript.ts";

export interface Session {
  row: SessionRow;
  /** Its typed state, part by part. */
  state: Record<string, unknown>;
  /** The conversation so far: what the model is shown. */
  messages: ModelMessage[];
  /** The open turns, oldest first. */
  open: RunRow[];
}

/** @throws GroundcrewError `SESSION_NOT_FOUND`, `EVENT_UNREADABLE` */
export async function sessionOf(store: Store, codec: Codec, tenant: string, id: string): Promise<Session> {
  const row = await store.session(tenant, id);
  if (!row) throw new GroundcrewError("SESSION_NOT_FOUND", `There is no session ${JSON.stringify(id)}.`, { value: id });
  const turns = (await store.runs({ tenant, session: id, limit: MAX_QUEUED_TURNS })).reverse();
  const messages: ModelMessage[] = [];
  for (const turn of turns) messages.push(...(await closedTranscript(fold(await store.journal(turn.id)), (json) => loadValue(store, codec, json))));
  const state = (await SessionState.load(store, codec, row.state ?? undefined)).read();
  return { row, state, messages, open: turns.filter((turn) => !isTerminal(turn.status)) };
}
