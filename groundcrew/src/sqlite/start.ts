import type { DatabaseSync } from "node:sqlite";
import { GroundcrewError } from "../errors.ts";
import { MAX_QUEUED_TURNS } from "../limits.ts";
import { millis } from "../persistence/prepare.ts";
import { type Created, DEFAULT_PRIORITY, type NewRun } from "../persistence/store.ts";
import type { Inbox } from "./inbox.ts";
import type { Journal } from "./journal.ts";
import type { Leases } from "./lease.ts";
import { key, type RunRecord, row, rows, type SessionRecord, selectRun, type Transaction, toRunRow } from "./row.ts";

type SessionTurn = NonNullable<NewRun["session"]>;

/** How a run begins, alone or as a turn of a session. */
export function openStart(db: DatabaseSync, leases: Leases, inbox: Inbox, journal: Journal) {
  const holds = db.prepare("select 1 from runs where id = ? and epoch = ? and worker = ?");
  const started = db.prepare("select hash, run from starts where tenant = ? and agent = ? and key = ?");
  const remember = db.prepare("insert into starts (tenant, agent, key, hash, run) values (?, ?, ?, ?, ?)");
  const get = db.prepare(`${selectRun} where r.n = ?`);
  const exists = db.prepare("select 1 from runs where id = ?");
  const insertRun = db.prepare(`insert into runs
    (id, agent, status, due_at, timed, start_at, priority, tenant, user, roles, session, turn, parent, parent_step, key, created_at, changed_at, deadline,
      end_by)
    values (?1, ?2, 'queued', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?15, ?16, ?16) returning *`);
  const session = db.prepare("select * from sessions where tenant = ? and id = ?");
  const insertSession = db.prepare(`insert into sessions (id, agent, tenant, user, roles, turns, created_at, active_at)
    values (?1, ?2, ?3, ?4, ?5, 0, ?6, ?6)`);
  const countTurn = db.prepare("update sessions set turns = turns + 1, active_at = ? where n = ?");
  const openTurns = db.prepare("select n, id from runs where session = ? and finished_at is null order by n");

  /** @throws GroundcrewError `SUPERSEDED` */
  function mustHoldParent(tx: Transaction, { run, worker, epoch }: NonNullable<NewRun["parent"]>): void {
    leases.mustHold(tx, worker);
    if (holds.get(run, epoch, worker)) return;
    throw new GroundcrewError("SUPERSEDED", `Run ${run} is no longer held by worker ${worker} at epoch ${epoch}: it starts no child.`, {
      run,
    });
  }

  /** The run that the same key started before. */
  function startedBefore(run: NewRun): Created | null {
    if (!run.start) return null;
    const { tenant } = run.principal;
    const before = row<{ hash: string; run: number }>(started, tenant, run.agent, run.start.key);
    if (!before) return null;
    if (before.hash === run.start.hash) return { outcome: "existing", run: load(before.run) };
    throw new GroundcrewError(
      "START_CONFLICT",
      `The key ${JSON.stringify(run.start.key)} has started a run of ${run.agent} with another input.`,
      {
        value: run.start.key,
        fix: "Use a new key for a new request.",
      },
    );
  }

  function load(n: number) {
    return toRunRow(row<RunRecord>(get, n) as RunRecord);
  }

  /** @throws GroundcrewError `SESSION_NOT_FOUND` for a session of another agent or person: it shall not even be known to exist. */
  function findSession(run: NewRun, id: string): SessionRecord | undefined {
    const found = row<SessionRecord>(session, run.principal.tenant, id);
    if (found && (found.agent !== run.agent || found.user !== run.principal.user)) {
      throw new GroundcrewError("SESSION_NOT_FOUND", `There is no session ${JSON.stringify(id)} of this agent and user.`, { value: id });
    }
    return found;
  }

  function insert(tx: Transaction, run: NewRun, at: { session: number; turn: number } | null, waits: boolean): Created {
    const { principal, parent, start } = run;
    const timed = run.dueAt > tx.now ? 1 : 0;
    const inserted = row<RunRecord>(
      insertRun,
      run.id,
      run.agent,
      waits ? null : millis(run.dueAt, "dueAt"),
      waits ? 0 : timed,
      millis(run.dueAt, "dueAt"),
      run.priority ?? DEFAULT_PRIORITY,
      principal.tenant,
      principal.user,
      JSON.stringify(principal.roles),
      at?.session ?? null,
      at?.turn ?? null,
      parent?.run ?? null,
      parent?.step ?? null,
      start?.key ?? null,
      tx.now,
      millis(run.deadline, "deadline"),
    ) as RunRecord;
    const { n } = inserted;
    if (start) remember.run(principal.tenant, run.agent, start.key, start.hash, n);
    journal.begin(n, at ? run.events.map((event) => (event.type === "run.created" ? { ...event, turn: at.turn } : event)) : run.events);
    journal.blobs(n, run.blobs);
    tx.changed.add(run.id);
    if (!waits && !timed) tx.due.add(run.id);
    return { outcome: "created", run: toRunRow({ ...inserted, session_id: run.session?.id ?? null }) };
  }

  /** What a message does that comes while a turn is open. */
  function meet(tx: Transaction, run: NewRun, turn: SessionTurn, open: { n: number; id: string }): Created | null {
    if (turn.busy === "reject") {
      throw new GroundcrewError("SESSION_BUSY", `Run ${open.id} is still answering in session ${turn.id}.`, {
        run: open.id,
        retryAfterMs: 1_000,
      });
    }
    const from = run.principal.user;
    if (turn.busy === "interrupt") {
      inbox.put(tx, open.n, { id: `interrupt:${run.id}`, run: open.id, kind: "cancel", name: "cancel", value: INTERRUPTED, from });
    }
    if (turn.busy !== "steer" || inbox.isCancelled(open.n)) return null;
    inbox.mustHaveRoom(open.n, open.id);
    inbox.put(tx, open.n, { id: run.id, run: open.id, kind: "message", name: "message", value: turn.message, from });
    if (run.start) remember.run(run.principal.tenant, run.agent, run.start.key, run.start.hash, open.n);
    return { outcome: "steered", run: load(open.n) };
  }

  function takeTurn(tx: Transaction, run: NewRun, turn: SessionTurn): Created {
    const found = findSession(run, turn.id);
    const open = found ? rows<{ n: number; id: string }>(openTurns, found.n) : [];
    if (open.length > MAX_QUEUED_TURNS && turn.busy !== "steer") {
      throw new GroundcrewError("INBOX_FULL", `${MAX_QUEUED_TURNS} turns are waiting in session ${turn.id}.`, { retryAfterMs: 1_000 });
    }
    const steered = open[0] ? meet(tx, run, turn, open[0]) : null;
    if (steered) return steered;

    const { tenant, user, roles } = run.principal;
    const n = found?.n ?? Number(insertSession.run(turn.id, run.agent, tenant, user, JSON.stringify(roles), tx.now).lastInsertRowid);
    countTurn.run(tx.now, n);
    return insert(tx, run, { session: n, turn: (found?.turns ?? 0) + 1 }, open.length > 0);
  }

  return (tx: Transaction, run: NewRun): Created => {
    if (run.parent) mustHoldParent(tx, run.parent);
    const before = startedBefore(run);
    if (before) return before;
    if (exists.get(run.id)) throw new GroundcrewError("START_CONFLICT", `There is a run ${run.id} already.`, { run: run.id });
    return run.session ? takeTurn(tx, run, run.session) : insert(tx, run, null, false);
  };
}

const INTERRUPTED = "interrupted by a newer message";

/** Refuses what the tables would not hold as it was given. */
export function checkStart(run: NewRun): void {
  key(run.id, "run id");
  key(run.principal.tenant, "tenant");
  key(run.principal.user, "user");
  if (run.session) key(run.session.id, "session id");
  if (run.start) key(run.start.key, "start key");
  millis(run.dueAt, "dueAt");
  millis(run.deadline, "deadline");
}
