/**
 * Moves a whole store into another one. What is there is compared first, then the rest is copied, then everything is read again
 * on both sides. Both are read in the same order and pages are written whole, so an interrupted copy is always a beginning of
 * its source, and running it again goes on where it ended.
 */
import { createHash } from "node:crypto";
import { GroundcrewError } from "../errors.ts";
import { DUMP_PAGE_UNITS } from "../limits.ts";
import { type StoredUnit, unitBytes, unitHash, unitName } from "./dump.ts";
import type { Store } from "./store.ts";

export interface Counts {
  runs: number;
  sessions: number;
  blobs: number;
  /** Rows of journals: one is one write. */
  events: number;
  chunks: number;
  signals: number;
  starts: number;
  approvals: number;
  /** Records of the audit log. */
  audit: number;
  deliveries: number;
  bytes: number;
}

export interface CopyProgress extends Counts {
  phase: "comparing" | "copying" | "verifying";
}

export interface CopyReport extends Counts {
  /** Runs that an earlier copy had brought already. */
  resumed: number;
  /** SHA-256 over the hashes of all pieces, the same on both sides. */
  hash: string;
}

/**
 * @param tell is called after each page.
 * @throws GroundcrewError `STORE_BUSY` while a worker lives on either side, `STORE_DIFFERS` when the target is not a copy of the source
 */
export async function copyStore(from: Store, to: Store, tell: (progress: CopyProgress) => void): Promise<CopyReport> {
  const before = await compare(from, to, (counts) => tell({ phase: "comparing", ...counts }));
  if (!before.isWhole) await copy(from, before.after, to, before.counts, tell);

  const { isWhole, lacks, counts, hash } = await compare(from, to, (counts) => tell({ phase: "verifying", ...counts }));
  if (!isWhole) throw changed(`${to.location} lacks ${lacks && unitName(lacks)}`, lacks);
  return { ...counts, resumed: before.counts.runs, hash };
}

/** From a page of the source on, to its end. */
async function copy(from: Store, after: string | null, to: Store, begun: Counts, tell: (progress: CopyProgress) => void): Promise<void> {
  const counts = { ...begun };
  for (let next = after, isLast = false; !isLast; ) {
    const page = await from.dump(next, DUMP_PAGE_UNITS);
    await to.load(page.units);
    for (const unit of page.units) count(counts, unit);
    tell({ phase: "copying", ...counts });
    isLast = page.next === null;
    next = page.next;
  }
}

interface Comparison {
  /** Of what both have. */
  counts: Counts;
  hash: string;
  isWhole: boolean;
  /** The first piece that only the source has, and the place of the page that holds it. */
  lacks: StoredUnit | undefined;
  after: string | null;
}

const NOTHING: Counts = {
  ...{ runs: 0, sessions: 0, blobs: 0, events: 0, chunks: 0, signals: 0, starts: 0 },
  ...{ approvals: 0, audit: 0, deliveries: 0, bytes: 0 },
};

/** @throws GroundcrewError `STORE_DIFFERS` when the target is no beginning of the source. */
async function compare(from: Store, to: Store, tell: (counts: Counts) => void): Promise<Comparison> {
  const counts: Counts = { ...NOTHING };
  const hash = createHash("sha256");
  const [source, target] = [pieces(from, () => tell(counts)), pieces(to)];
  for (;;) {
    const there = (await target.next()).value;
    const here = (await source.next()).value;
    if (!there) return { counts, hash: hash.digest("hex"), isWhole: !here, lacks: here?.unit, after: here?.page ?? null };
    const hashed = unitHash(there.unit);
    if (!here || unitHash(here.unit) !== hashed) throw differs(from, here?.unit, to, there.unit);
    hash.update(hashed);
    count(counts, here.unit);
  }
}

interface Piece {
  unit: StoredUnit;
  /** What gives its page again. */
  page: string | null;
}

async function* pieces(store: Store, afterPage: () => void = () => {}): AsyncGenerator<Piece, undefined> {
  for (let page: string | null = null, isLast = false; !isLast; ) {
    const { units, next } = await store.dump(page, DUMP_PAGE_UNITS);
    for (const unit of units) yield { unit, page };
    afterPage();
    isLast = next === null;
    page = next;
  }
}

function count(counts: Counts, unit: StoredUnit): void {
  counts.bytes += unitBytes(unit);
  if (unit.kind === "session") counts.sessions++;
  if (unit.kind === "blob") counts.blobs++;
  if (unit.kind === "audit") counts.audit++;
  if (unit.kind === "delivery") counts.deliveries++;
  if (unit.kind !== "run") return;
  counts.runs++;
  for (const part of ["events", "chunks", "signals", "starts", "approvals"] as const) counts[part] += unit[part]?.length ?? 0;
}

function differs(from: Store, here: StoredUnit | undefined, to: Store, there: StoredUnit): GroundcrewError {
  if (here && unitName(here) === unitName(there)) {
    return changed(`${unitName(there)} is another in ${to.location} than in ${from.location}`, there);
  }
  const instead = here ? `has ${unitName(here)}` : "has nothing more";
  return changed(`${to.location} holds ${unitName(there)} where ${from.location} ${instead}`, there);
}

function changed(what: string, unit: StoredUnit | undefined): GroundcrewError {
  const run = unit?.kind === "run" ? unit.id : unit?.kind === "blob" ? unit.run : undefined;
  return new GroundcrewError("STORE_DIFFERS", `The target is not a copy of the source: ${what}.`, {
    ...(run !== undefined && { run }),
    fix: "Stop every process that uses either store, empty the target, and copy again.",
  });
}
