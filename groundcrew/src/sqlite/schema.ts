/**
 * The tables of the SQLite store, as numbered migrations that only go forward. One that has been released is never edited.
 *
 * The shape follows one measurement: with rows of a kilobyte a rowid table with a unique index takes three times the inserts
 * of a table clustered on its key (docs/decisions/0004-sqlite-journal.md). Hot tables therefore name their run by its row
 * number, and carry no foreign keys: `sweep.ts` is the only place that deletes. Each index ends with the row number, which is
 * the order of lists: a page of them is read without a sort.
 */
export const migrations: readonly string[] = [
  `
  create table workers (
    id          text not null primary key,
    host        text not null,
    pid         integer not null,
    started_at  text not null,
    lease_ms    integer not null,
    lease_until integer not null
  ) strict;

  create table sessions (
    n          integer primary key,
    id         text not null,
    agent      text not null,
    tenant     text not null,
    user       text not null,
    roles      text not null,
    state      text,
    turns      integer not null,
    created_at integer not null,
    active_at  integer not null,
    unique (id, tenant)
  ) strict;
  create index sessions_active on sessions (active_at);
  create index sessions_tenant on sessions (tenant, active_at);
  create index sessions_owner  on sessions (tenant, user, active_at);

  create table runs (
    n           integer primary key,
    id          text not null unique,
    agent       text not null,
    status      text not null,
    reason      text,
    due_at      integer,                     -- claimable from then on; null while only somebody else can move it
    timed       integer not null default 0,  -- whether due_at was still to come when it was set: a clock that jumps back
                                             -- must not make what is due wait
    start_at    integer not null,
    priority    integer not null,
    tenant      text not null,
    user        text not null,
    roles       text not null,
    session     integer,
    turn        integer,
    parent      text,
    parent_step text,
    key         text,
    worker      text,
    epoch       integer not null default 0,
    streamed    integer not null default 0,  -- whether it has chunks
    created_at  integer not null,
    changed_at  integer not null,
    finished_at integer,                     -- when it ended; put off by the sweep for a child whose parent is open
    deadline    integer not null,
    end_by      integer not null             -- no quota holds it back from then on: the deadline, or when it was cancelled
  ) strict;
  -- Ready to be claimed: a step in the index from one tenant to the next, whatever each of them has waiting. The runs that have
  -- been at work before stand in an index of their own, where a rate that lets nothing new begin still finds them.
  create index runs_ready    on runs (agent, tenant, priority, due_at) where due_at is not null and timed = 0;
  create index runs_resumed  on runs (agent, tenant, priority, due_at) where due_at is not null and timed = 0 and epoch > 0;
  create index runs_late     on runs (agent, end_by)        where due_at is not null and timed = 0;
  create index runs_timed    on runs (agent, due_at)        where due_at is not null and timed = 1;
  create index runs_of_agent  on runs (agent)               where status = 'running';
  create index runs_of_tenant on runs (tenant)              where status = 'running';
  create index runs_held     on runs (worker)               where worker is not null;
  create index runs_finished on runs (finished_at)          where finished_at is not null and session is null;
  create index runs_streamed on runs (finished_at)          where finished_at is not null and streamed = 1;
  create index runs_turns    on runs (session)              where session is not null;
  create index runs_waiting  on runs (session)              where session is not null and finished_at is null;
  create index runs_children on runs (parent)               where parent is not null;
  create index runs_open     on runs (tenant)               where finished_at is null;
  create index runs_tenant   on runs (tenant);
  create index runs_owner    on runs (tenant, user);
  create index runs_agent    on runs (tenant, agent);

  -- What is left of the rate of an agent or a tenant: so many new runs at that time.
  create table rates (
    scope  text    not null primary key,
    tokens real    not null,
    at     integer not null
  ) strict, without rowid;

  -- One row is one write: the JSON list of its events, numbered by the last of them.
  create table events (
    run  integer not null,
    last integer not null,
    data text not null,
    unique (run, last)
  ) strict;

  -- Likewise: chunks first to last of those that follow event after.
  create table chunks (
    run   integer not null,
    after integer not null,
    first integer not null,
    last  integer not null,
    data  text not null,
    unique (run, after, last)
  ) strict;

  create table signals (
    n        integer primary key,
    run      integer not null,
    id       text not null,
    kind     text not null,
    name     text not null,
    value    text,
    sender   text,
    at       integer not null,
    consumed integer not null default 0,
    unique (run, id)
  ) strict;
  create index signals_waiting on signals (run) where consumed = 0;

  create table starts (
    tenant text not null,
    agent  text not null,
    key    text not null,
    hash   text not null,
    run    integer not null,
    primary key (tenant, agent, key)
  ) strict, without rowid;
  create index starts_run on starts (run);

  create table blobs (
    hash text not null unique,
    data text not null
  ) strict;

  create table blob_refs (
    run  integer not null,
    hash text not null,
    primary key (run, hash)
  ) strict, without rowid;
  create index blob_refs_hash on blob_refs (hash);
  `,
  `
  -- What is called and was down: see breaker.ts. A closed one is kept for a while for its version.
  create table breakers (
    key     text    not null primary key,
    version integer not null,
    state   text    not null,
    until   integer not null,
    trips   integer not null,
    why     text    not null,
    opened  integer not null,
    by      text    not null
  ) strict, without rowid;
  `,
  `
  -- Requests for somebody's agreement; data is the whole row, the columns are what it is looked up by.
  create table approvals (
    id           text    not null unique,
    run          integer not null,
    tenant       text    not null,
    status       text    not null,
    requested_at integer not null,
    data         text    not null
  ) strict;
  -- A list for each way to ask, newest first.
  create index approvals_inbox  on approvals (tenant, status, requested_at, id);
  create index approvals_tenant on approvals (tenant, requested_at, id);
  create index approvals_status on approvals (status, requested_at, id);
  create index approvals_all    on approvals (requested_at, id);
  create index approvals_run    on approvals (run, requested_at, id);

  -- The audit log: a chain of records for each tenant, and where it ends.
  create table audit (
    tenant text    not null,
    seq    integer not null,
    record text    not null,
    hash   text    not null,
    unique (tenant, seq)
  ) strict;
  create table audit_heads (
    tenant text    not null primary key,
    seq    integer not null,
    hash   text    not null
  ) strict, without rowid;

  -- What is to be told outside. due_at: when it is tried, or is free again; null when it has arrived or was given up.
  create table deliveries (
    id         text    not null unique,
    run        text,                         -- that it is about, as long as there is one
    data       text    not null,
    created_at integer not null,
    due_at     integer,
    failures   integer not null default 0,
    state      text,
    why        text,
    ended_at   integer
  ) strict;
  create index deliveries_due   on deliveries (due_at, id) where due_at is not null;
  create index deliveries_run   on deliveries (run) where run is not null;
  create index deliveries_ended on deliveries (ended_at) where ended_at is not null and run is null;

  create table stops (
    agent text    not null primary key,
    why   text    not null,
    by    text    not null,
    at    integer not null
  ) strict, without rowid;
  `,
];
