/**
 * A store in pieces, as it is moved into another one: each piece is the same text whichever kind of store it comes from, so
 * that two stores can be compared by the hashes of their pieces. Journals travel as they are stored, and are not read.
 */
import { hash } from "node:crypto";
import { GroundcrewError } from "../errors.ts";
import type { AuditHead, StoredAudit } from "./audit.ts";
import type { ParkReason } from "./event.ts";
import { hashValue } from "./hash.ts";
import type { JsonValue } from "./json-value.ts";

export type StoredUnit = StoredSession | StoredBlob | StoredRun | StoredBeside;

/** What is no run's: the audit log, what is to be told outside, and what is stopped. */
export type StoredBeside =
  | ({ kind: "audit" } & StoredAudit)
  | ({ kind: "head" } & AuditHead)
  | {
      kind: "delivery";
      /** See `deliveryKey`. */
      id: string;
      /** Null also when its run has been deleted. */
      run: string | null;
      data: string;
      createdAt: number;
      dueAt: number | null;
      failures: number;
      state: string | null;
      why: string | null;
      endedAt: number | null;
    }
  | { kind: "stop"; agent: string; why: string; by: string; at: number };

export interface StoredSession {
  kind: "session";
  id: string;
  tenant: string;
  agent: string;
  user: string;
  roles: readonly string[];
  /** JSON. */
  state: string | null;
  turns: number;
  createdAt: number;
  activeAt: number;
}

/** A blob that a run refers to, ahead of it: no run is ever there without its blobs. One that several runs share comes once with each. */
export interface StoredBlob {
  kind: "blob";
  run: string;
  hash: string;
  data: string;
}

/** A run with all that is its own. */
export interface StoredRun {
  kind: "run";
  id: string;
  agent: string;
  /** Never `running`: what a worker held that is gone waits for the next one. */
  status: "queued" | "parked" | "succeeded" | "failed" | "cancelled" | "expired";
  reason: ParkReason | null;
  dueAt: number | null;
  /** Whether `dueAt` was still to come when it was set. */
  timed: boolean;
  startAt: number;
  tenant: string;
  user: string;
  roles: readonly string[];
  session: string | null;
  turn: number | null;
  parent: string | null;
  parentStep: string | null;
  key: string | null;
  /** Who held it and did not hand it back: its next claim is a takeover. */
  worker: string | null;
  epoch: number;
  priority: 1 | 2 | 3 | 4 | 5;
  createdAt: number;
  changedAt: number;
  finishedAt: number | null;
  deadline: number;
  /** Journal rows, by the number of their last event. */
  events: { last: number; data: string }[];
  chunks: { after: number; first: number; last: number; data: string }[];
  /** In the order in which they came. */
  signals: StoredSignal[];
  /** What it has asked people, each as JSON, oldest first. Absent when it has asked nothing: its hash is what it was before anybody could. */
  approvals?: string[];
  /** The idempotency keys that lead to it. */
  starts: { key: string; hash: string }[];
  /** Hashes of the blobs that it refers to. */
  blobs: string[];
}

export interface StoredSignal {
  id: string;
  kind: string;
  name: string;
  /** JSON. */
  value: string | null;
  from: string | null;
  at: number;
  consumed: boolean;
}

export interface DumpPage {
  units: StoredUnit[];
  /** What `dump` takes to go on; null behind the last unit. */
  next: string | null;
}

/**
 * How far a dump has come. The order is: what is no run's; each session, last active last, with its turns behind it; then the
 * runs outside of sessions by id. A run stands behind its blobs.
 */
export interface Place {
  session: { activeAt: number; id: string; tenant: string } | null;
  /** The turn of that session, 0 for the session itself. */
  turn: number;
  /** The run outside of sessions; empty before the first. */
  run: string;
  /** The blob that was the last, of a run that is still to come. */
  blob: string | null;
  /** Before all runs: the last of what is no run's. */
  beside?: { kind: StoredBeside["kind"]; key: string; seq: number };
}

/**
 * What is no run's comes first, in the order of these kinds, each by key and number: a run that is added later stands behind it.
 * Heads come before the records that they lead to: an interrupted copy has no records that nothing leads to.
 */
export const BESIDE = ["head", "audit", "delivery", "stop"] as const satisfies readonly StoredBeside["kind"][];

