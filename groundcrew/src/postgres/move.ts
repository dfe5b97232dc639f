/** Where runs go when their worker gives them up: parked, back into the queue, or to their end with all that hangs on it. */
import { millis, type PreparedAppend } from "../persistence/prepare.ts";
import type { Append, RunStatus, TerminalStatus, Transition } from "../persistence/store.ts";
import { type NewSignal, stopAll, tell } from "./inbox.ts";
import { column, rowsOf, type Transaction, unescaped } from "./row.ts";

/** A run as the appends of this batch find it, one after the other. */
export interface Held {
  shard: number;
  id: string;
  epoch: number;
  worker: string | null;
  tenant: string;
  session: string | null;
  parent: string | null;
  parent_step: string | null;
  streamed: boolean;
  head: number;
  /** The last chunk behind the head. */
  chunk: number;
}

/** An append that is to be written, with its run. */
export interface Accepted {
  run: Held;
  append: PreparedAppend;
  /** Where its run goes, if anywhere. */
  next: Transition | undefined;
}

const MOVED = {
  shard: "smallint",
  id: "text",
  epoch: "int",
  worker: "text",
  status: "text",
  reason: "text",
  due_at: "bigint",
  timed: "boolean",
  finished_at: "bigint",
};

interface Moved {
  shard: number;
  id: string;
  epoch: number;
  status: RunStatus;
  reason: string | null;
  due_at: number | null;
  timed: boolean;
  finished_at: number | null;
}

interface Ended {
  run: Held;
  status: TerminalStatus;
  sessionState: string | undefined;
  stops: readonly NewSignal[];
}

/** @returns whether all of them were still where they were to be. */
export async function move(tx: Transaction, accepted: readonly Accepted[]): Promise<boolean> {
  const moving = accepted.filter(({ next }) => next !== undefined);
  if (moving.length === 0) return true;
  const moved = moving.map((one) => placeOf(one, tx.now));
  if (moved.some(({ due_at, timed }) => due_at !== null && !timed)) tx.due = true;
  const written = await tx.write(
    `update groundcrew.runs r
     set status = a.status, reason = a.reason, due_at = a.due_at, timed = a.timed, worker = null, changed_at = $10, finished_at = a.finished_at
     from ${rowsOf(tx, MOVED)}
     where r.shard = a.shard and r.id = a.id and r.epoch = a.epoch and r.worker is not distinct from a.worker`,
    [
      column(moved, "shard"),
      column(moved, "id"),
      column(moved, "epoch"),
      moving.map(({ append }) => append.write.worker),
      column(moved, "status"),
      column(moved, "reason"),
      column(moved, "due_at"),
      column(moved, "timed"),
      column(moved, "finished_at"),
      tx.now,
    ],
  );
  return written === moved.length;
}

/** What hangs on the ends among them: the next turn of the session, the children, the parent. */
export async function settleEnds(tx: Transaction, accepted: readonly Accepted[]): Promise<void> {
  const ended = accepted.flatMap(({ run, next, append }): Ended[] =>
    next && next.to !== "queued" && next.to !== "parked"
      ? [{ run, status: next.to, sessionState: append.sessionState, stops: stopsOf(append.write) }]
      : [],
  );
  await end(tx, ended);
}

/** What is said to the children of a run that ends. */
export function stopsOf({ run, next }: Append): NewSignal[] {
  const stops = next && "stops" in next ? next.stops : undefined;
  if (!stops) return [];
  return stops.children.map((child) => ({ id: `cancel:${run}`, run: child, kind: "cancel", name: "cancel", value: stops.why }));
}

function placeOf({ run, next }: Accepted, now: number): Moved {
  const place = { shard: run.shard, id: run.id, epoch: run.epoch, reason: null, due_at: null, timed: false, finished_at: null };
  if (next?.to === "parked") {
    const dueAt = next.dueAt === null ? null : millis(next.dueAt, "dueAt");
    return { ...place, status: "parked", reason: next.reason, due_at: dueAt, timed: dueAt !== null && dueAt > now };
  }
  if (next === undefined || next.to === "queued") return { ...place, status: "queued", due_at: now };
  return { ...place, status: next.to, finished_at: now };
}

async function end(tx: Transaction, ended: readonly Ended[]): Promise<void> {
  if (ended.length === 0) return;
  const runs = ended.map(({ run }) => run);
  for (const { id } of runs) tx.ended.add(unescaped(id));
  await Promise.all(ended.map((one) => passTurnOn(tx, one)));
  await stopAll(
    tx,
    ended.flatMap(({ stops }) => stops),
  );
  for (const { run, status } of ended) {
    if (run.parent === null) continue;
    const value = { run: unescaped(run.id), status };
    const name = unescaped(run.parent_step ?? "");
    await tell(tx, { id: `child:${value.run}`, run: unescaped(run.parent), kind: "child", name, value });
  }
}

/** The session's row is held since before the run's: a turn that is being added now is seen here, or sees that this one ended. */
async function passTurnOn(tx: Transaction, { run, sessionState }: Ended): Promise<void> {
  if (run.session === null) return;
  const session = [run.shard, run.tenant, run.session];
  const [, released] = await Promise.all([
    tx.query("update groundcrew.sessions set active_at = $4, state = coalesce($5, state) where shard = $1 and tenant = $2 and id = $3", [
      ...session,
      tx.now,
      sessionState ?? null,
    ]),
    tx.query<{ id: string }>(
      `update groundcrew.runs r set due_at = greatest(r.start_at, $4), timed = r.start_at > $4
       from (select id from groundcrew.runs
             where shard = $1 and tenant = $2 and session = $3 and finished_at is null order by turn limit 1) first
       where r.shard = $1 and r.id = first.id and r.status = 'queued' and r.due_at is null
       returning r.id`,
      [...session, tx.now],
    ),
  ]);
  for (const { id } of released) {
    tx.changed.add(unescaped(id));
    tx.due = true;
  }
}
