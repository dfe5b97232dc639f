/** News by e-mail: a mail of their own to each person, with links that are theirs alone. */
import { createRequire } from "node:module";
import { checkName } from "../agent.ts";
import { GroundcrewError, misset } from "../errors.ts";
import { MAX_HALF_SENT, SEND_TIMEOUT_MS } from "../limits.ts";
import { type Notice, type NotifyChannel, notSent, type Recipient } from "./channel.ts";
import { mailOf } from "./mail.ts";
import { isLoopback } from "./post.ts";

/** What a transport of nodemailer's does. */
export interface MailTransport {
  sendMail(mail: OutgoingMail): Promise<unknown>;
}

export interface OutgoingMail {
  from: string;
  to: { name: string; address: string }[];
  subject: string;
  text: string;
  html: string;
  messageId: string;
  headers: Record<string, string>;
  /** Fires when nobody waits for it any more. */
  signal: AbortSignal;
}

export interface EmailOptions {
  /** E.g. `Groundcrew <crew@example.com>`. */
  from: string;
  /** `smtps://user:password@mail.example.com`, or a transport of nodemailer's that you have made. */
  transport: string | MailTransport;
  /** What deliveries know it by. Default `email`. */
  name?: string;
}

/** Needs the package `nodemailer`, unless it is given a transport. @throws GroundcrewError `CONFIG_INVALID` */
export function email({ from, transport, name = "email" }: EmailOptions): NotifyChannel {
  checkName("CONFIG_INVALID", "name of an e-mail channel", name);
  if (typeof from !== "string" || !/^[^\r\n]*@[^\r\n]+$/.test(from))
    throw misset("email.from", "an e-mail address", from, "CONFIG_INVALID");
  const open = opener(transport);
  const done = new HalfSent();
  return Object.freeze({
    name,
    address: "email" as const,
    async send(notice: Notice, signal: AbortSignal): Promise<void> {
      const people = notice.people.filter(({ email }) => email !== undefined);
      if (people.length === 0) throw notSent(name, "there is nobody to write to: nobody who may decide has an e-mail address.");
      const { sendMail } = await open();
      const refused: string[] = [];
      for (const person of people) {
        if (done.has(notice, person)) continue;
        signal.throwIfAborted();
        try {
          await sendMail({ ...mailOf(notice, person, from), from, to: [{ name: "", address: person.email ?? "" }], signal });
          done.add(notice, person);
        } catch (cause) {
          const status = replyTo(cause).isPermanent ? 400 : 503;
          if (!isRefusal(cause)) throw notSent(name, `the mail server fails: ${messageOf(cause)}.`, { status }, cause);
          refused.push(`${person.user} (${messageOf(cause)})`); // the others are told all the same
        }
      }
      if (refused.length > 0) throw notSent(name, `the mail server refused what is for ${refused.join(", ")}.`, { status: 400 });
      done.forget(notice);
    },
  });
}

/** What nodemailer says of an error: whether the server said no for good, and to what. */
function replyTo(error: unknown): { isPermanent: boolean; command: unknown } {
  const { permanent, command } = Object(error) as { permanent?: unknown; command?: unknown };
  return { isPermanent: permanent === true, command };
}

/** No for good, to this mail: the next one may be taken. */
function isRefusal(error: unknown): boolean {
  const { isPermanent, command } = replyTo(error);
  return isPermanent && (command === "RCPT TO" || command === "DATA");
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Who has theirs already, of news that has not reached everybody. Within this process: another may write to them again. */
class HalfSent {
  readonly #users = new Map<string, Set<string>>();

  has({ id }: Notice, person: Recipient): boolean {
    return this.#users.get(id)?.has(keyOf(person)) === true;
  }

  add({ id }: Notice, person: Recipient): void {
    const users = this.#users.get(id) ?? new Set();
    this.#users.set(id, users.add(keyOf(person)));
    const [oldest] = this.#users.keys();
    if (this.#users.size > MAX_HALF_SENT && oldest !== undefined) this.#users.delete(oldest);
  }

  forget({ id }: Notice): void {
    this.#users.delete(id);
  }
}

function keyOf({ user, email }: Recipient): string {
  return JSON.stringify([user, email]);
}

/** What sends, made when it is first needed. A package that is missing is known at once. */
function opener(transport: string | MailTransport): () => Promise<MailTransport> {
  if (typeof transport === "object" && transport !== null && typeof transport.sendMail === "function") {
    const given = { sendMail: (mail: OutgoingMail) => transport.sendMail(mail) };
    return () => Promise.resolve(given);
  }
  const url = typeof transport === "string" && URL.canParse(transport) ? new URL(transport) : undefined;
  if (url === undefined || !["smtp:", "smtps:"].includes(url.protocol) || url.hostname === "") {
    throw new GroundcrewError("CONFIG_INVALID", "Expected `email.transport` to be an smtp:// or smtps:// address, or a transport.", {
      fix: "Write e.g. `smtps://user:password@mail.example.com`.",
    }); // what was given may hold a password
  }
  mustHaveNodemailer();
  let opened: Promise<MailTransport> | undefined;
  return () => {
    opened ??= openSmtp(url);
    return opened;
  };
}

function mustHaveNodemailer(): void {
  try {
    createRequire(import.meta.url).resolve("nodemailer");
  } catch (cause) {
    throw new GroundcrewError("CONFIG_INVALID", "E-mail needs the package `nodemailer`, which is not installed.", {
      cause,
      fix: "Run `npm install nodemailer`.",
    });
  }
}

/** Links are keys: beyond this machine they travel encrypted, unless the address says otherwise itself. */
async function openSmtp(url: URL): Promise<MailTransport> {
  const { createTransport } = await import("nodemailer");
  const isTlsSaid = url.searchParams.has("requireTLS") || url.searchParams.has("ignoreTLS");
  const transport = createTransport({
    url: url.href,
    connectionTimeout: SEND_TIMEOUT_MS,
    greetingTimeout: SEND_TIMEOUT_MS,
    socketTimeout: SEND_TIMEOUT_MS,
    disableFileAccess: true,
    disableUrlAccess: true,
    ...(!isTlsSaid && !isLoopback(url.hostname) && { requireTLS: true }),
  });
  return { sendMail: (mail) => transport.sendMail(mail) };
}
