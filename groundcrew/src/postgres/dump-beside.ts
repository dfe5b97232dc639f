/** What is no run's, in pieces: by kind, key and number. Relies on `audit_pkey` and `deliveries_id`. */
import { DUMP_PAGE_BYTES } from "../limits.ts";
import {
  BESIDE,
  behind,
  type DumpPage,
  FIRST,
  FIRST_SESSION,
  headless,
  type Place,
  placeOf,
  type StoredBeside,
  type StoredUnit,
  unitBytes,
} from "../persistence/dump.ts";
import { auditHeads, auditPage } from "./audit.ts";
import { type Sql, unescaped } from "./row.ts";
import { allStops } from "./stop.ts";

type Last = typeof FIRST;
type Queries = Pick<Sql, "query">;
type StoredDelivery = Omit<Extract<StoredBeside, { kind: "delivery" }>, "kind">;

/** Read at once: such rows are small. */
const AT_ONCE = 100;

/** @returns null when there is nothing more of it. */
export async function besidePage(
  sql: Queries,
  from: NonNullable<Place["beside"]>,
  limit: number,
  location: string,
): Promise<DumpPage | null> {
  const units: StoredUnit[] = [];
  let bytes = 0;
  for await (const unit of unitsAfter(sql, from, location)) {
    units.push(unit);
    bytes += unitBytes(unit);
    if (units.length >= limit || bytes >= DUMP_PAGE_BYTES) return { units, next: JSON.stringify(placeOf(unit)) };
  }
  return units.length === 0 ? null : { units, next: JSON.stringify(FIRST_SESSION) };
}

async function* unitsAfter(sql: Queries, from: NonNullable<Place["beside"]>, location: string): AsyncGenerator<StoredBeside> {
  for (const kind of BESIDE.slice(BESIDE.indexOf(from.kind))) {
    const last = kind === from.kind ? from : FIRST;
    if (kind === "audit") yield* recordsAfter(sql, last, location);
    else if (kind === "delivery") yield* deliveriesAfter(sql, last);
    else if (kind === "head") yield* behind(await auditHeads(sql), last, ({ tenant }) => tenant).map((head) => ({ kind, ...head }));
    else yield* behind(await allStops(sql), last, ({ agent }) => agent).map((stop) => ({ kind, ...stop }));
  }
}

async function* recordsAfter(sql: Queries, last: Last, location: string): AsyncGenerator<StoredBeside> {
  if (last.seq < 0) await mustHaveHeads(sql, location);
  for (const { tenant } of behind(await auditHeads(sql), { ...last, seq: -1 }, (head) => head.tenant)) {
    let after = tenant === last.key ? last.seq : 0;
    for (let count = AT_ONCE; count === AT_ONCE; ) {
      const records = await auditPage(sql, tenant, after, AT_ONCE);
      yield* records.map((record) => ({ kind: "audit" as const, ...record }));
      count = records.length;
      after = records.at(-1)?.seq ?? after;
    }
  }
}

async function mustHaveHeads(sql: Queries, location: string): Promise<void> {
  const [lost] = await sql.query<{ tenant: string }>(
    `select a.tenant from groundcrew.audit a where not exists (
       select from groundcrew.audit_heads h where h.shard = a.shard and h.tenant = a.tenant) limit 1`,
  );
  if (lost) throw headless(unescaped(lost.tenant), location);
}

async function* deliveriesAfter(sql: Queries, { key, seq }: Last): AsyncGenerator<StoredBeside> {
  let after = key;
  let isFirst = seq < 0;
  for (let count = AT_ONCE; count === AT_ONCE; ) {
    const found = await sql.query<StoredDelivery>(
      `select id, run, data, created_at as "createdAt", due_at as "dueAt", failures, state, why, ended_at as "endedAt"
       from groundcrew.deliveries where id ${isFirst ? ">=" : ">"} $1 order by id limit $2`,
      [after, AT_ONCE],
    );
    const text = (value: string | null) => (value === null ? null : unescaped(value));
    yield* found.map((record) => ({ kind: "delivery" as const, ...record, run: text(record.run), why: text(record.why) }));
    count = found.length;
    after = found.at(-1)?.id ?? after;
    isFirst = false;
  }
}
