/**
 * How the store talks to its server: two small pools, transactions that cannot hang, and patience with a server that is away
 * for a moment. Nothing here is bound to a session of the server: it works through a pooler in transaction mode.
 */
import { createHash } from "node:crypto";
import { Client, type ClientConfig, Pool, type PoolClient, type PoolConfig, types } from "pg";
import type { Clock } from "../clock.ts";
import { GroundcrewError, isError } from "../errors.ts";
import { failpoint } from "../failpoint.ts";
import {
  MAX_POSTGRES_PAUSE_MS,
  MAX_PREPARED_STATEMENTS,
  POSTGRES_CONNECT_MS,
  POSTGRES_IDLE_MS,
  POSTGRES_READERS,
  POSTGRES_STATEMENT_MS,
  POSTGRES_WRITERS,
  STORE_PATIENCE_MS,
} from "../limits.ts";
import { isAway, isNeverHeardOf, isReadOnly, isStale, isUnnamed, mayPass, storeError } from "./error.ts";
import { Pulse } from "./pulse.ts";
import type { Sql, Transaction } from "./row.ts";

const INT8 = 20;
const NAME_CHARS = 24;
/** Times, counts and pids: all of them far below 2^53. */
const parsers = {
  getTypeParser: (oid: number, format?: "text" | "binary") => (oid === INT8 ? Number : types.getTypeParser(oid, format as "text")),
};

/** Milliseconds of the statement's start: stable within a statement, so that it can be looked up in an index. */
const SERVER_NOW = "(extract(epoch from statement_timestamp()) * 1000)::bigint";

/** Told each statement that is sent; for tests. */
export type QueryObserver = (text: string) => void;

export interface ConnectionOptions {
  clock?: Clock | undefined;
  onQuery?: QueryObserver | undefined;
  /** Whether the tables are spread over several machines. */
  isDistributed: boolean;
}

export class Connection implements Sql {
  readonly location: string;
  readonly isDistributed: boolean;
  readonly #config: ClientConfig;
  readonly #writers: Pool;
  readonly #readers: Pool;
  readonly #pulse: Pulse;
  readonly #options: ConnectionOptions;
  /** How far the server's clock, in milliseconds since 1970, is ahead of the time that this process has been running. */
  #ahead = Date.now() - performance.now();
  /** The server's life as it was known last: another after each crash. */
  #boot = "";
  readonly #names = new Map<string, string>();
  #mayName = true;
  #isClosed = false;

  constructor(url: string, location: string, options: ConnectionOptions) {
    this.location = location;
    this.#options = options;
    this.isDistributed = options.isDistributed;
    this.#config = configOf(url);
    this.#writers = poolOf(this.#config, POSTGRES_WRITERS);
    this.#readers = poolOf(this.#config, POSTGRES_READERS);
    this.#pulse = new Pulse(this.#config);
    for (const pool of [this.#writers, this.#readers]) {
      pool.on("connect", (client) => {
        client.on("error", () => {}); // the pool takes its own listener off before we are given the client, and the server may end it just then
        this.#pulse.add(client);
      });
    }
  }

  /** One statement, which is a snapshot by itself. */
  query<T extends object>(text: string, values?: readonly unknown[]): Promise<T[]> {
    return this.patiently(() => this.#on(this.#readers, (sql) => sql.query<T>(text, values)));
  }

  write(text: string, values?: readonly unknown[]): Promise<number> {
    return this.patiently(() => this.#on(this.#writers, (sql) => sql.write(text, values)));
  }

  /** One snapshot for all statements of a read. */
  read<T>(run: (sql: Sql) => Promise<T>): Promise<T> {
    return this.patiently(() =>
      this.#on(this.#readers, async (sql) => {
        const begun = sql.query("begin isolation level repeatable read read only");
        const [found] = await Promise.all([run(sql), begun]);
        await sql.query("commit");
        return found;
      }),
    );
  }

  /**
   * A look at what is there, in one round trip: `run` sends all its statements before it waits for the first. They are planned
   * once, as in a transaction that writes.
   */
  look<T>(run: (sql: Sql) => Promise<T>): Promise<T> {
    return this.patiently(() =>
      this.#on(this.#readers, async (sql, client) => {
        const begun = [this.#open(client, "begin read only"), sql.query(`select ${SETTINGS}`)];
        const found = run(sql);
        const [result] = await Promise.all([found, sql.query("commit"), ...begun]);
        return result;
      }),
    );
  }

