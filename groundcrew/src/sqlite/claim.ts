/**
 * Which runs a worker takes up. Behind the write lock nothing changes meanwhile, so tenants simply take turns, one run each, and
 * what that costs does not depend on how many runs are waiting.
 */
import type { DatabaseSync } from "node:sqlite";
import { MAX_PASSED_BY, MAX_PROMOTED } from "../limits.ts";
import { keptForLate, use } from "../persistence/share.ts";
import type { Claim, Quotas } from "../persistence/store.ts";
import type { Inbox } from "./inbox.ts";
import type { Leases } from "./lease.ts";
import { openQuotas, type Rooms } from "./quota.ts";
import { type RunRecord, row, rows, selectRun, type Transaction, toRunRow } from "./row.ts";

/** A run to be taken up. */
interface Ready extends Record<string, string | number | null> {
  n: number;
  agent: string;
  tenant: string;
  epoch: number;
  /** Who held it and did not hand it back. */
  before: string | null;
}

/** One that is only to be ended. */
interface Late extends Ready {
  id: string;
  end_by: number;
}

/** Agents with room, as JSON lists of names. */
interface Lanes {
  open: string;
  /** Those of them whose rate lets new runs begin, and the others. */
  fresh: string;
  spent: string;
}

/** Some hundred bytes each; more than any worker holds. */
const MAX_KNOWN_NUMBERS = 10_000;

const READY = "due_at is not null and timed = 0";
const RESUMED = `${READY} and epoch > 0`;

export type Claims = ReturnType<typeof openClaims>;

