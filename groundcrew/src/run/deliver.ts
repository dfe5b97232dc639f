/** One delivery on its way: what it is about now, who is told, what the channel makes of it, and what is written down. */
import type { Clock } from "../clock.ts";
import { coerceError, GroundcrewError } from "../errors.ts";
import type { Failure } from "../failure.ts";
import { delay } from "../fault/retry.ts";
import { withDeadline } from "../fault/timeout.ts";
import { verdict } from "../fault/verdict.ts";
import {
  DELIVERY_PATIENCE_MS,
  DELIVERY_TIMEOUT_MS,
  MAX_DELIVERY_BACKOFF_MS,
  MAX_LINK_MS,
  MAX_REASON_CHARS,
  REFUSED_DELIVERY_MS,
  UNKNOWN_CHANNEL_MS,
  UNKNOWN_CHANNEL_RETRY_MS,
} from "../limits.ts";
import type { Notice, NotifyChannel } from "../notify/channel.ts";
import { makeLink } from "../notify/link.ts";
import { type ApprovalRow, proposal, runOfApproval } from "../persistence/approval.ts";
import type { AuditEntry } from "../persistence/audit.ts";
import type { Delivery, DeliveryOutcome } from "../persistence/delivery.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import type { Store } from "../persistence/store.ts";
import type { Actor } from "../principal.ts";
import { mayDecide } from "../supervision/judge.ts";
import type { People, Person } from "../supervision/people.ts";

export interface DeliverDeps {
  store: Pick<Store, "approval" | "settleDelivery">;
  clock: Clock;
  channels: readonly NotifyChannel[];
  people: People;
  /** Where the server is reached from outside. */
  url: string | undefined;
  /** Signs links. */
  secret: string | undefined;
  onTrouble: (error: unknown) => void;
  /** Between 0 and 1. */
  random: () => number;
}

/** Tells, or finds out that it cannot be told now, and settles it. @throws what the store throws: then it is due again after its lease */
export async function deliver(deps: DeliverDeps, delivery: Delivery, stopping: AbortSignal): Promise<void> {
  const channel = deps.channels.find(({ name }) => name === delivery.channel);
  if (!channel) return await unknown(deps, delivery);
  const news = await rowsOf(deps, delivery);
  if (news.length === 0 && delivery.approvals.length > 0) return await skip(deps, delivery);
  const { people, isFallback } = recipients(deps, delivery, channel, news);
  const isNew = isFallback && delivery.failures === 0;
  if (isNew) deps.onTrouble(nobody(delivery, people));
  const audit = isNew ? entries(delivery, "approval.notify.nobody", { to: [...delivery.to], instead: usersOf(people) }, news) : [];
  try {
    const notice = noticeOf(deps, delivery, news, people);
    const bounds = { name: `channel ${channel.name}`, timeoutMs: DELIVERY_TIMEOUT_MS, clock: deps.clock, signal: stopping, graceMs: 0 };
    await withDeadline(bounds, (signal) => channel.send(notice, signal));
  } catch (error) {
    return await failed(deps, delivery, error, stopping.aborted, audit);
  }
  audit.push(...news.flatMap((row) => entries(delivery, "approval.notified", { to: usersOf(people), hash: proposal(row).hash }, [row])));
  await deps.store.settleDelivery(delivery.id, { state: "sent" }, audit);
}

/** As they are now. What has ended before anybody heard of it is no news any more, unless its end is. */
async function rowsOf({ store, clock }: DeliverDeps, { approvals, about }: Delivery): Promise<ApprovalRow[]> {
  const rows = (await Promise.all(approvals.map((id) => store.approval(id)))).filter((row) => row !== null);
  return about === "ended" ? rows : rows.filter((row) => isOpen(row, clock.now()));
}

function isOpen({ status, expiresAt }: ApprovalRow, now: number): boolean {
  return status === "open" && (expiresAt === null || now < expiresAt);
}

async function skip({ store }: DeliverDeps, delivery: Delivery): Promise<void> {
  await store.settleDelivery(delivery.id, { state: "sent" }, entries(delivery, "approval.notify.skipped", {}));
}

/** Another process may know it: while a deploy rolls, one that is older takes what a newer one has written. */
async function unknown(deps: DeliverDeps, delivery: Delivery): Promise<void> {
  const why = `no channel "${delivery.channel}" is configured`;
  const now = deps.clock.now();
  if (now - delivery.createdAt >= UNKNOWN_CHANNEL_MS) return await giveUp(deps, delivery, why);
  await deps.store.settleDelivery(delivery.id, { state: "waiting", at: now + UNKNOWN_CHANNEL_RETRY_MS, why }, []);
}