  /** One transaction, tried again from its beginning while the server is away; else as `once`. @throws GroundcrewError */
  transaction<T>(run: (tx: Transaction) => Promise<T>, isAhead = false): Promise<Committed<T>> {
    return this.patiently(() => this.once(run, isAhead));
  }

  /**
   * One transaction, which is done once or, when this throws, not at all: where the answer to its commit was lost, the server is
   * asked for what became of it. No statement of it may take longer than its time-out, and the server ends it when this process
   * has gone silent: a row that it locked is free again soon.
   * @param isAhead whether `run` may send statements before the beginning is answered. It waits for `begun` where it needs the time.
   */
  async once<T>(run: (tx: Transaction) => Promise<T>, isAhead = false): Promise<Committed<T>> {
    const boot = this.#boot;
    let committing: (Committed<T> & { xid: string }) | undefined;
    try {
      return await this.#on(this.#writers, async (sql, client) => {
        const { tx, xid } = this.#begin(client, sql);
        if (!isAhead) await tx.begun;
        const value = await run(tx);
        failpoint("commit.before");
        committing = { value, changed: tx.changed, ended: tx.ended, due: tx.due, xid: await xid };
        await sql.query("commit");
        failpoint("commit.after");
        return committing;
      });
    } catch (error) {
      if (committing && (await this.#wasCommitted(committing.xid, boot))) return committing; // whatever was said: a pooler speaks for itself
      throw error;
    }
  }

  /**
   * One statement that is a transaction by itself: one message, which the server does as a whole or not at all. When this throws because
   * the connection was lost it may be done all the same, now or later: the caller has to be able to tell, and to do it again without harm.
   */
  async atOnce(text: string, values: readonly unknown[]): Promise<void> {
    await this.#on(this.#writers, async (sql) => {
      failpoint("commit.before");
      const [at] = await sql.query<{ now: number }>(`select ${this.now} as now, ${text}`, values);
      if (at) this.hearTime(at.now);
      failpoint("commit.after");
    });
  }

  /**
   * A server that has not heard of the commit ends the transaction after `POSTGRES_IDLE_MS`: then it is certain. One that has
   * crashed may since have given the number to another transaction, whose commit says nothing about this one.
   * @throws GroundcrewError `STORE_UNAVAILABLE` when it cannot be told
   */
  #wasCommitted(xid: string, boot: string): Promise<boolean> {
    const look = async () => {
      const asked = this.#on(this.#readers, (sql) => sql.query<{ status: string; boot: string | null }>(STATUS, [xid]));
      const [found] = await asked.catch((error) => {
        if (isNeverHeardOf(error)) return [{ status: "aborted", boot }];
        throw error;
      });
      if (found?.boot !== boot) await this.learnBoot();
      if (found?.boot !== boot && found?.status === "committed") throw crashed(this.location);
      if (found?.boot === boot && found.status === "in progress") throw new StillCommitting();
      return found?.status === "committed";
    };
    return this.patiently(look, POSTGRES_IDLE_MS + STORE_PATIENCE_MS / 2).catch((error) => {
      throw isError(error, "STORE_UNAVAILABLE")
        ? error
        : unknown(`The store ${this.location} does not say what became of a commit.`, error);
    });
  }

  /** To be called before the first transaction. */
  async learnBoot(): Promise<void> {
    const text = "insert into groundcrew.boot default values on conflict (only_row) do update set only_row = true returning id";
    const [found] = await this.query<{ id: string }>(text);
    this.#boot = found?.id ?? "";
  }

  /**
   * Runs `attempt` again while it fails for a reason that may pass, and while there is time for it: behind a long wait that failed, as
   * for a server that has vanished, the next would be as long.
   * @throws GroundcrewError
   */
  async patiently<T>(attempt: () => Promise<T>, patienceMs = STORE_PATIENCE_MS): Promise<T> {
    const until = performance.now() + patienceMs;
    for (let pause = 1; ; pause = Math.min(2 * pause, MAX_POSTGRES_PAUSE_MS)) {
      const begun = performance.now();
      try {
        return await attempt();
      } catch (error) {
        if (isError(error)) throw error;
        const now = performance.now();
        if (!mayPass(error) || now + (now - begun) / 2 >= until) throw storeError(error, this.location);
      }
      await new Promise((resume) => setTimeout(resume, pause * (0.5 + Math.random() / 2)));
    }
  }

  /** The time on the store's clock as it was told last, and went on since: this process's own clock has no part in it. */
  localNow(): number {
    return this.#options.clock ? this.#options.clock.now() : Math.round(performance.now() + this.#ahead);
  }

  /** To be called with each time that the server tells. */
  hearTime(now: number): void {
    this.#ahead = now - performance.now();
  }

  /** The time on the store's clock, as an SQL expression. */
  get now(): string {
    return this.#options.clock ? String(this.#options.clock.now()) : SERVER_NOW;
  }

  /** A connection of its own, outside the pools. */
  async dedicated(config: ClientConfig = {}): Promise<Client> {
    const client = new Client({ ...this.#config, ...config });
    client.on("error", () => {}); // its end is told as well
    await client.connect();
    this.#pulse.add(client);
    return client;
  }

  /** Runs statements that may take their time, on a connection of their own. @throws GroundcrewError */
  alone<T>(run: (sql: Pick<Sql, "query">) => Promise<T>): Promise<T> {
    return this.patiently(async () => {
      const client = await this.dedicated({ query_timeout: 0 });
      const query = async <R extends object>(text: string, values?: readonly unknown[]) =>
        (await client.query<R>(text, values as unknown[])).rows;
      return this.#pulse.during(run({ query })).finally(() => client.end());
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all([this.#writers.end(), this.#readers.end()]);
  }

  async #on<T>(pool: Pool, run: (sql: Sql, client: PoolClient) => Promise<T>): Promise<T> {
    if (this.#isClosed) throw new GroundcrewError("CLOSED", "The store is closed.");
    const client = await pool.connect();
    let lost: Error | undefined;
    const onError = (error: Error) => {
      lost = error;
    };
    client.on("error", onError);
    try {
      return await this.#pulse.during(run(this.#sqlOf(client), client));
    } catch (error) {
      if (isUnnamed(error)) this.#mayName = false; // a pooler before the server gave us another's session
      // With this connection go the plans that it keeps, or the server that is no primary any more.
      if (isAway(error) || isStale(error) || isReadOnly(error)) lost ??= error as Error;
      // What state the session is in after a failure is not worth knowing: refused writes do not come this way.
      lost ??= await rollback(client);
      throw error;
    } finally {
      client.off("error", onError);
      client.release(lost);
    }
  }

  #sqlOf(client: PoolClient): Sql {
    const send = <T extends object>(text: string, values: readonly unknown[] | undefined) => {
      this.#options.onQuery?.(text);
      asOnePacket(client);
      return client.query<T>({ text, values: values as unknown[] | undefined, name: this.#nameOf(text) });
    };
    return {
      isDistributed: this.isDistributed,
      query: async <T extends object>(text: string, values?: readonly unknown[]) => (await send<T>(text, values)).rows,
      write: async (text, values) => (await send(text, values)).rowCount ?? 0,
    };
  }

  /**
   * A statement with a name is planned once per connection: planning costs more than most of them. The name says what the text is:
   * behind a pooler it may meet what another process has prepared.
   */
  #nameOf(text: string): string | undefined {
    if (!this.#mayName || this.#options.clock) return undefined; // with a test's clock the time stands in the text
    const name = this.#names.get(text);
    if (name !== undefined || this.#names.size >= MAX_PREPARED_STATEMENTS) return name;
    const given = `groundcrew_${createHash("sha256").update(text).digest("hex").slice(0, NAME_CHARS)}`;
    this.#names.set(text, given);
    return given;
  }

  /**
   * Without a name, which a pooler may have taken to another session: what is sent behind a beginning that fails would be done
   * statement by statement. Behind it any failure undoes all.
   */
  #open(client: PoolClient, text: string): Promise<unknown> {
    this.#options.onQuery?.(text);
    asOnePacket(client);
    return client.query(text);
  }

  #begin(client: PoolClient, sql: Sql): { tx: Transaction; xid: Promise<string> } {
    const text = `select ${this.now} as now, pg_current_xact_id()::text as xid, ${SETTINGS}`;
    const opened = Promise.all([this.#open(client, "begin isolation level read committed"), sql.query<{ now: number; xid: string }>(text)]);
    const xid = opened.then(([, [at]]) => {
      if (at) this.hearTime(at.now);
      tx.now = at?.now ?? 0;
      return at?.xid ?? "";
    });
    const begun = xid.then(() => {});
    begun.catch(() => {}); // told by `xid` as well
    const tx = { ...sql, now: 0, begun, clock: this.now, changed: new Set<string>(), ended: new Set<string>(), due: false };
    return { tx, xid };
  }
}

/**
 * Of a transaction. Its statements look up few rows by their keys: statistics from when a table was small, or a plan made with
 * them, must not lead the planner astray. An index scan remembers which entries are dead, so the next one passes them by; a bitmap
 * scan reads all that were ever there until they are vacuumed.
 */
const SETTINGS = [
  ["idle_in_transaction_session_timeout", POSTGRES_IDLE_MS],
  ["statement_timeout", POSTGRES_STATEMENT_MS],
  ["enable_seqscan", "off"],
  ["enable_bitmapscan", "off"],
  ["enable_hashjoin", "off"],
  ["enable_mergejoin", "off"],
  ["plan_cache_mode", "force_generic_plan"],
]
  .map(([name, value]) => `set_config('${name}', '${value}', true)`)
  .join(", ");

/** What a transaction came to. */
export interface Committed<T> {
  value: T;
  changed: Set<string>;
  ended: Set<string>;
  due: boolean;
}

const STATUS = "select pg_xact_status($1) as status, (select id from groundcrew.boot) as boot";

function crashed(location: string): GroundcrewError {
  return unknown(`The store ${location} crashed over a commit: whether it was done is not known.`);
}

/** Never another code: whoever hears it knows that it may have been done. */
function unknown(message: string, cause?: unknown): GroundcrewError {
  return new GroundcrewError("STORE_UNAVAILABLE", message, {
    retryAfterMs: 1_000,
    fix: "Ask again with the same key: what was done is then found, and not done twice.",
    cause,
  });
}

/** The server is not through with a commit whose connection is lost. */
class StillCommitting extends Error {
  readonly code = "55P03";
}

/**
 * What is sent in this turn of the event loop leaves in one packet. Each by itself costs a system call here, a wake-up there, and as
 * many answers: that was a sixth of all work of this process.
 */
function asOnePacket({ connection: { stream } }: PoolClient): void {
  stream.cork();
  process.nextTick(() => stream.uncork());
}

async function rollback(client: PoolClient): Promise<Error | undefined> {
  try {
    await client.query("rollback");
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

function configOf(url: string): ClientConfig {
  return {
    connectionString: url,
    application_name: "groundcrew",
    connectionTimeoutMillis: POSTGRES_CONNECT_MS,
    query_timeout: POSTGRES_STATEMENT_MS + POSTGRES_CONNECT_MS, // a server that has vanished answers nothing at all
    keepAlive: true,
    types: parsers,
  };
}

function poolOf(config: ClientConfig, max: number): Pool {
  const pool = new Pool({ ...config, max, allowExitOnIdle: true, pipeline: true } as PoolConfig);
  pool.on("error", () => {}); // an idle connection was lost: the pool has dropped it, and opens another when one is needed
  return pool;
}