export function openClaims(db: DatabaseSync, leases: Leases, inbox: Inbox) {
  const openRooms = openQuotas(db);
  const promote = db.prepare(
    "update runs set timed = 0 where n in (select n from runs where agent = ? and due_at <= ? and timed = 1 order by due_at limit ?)",
  );
  const firstTimed = db.prepare("select min(due_at) as at from runs where agent = ? and due_at is not null and timed = 1");

  const firstLate = db.prepare(
    `select n, id, agent, tenant, epoch, worker as before, end_by from runs where agent = ? and ${READY} and end_by <= ? order by end_by limit ?`,
  );

  const tenantOf = (where: string) => `(select min(tenant) from runs where agent = a.value and tenant >= ?3 and ${where})`;
  const nextTenant = db.prepare(`select min(tenant) as tenant from (
    select ${tenantOf(READY)} as tenant from json_each(?1) a union all select ${tenantOf(RESUMED)} from json_each(?2) a)`);
  const firstOf = (where: string) =>
    `(select n from runs where agent = a.value and tenant = ?3 and ${where} order by priority, due_at, n limit 1)`;
  const nextRun = db.prepare(`select r.n, r.agent, r.tenant, r.epoch, r.worker as before from (
    select ${firstOf(READY)} as n from json_each(?1) a union all select ${firstOf(RESUMED)} from json_each(?2) a) f
    cross join runs r on r.n = f.n order by r.priority, r.due_at, r.n limit 1`);

  const take = db.prepare(
    "update runs set status = 'running', reason = null, due_at = null, timed = 0, worker = ?2, epoch = epoch + 1, changed_at = ?3 where n = ?1",
  );
  const get = db.prepare(`${selectRun} where r.n = ?`);

  /** Row numbers of runs claimed here, for their many writes. Only a short cut: who uses it compares the id. */
  const numbers = new Map<string, number>();
  /** The tenant whose turn was the last: the next claim goes on behind it. */
  let last = "";
  let isOdd = false;

  /** Runs whose time has come take their turn with the others from now on. */
  function promoteTimed(tx: Transaction, agents: readonly string[]): void {
    const each = Math.ceil(MAX_PROMOTED / Math.max(1, agents.length));
    for (const agent of agents) promote.run(agent, tx.now, each);
  }

  /** Runs that a worker is only to end, the longest overdue first. */
  function lateOf(tx: Transaction, agents: readonly string[], limit: number): Late[] {
    const late = agents.flatMap((agent) => rows<Late>(firstLate, agent, tx.now, limit));
    return late.sort((a, b) => a.end_by - b.end_by).slice(0, limit);
  }

  /** Tenants that wait, each once, from the one behind the last turn around to it: one step in the index each. */
  function* turns(lanes: () => Lanes): Generator<string> {
    const seen = new Set<string>();
    const find = (from: string) => row<{ tenant: string | null }>(nextTenant, lanes().fresh, lanes().spent, from)?.tenant ?? null;
    for (;;) {
      const tenant = find(behind(last)) ?? find("");
      if (tenant === null || seen.has(tenant)) return;
      seen.add(tenant);
      last = tenant;
      yield tenant;
    }
  }

  function nextOf(tenant: string, { open, fresh, spent }: Lanes, rooms: Rooms): Ready | undefined {
    const room = rooms.of("tenant", tenant);
    if (room && room.places < 1) return undefined;
    return room && room.starts < 1 ? row<Ready>(nextRun, "[]", open, tenant) : row<Ready>(nextRun, fresh, spent, tenant);
  }

  function takeUp(tx: Transaction, worker: string, { n, before }: Ready): Claim {
    take.run(n, worker, tx.now);
    const run = toRunRow(row<RunRecord>(get, n) as RunRecord);
    if (numbers.size >= MAX_KNOWN_NUMBERS) numbers.clear();
    numbers.set(run.id, n);
    tx.changed.add(run.id);
    tx.due.delete(run.id);
    return { run, epoch: run.epoch, takeover: before !== null, signals: inbox.ofRun(n) };
  }

  /** Tenants take turns, within the quotas. */
  function claimInTurn(tx: Transaction, worker: string, agents: readonly string[], limit: number, quotas: Quotas | undefined): Claim[] {
    const claims: Claim[] = [];
    if (limit === 0) return claims;
    const rooms = openRooms(tx, quotas);
    let lanes = lanesOf(agents, rooms);
    const serve = (tenant: string): boolean => {
      const next = nextOf(tenant, lanes, rooms);
      if (!next) return false;
      claims.push(takeUp(tx, worker, next));
      if (quotas) {
        use({ ...next, isNew: next.epoch === 0 }, rooms.of);
        lanes = lanesOf(agents, rooms);
      }
      last = tenant;
      return true;
    };

    let line: string[] = [];
    let passedBy = 0;
    for (const tenant of turns(() => lanes)) {
      if (serve(tenant)) line.push(tenant);
      else passedBy++;
      if (claims.length >= limit || passedBy >= MAX_PASSED_BY) break;
    }
    while (line.length > 0 && claims.length < limit) line = line.filter((tenant) => claims.length < limit && serve(tenant));
    rooms.close();
    return claims;
  }

  return {
    claim(tx: Transaction, worker: string, agents: readonly string[], limit: number, quotas: Quotas | undefined): Claim[] {
      leases.mustHold(tx, worker);
      leases.reap(tx, worker);
      promoteTimed(tx, agents);
      const late = quotas ? lateOf(tx, agents, limit) : []; // without quotas nothing holds them back
      if (late.length > 0) isOdd = !isOdd;
      const claims = claimInTurn(tx, worker, agents, limit - keptForLate(late.length, limit, isOdd), quotas);
      const taken = new Set(claims.map(({ run }) => run.id));
      const left = late.filter(({ id }) => !taken.has(id)).slice(0, limit - claims.length);
      return [...claims, ...left.map((one) => takeUp(tx, worker, one))];
    },

    /** The row number of a run that was claimed here, or null. */
    numberOf: (run: string): number | null => numbers.get(run) ?? null,

    nextDue(agents: readonly string[]): number | null {
      const times = agents.flatMap((agent) => row<{ at: number | null }>(firstTimed, agent)?.at ?? []);
      return times.length === 0 ? null : Math.min(...times);
    },
  };
}

function lanesOf(agents: readonly string[], rooms: Rooms): Lanes {
  const open = agents.filter((agent) => (rooms.of("agent", agent)?.places ?? 1) >= 1);
  const isSpent = (agent: string) => (rooms.of("agent", agent)?.starts ?? 1) < 1;
  return {
    open: JSON.stringify(open),
    fresh: JSON.stringify(open.filter((agent) => !isSpent(agent))),
    spent: JSON.stringify(open.filter(isSpent)),
  };
}

/** The next text in the order of SQLite. */
function behind(tenant: string): string {
  return `${tenant}\0`;
}
