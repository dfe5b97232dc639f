import type { DatabaseSync } from "node:sqlite";
import { GroundcrewError } from "../errors.ts";
import { millis, outOfOrder, type PreparedAppend } from "../persistence/prepare.ts";
import type { Append, Appended, Stops, TerminalStatus, Transition } from "../persistence/store.ts";
import type { Approvals } from "./approval.ts";
import type { Claims } from "./claim.ts";
import type { Inbox } from "./inbox.ts";
import type { Journal } from "./journal.ts";
import type { Leases } from "./lease.ts";
import { type RunRecord, row, type Transaction } from "./row.ts";

/** A run that is open and held by the worker that writes. */
interface Held extends RunRecord {
  head: number;
}

/** The fenced write. */
export function openAppend(db: DatabaseSync, leases: Leases, claims: Claims, inbox: Inbox, journal: Journal, approvals: Approvals) {
  const head = "(select coalesce(max(last), 0) from events where run = r.n)";
  const fence = "r.id = ? and r.epoch = ? and r.worker = ?";
  const insert = db.prepare(`insert into events (run, last, data) select r.n, ?, ? from runs r where r.n = ? and ${fence} and ${head} = ?`);
  const hold = db.prepare(`select r.*, ${head} as head from runs r where ${fence}`);
  const park = db.prepare(
    "update runs set status = 'parked', reason = ?2, due_at = ?3, timed = ?4, worker = null, changed_at = ?5 where n = ?1",
  );
  const queue = db.prepare("update runs set status = 'queued', due_at = ?2, timed = 0, worker = null, changed_at = ?2 where n = ?1");
  const finish = db.prepare(
    "update runs set status = ?2, due_at = null, timed = 0, worker = null, changed_at = ?3, finished_at = ?3 where n = ?1",
  );
  const touch = db.prepare("update sessions set active_at = ? where n = ?");
  const keepState = db.prepare("update sessions set state = ? where n = ?");
  const nextTurn = db.prepare(
    "select n, id, status, due_at, start_at from runs where session = ? and finished_at is null order by n limit 1",
  );
  const release = db.prepare("update runs set due_at = ?2, timed = ?3 where n = ?1");

  function mustHold({ write, first, last }: PreparedAppend): Held {
    const run = row<Held>(hold, write.run, write.epoch, write.worker);
    if (!run) {
      throw new GroundcrewError("SUPERSEDED", `Run ${write.run} is no longer held by worker ${write.worker} at epoch ${write.epoch}.`, {
        run: write.run,
      });
    }
    if (last > 0 && first !== run.head + 1) {
      throw outOfOrder(write.run, `events ${first} to ${last} do not follow event ${run.head}`);
    }
    return run;
  }

  /** Chunks behind an older event, or with a gap, would be missed by a reader that is further on. */
  function chunksMustFollow({ write, last, chunks }: PreparedAppend, run: Held): void {
    const head = Math.max(run.head, last);
    for (const { after, first } of chunks) {
      const before = after === run.head ? journal.lastChunk(run.n, after) : 0; // behind an event of this very write there is none
      if (after < run.head || after > head || first !== before + 1) {
        throw outOfOrder(write.run, `chunk ${after}.${first} does not follow ${after}.${before} below event ${head}`);
      }
    }
  }

  function move(tx: Transaction, run: Held, next: Transition, sessionState: string | undefined, signalled: boolean): void {
    if (next.to === "queued" || (next.to === "parked" && signalled)) {
      queue.run(run.n, tx.now);
      tx.due.add(run.id);
    } else if (next.to === "parked") {
      const dueAt = next.dueAt === null ? null : millis(next.dueAt, "dueAt");
      const isTimed = dueAt !== null && dueAt > tx.now;
      park.run(run.n, next.reason, dueAt, Number(isTimed), tx.now);
      if (dueAt !== null && !isTimed) tx.due.add(run.id);
    } else {
      end(tx, run, next.to, next.stops);
      if (run.session !== null && sessionState !== undefined) keepState.run(sessionState, run.session);
    }
  }

  function end(tx: Transaction, run: Held, status: TerminalStatus, stops: Stops | undefined): void {
    finish.run(run.n, status, tx.now);
    tx.ended.add(run.id);
    inbox.drop(run.n);
    if (run.session !== null) {
      touch.run(tx.now, run.session);
      releaseTurn(tx, run.session);
    }
    for (const child of stops?.children ?? []) {
      inbox.tell(tx, { id: `cancel:${run.id}`, run: child, kind: "cancel", name: "cancel", value: stops?.why ?? "" });
    }
    if (run.parent !== null) {
      const value = { run: run.id, status };
      inbox.tell(tx, { id: `child:${run.id}`, run: run.parent, kind: "child", name: run.parent_step ?? "", value });
    }
  }

  function releaseTurn(tx: Transaction, session: number): void {
    const turn = row<RunRecord & { start_at: number }>(nextTurn, session);
    if (turn?.status !== "queued" || turn.due_at !== null) return;
    const isTimed = turn.start_at > tx.now;
    release.run(turn.n, Math.max(turn.start_at, tx.now), Number(isTimed));
    if (!isTimed) tx.due.add(turn.id);
    tx.changed.add(turn.id);
  }

  return (tx: Transaction, prepared: PreparedAppend): Appended => {
    const { write, first, last, data } = prepared;
    leases.mustHold(tx, write.worker);

    const n = claims.numberOf(write.run);
    if (n !== null && isPlain(write)) {
      const { changes } = insert.run(last, data, n, write.run, write.epoch, write.worker, first - 1);
      if (changes === 0) throw mustHold(prepared); // which says why
      tx.changed.add(write.run);
      return "written";
    }

    const run = mustHold(prepared);
    chunksMustFollow(prepared, run);
    const waiting = write.next ? inbox.waiting(run.n).filter(({ id }) => !write.consumed.includes(id) && !write.seen?.includes(id)) : [];
    const mustAnswer = write.next?.to === "succeeded" || write.next?.to === "failed";
    if (mustAnswer && waiting.some((signal) => signal.kind === "message")) return "signalled";

    if (last > 0) journal.events(run.n, last, data);
    for (const chunks of prepared.chunks) journal.chunks(run.n, chunks);
    journal.blobs(run.n, write.blobs);
    inbox.consume(run.n, write.consumed);
    if (write.aside) approvals.aside(tx, write.aside);
    if (write.next) move(tx, run, write.next, prepared.sessionState, waiting.length > 0);
    tx.changed.add(write.run);
    return "written";
  };
}

/** Only events: the write of nearly every step, and one statement. */
function isPlain({ events, chunks, blobs, consumed, next, aside }: Append): boolean {
  return events.length > 0 && chunks.length === 0 && blobs.length === 0 && consumed.length === 0 && !next && !aside;
}
