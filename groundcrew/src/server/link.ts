/**
 * | method | path | who | |
 * |---|---|---|---|
 * | GET | /link/{token} | whoever has the link | what it is about; changes nothing |
 * | POST | /link/{token} | whoever has the link | decides, once |
 *
 * The link in a message is a person's key to one request. Mail scanners open links: a page that is opened has been opened, no more.
 */
import type { Context } from "hono";
import { Hono } from "hono";
import { systemClock } from "../clock.ts";
import { GroundcrewError, isError } from "../errors.ts";
import { MAX_LINK_FORM_BYTES } from "../limits.ts";
import { readLink } from "../notify/link.ts";
import { outcomeText } from "../notify/words.ts";
import type { ApprovalRow } from "../persistence/approval.ts";
import type { Actor } from "../principal.ts";
import { type Crew, type Decision, mayDecide } from "../runtime.ts";
import type { Admission } from "./admission.ts";
import type { ServerEnv } from "./authenticate.ts";
import { readBytes } from "./body.ts";
import { messagePage, PAGE_HEADERS, requestPage } from "./link-page.ts";

export function linkRoutes(crew: Crew, admission: Admission): Hono<ServerEnv> {
  const app = new Hono<ServerEnv>();
  const { secret } = crew.supervision;
  if (secret === undefined) return app;
  app.get("/link/:token", admission.admit, (c) => page(c, () => show(c, crew, secret)));
  app.post("/link/:token", admission.admit, (c) => page(c, () => decide(c, crew, secret)));
  return app;
}

/** Somebody with a link. */
interface Holder {
  row: ApprovalRow;
  actor: Actor;
  /** What tells this link from others of theirs. */
  link: string;
}

/** Who the link is for. Whether they still may decide is looked at apart. @throws GroundcrewError `LINK_INVALID`, `APPROVAL_NOT_FOUND` */
async function holderOf(c: Context, crew: Crew, secret: string): Promise<Holder> {
  const { approval, user, tenant, delivery } = readLink(c.req.param("token") ?? "", secret, systemClock.now());
  const row = await crew.approval(approval);
  const actor: Actor = { tenant, user, roles: [], kind: "person", channel: "link" };
  return { row, actor, link: delivery };
}

/** What they have been told they may see they see no more when they have lost the role since. */
function mayLook(crew: Crew, { row, actor }: Holder): boolean {
  return crew.people.named(actor.tenant, actor.user) !== undefined && mayDecide(row, actor, crew.people);
}

async function show(c: Context, crew: Crew, secret: string): Promise<string> {
  const holder = await holderOf(c, crew, secret);
  const { row, actor } = holder;
  if (!mayLook(crew, holder)) throw notAnyMore(actor);
  if (row.status !== "open") return messagePage("Already decided", outcomeText(row));
  if (c.req.method !== "HEAD") await crew.viewed(row.id, actor);
  return requestPage(row, systemClock.now());
}

async function decide(c: Context, crew: Crew, secret: string): Promise<string> {
  const holder = await holderOf(c, crew, secret);
  const { row, actor, link } = holder;
  const form = new URLSearchParams(Buffer.from(await readBytes(c.req.raw, MAX_LINK_FORM_BYTES)).toString());
  const hash = form.get("hash");
  const decision = decisionOf(form);
  if (hash === null || !decision)
    throw new GroundcrewError("INPUT_INVALID", "The form is not complete: say whether you allow it or not, or write your answer.");
  if (crew.people.named(actor.tenant, actor.user) === undefined) throw notAnyMore(actor);
  const now = await crew.decide(row.id, decision, actor, { link, hash });
  return messagePage(now.status === "open" ? "Noted" : "Decided", outcomeText(now));
}

function decisionOf(form: URLSearchParams): Decision | undefined {
  const reason = (form.get("reason") ?? "").trim();
  switch (form.get("decision")) {
    case "approve":
      return { do: "approve", ...(reason !== "" && { reason }) };
    case "deny":
      return { do: "deny", reason: reason === "" ? "no reason was given" : reason };
    case "answer":
      return reason === "" ? undefined : { do: "answer", answer: reason };
    default:
      return undefined;
  }
}

function notAnyMore({ user }: Actor): GroundcrewError {
  return new GroundcrewError("FORBIDDEN", `"${user}" may not decide this, or not any more.`);
}

/** A page for people, also when it fails. What is the server's own fault is told and reported like any other. */
async function page(c: Context, make: () => Promise<string>): Promise<Response> {
  try {
    return c.html(await make(), 200, PAGE_HEADERS);
  } catch (error) {
    if (!isError(error) || error.status >= 500) throw error;
    return c.html(messagePage(error.userMessage, error.message), error.status as 400, PAGE_HEADERS);
  }
}
