/** What was said in a chat, as the UI messages that its streams left: to begin with after a reload. */
import { readUIMessageStream, type UIMessage } from "ai";
import { DEFAULT_HISTORY_TURNS } from "../limits.ts";
import { isTerminal, type RunRow } from "../persistence/store.ts";
import type { Crew, Run, Session } from "../runtime.ts";
import { userParts } from "../stream/ui-chunk.ts";
import { UiProjection } from "../stream/ui-message.ts";
import { inputOf, madeAgainBy, turnKey } from "./chat-turn.ts";

type Events = Awaited<ReturnType<Run["journal"]>>;

/** Each turn as its stream left it. The open turn is there with its question only: its answer comes with the stream. */
export async function messagesOf(crew: Crew, { row }: Session): Promise<UIMessage[]> {
  const turns = await crew.runs({ tenant: row.principal.tenant, session: row.id, limit: DEFAULT_HISTORY_TURNS });
  const byId = new Map(turns.map((turn) => [turn.id, turn]));
  const madeAgain = new Set(turns.flatMap((turn) => madeAgainBy(turn) ?? []));
  const messages: UIMessage[] = [];
  for (const turn of turns.toReversed().filter(({ id }) => !madeAgain.has(id))) {
    const events = await (await crew.run(turn.id)).journal();
    messages.push(...questions(events, messageIdOf(row.id, turn, byId)));
    const answer = isTerminal(turn.status) ? await answerOf(turn.id, events) : undefined;
    if (answer) messages.push(answer);
  }
  return messages;
}

/** The id that the client gave the question; one of our own for a turn that no chat client began. */
function messageIdOf(chat: string, turn: RunRow, turns: ReadonlyMap<string, RunRow>): string {
  const first = madeAgainBy(turn);
  const before = first === undefined ? undefined : turns.get(first);
  if (before) return messageIdOf(chat, before, turns);
  const prefix = turnKey(chat, "");
  return turn.key?.startsWith(prefix) ? turn.key.slice(prefix.length) : `${turn.id}:question`;
}

function questions(events: Events, id: string): UIMessage[] {
  const asked = inputOf(events).filter((message) => message.role === "user");
  return asked.map((message, index) => ({
    id: index === asked.length - 1 ? id : `${id}:${index}`,
    role: "user",
    parts: userParts(message),
  }));
}

async function answerOf(run: string, events: Events): Promise<UIMessage | undefined> {
  const projection = new UiProjection(run);
  const chunks = events.flatMap((event) => projection.project({ ...event, cursor: String(event.seq) }));
  let answer: UIMessage | undefined;
  const onError = () => {}; // how the run failed was told by its stream, and is no part of the message
  for await (const message of readUIMessageStream({ stream: ReadableStream.from(chunks), onError })) answer = message;
  return answer && answer.parts.length > 0 ? answer : undefined;
}
