/** Readers on API processes follow runs that other processes execute. Does each see exactly what was said, and how late? */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { connect } from "groundcrew/client";
import { type Figure, percentile } from "./figure.ts";
import { PostgresGround } from "./ground.ts";

const READERS = 500;
const RUNS = 25;
const APIS = 2;
const WORKERS = 2;
/** Of one answer: ten seconds of a model that says as much as most do. */
const TOKENS = 400;
/** Before that, all do the same once with short answers: such processes live for days, and what is late in their first second is no figure. */
const WARM_UP_TOKENS = 40;
export const TOKEN_MS = 25;
/** Until everybody is connected. */
const GATHER_MS = 8_000;

const script = new URL("./readers-process.ts", import.meta.url);

export async function readers(): Promise<Figure[]> {
  await using ground = await PostgresGround.open();
  const store = await ground.store();
  const children = [...Array(APIS).fill("api"), ...Array(WORKERS).fill("worker")].map((role: string) => fork(script, [store, role]));
  try {
    const told = await Promise.all(children.map(firstMessage));
    const clients = told.slice(0, APIS).map((url) => connect(url));
    await follow(clients, WARM_UP_TOKENS);
    return await figures(await follow(clients, TOKENS), clients);
  } finally {
    for (const child of children) child.disconnect();
    await Promise.all(children.map((child) => child.exitCode ?? once(child, "exit")));
  }
}

async function firstMessage(child: ChildProcess): Promise<string> {
  const [message] = await Promise.race([
    once(child, "message"),
    once(child, "exit").then(([code]) => Promise.reject(new Error(`A process ended with ${code} before its time.`))),
  ]);
  return message;
}

type Clients = readonly ReturnType<typeof connect>[];

/** What the readers of some runs saw, and how late each token was. */
interface Seen {
  runs: readonly string[];
  /** Of each reader. */
  items: readonly (readonly unknown[])[];
  delays: readonly number[];
}

async function follow(clients: Clients, tokens: number): Promise<Seen> {
  const from = Date.now() + GATHER_MS;
  const started = Array.from({ length: RUNS }, (_, n) => clientOf(clients, n).start("talker", { prompt: `Say ${tokens} from ${from}.` }));
  const runs = (await Promise.all(started)).map(({ id }) => id);
  const delays: number[] = [];
  const items = await Promise.all(
    Array.from({ length: READERS }, async (_, n) => {
      const seen: unknown[] = []; // compared when all is over: what measures must not be what keeps the reader from reading
      for await (const item of clientOf(clients, n).run(runOf(runs, n)).events()) {
        seen.push(item);
        if (item.type !== "chunk") continue;
        const at = Date.now();
        const { delta = "" } = item.part as { delta?: string };
        for (const [, said] of delta.matchAll(/@(\d+) /g)) delays.push(at - Number(said));
      }
      return seen;
    }),
  );
  if (delays.length !== READERS * tokens) throw new Error(`${delays.length} tokens were seen, not ${READERS * tokens}.`);
  return { runs, items, delays };
}

async function figures({ runs, items, delays }: Seen, clients: Clients): Promise<Figure[]> {
  const whole = await Promise.all(runs.map(async (run, n) => [run, textOf(await wholeOf(clientOf(clients, n), run))] as const));
  const texts = new Map(whole);
  const exact = items.filter((seen, n) => textOf(seen) === texts.get(runOf(runs, n)));
  const how = `${READERS} readers over HTTP on ${APIS} processes, ${RUNS} runs on ${WORKERS} others, a token every ${TOKEN_MS} ms; from the model's token to the reader, over ${delays.length} tokens, after a round to warm up`;
  return [
    { name: "readers.p50-ms", value: percentile(delays, 50), unit: "ms", how },
    { name: "readers.p99-ms", value: percentile(delays, 99), unit: "ms", how, target: { atMost: 250 } },
    {
      name: "readers.exact",
      value: exact.length,
      unit: "readers",
      how: "saw item for item what a reader sees afterwards, through whichever process",
      target: { atLeast: READERS },
    },
  ];
}

/** Next to each other on a run are readers of different processes. */
function clientOf(clients: Clients, n: number): Clients[number] {
  return clients[n % clients.length] as Clients[number];
}

function runOf(runs: readonly string[], reader: number): string {
  return runs[Math.floor(reader / (READERS / RUNS))] ?? "";
}

/** What somebody sees who comes when all is over. */
async function wholeOf(client: Clients[number], run: string): Promise<unknown[]> {
  const items: unknown[] = [];
  for await (const item of client.run(run).events()) items.push(item);
  return items;
}

function textOf(items: readonly unknown[]): string {
  return items.map((item) => JSON.stringify(item)).join("\n");
}
