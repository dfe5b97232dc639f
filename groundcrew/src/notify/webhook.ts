/** News to a system of yours, signed as Standard Webhooks says: with any of its libraries the receiver checks who has sent it. */
import { createHmac } from "node:crypto";
import { checkName } from "../agent.ts";
import { GroundcrewError } from "../errors.ts";
import { MAX_ANSWER_QUOTE_CHARS } from "../limits.ts";
import { type ApprovalRow, agreedTo, proposal } from "../persistence/approval.ts";
import { type Notice, type NotifyChannel, notSent } from "./channel.ts";
import { checkAddress, type Posted, post } from "./post.ts";

export interface WebhookOptions {
  /** https, or http on this machine. */
  url: string;
  /** `whsec_` and 24 to 64 bytes in base64. */
  secret: string;
  /** What deliveries know it by. Default `webhook`. */
  name?: string;
}

/** @throws GroundcrewError `CONFIG_INVALID` */
export function webhook({ url, secret, name = "webhook" }: WebhookOptions): NotifyChannel {
  checkName("CONFIG_INVALID", "name of a webhook", name);
  const address = checkAddress("webhook.url", url);
  const key = keyOf(secret);
  return Object.freeze({
    name,
    async send(notice: Notice, signal: AbortSignal): Promise<void> {
      const body = JSON.stringify(payloadOf(notice));
      const posted = await post(address, { "content-type": "application/json", ...signed(key, notice, body) }, body, signal).catch(
        (cause: unknown) => {
          throw notSent(name, `${address.host} does not answer.`, undefined, cause);
        },
      );
      if (posted.status < 200 || posted.status > 299) throw notSent(name, refusal(address, posted), posted);
    },
  });
}

function keyOf(secret: unknown): Buffer {
  const text = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(typeof secret === "string" ? secret : "")?.[1];
  const key = Buffer.from(text ?? "", "base64");
  if (key.length >= 24 && key.length <= 64) return key;
  throw new GroundcrewError("CONFIG_INVALID", "Expected `webhook.secret` to be `whsec_` and 24 to 64 bytes in base64.", {
    fix: 'Make one with `echo "whsec_$(openssl rand -base64 32)"`.',
  });
}

/** The time is that of the try, so that a receiver who looks at its age takes a late one; the id is the delivery's. */
function signed(key: Buffer, { id, at }: Notice, body: string): Record<string, string> {
  const timestamp = String(Math.floor(at / 1_000));
  return { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature(key, id, timestamp, body) };
}

function signature(key: Buffer, id: string, timestamp: string, body: string): string {
  return `v1,${createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64")}`;
}

function refusal({ host }: URL, { status, text }: Posted): string {
  if (status >= 300 && status < 400) return `${host} answered ${status}: a redirect, and these are not followed.`;
  return `${host} answered ${status}: ${JSON.stringify(text.slice(0, MAX_ANSWER_QUOTE_CHARS))}.`;
}

function payloadOf({ about, approvals, people, at, url }: Notice) {
  return {
    type: `approval.${about}`,
    timestamp: new Date(at).toISOString(),
    data: {
      approvals: approvals.map((approval) => ({ ...factsOf(approval), proposal: proposal(approval) })),
      people: people.map(({ user }) => user),
      ...(url !== undefined && { server: url }),
    },
  };
}

/** As it stands, without who has said what so far: that is for those who may decide. */
function factsOf(row: ApprovalRow) {
  const { votes: _votes, ...approval } = row;
  return { ...approval, agreed: agreedTo(row).length };
}
