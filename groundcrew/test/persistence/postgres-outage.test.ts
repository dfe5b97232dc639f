/** The database goes away while runs are at work on it: connections break, packets vanish, the server is killed. */
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import { type FlowContext, flow } from "../../src/agent.ts";
import { DEFAULT_LEASE_MS, POSTGRES_READERS, STORE_PATIENCE_MS } from "../../src/limits.ts";
import { fold } from "../../src/persistence/fold.ts";
import type { RunRow } from "../../src/persistence/store.ts";
import { type Crew, type CrewOptions, groundcrew } from "../../src/runtime.ts";
import { serve } from "../../src/server/server.ts";
import { seeded } from "../crash/seeded.ts";
import { gate, reaches } from "../support/crew.ts";
import { createDatabase, dropDatabase, run as sql } from "../support/database.ts";
import { startPostgres } from "../support/postgres.ts";
import { TcpProxy } from "../support/proxy.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { until, within } from "../support/until.ts";

/** What was done outside, by run and step. */
class Ledger {
  readonly #counts = new Map<string, number>();

  /** A step's own code: counts, takes its time, answers. */
  does(ms = 0) {
    return async ({ key }: { key: string }): Promise<string> => {
      this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
      if (ms > 0) await new Promise((later) => setTimeout(later, ms));
      return key;
    };
  }

  count(key: string): number {
    return this.#counts.get(key) ?? 0;
  }
}

const EFFECTS = { first: "read", second: "keyed", third: "once", fourth: "idempotent" } as const;

/** Four steps of every effect, with a sleep in between. */
function working(ledger: Ledger, ms = 5) {
  return flow("work", async (ctx: FlowContext) => {
    const answers: string[] = [];
    for (const [name, effect] of Object.entries(EFFECTS)) {
      answers.push(await ctx.step(name, { effect }, ledger.does(ms)));
      if (name === "second") await ctx.sleep(20);
    }
    return answers.length;
  });
}

const crews: Crew[] = [];
const closing = () => Promise.all(crews.splice(0).map((crew) => crew.close()));

function open(options: CrewOptions): { crew: Crew; troubles: string[] } {
  const troubles: string[] = [];
  const crew = groundcrew({ onTrouble: (error) => troubles.push((error as Error).message), ...options });
  crews.push(crew);
  return { crew, troubles };
}

/** The run ended well, each of its steps is on record once, and the world was asked as often as its effect allows. */
async function verify(crew: Crew, row: RunRow, ledger: Ledger): Promise<void> {
  const run = await crew.run(row.id);
  const events = await run.journal();
  const state = fold(events);
  expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1));
  expect(row.status, `run ${row.id}`).toBe("succeeded");
  for (const [name, effect] of Object.entries(EFFECTS)) {
    const ended = events.filter((event) => event.type === "step.succeeded" && event.step === name);
    expect(ended, `${name} of ${row.id} on record`).toHaveLength(1);
    const count = ledger.count(`${row.id}/${name}`);
    const most = effect === "once" ? 1 : 1 + state.takeovers;
    expect(count, `${name} of ${row.id}, with ${state.takeovers} takeovers`).toBeGreaterThanOrEqual(1);
    expect(count, `${name} of ${row.id}, with ${state.takeovers} takeovers`).toBeLessThanOrEqual(most);
  }
}

