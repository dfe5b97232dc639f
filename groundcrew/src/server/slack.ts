/**
 * | method | path | who | |
 * |---|---|---|---|
 * | POST | /channels/slack | Slack, by its signature | a click on one of our buttons |
 *
 * A click is the word of the person whose member id Slack names, if the configuration knows them. Every click gets an answer.
 */
import type { Context } from "hono";
import { Hono } from "hono";
import { systemClock } from "../clock.ts";
import { coerceError, GroundcrewError, isError } from "../errors.ts";
import { MAX_SLACK_BYTES, MAX_SLACK_SIGNATURES, OVERLOADED_RETRY_MS, SLACK_ANSWER_MS, SLACK_TOLERANCE_MS } from "../limits.ts";
import { SlackChannel } from "../notify/slack.ts";
import { escaped, readButton } from "../notify/slack-message.ts";
import { outcomeText } from "../notify/words.ts";
import type { Crew, Decision } from "../runtime.ts";
import type { Admission } from "./admission.ts";
import type { ServerEnv } from "./authenticate.ts";
import { readBytes } from "./body.ts";
import type { Report } from "./failure.ts";

export function slackRoutes(crew: Crew, admission: Admission, report: Report): Hono<ServerEnv> {
  const app = new Hono<ServerEnv>();
  const channels = crew.supervision.channels.filter((channel) => channel instanceof SlackChannel);
  if (channels.length === 0) return app;
  const seen = new Seen();
  app.post("/channels/slack", admission.admit, async (c) => {
    const raw = await readBytes(c.req.raw, MAX_SLACK_BYTES);
    const { channel, signature } = senderOf(channels, raw, c.req.raw.headers);
    seen.add(signature, systemClock.now());
    const click = clickOf(raw);
    const answer = answerTo(crew, click).then(async (text) => {
      // Slack shows nobody what a click is answered with; what it is told at this address it does.
      if (click.responseUrl !== undefined) void channel.answer(click.responseUrl, text).catch((error) => report(coerceError(error), ""));
      return text;
    });
    return say(c, await inTime(answer, report));
  });
  return app;
}

/** What is answered to a click within the time that Slack waits for it. What comes later is told at the click's own address. */
async function inTime(answer: Promise<string>, report: Report): Promise<string> {
  const late = Promise.withResolvers<string>();
  const cancel = systemClock.after(SLACK_ANSWER_MS, () => {
    late.resolve("It takes longer than usual; the answer follows.");
    answer.catch((error: unknown) => report(coerceError(error), ""));
  });
  return Promise.race([answer, late.promise]).finally(cancel);
}

// ——— Who ———

/** @throws GroundcrewError `UNAUTHENTICATED` */
function senderOf(channels: readonly SlackChannel[], raw: Uint8Array, headers: Headers): { channel: SlackChannel; signature: string } {
  const refusals: unknown[] = [];
  for (const channel of channels) {
    try {
      return { channel, signature: channel.verify(raw, headers, systemClock.now()) };
    } catch (error) {
      refusals.push(error);
    }
  }
  throw refusals[0];
}

/** Signatures that have come, for as long as they are good: the same click is not taken twice. */
class Seen {
  readonly #until = new Map<string, number>();

  /** @throws GroundcrewError `UNAUTHENTICATED` for a repeat, `OVERLOADED` */
  add(signature: string, now: number): void {
    for (const [old, until] of this.#until) {
      if (until > now) break; // they stand in the order in which they came
      this.#until.delete(old);
    }
    if (this.#until.has(signature)) throw new GroundcrewError("UNAUTHENTICATED", "The request is a repeat of one that was taken before.");
    if (this.#until.size >= MAX_SLACK_SIGNATURES) {
      throw new GroundcrewError("OVERLOADED", "Too many clicks have come to remember them all.", { retryAfterMs: OVERLOADED_RETRY_MS });
    }
    this.#until.set(signature, now + 2 * SLACK_TOLERANCE_MS); // one whose time of sending lies ahead is good for longer
  }
}

// ——— What ———

interface Click {
  user: string;
  action: string;
  value: unknown;
  responseUrl: string | undefined;
}

/** @throws GroundcrewError `INPUT_INVALID` */
function clickOf(raw: Uint8Array): Click {
  try {
    const payload = JSON.parse(new URLSearchParams(Buffer.from(raw).toString()).get("payload") ?? "");
    const { type, user, actions, response_url } = Object(payload) as Record<string, unknown>;
    const { action_id, value } = Object(Array.isArray(actions) ? actions[0] : undefined) as Record<string, unknown>;
    if (type !== "block_actions") throw new Error("another kind of interaction");
    const responseUrl = typeof response_url === "string" ? response_url : undefined;
    return { user: String(Object(user).id ?? ""), action: String(action_id ?? ""), value, responseUrl };
  } catch (cause) {
    throw new GroundcrewError("INPUT_INVALID", "Expected the payload of a click on a button.", { cause });
  }
}

async function answerTo(crew: Crew, { user, action, value }: Click): Promise<string> {
  const person = crew.people.bySlack(user);
  const button = readButton(value);
  const decision = decisionOf(action);
  if (!button || !decision) return "This button is not one of ours. Nothing was changed.";
  if (!person) return "You are not known here: an operator has to add your Slack id to `people`. Nothing was changed.";
  try {
    const actor = { tenant: person.tenant, user: person.user, roles: [], kind: "person", channel: "slack" } as const;
    return outcomeText(await crew.decide(button.approval, decision, actor, { hash: button.hash }));
  } catch (error) {
    if (!isError(error) || error.status >= 500) throw error;
    return error.code === "FORBIDDEN" ? `You may not decide this. ${error.message}` : error.message;
  }
}

/** @returns undefined for what is no button of ours: nothing is agreed to by mistake */
function decisionOf(action: string): Decision | undefined {
  if (action === "approve") return { do: "approve" };
  return action === "deny" ? { do: "deny", reason: "denied in Slack" } : undefined;
}

/** Seen by whoever has clicked, and by nobody else; the message stays. */
function say(c: Context<ServerEnv>, text: string): Response {
  return c.json({ response_type: "ephemeral", replace_original: false, text: escaped(text) });
}
