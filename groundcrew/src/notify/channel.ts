/** A way by which people outside are told: what it is given, and how it says that a message did not arrive. */
import { GroundcrewError } from "../errors.ts";
import type { ApprovalRow, Proposal } from "../persistence/approval.ts";
import type { DeliveryAbout } from "../persistence/delivery.ts";
import type { Principal } from "../principal.ts";

/** Somebody who is told, with their addresses. */
export interface Recipient extends Principal {
  /** Their member id in Slack. */
  slack?: string;
  email?: string;
}

/** One piece of news, as it stands when it is sent. */
export interface Notice {
  /** The delivery: the same for every try, so that a receiver can tell a repeat. */
  id: string;
  about: DeliveryAbout;
  /** Asked for together, or ended. */
  approvals: readonly ApprovalRow[];
  /** Who is told. With `address`: those who have one. */
  people: readonly Recipient[];
  /** Where the server is reached from outside. */
  url: string | undefined;
  /** When it is sent, in wall-clock milliseconds. */
  at: number;
  /** What a decision would be about: the arguments as asked for, or as somebody has edited them since. */
  proposal(approval: ApprovalRow): Proposal;
  /** The person's own link to decide by; undefined where there is nothing to decide, or no server to decide at. */
  link(approval: ApprovalRow, person: Recipient): string | undefined;
}

/** Where people, or their systems, are told. Your own is an object with a name and a `send`. */
export interface NotifyChannel {
  /** What deliveries know it by. It stays the same over restarts. */
  readonly name: string;
  /** The address of people that it tells them by. Absent: it tells a system, and nobody has to be known. */
  readonly address?: "slack" | "email";
  /** Tells all of it, or throws: then all of it is tried again, with the same id. */
  send(notice: Notice, signal: AbortSignal): Promise<void>;
}

/** What an endpoint answered: what is made of it is decided by status and headers. */
export interface Answer {
  status: number;
  headers?: Headers;
}

/** @param answer undefined when there was none: then the cause tells. */
export function notSent(channel: string, why: string, answer?: Answer, cause?: unknown): GroundcrewError {
  return new GroundcrewError("NOTIFY_FAILED", `Channel "${channel}": ${why}`, {
    cause: answer ? Object.assign(new Error(why, { cause }), answer) : cause,
  });
}
