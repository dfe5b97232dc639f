/**
 * The raw limit: `node:sqlite` alone, writing the rows that the same runs leave in a Groundcrew journal. No claim, no lease, no
 * fence, no state: a loop around one prepared insert. Whatever is between this and Groundcrew is Groundcrew's price.
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { STEP_NAMES, STEPS, VALUES } from "./record.ts";

export class Raw {
  readonly #db: DatabaseSync;
  readonly #insert: StatementSync;
  readonly #begin: StatementSync;
  readonly #commit: StatementSync;
  #run = 0;

  constructor(path: string) {
    this.#db = new DatabaseSync(path);
    this.#db.exec("pragma journal_mode = wal; pragma synchronous = full");
    this.#db.exec(
      "create table if not exists events (run integer not null, seq integer not null, data text not null, unique (run, seq)) strict",
    );
    this.#insert = this.#db.prepare("insert into events (run, seq, data) values (?, ?, ?)");
    this.#begin = this.#db.prepare("begin immediate");
    this.#commit = this.#db.prepare("commit");
    this.#run = Number(this.#db.prepare("select coalesce(max(run), 0) as n from events").get()?.["n"]);
  }

  /** Whole runs, `lanes` of them side by side; each round writes one row per run in one transaction. @returns steps written */
  runs(lanes: number): number {
    const first = this.#run + 1;
    this.#run += lanes;
    this.#round(first, lanes, 2, () => startRow());
    for (let i = 0; i < STEPS; i++) this.#round(first, lanes, 2 * i + 4, () => stepRow(i, 2 * i + 3));
    this.#round(first, lanes, 2 * STEPS + 3, () => endRow());
    return lanes * STEPS;
  }

  /** One row of a run, durable by itself. */
  step(run: number, seq: number): void {
    this.#begin.run();
    this.#insert.run(run, seq, stepRow(seq % STEPS, seq));
    this.#commit.run();
  }

  close(): void {
    this.#db.close();
  }

  #round(first: number, lanes: number, seq: number, row: () => string): void {
    this.#begin.run();
    for (let lane = 0; lane < lanes; lane++) this.#insert.run(first + lane, seq, row());
    this.#commit.run();
  }
}

const RUN_ID = "run_0123456789abcdefghijkl";

function startRow(): string {
  const at = Date.now();
  const principal = { tenant: "default", user: "local", roles: ["owner"] };
  return JSON.stringify([
    { type: "run.created", agent: "ten-steps", principal, deadline: at, input: { n: 1 }, seq: 1, at },
    { type: "run.claimed", worker: RUN_ID, epoch: 1, takeover: false, seq: 2, at },
  ]);
}

function stepRow(i: number, seq: number): string {
  const at = Date.now();
  const step = STEP_NAMES[i];
  return JSON.stringify([
    { type: "step.started", step, kind: "code", name: step, attempt: 1, effect: "read", seq, at },
    { type: "step.succeeded", step, attempt: 1, value: VALUES[i], seq: seq + 1, at },
  ]);
}

function endRow(): string {
  return JSON.stringify([{ type: "run.succeeded", output: { done: STEPS }, seq: 2 * STEPS + 3, at: Date.now() }]);
}
