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
export const TOKENS = 400;
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
    return await follow(told.slice(0, APIS));
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

async function follow(urls: readonly string[]): Promise<Figure[]> {
  const clients = urls.map((url) => connect(url));
  const from = Date.now() + GATHER_MS;
  const runs = await Promise.all(
    Array.from({ length: RUNS }, (_, n) => clientOf(clients, n).start("talker", { prompt: `Talk from ${from}.` })),
  );
  const delays: number[] = [];
  const seen = await Promise.all(
    Array.from({ length: READERS }, async (_, n) => {
      const items: string[] = [];
      // Next to each other on a run are readers of different processes.
      for await (const item of clientOf(clients, n)
        .run(runs[Math.floor(n / (READERS / RUNS))]?.id ?? "")
        .events()) {
        const at = Date.now();
        const text = JSON.stringify(item);
        items.push(text);
        if (item.type === "chunk") for (const [, said] of text.matchAll(/word\d+@(\d+) /g)) delays.push(at - Number(said));
      }
      return items.join("\n");
    }),
  );
  if (delays.length !== READERS * TOKENS) throw new Error(`${delays.length} tokens were seen, not ${READERS * TOKENS}.`);
  const exact = await Promise.all(
    seen.map(async (items, n) => items === (await whole(clientOf(clients, n + 1), runs[Math.floor(n / (READERS / RUNS))]?.id ?? ""))),
  );
  const how = `${READERS} readers over HTTP on ${APIS} processes, ${RUNS} runs on ${WORKERS} others, a token every ${TOKEN_MS} ms; from the model's token to the reader, over ${delays.length} tokens`;
  return [
    { name: "readers.p50-ms", value: percentile(delays, 50), unit: "ms", how },
    { name: "readers.p99-ms", value: percentile(delays, 99), unit: "ms", how, target: { atMost: 250 } },
    {
      name: "readers.exact",
      value: exact.filter(Boolean).length,
      unit: "readers",
      how: "saw item for item what a reader sees afterwards, through the other process",
      target: { atLeast: READERS },
    },
  ];
}

function clientOf(clients: readonly ReturnType<typeof connect>[], n: number): ReturnType<typeof connect> {
  return clients[n % clients.length] as ReturnType<typeof connect>;
}

const stories = new Map<string, Promise<string>>();

/** What somebody sees who comes when all is over. */
function whole(client: ReturnType<typeof connect>, run: string): Promise<string> {
  const known = stories.get(run);
  if (known) return known;
  const reading = (async () => {
    const items: string[] = [];
    for await (const item of client.run(run).events()) items.push(JSON.stringify(item));
    return items.join("\n");
  })();
  stories.set(run, reading);
  return reading;
}