/** Those who are meant and can be reached. Where there are none the operators hear of it. */
function recipients({ people }: DeliverDeps, { tenant, to }: Delivery, { address }: NotifyChannel, news: readonly ApprovalRow[]) {
  const requester = news[0]?.request.user ?? "";
  const reached = (targets: readonly string[]) =>
    people.meant(tenant, targets, requester).filter((person) => address === undefined || person[address] !== undefined);
  const meant = reached(to).filter((person) => news.length === 0 || news.some((row) => mayDecide(row, byLink(person), people)));
  if (meant.length > 0 || address === undefined) return { people: meant, isFallback: false };
  return { people: reached(["role:operator"]), isFallback: true };
}

/** Who opens a link. Nobody is told who would be refused then. */
function byLink(person: Person): Actor {
  return { ...person, kind: "person", channel: "link" };
}

function noticeOf(deps: DeliverDeps, { id, about }: Delivery, approvals: readonly ApprovalRow[], people: readonly Person[]): Notice {
  const at = deps.clock.now();
  const { url, secret } = deps;
  const link = (row: ApprovalRow, { tenant, user }: { tenant: string; user: string }): string | undefined => {
    const person = people.find((one) => one.user === user && one.tenant === tenant);
    const isTheirs = person && mayDecide(row, byLink(person), deps.people);
    if (!isTheirs || url === undefined || secret === undefined || !isOpen(row, at)) return undefined;
    const expires = Math.min(row.expiresAt ?? Number.POSITIVE_INFINITY, at + MAX_LINK_MS);
    return `${url.replace(/\/+$/, "")}/v1/link/${makeLink(secret, { approval: row.id, user, tenant, delivery: id, expires })}`;
  };
  return { id, about, approvals, people, url, at, proposal, link };
}

async function failed(deps: DeliverDeps, delivery: Delivery, error: unknown, isStopping: boolean, audit: AuditEntry[]): Promise<void> {
  const now = deps.clock.now();
  const why = coerceError(error).message.slice(0, MAX_REASON_CHARS);
  const { failure } = verdict(error, now);
  if (failure.status === GONE) return await giveUp(deps, delivery, why, audit);
  if (now - delivery.createdAt >= DELIVERY_PATIENCE_MS) return await giveUp(deps, delivery, why, audit);
  if (failure.chance === "never" && delivery.failures === 0 && !isStopping) deps.onTrouble(error); // an operator can put it right
  const at = isStopping ? now : now + pause(delivery.failures + 1, failure, deps.random(), now);
  await deps.store.settleDelivery(delivery.id, { state: "waiting", at, why, ...(isStopping && { isUntried: true as const }) }, audit);
}

/** The endpoint says of itself that there is no sense in trying again. */
const GONE = 410;

/** What was refused is not asked for again soon; everything else by itself, later and later. */
function pause(failures: number, failure: Failure, random: number, now: number): number {
  const asked: Failure = failure.chance === "never" ? { ...failure, chance: "later", at: now + REFUSED_DELIVERY_MS } : failure;
  return delay(failures, asked, random, now, MAX_DELIVERY_BACKOFF_MS);
}

async function giveUp({ store, onTrouble }: DeliverDeps, delivery: Delivery, why: string, audit: AuditEntry[] = []): Promise<void> {
  const outcome: DeliveryOutcome = { state: "dead", why };
  await store.settleDelivery(delivery.id, outcome, [...audit, ...entries(delivery, "approval.notify.failed", { why })]);
  onTrouble(new GroundcrewError("NOTIFY_FAILED", `News was given up (${delivery.id}): ${why}.`, { value: delivery.id }));
}

function nobody({ id, channel, to }: Delivery, instead: readonly Person[]): GroundcrewError {
  const whom =
    instead.length > 0 ? `Operators are told instead: ${usersOf(instead).join(", ")}.` : "There is no operator to be told either.";
  return new GroundcrewError("NOTIFY_FAILED", `Channel "${channel}" reaches none of ${to.join(", ")} (${id}). ${whom}`, {
    value: id,
    fix: "Say in `people` who they are, with their addresses.",
  });
}

function usersOf(people: readonly Person[]): string[] {
  return people.map(({ user }) => user);
}

/** One for each approval, so that its history is whole. */
function entries(delivery: Delivery, action: string, detail: Record<string, JsonValue>, rows?: readonly ApprovalRow[]): AuditEntry[] {
  const { id, tenant, channel, about } = delivery;
  const approvals = rows ? rows.map((row) => row.id) : delivery.approvals;
  const common = {
    tenant,
    action,
    actor: { kind: "runtime", id: "runtime" },
    channel: "runtime",
    detail: { channel, delivery: id, about, ...detail },
  } as const;
  if (approvals.length === 0) return [common];
  return approvals.map((approval) => ({ ...common, run: runOfApproval(approval), approval }));
}
