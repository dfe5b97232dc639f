/**
 * Whether a tenant's audit log is what was written: read from its beginning, link by link, with the same few kilobytes of memory for
 * a hundred records and for a hundred million. It names the first place that is wrong, and what seems to have been done there.
 *
 * A place where the chain breaks does not say by itself what broke it: a record that was put in, taken out or moved all look like "the
 * next one does not fit". What stands behind the break does, so the rest is read as evidence before a verdict is given.
 */
import { AUDIT_CLOCK_BACK_MS, AUDIT_TRAIL_LINKS } from "../limits.ts";
import { type AuditHead, type AuditRecord, auditHash, GENESIS, type StoredAudit } from "../persistence/audit.ts";

/**
 * `altered`: a record is not what it was. `missing`: some are left out. `inserted`: one was put in. `reordered`: one stands elsewhere.
 * `truncated`: its end is gone. `forged`: written without the key, or the whole log written anew. `clock`: the chain is whole, and a
 * record says an earlier time than the one before.
 */
export type AuditDamage = "altered" | "missing" | "inserted" | "reordered" | "truncated" | "forged" | "clock";

export type AuditVerdict =
  | { ok: true; records: number /** Keep it elsewhere; null for an empty log. */; head: AuditHead | null }
  | {
      ok: false;
      /** The first place that is wrong. */
      seq: number;
      kind: AuditDamage;
      why: string;
      /** What stands there, if it can be read. */
      record?: AuditRecord;
    };

export interface VerifyOptions {
  /** Whose log it is. Default: whose the first record says. */
  tenant?: string;
  /** Of a log that is HMAC. */
  key?: string;
  /** Where the store says that the chain ends, asked for when all records are read; null: it knows of no chain. Absent: nobody knows. */
  head?: () => AuditHead | null;
  /** A head that was kept elsewhere, from an earlier time. */
  kept?: Pick<AuditHead, "seq" | "hash">;
}

export async function verifyAudit(rows: AsyncIterable<StoredAudit>, options: VerifyOptions = {}): Promise<AuditVerdict> {
  const chain = new Chain(options);
  for await (const row of rows) chain.take(row);
  return chain.verdict();
}

/** A line of an exported file. One that cannot be read becomes a row that is no link of any chain. */
export function rowOfLine(line: string): StoredAudit {
  const unreadable = { tenant: "", seq: Number.NaN, record: line, hash: "" };
  try {
    const { tenant, seq, record, hash } = Object(JSON.parse(line)) as Record<string, unknown>;
    if (typeof tenant !== "string" || typeof seq !== "number" || typeof record !== "string" || typeof hash !== "string") return unreadable;
    return { tenant, seq, record, hash };
  } catch {
    return unreadable;
  }
}

/** A row with what its text says. */
interface Link {
  row: StoredAudit;
  /** Undefined where the text is no record. */
  record: AuditRecord | undefined;
  /** Whether the hash is that of the text. */
  isHashed: boolean;
}

class Chain {
  readonly #options: VerifyOptions;
  /** Hashes of the last links, by the place that they stand at. */
  readonly #trail = new Map<string, number>([[GENESIS, 0]]);
  #tenant: string | undefined;
  #last: Link | undefined;
  #seq = 0;
  #hash = GENESIS;
  #clock: Broken | undefined;
  #forged: Broken | undefined;
  #break: Break | undefined;

  constructor(options: VerifyOptions) {
    this.#options = options;
    this.#tenant = options.tenant;
  }

