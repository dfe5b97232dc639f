/**
 * The tables of the PostgreSQL store, as numbered migrations that only go forward. One that has been released is never edited.
 *
 * Every hot table begins with `shard`, one of 256 that never change, and so does every unique key: the same tables can be spread
 * over the machines of a distributed PostgreSQL (docs/decisions/0009-postgres-store.md). What belongs together stands in one
 * shard: a session with its runs and all that is theirs (`shardOf` the session, which the run's id ends in), a start key, a blob
 * with its references. There are no foreign keys: `sweep.ts` is the only place that deletes.
 *
 * Text that becomes a key has the collation "C": the order of lists is the order of ids, whatever the server's language is.
 */
export interface Migration {
  sql: string;
  /** The oldest schema version whose release still works on the result: expand first, contract one release later. */
  worksFor: number;
}

export const migrations: readonly Migration[] = [
  {
    worksFor: 1,
    sql: `
  create table groundcrew.workers (
    id          text   not null primary key,
    host        text   not null,
    pid         bigint not null,
    started_at  text   not null,
    lease_ms    bigint not null,
    lease_until bigint not null
  ) with (fillfactor = 50);

  create unlogged table groundcrew.boot (    -- emptied when the server has crashed, or another took its place
    only_row boolean not null primary key default true check (only_row),
    id       uuid    not null default gen_random_uuid()
  );

  create table groundcrew.rates (            -- what is left of the rate of an agent or a tenant: so many new runs at that time
    scope  text not null primary key,
    tokens double precision not null,
    at     bigint not null
  );

  create table groundcrew.sessions (
    shard      smallint not null,
    tenant     text     not null collate "C",
    id         text     not null collate "C",
    agent      text     not null,
    owner      text     not null,
    roles      text     not null,
    state      text,
    turns      integer  not null,
    created_at bigint   not null,
    active_at  bigint   not null,
    primary key (shard, tenant, id)
  );
  create index sessions_active on groundcrew.sessions (active_at, id, tenant);
  create index sessions_tenant on groundcrew.sessions (tenant, active_at, id);
  create index sessions_owner  on groundcrew.sessions (tenant, owner, active_at, id);
  create index sessions_id     on groundcrew.sessions (shard, id);

  create table groundcrew.runs (
    shard       smallint not null,
    id          text     not null collate "C",
    agent       text     not null collate "C",
    status      text     not null,
    reason      text,
    due_at      bigint,                         -- claimable from then on; null while only somebody else can move it
    timed       boolean  not null default false, -- whether due_at was still to come when it was set: a clock that jumps back
                                                 -- must not make what is due wait
    start_at    bigint   not null,
    priority    smallint not null,
    tenant      text     not null collate "C",
    owner       text     not null,
    roles       text     not null,
    session     text     collate "C",
    turn        integer,
    parent      text     collate "C",
    parent_step text,
    key         text,
    worker      text,
    epoch       integer  not null default 0,
    streamed    boolean  not null default false, -- whether it has chunks
    created_at  bigint   not null,
    changed_at  bigint   not null,
    finished_at bigint,                          -- when it ended; put off by the sweep for a child whose parent is open
    deadline    bigint   not null,
    end_by      bigint   not null,               -- no quota holds it back from then on: the deadline, or when it was cancelled
    primary key (shard, id)
  ) with (fillfactor = 80);
  create index runs_ready    on groundcrew.runs (agent, tenant, priority, due_at, id) where due_at is not null and not timed;
  create index runs_resumed  on groundcrew.runs (agent, tenant, priority, due_at, id) where due_at is not null and not timed and epoch > 0;
  -- end_by > 0 is always so, but only the look for what is late says it: no other look is planned over this index.
  create index runs_late     on groundcrew.runs (agent, end_by)                       where due_at is not null and not timed and end_by > 0;
  create index runs_timed    on groundcrew.runs (agent, due_at)                       where due_at is not null and timed;
  create index runs_held     on groundcrew.runs (worker)                              where worker is not null;
  create index runs_finished on groundcrew.runs (finished_at)                         where finished_at is not null and session is null;
  create index runs_streamed on groundcrew.runs (finished_at)                         where finished_at is not null and streamed;
  create index runs_turns    on groundcrew.runs (shard, session, tenant, turn)         where session is not null;
  create index runs_waiting  on groundcrew.runs (shard, session, tenant, turn)        where session is not null and finished_at is null;
  create index runs_children on groundcrew.runs (parent, id)                          where parent is not null;
  create index runs_open     on groundcrew.runs (tenant, id)                          where finished_at is null;
  create index runs_newest   on groundcrew.runs (id);
  create index runs_tenant   on groundcrew.runs (tenant, id);
  create index runs_owner    on groundcrew.runs (tenant, owner, id);
  create index runs_agent    on groundcrew.runs (tenant, agent, id);

  -- One row is one write: the JSON list of its events, numbered by the last of them. Text, not jsonb: nothing looks inside, and
  -- jsonb refuses NUL.
  create table groundcrew.events (
    shard smallint not null,
    run   text     not null collate "C",
    last  integer  not null,
    data  text     not null,
    primary key (shard, run, last)
  );

  -- Likewise: chunks first to last of those that follow event after.
  create table groundcrew.chunks (
    shard smallint not null,
    run   text     not null collate "C",
    after integer  not null,
    first integer  not null,
    last  integer  not null,
    data  text     not null,
    primary key (shard, run, after, last)
  );

  create table groundcrew.signals (
    shard    smallint not null,
    run      text     not null collate "C",
    n        bigint   not null generated by default as identity, -- in the order in which they came to their run
    id       text     not null collate "C",
    kind     text     not null,
    name     text     not null,
    value    text,
    sender   text,
    at       bigint   not null,
    consumed boolean  not null default false,
    primary key (shard, run, id)
  );
  create index signals_waiting on groundcrew.signals (shard, run, n) where not consumed;

  create table groundcrew.starts (
    shard  smallint not null,
    tenant text     not null collate "C",
    agent  text     not null collate "C",
    key    text     not null collate "C",
    hash   text     not null,
    run    text     not null collate "C",
    primary key (shard, tenant, agent, key)
  );
  create index starts_run on groundcrew.starts (run);

  create table groundcrew.blobs (
    shard smallint not null,
    hash  text     not null collate "C",
    data  text     not null,
    primary key (shard, hash)
  );

  create table groundcrew.blob_refs (
    shard smallint not null,
    hash  text     not null collate "C",
    run   text     not null collate "C",
    primary key (shard, hash, run)
  );
  create index blob_refs_run on groundcrew.blob_refs (run);
  `,
  },
  {
    worksFor: 1,
    sql: `
  -- What is called and was down: see breaker.ts. A closed one is kept for a while for its version. Not hot: no shard.
  create table groundcrew.breakers (
    key     text    not null collate "C" primary key,
    version integer not null,
    state   text    not null,
    until   bigint  not null,
    trips   integer not null,
    why     text    not null,
    opened  integer not null,
    by      text    not null
  );
  `,
  },
  {
    worksFor: 1,
    sql: `
  -- Requests for somebody's agreement; data is the whole row, the columns are what it is looked up by.
  create table groundcrew.approvals (
    shard        smallint not null,
    id           text     not null collate "C",
    run          text     not null collate "C",
    tenant       text     not null collate "C",
    status       text     not null,
    requested_at bigint   not null,
    data         text     not null,
    primary key (shard, id)
  );
  -- A list for each way to ask, newest first.
  create index approvals_inbox  on groundcrew.approvals (tenant, status, requested_at, id);
  create index approvals_tenant on groundcrew.approvals (tenant, requested_at, id);
  create index approvals_status on groundcrew.approvals (status, requested_at, id);
  create index approvals_all    on groundcrew.approvals (requested_at, id);
  create index approvals_run    on groundcrew.approvals (shard, run, requested_at, id);

  -- The audit log: a chain of records for each tenant, and where it ends. A tenant's chain stands in the shard of its name.
  create table groundcrew.audit (
    shard  smallint not null,
    tenant text     not null collate "C",
    seq    bigint   not null,
    record text     not null,
    hash   text     not null,
    primary key (shard, tenant, seq)
  );
  create table groundcrew.audit_heads (
    shard  smallint not null,
    tenant text     not null collate "C",
    seq    bigint   not null,
    hash   text     not null,
    primary key (shard, tenant)
  ) with (fillfactor = 50);

  -- What is to be told outside. due_at: when it is tried, or is free again; null when it has arrived or was given up.
  create table groundcrew.deliveries (
    shard      smallint not null,
    id         text     not null collate "C",
    run        text     collate "C",         -- that it is about, as long as there is one
    data       text     not null,
    created_at bigint   not null,
    due_at     bigint,
    failures   integer  not null default 0,
    state      text,
    why        text,
    ended_at   bigint,
    primary key (shard, id)
  );
  create index deliveries_due   on groundcrew.deliveries (due_at, id) where due_at is not null;
  create index deliveries_id    on groundcrew.deliveries (id);
  create index deliveries_run   on groundcrew.deliveries (shard, run) where run is not null;
  create index deliveries_ended on groundcrew.deliveries (ended_at) where ended_at is not null and run is null;

  -- Small and seldom written: no shard.
  create table groundcrew.stops (
    agent text   not null collate "C" primary key,
    why   text   not null,
    by    text   not null,
    at    bigint not null
  );
  `,
  },
  {
    worksFor: 1,
    sql: `
  -- The events of runs that go on, written by one statement that is a transaction by itself: all of them, or it fails. See append.ts,
  -- and connection.ts for the settings.
  create function groundcrew.append_events(
    the_time bigint, the_holders text[],
    the_shards smallint[], the_runs text[], the_epochs integer[], the_workers text[], the_lasts integer[],
    the_starts integer[], the_lengths integer[], the_data bytea
  ) returns void language plpgsql
    set lock_timeout = '10s' set plan_cache_mode = force_generic_plan
    set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
  as $$
  declare
    n integer;
  begin
    perform from groundcrew.workers where id = any(the_holders) and lease_until > the_time order by id for key share;
    get diagnostics n = row_count;
    if n <> cardinality(the_holders) then
      raise 'a worker has lost its lease' using errcode = 'GC001';
    end if;
    insert into groundcrew.events (shard, run, last, data)
    select a.shard, a.run, a.last, convert_from(substring(the_data from a.start for a.length), 'UTF8')
    from (select unnest(the_shards) as shard, unnest(the_runs) as run, unnest(the_epochs) as epoch, unnest(the_workers) as worker,
            unnest(the_lasts) as last, unnest(the_starts) as start, unnest(the_lengths) as length) a
    join groundcrew.runs r on r.shard = a.shard and r.id = a.run and r.epoch = a.epoch and r.worker is not distinct from a.worker;
    get diagnostics n = row_count;
    if n <> cardinality(the_runs) then
      raise 'a run is in other hands' using errcode = 'GC001';
    end if;
  end $$;
  `,
  },
];
