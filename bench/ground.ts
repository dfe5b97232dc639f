/** Where a benchmark's stores are made: SQLite files, or databases on a PostgreSQL of the benchmark's own with default durability. */
import { statSync } from "node:fs";
import { Client } from "pg";
import { run } from "../groundcrew/test/support/database.ts";
import { type Postgres, startPostgres } from "../groundcrew/test/support/postgres.ts";
import { checkpoint } from "./checkpoint.ts";
import { timed } from "./figure.ts";
import { Folder } from "./folder.ts";
import { Raw } from "./raw.ts";
import { VALUES } from "./record.ts";

export interface Ground extends AsyncDisposable {
  /** The benchmark's name, before the figure's. */
  readonly prefix: string;
  /** A new, empty store. @returns its path or its URL */
  store(): Promise<string>;
  /** What the store weighs on disk. */
  bytes(store: string): Promise<number>;
  /** One insert of a kilobyte without Groundcrew, durable by itself. @returns the milliseconds that it took */
  raw(): Promise<number>;
}

export class SqliteGround implements Ground {
  readonly prefix = "";
  readonly #folder = new Folder();
  #stores = 0;
  #raw: Raw | undefined;
  #rows = 0;

  async store(): Promise<string> {
    return this.#folder.file(`crew-${++this.#stores}.db`);
  }

  async bytes(store: string): Promise<number> {
    await checkpoint(store);
    return statSync(store).size;
  }

  async raw(): Promise<number> {
    this.#raw ??= new Raw(this.#folder.file("raw.db"));
    const raw = this.#raw;
    return timed(() => raw.step(1, this.#rows++));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#raw?.close();
    this.#folder[Symbol.dispose]();
  }
}

const KEEP_ALIVE_MS = 60_000;

export class PostgresGround implements Ground {
  readonly prefix = "pg-";
  readonly #server: Postgres;
  /** Waiting for the server does not keep a process alive by itself. */
  readonly #alive = setInterval(() => {}, KEEP_ALIVE_MS);
  #raw: Client | undefined;

  private constructor(server: Postgres) {
    this.#server = server;
  }

  static async open(): Promise<PostgresGround> {
    return new PostgresGround(await startPostgres());
  }

  store(): Promise<string> {
    return this.#server.database();
  }

  async bytes(store: string): Promise<number> {
    const [row] = await run<{ size: string }>(store, "select pg_database_size(current_database()) as size");
    return Number(row?.size);
  }

  async raw(): Promise<number> {
    this.#raw ??= await rawTable(await this.#server.database());
    const begun = performance.now();
    await this.#raw.query({ name: "one", text: "insert into events (data) values ($1)", values: [JSON.stringify(VALUES[0])] });
    return performance.now() - begun;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#raw?.end();
    await this.#server.remove();
    clearInterval(this.#alive);
  }
}

async function rawTable(url: string): Promise<Client> {
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query("create table events (id bigint generated always as identity primary key, data text not null)");
  return client;
}
