/**
 * The bare limit: `pg` alone, one flusher, one multi-row insert per commit with whatever rows wait by then. No runs, no claims,
 * no leases, nobody who could take over: whatever is between this and a contender is the contender's price.
 */
import { Client } from "pg";
import { contend, LANES, work } from "../contender.ts";
import { median } from "../figure.ts";
import { STEPS } from "../record.ts";
import { versionOf } from "./version.ts";

const COMMITS = 2_000;

interface Row {
  run: string;
  seq: number;
  data: string;
  written: () => void;
  failed: (error: unknown) => void;
}

/** Commits rows in groups; a row's promise resolves when it is durable. */
class Flusher {
  readonly #client: Client;
  #waiting: Row[] = [];
  #isBusy = false;

  constructor(client: Client) {
    this.#client = client;
  }

  write(run: string, seq: number, data: string): Promise<void> {
    return new Promise((written, failed) => {
      this.#waiting.push({ run, seq, data, written, failed });
      if (!this.#isBusy) void this.#flush();
    });
  }

  async #flush(): Promise<void> {
    this.#isBusy = true;
    await undefined; // whoever goes on in this turn comes along
    while (this.#waiting.length > 0) {
      const rows = this.#waiting.splice(0, LANES);
      await this.#insert(rows).then(
        () => rows.forEach((row) => void row.written()),
        (error: unknown) => rows.forEach((row) => void row.failed(error)),
      );
    }
    this.#isBusy = false;
  }

  async #insert(rows: readonly Row[]): Promise<void> {
    const places = rows.map((_, i) => `($${3 * i + 1}, $${3 * i + 2}, $${3 * i + 3})`);
    await this.#client.query({
      name: `insert ${rows.length}`, // prepared once for each number of rows
      text: `insert into events (run, seq, data) values ${places.join(", ")}`,
      values: rows.flatMap(({ run, seq, data }) => [run, seq, data]),
    });
  }
}

await contend(async ({ url }) => {
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query("create table events (run text not null, seq int not null, data text not null, primary key (run, seq))");
  const flusher = new Flusher(client);
  let runs = 0;
  return {
    version: versionOf("pg"),
    settings: `one connection; one insert of up to ${LANES} rows per commit; a run is ten rows one after the other, and nothing else`,
    run: async () => {
      const run = `run_${++runs}`;
      for (let i = 0; i < STEPS; i++) await flusher.write(run, i, JSON.stringify(work(i)));
    },
    more: async () => ({ "commit-ms": await commitMs(client) }),
    close: () => client.end(),
  };
});

/** One row, durable by itself. */
async function commitMs(client: Client): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < COMMITS; i++) {
    const begun = performance.now();
    const values = [`alone_${i}`, 0, JSON.stringify(work(i % STEPS))];
    await client.query({ name: "one", text: "insert into events (run, seq, data) values ($1, $2, $3)", values });
    times.push(performance.now() - begun);
  }
  return median(times);
}