describePostgres("on a network that fails", () => {
  let direct: string;
  let proxy: TcpProxy;

  beforeEach(async () => {
    direct = await createDatabase(await sharedPostgres());
    proxy = await TcpProxy.before(Number(new URL(direct).port));
  });
  afterEach(async () => {
    proxy.resume();
    await closing();
    await proxy.close();
    await dropDatabase(direct);
  });

  test("connections that break at any moment delay 50 runs, double nothing and lose nothing", async () => {
    const seed = Number(process.env["GROUNDCREW_TEST_SEED"] ?? Date.now() % 1_000_000);
    console.log(`seed ${seed}`);
    const random = seeded(seed);
    const ledger = new Ledger();
    const { crew } = open({ agents: [working(ledger)], store: proxy.url(direct) });
    const { crew: other } = open({ agents: [working(ledger)], store: proxy.url(direct) });
    await Promise.all([crew.work(), other.work()]);
    const starting = Array.from({ length: 50 }, async (_, index) => {
      await new Promise((later) => setTimeout(later, random() * 2_000));
      return (index % 2 ? crew : other).start("work", { key: `k${index}` });
    });
    let cuts = 0;
    const cutting = (async () => {
      for (; cuts < 25; cuts++) {
        await new Promise((later) => setTimeout(later, 20 + random() * 150));
        proxy.cut();
      }
    })();
    const runs = await Promise.all(starting);
    await cutting;
    for (const run of runs) await within(`run ${run.id} ends`, run.result());
    expect(new Set(runs.map(({ id }) => id)).size).toBe(50);
    const rows = await crew.runs({ limit: 100 });
    expect(rows).toHaveLength(50);
    for (const row of rows) await verify(crew, row, ledger);
  }, 60_000);

  test("a step that ends while the database is away is recorded when it is back, and not repeated", async () => {
    const step = gate();
    let asked = 0;
    const work = flow("work", (ctx) =>
      ctx.step("act", async () => {
        asked++;
        await step.opened;
      }),
    );
    const { crew } = open({ agents: [work], store: proxy.url(direct) });
    const run = await crew.start("work", {});
    await until("the step is at work", () => asked === 1);
    proxy.cut();
    proxy.refuse();
    step.open();
    await new Promise((later) => setTimeout(later, STORE_PATIENCE_MS / 2));
    proxy.accept();
    await within("the run ends", run.result());
    expect(asked).toBe(1);
    expect((await run.view()).takeovers).toBe(0);
  });

  test("a database that vanishes for longer than a lease: requests are refused with a hint, and what is in doubt is said", async () => {
    const once = gate();
    const asked: string[] = [];
    const work = flow("work", async (ctx) => {
      await ctx.all([
        ctx.step("look", { effect: "read" }, async () => void asked.push("look")),
        ctx.step("act", async ({ signal }) => {
          asked.push("act");
          await Promise.race([once.opened, new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))]);
        }),
      ]);
      return "done";
    });
    const { crew: worker, troubles } = open({ agents: [work], store: proxy.url(direct) });
    await worker.work();
    const { crew: api } = open({ agents: [work], store: proxy.url(direct), worker: false });
    const server = await serve(api, { port: 0, report: () => {} });
    onTestFinished(() => server.close());
    const run = await api.start("work", {});
    await until("both steps are at work", () => asked.length === 2);

    await Promise.all(Array.from({ length: POSTGRES_READERS }, () => request(server.url, "GET", "/v1/runs"))); // each finds a connection open
    proxy.hold();
    const heldAt = performance.now();
    const requests = [
      request(server.url, "GET", "/v1/runs"),
      request(server.url, "GET", `/v1/runs/${run.id}`),
      request(server.url, "POST", "/v1/agents/work/runs", {}),
      request(server.url, "POST", `/v1/runs/${run.id}/cancel`, { why: "x" }),
      request(server.url, "GET", "/readyz"),
    ];
    // Its connection is cut with the others', before its own patience is at an end.
    const later = new Promise((resume) => setTimeout(resume, 1_000)).then(() => request(server.url, "GET", "/v1/runs"));
    for (const { status, retryAfter, body, ms } of await Promise.all([...requests.slice(0, 4), later])) {
      expect(status).toBe(503);
      expect(Number(retryAfter)).toBeGreaterThan(0);
      expect(body).toMatchObject({ error: { code: expect.stringMatching(/^STORE_/), message: expect.stringContaining("Try again") } });
      expect(ms).toBeLessThan(STORE_PATIENCE_MS + 3_000);
    }
    expect(await requests[4]).toMatchObject({ status: 503, body: { ready: false } });
    await until("the worker has given up what it cannot be sure to hold", () => troubles.length > 0);
    await new Promise((later) => setTimeout(later, Math.max(0, DEFAULT_LEASE_MS + 5_000 - (performance.now() - heldAt))));
    proxy.resume();

    await reaches(run, "unknown_outcome");
    expect(asked.filter((step) => step === "act")).toHaveLength(1);
    await run.resolve("act", { resolution: "happened", result: null, by: "a person" });
    expect(await within("the run ends", run.result())).toBe("done");
    expect(asked.filter((step) => step === "act")).toHaveLength(1);
    expect((await request(server.url, "GET", "/readyz")).status).toBe(200);
    expect(await api.runs({ limit: 10 })).toHaveLength(1); // the start that was refused did not happen after all
  }, 60_000);
});