  take(row: StoredAudit): void {
    const link = this.#read(row);
    if (this.#break) {
      this.#break.see(link);
      return;
    }
    this.#tenant ??= link.record?.tenant;
    if (this.#isNext(link)) this.#accept(link);
    else this.#break = new Break(link, { tenant: this.#tenant, seq: this.#seq + 1, prev: this.#hash });
  }

  verdict(): AuditVerdict {
    const head = this.#options.head?.();
    const found = this.#break ? this.#judge(this.#break, head) : (this.#forged ?? this.#judgeEnd(head) ?? this.#clock);
    if (found) return { ok: false, ...found };
    const end = this.#seq === 0 ? null : { tenant: this.#tenant ?? "", seq: this.#seq, hash: this.#hash };
    return { ok: true, records: this.#seq, head: end };
  }

  #read(row: StoredAudit): Link {
    const text = String(row.record); // who writes the table directly may leave anything there
    return { row, record: recordOf(text), isHashed: auditHash(text, this.#options.key) === row.hash };
  }

  #isNext({ row, record, isHashed }: Link): boolean {
    const seq = this.#seq + 1;
    return (
      isHashed &&
      this.#isOurs(record) &&
      row.tenant === this.#tenant &&
      row.seq === seq &&
      record?.seq === seq &&
      record.prev === this.#hash
    );
  }

  #isOurs(record: AuditRecord | undefined): boolean {
    return record !== undefined && record.tenant === this.#tenant;
  }

  #accept(link: Link): void {
    const { row, record } = link;
    const before = this.#last?.record?.at;
    if (!this.#clock && record && before !== undefined && record.at < before - AUDIT_CLOCK_BACK_MS) {
      const why = `it says ${time(record.at)}, and the one before ${time(before)}; the chain itself is whole`;
      this.#clock = broken(row.seq, "clock", why, record);
    }
    this.#last = link;
    this.#seq = row.seq;
    this.#hash = row.hash;
    this.#trail.set(row.hash, row.seq);
    if (this.#trail.size > AUDIT_TRAIL_LINKS) this.#trail.delete(this.#trail.keys().next().value ?? "");
    const { kept } = this.#options;
    if (kept?.seq === row.seq && kept.hash !== row.hash) this.#forged = broken(row.seq, "forged", REWRITTEN, record);
  }

  /** All links fit. Whether they are all there, only somebody else can tell. */
  #judgeEnd(head: AuditHead | null | undefined): Broken | undefined {
    const [seq, hash] = [this.#seq, this.#hash];
    const { kept } = this.#options;
    if (kept && kept.seq > seq)
      return broken(seq + 1, "truncated", `the log ends at ${seq}, and the head that was kept is of record ${kept.seq}`);
    if (head === undefined) return undefined;
    if (head === null) return seq === 0 ? undefined : broken(seq, "missing", "the store has records, and has lost where their chain ends");
    if (head.seq > seq) return broken(seq + 1, "truncated", `the log ends at ${seq}, and its head is record ${head.seq}`);
    if (head.seq < seq) return broken(head.seq + 1, "inserted", `the log goes on to ${seq}, and its head is record ${head.seq}`);
    return head.hash === hash ? undefined : broken(seq, "altered", "the head of the log is the hash of another record", this.#last?.record);
  }

  /** What was done where the chain breaks. */
  #judge(at: Break, head: AuditHead | null | undefined): Broken {
    const { link, place } = at;
    const { seq } = place;
    const { row, record, isHashed } = link;
    const here = (kind: AuditDamage, why: string) => broken(seq, kind, why, record);
    if (!isHashed && this.#options.key !== undefined && auditHash(String(row.record)) === row.hash) {
      return here("forged", "it was hashed without the key: before there was one, or by somebody who does not have it");
    }
    const isBeyond = head !== undefined && seq > (head?.seq ?? 0);
    if (isHashed && this.#isOurs(record) && record) return this.#judgeRecord(at, record, head, isBeyond);
    if (at.hasRightful || isBeyond) return here("inserted", record ? "it does not belong to this chain" : UNKNOWN);
    if (record && record.seq > seq && row.seq > seq) return here("missing", gap(seq, record.seq));
    if (isHashed) return here("altered", record ? "it is of another tenant" : UNKNOWN);
    return here("altered", `its hash is not that of its text${at.isConfirmed && seq === 1 ? KEYED : ""}`);
  }

  /** It is whole in itself, and does not fit here. */
  #judgeRecord(at: Break, record: AuditRecord, head: AuditHead | null | undefined, isBeyond: boolean): Broken {
    const { seq, prev } = at.place;
    const { row } = at.link;
    const here = (kind: AuditDamage, why: string) => broken(seq, kind, why, record);
    if (at.hasRightful) {
      const isMoved = record.seq > seq && at.isRooted && !at.isRepeated;
      return isMoved
        ? here("reordered", `record ${record.seq} stands here, and record ${seq} behind it`)
        : here("inserted", "it does not belong here");
    }
    if (record.prev === prev) return here("altered", record.seq === seq ? columns(row, record) : `it says that it is record ${record.seq}`);
    if (this.#trail.has(row.hash)) return here("inserted", `it is record ${record.seq} once more`);
    const isConfirmed = at.isConfirmed || head?.hash === row.hash;
    const fork = this.#trail.get(record.prev);
    if (fork !== undefined && record.seq === fork + 1) {
      const isIntruder = !isConfirmed && head?.hash === this.#hash;
      return isIntruder
        ? here("inserted", `there is a record ${record.seq} already`)
        : broken(fork + 1, "inserted", "two records claim this place");
    }
    if (isBeyond) return here("inserted", "the log has ended before it");
    if (record.seq > seq) return here("missing", gap(seq, record.seq));
    if (record.seq < seq) return here("inserted", `it says that it is record ${record.seq}, and is another`);
    const isBefore = seq > 1 && (isConfirmed || (head === undefined && at.isLast));
    if (!isBefore) return here("altered", "it does not follow the record before it");
    return broken(seq - 1, "altered", "the record behind it follows another one", this.#last?.record);
  }
}

type Place = Pick<AuditRecord, "seq" | "prev"> & { tenant: string | undefined };

/** The first link that does not fit, and what the rest of the log says about it. */
class Break {
  readonly link: Link;
  /** What the rightful link says of itself. */
  readonly place: Place;
  /** Whether the rightful one stands somewhere behind. */
  hasRightful = false;
  /** Whether one behind it names this link as the one before. */
  isConfirmed = false;
  /** Whether the one that this link names as the one before it stands behind it. */
  isRooted = false;
  /** Whether this link stands there a second time. */
  isRepeated = false;
  isLast = true;

  constructor(link: Link, place: Place) {
    this.link = link;
    this.place = place;
  }

  see({ row, record, isHashed }: Link): void {
    const { tenant, seq, prev } = this.place;
    if (isHashed && record?.prev === prev && record.seq === seq && (tenant ?? record.tenant) === record.tenant) this.hasRightful = true;
    if (record?.prev === this.link.row.hash) this.isConfirmed = true;
    if (row.hash === this.link.record?.prev) this.isRooted = true;
    if (row.hash === this.link.row.hash) this.isRepeated = true;
    this.isLast = false;
  }
}

type Broken = Omit<Extract<AuditVerdict, { ok: false }>, "ok">;

const UNKNOWN = "it is no audit record that this release knows";
const REWRITTEN = "it is not the record that was here when the head was kept: it, or one before it, was written anew";
const KEYED = ", or the log is written with another key than the one that it was read with";

function broken(seq: number, kind: AuditDamage, why: string, record?: AuditRecord): Broken {
  return { seq, kind, why, ...(record && { record }) };
}

function gap(from: number, next: number): string {
  return next === from + 1 ? `record ${from} is left out` : `records ${from} to ${next - 1} are left out`;
}

function columns({ tenant }: StoredAudit, record: AuditRecord): string {
  return tenant === record.tenant ? "it is filed under another number" : "it is filed under another tenant";
}

function time(at: number): string {
  return new Date(at).toISOString();
}

function recordOf(text: string): AuditRecord | undefined {
  try {
    const record = Object(JSON.parse(text)) as Record<string, unknown>;
    const { v, seq, at, prev, tenant, action } = record;
    const isTime = typeof at === "number" && Math.abs(at) <= MAX_TIME_MS;
    const isRecord = v === 1 && Number.isSafeInteger(seq) && isTime && [prev, tenant, action].every((field) => typeof field === "string");
    return isRecord ? (record as unknown as AuditRecord) : undefined;
  } catch {
    return undefined;
  }
}

/** What a Date can hold. */
const MAX_TIME_MS = 8.64e15;
