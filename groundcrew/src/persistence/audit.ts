/**
 * The audit log: who did what, when, on whose behalf and why it was allowed. Each tenant's log is a chain: a record carries the
 * hash of the one before, so that a record which was altered, left out, put in or moved breaks it at that place. Head and record
 * are written in one transaction, along with what the record is about: neither is ever there without the other.
 *
 * The hash is SHA-256 over RFC 8785 JSON, as HMAC when the store was opened with a key: without one, whoever can write the tables
 * can also write a whole new chain. Keep the head (`audit verify` prints it) somewhere else to see that.
 */
import { createHash, createHmac } from "node:crypto";
import canonicalize from "canonicalize";
import type { Channel } from "../principal.ts";
import type { JsonValue } from "./json-value.ts";

/** Who acted: a person, a key without one, an agent, or the runtime by itself. */
export interface AuditActor {
  kind: "person" | "service" | "agent" | "runtime";
  id: string;
}

/** What happened. */
export interface AuditEntry {
  tenant: string;
  /** E.g. `approval.decided`. */
  action: string;
  actor: AuditActor;
  /** The user a run works for. */
  onBehalfOf?: string;
  channel: Channel;
  run?: string;
  approval?: string;
  reason?: string;
  detail?: JsonValue;
}

/** One link of the chain. */
export interface AuditRecord extends AuditEntry {
  v: 1;
  /** From 1, per tenant. */
  seq: number;
  /** Wall-clock milliseconds of the store. */
  at: number;
  /** Hash of the record before. */
  prev: string;
}

/** As it is stored and exported: the exact text that was hashed. */
export interface StoredAudit {
  tenant: string;
  seq: number;
  record: string;
  hash: string;
}

/** Where a tenant's chain ends. */
export interface AuditHead {
  tenant: string;
  seq: number;
  hash: string;
}

/** Before the first record. */
export const GENESIS = "0".repeat(64);

/** Entries by the chain that they belong to, under its tenant's name as every store can hold it. */
export function byTenant(entries: readonly AuditEntry[]): Map<string, AuditEntry[]> {
  return Map.groupBy(entries, ({ tenant }) => tenant.toWellFormed());
}

/** Entries as links behind `head`. @param key makes it an HMAC. */
export function chain(head: AuditHead, entries: readonly AuditEntry[], at: number, key?: string): StoredAudit[] {
  let { seq, hash: prev } = head;
  return entries.map((entry) => {
    const record = canonical({ v: 1, seq: ++seq, at, prev, ...entry });
    prev = auditHash(record, key);
    return { tenant: head.tenant, seq, record, hash: prev };
  });
}

/** Lone surrogates have no canonical form: they become U+FFFD. */
function canonical(record: AuditRecord): string {
  return canonicalize(wellFormed(record as unknown as JsonValue)) as string;
}

function wellFormed(value: JsonValue): JsonValue {
  if (typeof value === "string") return value.toWellFormed();
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(wellFormed);
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(entries.map(([key, item]) => [key.toWellFormed(), wellFormed(item)]));
}

const DOMAIN = "groundcrew.audit.v1\n";

export function auditHash(record: string, key?: string): string {
  const sink = key === undefined ? createHash("sha256") : createHmac("sha256", key);
  return sink.update(DOMAIN).update(record).digest("hex");
}