async function request(url: string, method: string, path: string, body?: unknown) {
  const startedAt = performance.now();
  const response = await fetch(`${url}${path}`, {
    method,
    ...(body !== undefined && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
  });
  return {
    status: response.status,
    retryAfter: response.headers.get("retry-after"),
    body: await response.json(),
    ms: performance.now() - startedAt,
  };
}

describePostgres("a server that is killed under load", () => {
  test("loses no start that was acknowledged, and starts nothing twice", async () => {
    const server = await startPostgres(); // as durable as any
    onTestFinished(async () => {
      await closing();
      await server.remove();
    });
    const url = await server.database();
    const ledger = new Ledger();
    const agents = [working(ledger, 0)];
    const { crew: worker } = open({ agents, store: url });
    await worker.work();
    const { crew: api } = open({ agents, store: url, worker: false });

    const accepted = new Map<string, string>();
    let refused = 0;
    let isOver = false;
    const client = async (name: number) => {
      for (let n = 0; !isOver; n++) {
        const key = `${name}.${n}`;
        const started = await api.start("work", { key }).catch(() => undefined);
        if (started) accepted.set(key, started.id);
        else refused++;
      }
    };
    const clients = Array.from({ length: 16 }, (_, name) => client(name));
    for (let kills = 0; kills < 3; kills++) {
      const before = accepted.size;
      await until("some more starts are accepted", () => accepted.size > before + 100);
      await (kills === 1 ? server.stop("immediate") : server.kill());
      if (kills === 2) await new Promise((later) => setTimeout(later, STORE_PATIENCE_MS + 1_000)); // until somebody is refused
      await server.start();
    }
    const before = accepted.size;
    await until("starts are accepted again", () => accepted.size > before + 20);
    isOver = true;
    await Promise.all(clients);
    console.log(`accepted ${accepted.size}, refused ${refused}`);
    expect(refused).toBeGreaterThan(0);

    const rows = await until(
      "every run has ended",
      async () => {
        const open = await sql<{ n: number }>(
          url,
          "select count(*) as n from groundcrew.runs where finished_at is null and reason is distinct from 'unknown_outcome'",
        );
        return (
          Number(open[0]?.n) === 0 && sql<{ id: string; key: string; status: string }>(url, "select id, key, status from groundcrew.runs")
        );
      },
      90_000,
    );
    const byKey = new Map(rows.map((row) => [row.key, row]));
    expect(rows.length, "runs by key").toBe(byKey.size);
    for (const [key, id] of accepted) expect(byKey.get(key)?.id, `the run of ${key}`).toBe(id);
    for (const { id } of rows) expect(ledger.count(`${id}/third`), `the once step of ${id}`).toBeLessThanOrEqual(1);
    const states = Map.groupBy(rows, ({ status }) => status);
    expect([...states.keys()].filter((status) => status !== "succeeded" && status !== "parked")).toEqual([]);
  }, 180_000);
});
