/**
 * The links in messages by which one person can decide one request: who, what and until when, signed. Whoever has the link is
 * that person, so it goes to them alone, it runs out, and the server takes a decision by it once.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { GroundcrewError, misset } from "../errors.ts";
import { MAX_LINK_CHARS, MIN_SECRET_CHARS } from "../limits.ts";

export interface Link {
  approval: string;
  user: string;
  tenant: string;
  /** The delivery it came with. */
  delivery: string;
  /** Wall-clock milliseconds. */
  expires: number;
}

/** The first thing that is signed: no text that is signed for another purpose, or in another form, is a link. */
const VERSION = "groundcrew.link.v1";

/** @throws GroundcrewError `CONFIG_INVALID` */
export function makeLink(secret: string, { approval, user, tenant, delivery, expires }: Link): string {
  const said = Buffer.from(JSON.stringify([VERSION, approval, user, tenant, delivery, expires])); // a list: no two links have one text
  return `${said.toString("base64url")}.${sign(secret, said).toString("base64url")}`;
}

/** @throws GroundcrewError `LINK_INVALID`, `CONFIG_INVALID` */
export function readLink(token: string, secret: string, now: number): Link {
  if (token.length > MAX_LINK_CHARS) throw invalid("is too long");
  const [said, signature] = token.split(".", 2).map((part) => Buffer.from(part, "base64url"));
  if (!said || !signature || !isSame(signature, sign(secret, said))) throw invalid("is not one of ours, or was altered");
  if (token !== `${said.toString("base64url")}.${signature.toString("base64url")}`) throw invalid("is written in another form");
  const link = parse(said.toString());
  if (now >= link.expires) throw invalid(`has run out at ${new Date(link.expires).toISOString()}`);
  return link;
}

function sign(secret: string, said: Buffer): Buffer {
  if (secret.length < MIN_SECRET_CHARS) {
    throw misset("supervision.secret", `${MIN_SECRET_CHARS} characters or more`, `${secret.length} characters`, "CONFIG_INVALID");
  }
  return createHmac("sha256", secret).update(said).digest();
}

function isSame(given: Buffer, expected: Buffer): boolean {
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/** Ours, because it is signed; but perhaps of another release. */
function parse(text: string): Link {
  const [version, approval, user, tenant, delivery, expires] = JSON.parse(text) as [string, string, string, string, string, number];
  if (version !== VERSION) throw invalid("was made by another release");
  return { approval, user, tenant, delivery, expires };
}

function invalid(why: string): GroundcrewError {
  return new GroundcrewError("LINK_INVALID", `The link ${why}.`);
}
