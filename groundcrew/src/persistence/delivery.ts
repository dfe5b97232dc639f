/** What is to be told to people outside: recorded with what it is about, and tried until it has arrived or is given up. */

/** Why somebody is told. */
export type DeliveryAbout = "requested" | "reminded" | "escalated" | "ended";

export interface NewDelivery {
  /** Says what it is about, so that the same news is recorded once: `<channel>/<about>/<what>`. */
  id: string;
  tenant: string;
  /** The configured channel it goes by. */
  channel: string;
  about: DeliveryAbout;
  /** Approvals it is about, asked for together. */
  approvals: readonly string[];
  /** Who is to be told: `user:ana`, `role:finance`. */
  to: readonly string[];
}

export interface Delivery extends NewDelivery {
  createdAt: number;
  /** Tries that have failed. */
  failures: number;
}

/** An id as the tables hold it: any text there is, in one order in every store. */
export function deliveryKey(id: string): string {
  return JSON.stringify(id).slice(1, -1);
}

/** What became of a try. */
export type DeliveryOutcome =
  | { state: "sent" }
  /** Tried again then, wall-clock milliseconds. `isUntried`: not tried this time, or not to its end, which is no failure of its channel. */
  | { state: "waiting"; at: number; why: string; isUntried?: true }
  /** Given up. */
  | { state: "dead"; why: string };
