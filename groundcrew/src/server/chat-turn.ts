/** The next turn of a chat: what of the client's request is taken, and the run that it starts. */
import { convertToModelMessages, type ModelMessage, safeValidateUIMessages, type UIMessage } from "ai";
import { z } from "zod";
import { describe, GroundcrewError } from "../errors.ts";
import { MAX_NAME_CHARS } from "../limits.ts";
import { isTerminal, type RunRow } from "../persistence/store.ts";
import type { Principal } from "../principal.ts";
import type { Crew, Run, Session } from "../runtime.ts";
import { startRequest } from "../wire.ts";

const id = z.string().min(1).max(MAX_NAME_CHARS);

/** As `DefaultChatTransport` sends it; what an application adds to the body is not ours to refuse. */
export const chatRequest = z
  .looseObject({
    id: id.describe("The chat: a session of the agent, created at first use."),
    messages: z.array(z.unknown()).min(1).describe("UI messages. Only the last one of role `user` is read."),
    trigger: z.enum(["submit-message", "regenerate-message"]).optional(),
    messageId: z.string().optional().describe("For `regenerate-message`: the last answer, or the message it answered."),
    whenBusy: startRequest.shape.whenBusy,
  })
  .meta({ id: "ChatRequest" });

export type ChatRequest = z.output<typeof chatRequest>;

/** Starts the turn. The message's id is its idempotency key: the same message, sent again, is the same run. */
export async function say(crew: Crew, agent: string, body: ChatRequest, principal: Principal): Promise<Run> {
  const { messageId, message } = await lastUserMessage(body.messages);
  const { whenBusy } = body;
  const options = { session: body.id, key: turnKey(body.id, messageId), principal, ...(whenBusy && { whenBusy }) };
  return crew.start(agent, { ...options, messages: [message] });
}

/**
 * Asks the same once more: a new turn with the message of the last one, whose answer stays in what the model is shown, since
 * its tools have acted. A turn that is still open is not made again: its stream is the answer.
 */
export async function regenerate(crew: Crew, session: Session | undefined, agent: string, body: ChatRequest): Promise<Run> {
  const [last] = session ? await crew.runs({ tenant: session.row.principal.tenant, session: body.id, limit: 1 }) : [];
  const asked = body.messageId;
  if (!last || (asked !== undefined && asked !== last.id && turnKey(body.id, asked) !== last.key)) {
    throw new GroundcrewError("INPUT_INVALID", `Message ${describe(asked)} is not the last of chat ${describe(body.id)}.`, {
      fix: "Only the last answer can be made again: what followed an earlier one depends on it.",
    });
  }
  const run = await crew.run(last.id);
  if (!isTerminal(last.status)) return run;
  const key = `${AGAIN}${last.id}`;
  return crew.start(agent, { messages: inputOf(await run.journal()), session: body.id, key, principal: last.principal });
}

async function lastUserMessage(messages: readonly unknown[]): Promise<{ messageId: string; message: ModelMessage }> {
  const last = messages.findLast((message) => typeof message === "object" && message !== null && Reflect.get(message, "role") === "user");
  if (!last) throw new GroundcrewError("INPUT_INVALID", "Expected `body.messages` to have a message of role `user`.");
  const checked = await safeValidateUIMessages({ messages: [last] });
  const found = checked.success ? checked.data[0] : undefined;
  if (!found?.id)
    throw new GroundcrewError("INPUT_INVALID", `Expected the last user message to be a UI message of the AI SDK. ${whyNot(checked)}`);
  const parts = found.parts.flatMap(plainPart);
  if (parts.length === 0) throw new GroundcrewError("INPUT_INVALID", "Expected the last user message to have a text or a file.");
  const [message] = await convertToModelMessages([{ role: "user", parts }]);
  return { messageId: found.id, message: message as ModelMessage };
}

function whyNot(checked: { success: boolean; error?: Error }): string {
  return checked.error?.message.split("\n").slice(-3).join(" ") ?? "It has no id.";
}

/** Texts and files, without what a client may not decide: options for the provider, and files that somebody uploaded there. */
function plainPart(part: UIMessage["parts"][number]): UIMessage["parts"] {
  if (part.type === "text") return part.text === "" ? [] : [{ type: "text", text: part.text }];
  if (part.type !== "file") return [];
  const { mediaType, filename, url } = part;
  if (!URL.canParse(url) || !FILE_SCHEMES.has(new URL(url).protocol)) {
    throw new GroundcrewError("INPUT_INVALID", `Expected the file's \`url\` to be a data: or https: address, got ${describe(url)}.`);
  }
  return [{ type: "file", mediaType, url, ...(filename !== undefined && { filename }) }];
}

const FILE_SCHEMES: ReadonlySet<string> = new Set(["data:", "https:", "http:"]);

/** The key of the turn that a message of the chat starts. */
export function turnKey(chat: string, messageId: string): string {
  return `chat:${chat}/${messageId}`;
}

const AGAIN = "chat-again:";

/** The turn whose question this one asked again. */
export function madeAgainBy({ key }: RunRow): string | undefined {
  return key?.startsWith(AGAIN) ? key.slice(AGAIN.length) : undefined;
}

/** What the run was given. */
export function inputOf(events: Awaited<ReturnType<Run["journal"]>>): ModelMessage[] {
  const [created] = events;
  const input = created?.type === "run.created" ? (created.input as unknown as { messages?: ModelMessage[] } | undefined) : undefined;
  return input?.messages ?? [];
}
