/**
 * A store in pieces, as it is moved into another one: each piece is the same text whichever kind of store it comes from, so
 * that two stores can be compared by the hashes of their pieces. Journals travel as they are stored, and are not read.
 */
import { hash } from "node:crypto";
import { GroundcrewError } from "../errors.ts";
import type { ParkReason } from "./event.ts";
import { hashValue } from "./hash.ts";
import type { JsonValue } from "./json-value.ts";

export type StoredUnit = StoredSession | StoredBlob | StoredRun;

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
 * How far a dump has come. The order is: each session, last active last, with its turns behind it; then the runs outside of
 * sessions by id. A run stands behind its blobs.
 */
export interface Place {
  session: { activeAt: number; id: string; tenant: string } | null;
  /** The turn of that session, 0 for the session itself. */
  turn: number;
  /** The run outside of sessions; empty before the first. */
  run: string;
  /** The blob that was the last, of a run that is still to come. */
  blob: string | null;
}

export function readPlace(after: string | null): Place {
  if (after !== null) return JSON.parse(after) as Place;
  return { session: { activeAt: -1, id: "", tenant: "" }, turn: 0, run: "", blob: null };
}

/** SHA-256 in hex of the unit's canonical form: equal on both sides exactly when nothing was lost or changed. */
export function unitHash(unit: StoredUnit): string {
  if (unit.kind !== "blob") return hashValue(unit as unknown as JsonValue);
  return hash("sha256", `${unit.run} ${unit.hash} ${unit.data}`); // without a second copy of its megabytes
}

/** Roughly what it weighs. */
export function unitBytes(unit: StoredUnit): number {
  if (unit.kind === "blob") return unit.data.length;
  if (unit.kind === "session") return unit.state?.length ?? 0;
  return [...unit.events, ...unit.chunks].reduce((sum, row) => sum + row.data.length, 0);
}

/** For people. */
export function unitName(unit: StoredUnit): string {
  if (unit.kind === "run") return `run ${unit.id}`;
  if (unit.kind === "blob") return `blob ${unit.hash} of run ${unit.run}`;
  return `session ${JSON.stringify(unit.id)} of tenant ${JSON.stringify(unit.tenant)}`;
}

/** Where a run stands that somebody held: nobody is at work on a store that is moved, so it was lost and is due at once. */
export function givenUp<T extends Pick<StoredRun, "changedAt" | "dueAt" | "timed">>(run: T & { status: StoredRun["status"] | "running" }) {
  const { status } = run;
  if (status !== "running") return { ...run, status };
  return { ...run, status: "queued" as const, dueAt: run.changedAt, timed: false };
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
