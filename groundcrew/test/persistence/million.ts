/** A database as it looks after a while: a million finished runs, and the open ones among them. */
import { run } from "../support/database.ts";

export const FINISHED = 1_000_000;

/** Nothing is written twice: indexes come after the rows, and what a crash would cost nobody is in the log. */
export async function fill(url: string): Promise<void> {
  await run(
    url,
    `begin;
    set local maintenance_work_mem = '256MB';
    create temp table index_later on commit drop as
      select schemaname, indexname, indexdef from pg_indexes
      where schemaname = 'groundcrew' and indexname not in (select conindid::regclass::text from pg_constraint) and indexname !~ '_pkey$';
    do $$ declare one record; begin
      for one in select * from index_later loop execute format('drop index groundcrew.%I', one.indexname); end loop;
    end $$;
    alter table groundcrew.runs drop constraint runs_pkey;
    truncate groundcrew.runs, groundcrew.events, groundcrew.chunks, groundcrew.sessions, groundcrew.signals,
      groundcrew.starts, groundcrew.blobs, groundcrew.blob_refs,
      groundcrew.approvals, groundcrew.audit, groundcrew.audit_heads, groundcrew.deliveries;
    ${ROWS}
    alter table groundcrew.runs add primary key (shard, id);
    do $$ declare one record; begin
      for one in select * from index_later loop execute one.indexdef; end loop;
    end $$;
    commit`,
  );
  await run(url, "analyze");
}

const NOW = Date.now();
const DAY = 86_400_000;
const LAST_WEEK = NOW - 7 * DAY;
const ID = "'run_' || lpad(i::text, 23, '0') || lpad(to_hex(shard), 2, '0')";

const COLUMNS = `shard, id, agent, status, reason, due_at, timed, start_at, priority, tenant, owner, roles, session, turn, worker, epoch,
  streamed, created_at, changed_at, finished_at, deadline, end_by`;

/** Every second run is a turn of a session of ten; tenants have very different sizes. */
const ROWS = `
  insert into groundcrew.runs (${COLUMNS})
    select shard, ${ID}, case when i % 3 = 0 then 'sales' else 'support' end, case when i % 100 = 0 then 'failed' else 'succeeded' end,
      null, null, false, at, 3, 't' || i / 20 % 100, 'u' || i / 20 % 5000, '[]', session, i % 20 / 2, null, 1,
      i % 50 = 0, at, at, at, at + ${DAY}, at + ${DAY}
    from generate_series(1, ${FINISHED}) i,
      lateral (select ${LAST_WEEK} + i as at, case when i % 2 = 0 then 's' || i / 20 end as session) t,
      lateral (select case when session is null then i * 7 % 256 else get_byte(sha256(session::bytea), 0) end as shard) s;

  insert into groundcrew.sessions (shard, tenant, id, agent, owner, roles, turns, created_at, active_at)
    select get_byte(sha256(session::bytea), 0), 't' || i % 100, session, 'support', 'u' || i % 5000, '[]', 10, at, at
    from generate_series(0, ${FINISHED} / 20) i, lateral (select ${LAST_WEEK} + 20 * i as at, 's' || i as session) t;

  -- Open: parked ones without number, some ready, some that wait for a time, some at work.
  insert into groundcrew.runs (${COLUMNS})
    select i % 256, ${ID.replaceAll("shard", "i % 256")}, case when i % 3 = 0 then 'sales' else 'support' end,
      case when kind = 0 then 'queued' when kind = 3 then 'running' else 'parked' end,
      case kind when 1 then 'timer' when 2 then 'signal' end,
      case kind when 0 then ${NOW} - i when 1 then ${NOW} + ${DAY} + i end, kind = 1,
      ${NOW}, 1 + i % 5, 't' || i % 100, 'u' || i % 5000, '[]', null, null,
      case kind when 3 then 'elsewhere-' || i % 10 end, 1, false, ${NOW}, ${NOW}, null, ${NOW} + ${DAY}, ${NOW} + ${DAY}
    from (select ${FINISHED} + i as i, case when i <= 2000 then 0 when i <= 4000 then 1 when i <= 29000 then 2 else 3 end as kind
          from generate_series(1, 30000) i) open;

  insert into groundcrew.workers (id, host, pid, started_at, lease_ms, lease_until)
    select 'elsewhere-' || i, 'another machine', 1, '', ${DAY}, ${NOW} + ${DAY} from generate_series(0, 9) i;

  insert into groundcrew.events (shard, run, last, data)
    select shard, id, 1, '[{"type":"run.created","agent":"support","principal":{},"deadline":1,"seq":1,"at":1}]' from groundcrew.runs
    where finished_at is null or deadline % 10 = 0;
  insert into groundcrew.chunks (shard, run, after, first, last, data)
    select shard, id, 1, 1, 1, '[]' from groundcrew.runs where streamed;
  insert into groundcrew.signals (shard, run, id, kind, name, at)
    select shard, id, 'waiting', 'signal', 'go', 1 from groundcrew.runs where finished_at is null;
  insert into groundcrew.starts (shard, tenant, agent, key, hash, run)
    select i % 256, 't' || i % 100, 'support', 'key-' || i, 'hash', 'run-' || i from generate_series(1, 100000) i;
  insert into groundcrew.blobs (shard, hash, data) select i % 256, md5(i::text), 'value' from generate_series(1, 50000) i;
  insert into groundcrew.blob_refs (shard, hash, run) select shard, hash, 'run-' || hash from groundcrew.blobs;

  -- Every tenth run has asked somebody; those that are open still wait for an answer. What was told has arrived, but for a few.
  insert into groundcrew.approvals (shard, id, run, tenant, status, requested_at, data)
    select shard, id || '.1', id, tenant, case when finished_at is null then 'open' else 'approved' end, created_at,
      json_build_object('id', id || '.1', 'run', id, 'tenant', tenant, 'status', case when finished_at is null then 'open' else 'approved' end,
        'version', 1, 'requestedAt', created_at, 'request', json_build_object('hash', 'h', 'user', 'u'))::text
    from groundcrew.runs where finished_at is null or created_at % 10 = 0;
  insert into groundcrew.audit_heads (shard, tenant, seq, hash)
    select get_byte(sha256(tenant::bytea), 0), tenant, 20, 'h' from (select 't' || i as tenant from generate_series(0, 9999) i) t;
  insert into groundcrew.audit (shard, tenant, seq, record, hash)
    select shard, tenant, i, '{}', 'h' from groundcrew.audit_heads, generate_series(1, 20) i;
  insert into groundcrew.deliveries (shard, id, run, data, created_at, due_at, state, ended_at)
    select shard, 'slack/requested/' || id, run, '{"approvals":[],"tenant":"t"}', requested_at, case when i <= 200 then requested_at end,
      case when i > 200 then 'sent' end, case when i > 200 then requested_at end
    from (select *, row_number() over () as i from groundcrew.approvals) a;
  insert into groundcrew.deliveries (shard, id, data, created_at, state, ended_at)
    select i % 256, 'slack/stopped/' || i, '{"approvals":[],"tenant":"t"}', i, 'sent', i from generate_series(1, 50000) i;`;