export function readPlace(after: string | null): Place {
  if (after !== null) return JSON.parse(after) as Place;
  return { ...FIRST_SESSION, beside: { kind: BESIDE[0], ...FIRST } };
}

/** Before all of a kind. */
export const FIRST = { key: "", seq: -1 };

export function placeOf(unit: StoredBeside): Place {
  const { kind } = unit;
  const seq = kind === "audit" ? unit.seq : 0;
  const key = kind === "delivery" ? unit.id : kind === "stop" ? unit.agent : unit.tenant;
  return { ...FIRST_SESSION, beside: { kind, key, seq } };
}

/** Those behind a place, in an order that no store's collation has a part in: few, and as many as there are tenants. */
export function behind<T>(all: readonly T[], { key, seq }: typeof FIRST, keyOf: (one: T) => string): T[] {
  const left = all.filter((one) => keyOf(one) > key || (keyOf(one) === key && seq < 0));
  return left.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
}

/** Where what is no run's ends and the sessions begin. */
export const FIRST_SESSION: Place = { session: { activeAt: -1, id: "", tenant: "" }, turn: 0, run: "", blob: null };

/** SHA-256 in hex of the unit's canonical form: equal on both sides exactly when nothing was lost or changed. */
export function unitHash(unit: StoredUnit): string {
  if (unit.kind !== "blob") return hashValue(unit as unknown as JsonValue);
  return hash("sha256", `${unit.run} ${unit.hash} ${unit.data}`); // without a second copy of its megabytes
}

/** Roughly what it weighs. */
export function unitBytes(unit: StoredUnit): number {
  if (unit.kind === "blob") return unit.data.length;
  if (unit.kind === "session") return unit.state?.length ?? 0;
  if (unit.kind === "audit") return unit.record.length;
  if (unit.kind === "delivery") return unit.data.length;
  if (unit.kind !== "run") return 0;
  return [...unit.events, ...unit.chunks].reduce((sum, row) => sum + row.data.length, 0);
}

/** For people. */
export function unitName(unit: StoredUnit): string {
  if (unit.kind === "run") return `run ${unit.id}`;
  if (unit.kind === "audit") return `record ${unit.seq} of the audit log of tenant ${JSON.stringify(unit.tenant)}`;
  if (unit.kind === "head") return `the end of the audit log of tenant ${JSON.stringify(unit.tenant)}`;
  if (unit.kind === "delivery") return `delivery "${unit.id}"`;
  if (unit.kind === "stop") return `the stop of ${JSON.stringify(unit.agent)}`;
  if (unit.kind === "blob") return `blob ${unit.hash} of run ${unit.run}`;
  return `session ${JSON.stringify(unit.id)} of tenant ${JSON.stringify(unit.tenant)}`;
}

/** Where a run stands that somebody held: nobody is at work on a store that is moved, so it was lost and is due at once. */
export function givenUp<T extends Pick<StoredRun, "changedAt" | "dueAt" | "timed">>(run: T & { status: StoredRun["status"] | "running" }) {
  const { status } = run;
  if (status !== "running") return { ...run, status };
  return { ...run, status: "queued" as const, dueAt: run.changedAt, timed: false };
}

/** Records that no head leads to would be left behind without a word. */
export function headless(tenant: string, location: string): GroundcrewError {
  return new GroundcrewError("STORE_CORRUPT", `The audit log of tenant ${JSON.stringify(tenant)} in ${location} has lost its end.`, {
    value: tenant,
    fix: "Look at it with `groundcrew audit verify`, and restore the store from a backup.",
  });
}

/** What a unit says of a run's approvals. */
export function askedOf(stored: readonly { data: string }[]): Pick<StoredRun, "approvals"> {
  return stored.length === 0 ? {} : { approvals: stored.map(({ data }) => data) };
}

/** From when on no quota holds the run back: its deadline, or when it was cancelled. */
export function endBy({ deadline, signals }: Pick<StoredRun, "deadline" | "signals">): number {
  return Math.min(deadline, ...signals.filter(({ kind }) => kind === "cancel").map(({ at }) => at));
}

/** A store is moved while nobody is at work on it: what a worker writes in the meantime would be on one side only. */
export function atWork(worker: string, location: string): GroundcrewError {
  return new GroundcrewError("STORE_BUSY", `Worker ${worker} is at work on ${location}.`, {
    value: worker,
    fix: "Stop every process that uses the store, and try again. One that was killed counts until its lease has run out.",
  });
}
