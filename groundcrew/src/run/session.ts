import type { ModelMessage } from "ai";
import { GroundcrewError } from "../errors.ts";
import { DEFAULT_HISTORY_TURNS, MAX_QUEUED_TURNS } from "../limits.ts";
import type { Codec } from "../persistence/codec.ts";
import { fold } from "../persistence/fold.ts";
import type { RunRow, RunStatus, SessionRow, Store } from "../persistence/store.ts";
import { loadValue } from "../persistence/value.ts";
import { SessionState } from "./session-state.ts";
import { closedTranscript } from "./transcript.ts";

const OPEN: readonly RunStatus[] = ["queued", "running", "parked"];

/** A session as it was when it was asked for: two small reads. What was said in it is read when it is wanted. */
export class Session {
  readonly row: SessionRow;
  /** The open turns, oldest first: the one at work, then those that wait for it. */
  readonly open: readonly RunRow[];
  readonly #store: Store;
  readonly #codec: Codec;

  constructor(store: Store, codec: Codec, row: SessionRow, open: readonly RunRow[]) {
    this.#store = store;
    this.#codec = codec;
    this.row = row;
    this.open = open;
  }

  /** Its typed state, part by part. @throws GroundcrewError `EVENT_UNREADABLE` */
  async state(): Promise<Record<string, unknown>> {
    return (await SessionState.load(this.#store, this.#codec, this.row.state ?? undefined)).read();
  }

  /**
   * The conversation so far: the newest turns that have ended, and all that are open.
   * @param options.guidance whether with what others than the user have told the agent. Default: with all that it has heard.
   * @throws GroundcrewError `EVENT_UNREADABLE`
   */
  async messages({ guidance = true }: { guidance?: boolean } = {}): Promise<ModelMessage[]> {
    const { id, principal } = this.row;
    const turns = await this.#store.runs({ tenant: principal.tenant, session: id, limit: DEFAULT_HISTORY_TURNS + this.open.length });
    const messages: ModelMessage[] = [];
    for (const turn of turns.reverse()) {
      const state = fold(await this.#store.journal(turn.id));
      const heard = guidance ? state.messages : state.messages.filter(({ from }) => from !== "staff");
      messages.push(...(await closedTranscript({ ...state, messages: heard }, (json) => loadValue(this.#store, this.#codec, json))));
    }
    return messages;
  }
}

/** @throws GroundcrewError `SESSION_NOT_FOUND` */
export async function sessionOf(store: Store, codec: Codec, tenant: string, id: string): Promise<Session> {
  const row = await store.session(tenant, id);
  if (!row) throw new GroundcrewError("SESSION_NOT_FOUND", `There is no session ${JSON.stringify(id)}.`, { value: id });
  const open = await store.runs({ tenant, session: id, status: OPEN, limit: MAX_QUEUED_TURNS + 1 });
  return new Session(store, codec, row, open.reverse());
}
