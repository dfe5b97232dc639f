/** API processes and worker processes apart, on one PostgreSQL: what one executes the other streams, and a deploy loses nothing. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { connect, type FeedItem } from "../../src/client/client.ts";
import type { Event } from "../../src/persistence/event.ts";
import { fold } from "../../src/persistence/fold.ts";
import { flawOf } from "../crash/readers.ts";
import { createDatabase, dropDatabase, run as sql } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { until, within } from "../support/until.ts";
import { project, type Running } from "./command.ts";

const library = join(import.meta.dirname, "../../src/index.ts");
const WORDS = 30;

/** A model that says a word every few milliseconds, and a step that waits for a file. */
const config = `
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { MockLanguageModelV4 } from ${JSON.stringify(import.meta.resolve("ai/test"))};
import { agent, flow, groundcrew } from ${JSON.stringify(library)};

const usage = { inputTokens: { total: 1, noCache: 1, cacheRead: 0, cacheWrite: 0 }, outputTokens: { total: 1, text: 1, reasoning: 0 } };
async function* words() {
  yield { type: "stream-start", warnings: [] };
  yield { type: "text-start", id: "t" };
  for (let n = 0; n < ${WORDS}; n++) {
    await sleep(40);
    yield { type: "text-delta", id: "t", delta: n + ":" + Date.now() + " " };
  }
  yield { type: "text-end", id: "t" };
  yield { type: "finish", finishReason: { unified: "stop", raw: "stop" }, usage };
}
const model = new MockLanguageModelV4({ doStream: async () => ({ stream: ReadableStream.from(words()) }) });
const talker = agent("talker", { model });
const steps = flow("steps", async (ctx) => {
  const pids: number[] = [];
  for (let n = 1; n <= 3; n++) {
    pids.push(await ctx.step("step-" + n, async () => {
      while (n === 2 && !existsSync("go")) await sleep(5);
      return process.pid;
    }));
  }
  return pids;
});
export default groundcrew({ agents: [talker, steps], worker: { concurrency: 4 } });
`;

describePostgres("processes with roles", () => {
  let crew: ReturnType<typeof project>;
  let database: string;

  beforeAll(async () => {
    database = await createDatabase(await sharedPostgres());
    crew = project({ "groundcrew.config.ts": config, "package.json": '{"type":"module"}' });
  });
  afterEach(() => crew.stop());
  afterAll(async () => {
    await crew?.remove();
    if (database) await dropDatabase(database);
  });

  async function begin(role: string): Promise<Running & { url: string }> {
    const running = crew.start(["serve", "--role", role, "--port", "0", "--json"], { DATABASE_URL: database });
    const [line] = await running.until(/\{"type":"ready".*\}\n/);
    return { ...running, url: JSON.parse(line).url as string };
  }

  async function end(...processes: Running[]): Promise<void> {
    for (const { child } of processes) child.kill("SIGTERM");
    for (const one of processes) expect(await within("the process ends", one.ended)).toMatchObject({ code: 0 });
  }

  test("any API process streams a run live that another process executes, and goes on from a cursor of the other's", async () => {
    const [api, other, worker] = await Promise.all([begin("api"), begin("api"), begin("worker")]);
    expect(worker.url).toBeUndefined();
    const started = await connect(api.url).start("talker", { prompt: "Talk." });
    const seen: FeedItem[] = [];
    const delays: number[] = [];
    for await (const item of connect(api.url).run(started.id).events()) {
      seen.push(item);
      delays.push(...timesIn(item).map((at) => Date.now() - at));
      if (delays.length > WORDS / 3) break;
    }
    for await (const item of connect(other.url)
      .run(started.id)
      .events({ after: seen.at(-1)?.cursor as string })) {
      seen.push(item);
      delays.push(...timesIn(item).map((at) => Date.now() - at));
    }
    expect(flawOf(seen as Parameters<typeof flawOf>[0])).toBeUndefined();
    const whole: FeedItem[] = [];
    for await (const item of connect(other.url).run(started.id).events()) whole.push(item);
    expect(seen).toEqual(whole);
    expect(delays).toHaveLength(WORDS);
    expect(delays.sort((a, b) => a - b)[WORDS / 2], "ms from token to reader").toBeLessThan(250);
    expect(seen.filter(({ type }) => type === "chunk").length, "pieces").toBeGreaterThan(5);
    await end(api, other, worker);
  }, 60_000);

  test("a worker that is told to stop is not ready, still answers, and hands its run over behind the step in flight", async () => {
    const [old, next] = await Promise.all([begin("all"), begin("api")]);
    const run = await connect(next.url).start("steps", {});
    const journal = async () => (await connect(next.url).run(run.id).journal()) as unknown as Event[];
    const stepsOf = async () => fold(await journal()).steps;
    await until("the second step is in flight", async () => (await stepsOf()).get("step-2")?.status === "running");
    const ready = async (url: string) => (await fetch(`${url}/readyz`)).status;
    expect(await ready(old.url)).toBe(200);

    old.child.kill("SIGTERM");
    await until("it is not ready", async () => (await ready(old.url)) === 503);
    expect((await fetch(`${old.url}/v1/runs/${run.id}`)).status).toBe(200);
    const late = await connect(old.url).start("talker", { prompt: "A request that came late." });
    const heir = await begin("worker");
    expect((await stepsOf()).get("step-2")?.status).toBe("running");
    writeFileSync(join(crew.directory, "go"), "");
    const pids = await within("the run ends", connect(next.url).run(run.id).result());
    expect(pids).toEqual([old.child.pid, old.child.pid, heir.child.pid]);
    expect(await within("the old process ends", old.ended)).toMatchObject({ code: 0 });
    await within("what it accepted last is done as well", connect(next.url).run(late.id).result());

    const events = await journal();
    const at = (type: string) => events.findLast((event) => event.type === type)?.at as number;
    expect(events.filter((event) => event.type === "run.claimed").map(({ takeover }) => takeover)).toEqual([false, false]);
    expect(at("run.claimed") - at("run.released"), "ms until the heir has it").toBeLessThan(1_000);
    await end(next, heir);
  }, 60_000);

  test("a process that serves, works and is read by many holds no more connections than it says", async () => {
    const all = await begin("all");
    const client = connect(all.url);
    const runs = await Promise.all(Array.from({ length: 24 }, () => client.start("talker", { prompt: "Talk." })));
    let isOver = false;
    let most = 0;
    const counting = (async () => {
      while (!isOver) {
        const [found] = await sql<{ n: string }>(
          database,
          "select count(*) as n from pg_stat_activity where application_name = 'groundcrew' and datname = current_database()",
        );
        most = Math.max(most, Number(found?.n));
        await sleep(10);
      }
    })();
    const readers = runs.flatMap((run) => Array.from({ length: 5 }, () => ended(run.events())));
    await Promise.all(readers);
    isOver = true;
    await counting;
    expect(most).toBeGreaterThan(3);
    expect(most).toBeLessThanOrEqual(11);
    await end(all);
  }, 60_000);
});

/** When the words in this piece were said. */
function timesIn(item: FeedItem): number[] {
  const delta = item.type === "chunk" ? (item.part as { delta?: string }).delta : undefined;
  return [...(delta ?? "").matchAll(/\d+:(\d+) /g)].map(([, at]) => Number(at));
}

async function ended(items: AsyncIterable<FeedItem>): Promise<void> {
  for await (const _ of items);
}
