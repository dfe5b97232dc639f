/** News in a channel of Slack, with buttons to decide by; and the proof that a click comes from Slack. */
import { createHmac, timingSafeEqual } from "node:crypto";
import { checkName } from "../agent.ts";
import { GroundcrewError, misset } from "../errors.ts";
import { MAX_ANSWER_QUOTE_CHARS, SLACK_TOLERANCE_MS } from "../limits.ts";
import { type Notice, type NotifyChannel, notSent } from "./channel.ts";
import { checkAddress, type Posted, post } from "./post.ts";
import { briefMessage, escaped, type SlackMessage, wholeMessage } from "./slack-message.ts";

export interface SlackOptions {
  /** Of the bot, which may `chat:write`: `xoxb-…`. */
  token: string;
  /** By which Slack signs what it sends. */
  signingSecret: string;
  /** Where to post, e.g. `C024BE91L`. */
  channel: string;
  /** Default `https://slack.com/api/`. */
  apiUrl?: string;
  /** What deliveries know it by. Default `slack`. */
  name?: string;
}

/** @throws GroundcrewError `CONFIG_INVALID` */
export function slack(options: SlackOptions): SlackChannel {
  return new SlackChannel(options);
}

/** The server recognises it by its class, and takes clicks for it. */
export class SlackChannel implements NotifyChannel {
  readonly name: string;
  readonly address = "slack";
  readonly #api: URL;
  readonly #token: string;
  readonly #signingSecret: string;
  readonly #room: string;

  constructor({ token, signingSecret, channel, apiUrl = "https://slack.com/api/", name = "slack" }: SlackOptions) {
    checkName("CONFIG_INVALID", "name of a Slack channel", name);
    this.name = name;
    this.#token = text("slack.token", token);
    this.#signingSecret = text("slack.signingSecret", signingSecret);
    this.#room = text("slack.channel", channel);
    this.#api = new URL("chat.postMessage", checkAddress("slack.apiUrl", apiUrl.replace(/\/?$/, "/")));
  }

  /** @throws GroundcrewError `NOTIFY_FAILED` */
  async send(notice: Notice, signal: AbortSignal): Promise<void> {
    const problem = await this.#post(notice, wholeMessage(notice), signal);
    if (problem === undefined) return;
    const still = TOO_LONG.test(problem.why) ? await this.#post(notice, briefMessage(notice), signal) : problem;
    if (still) throw notSent(this.name, `Slack says ${still.why}.`, still.posted);
  }

  /** Whether a request with these headers is Slack's: see `verifySlack`. */
  verify(rawBody: string | Uint8Array, headers: Headers, now: number): string {
    return verifySlack(rawBody, headers, this.#signingSecret, now);
  }

  /**
   * Tells whoever has clicked on a button, and nobody else, what came of it.
   * @param address the `response_url` that came with the click. @throws GroundcrewError `NOTIFY_FAILED`, also for an address that is not Slack's
   */
  async answer(address: string, said: string): Promise<void> {
    const url = URL.canParse(address) ? new URL(address) : undefined;
    const hosts = [this.#api.host, `hooks.${this.#api.host}`];
    if (!url || url.protocol !== this.#api.protocol || !hosts.includes(url.host)) {
      throw notSent(this.name, "a click is to be answered at an address that is not Slack's.");
    }
    const body = JSON.stringify({ response_type: "ephemeral", replace_original: false, text: escaped(said), ...INERT });
    const { status, text } = await post(url, { "content-type": "application/json; charset=utf-8" }, body, new AbortController().signal);
    if (status !== 200) throw notSent(this.name, `Slack did not take what a click is answered with: ${quoted(text)}.`, { status });
  }

  async #post(notice: Notice, message: SlackMessage, signal: AbortSignal): Promise<Problem | undefined> {
    const body = JSON.stringify({
      channel: this.#room,
      ...message,
      ...INERT,
      metadata: { event_type: "groundcrew_delivery", event_payload: { id: notice.id } },
    });
    const headers = { authorization: `Bearer ${this.#token}`, "content-type": "application/json; charset=utf-8" };
    const posted = await post(this.#api, headers, body, signal).catch((cause: unknown) => {
      throw notSent(this.name, `${this.#api.host} does not answer.`, undefined, cause);
    });
    return problemOf(posted);
  }
}

/** The text beside the blocks is read by Slack as well. */
const INERT = { mrkdwn: false, parse: "none", link_names: false, unfurl_links: false, unfurl_media: false };

const TOO_LONG = /msg_too_long|msg_blocks_too_long|invalid_blocks/;

/** What Slack calls errors of its own, and says with status 200. */
const SLACKS_OWN = /^(ratelimited|rate_limited|fatal_error|internal_error|service_unavailable|request_timeout|team_added_to_org|no_json)$/;

interface Problem {
  why: string;
  posted: Pick<Posted, "status" | "headers">;
}

function problemOf({ status, headers, text }: Posted): Problem | undefined {
  const answer = status === 200 ? errorOf(text) : quoted(text);
  if (answer === undefined) return undefined;
  if (status !== 200) return { why: `${status} ${answer}`, posted: { status, headers } };
  return { why: answer, posted: { status: SLACKS_OWN.test(answer) ? 503 : 400, headers } };
}

function quoted(text: string): string {
  return JSON.stringify(text.slice(0, MAX_ANSWER_QUOTE_CHARS));
}

/** @returns undefined when it was taken */
function errorOf(text: string): string | undefined {
  try {
    const { ok, error } = Object(JSON.parse(text)) as { ok?: unknown; error?: unknown };
    if (ok === true) return undefined;
    return typeof error === "string" ? error.slice(0, MAX_ANSWER_QUOTE_CHARS) : "an answer without a reason";
  } catch {
    return "no_json"; // something between us and Slack has answered
  }
}

function text(field: string, given: unknown): string {
  if (typeof given === "string" && /^[\x21-\x7e]+$/.test(given)) return given;
  throw misset(field, "a text without spaces", typeof given === "string" ? "another text" : given, "CONFIG_INVALID"); // it may be a secret
}

/**
 * Whether Slack has sent this, just now. The raw body counts: read and written anew it is another text.
 * @returns the signature, by which a repeat is known
 * @throws GroundcrewError `UNAUTHENTICATED`
 */
export function verifySlack(rawBody: string | Uint8Array, headers: Headers, signingSecret: string, now: number): string {
  const timestamp = headers.get("x-slack-request-timestamp") ?? "";
  const given = headers.get("x-slack-signature") ?? "";
  if (!/^\d{1,12}$/.test(timestamp)) throw stranger("has no time of sending");
  const hmac = createHmac("sha256", signingSecret).update(`v0:${timestamp}:`).update(rawBody);
  const expected = Buffer.from(`v0=${hmac.digest("hex")}`);
  const signature = Buffer.from(given);
  if (signature.length !== expected.length || !timingSafeEqual(signature, expected)) throw stranger("is not signed by Slack");
  if (Math.abs(now - Number(timestamp) * 1_000) > SLACK_TOLERANCE_MS) throw stranger("was sent at another time");
  return given;
}

function stranger(why: string): GroundcrewError {
  return new GroundcrewError("UNAUTHENTICATED", `The request ${why}.`);
}
