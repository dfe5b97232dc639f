/** The world outside the processes that are killed: it records what reached it the moment it arrives, and no crash rolls it back. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { type ChatMessage, LLMock } from "@copilotkit/aimock";
import { until } from "../support/until.ts";

export interface Arrival {
  /** What was asked of the world: the path of a call, or whose model step it was. */
  name: string;
  /** Idempotency key. */
  key: string | null;
  at: number;
}

export type Pace = "at once" | "word by word" | "slow";

const PACES: Record<Pace, { chunkSize: number; streamingProfile?: { ttft: number; tps: number } }> = {
  "at once": { chunkSize: 40 },
  "word by word": { chunkSize: 24, streamingProfile: { ttft: 0, tps: 40 } },
  slow: { chunkSize: 5, streamingProfile: { ttft: 0, tps: 20 } },
};

export interface World {
  url: string;
  modelUrl: string;
  arrivals: readonly Arrival[];
  count(name: string): number;
  /** What a caller with this key was, or would have been, answered; undefined when no such call arrived. */
  known(key: string): unknown;
  /** Told of each arrival before it is answered. */
  onArrival: (arrival: Arrival) => void;
  /** Calls of these names get no answer until they are released. */
  silent: Set<string>;
  /** Answers every call that waits, and from now on all others. */
  release(): void;
  /** How fast the model talks: at once, so slowly that readers see it word by word, or for many seconds. */
  pace: Pace;
  /** Resolves when no caller is connected: whatever a dead process had sent has arrived. */
  quiet(): Promise<unknown>;
  stop(): Promise<void>;
}

export async function startWorld(): Promise<World> {
  const arrivals: Arrival[] = [];
  const sockets = new Set<Socket>();
  const waiting: (() => void)[] = [];

  function arrive(name: string, key: string | null): void {
    const arrival = { name, key, at: Date.now() };
    arrivals.push(arrival);
    world.onArrival(arrival);
  }

  function answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "/", "http://world");
    const name = url.pathname.slice(1);
    if (request.method === "GET") return send(response, { result: world.known(url.searchParams.get("key") ?? "") });
    arrive(name, request.headers["idempotency-key"]?.toString() ?? null);
    if (world.silent.has(name)) waiting.push(() => send(response, receipt(name)));
    else send(response, receipt(name));
  }

  const server = createServer(answer);
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

  const model = new LLMock({ host: "127.0.0.1", port: 0, logLevel: "silent" });
  const reply = ({ messages }: { messages: ChatMessage[] }) => {
    const { name, ...said } = script(messages);
    arrive(name, null);
    return said;
  };
  for (const [pace, timing] of Object.entries(PACES)) {
    model.addFixture({ match: { predicate: () => world.pace === pace }, response: reply, ...timing });
  }
  await model.start();

  const world: World = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    modelUrl: `${model.url}/v1`,
    arrivals,
    count: (name) => arrivals.filter((arrival) => arrival.name === name).length,
    known: (key) => arrivals.filter((arrival) => arrival.key === key).map((arrival) => receipt(arrival.name))[0],
    onArrival: () => {},
    silent: new Set(),
    release() {
      world.silent.clear();
      for (const answerNow of waiting.splice(0)) answerNow();
    },
    pace: "at once",
    quiet: () => until("all connections to the world are closed", () => sockets.size === 0),
    async stop() {
      server.closeAllConnections();
      await Promise.all([new Promise((resolve) => server.close(resolve)), model.stop()]);
    },
  };
  return world;
}

function send(response: ServerResponse, body: unknown): void {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
}

function receipt(name: string): unknown {
  return { receipt: `receipt of ${name}` };
}

/** What the model says follows from the conversation alone, so a call that is repeated after a crash gets the same answer. */
function script(messages: ChatMessage[]): { name: string; content: string; toolCalls?: { id: string; name: string; arguments: string }[] } {
  const asked = String(messages.find(({ role }) => role === "user")?.content);
  if (!asked.includes("order 7")) return { name: "trip summary", content: `In short: ${asked.slice(0, 200)}` };
  const results = messages.filter(({ role }) => role === "tool").map(({ content }) => String(content));
  if (results.length > 0) return { name: "clerk model:2", content: `Done, all of it: ${results.join(" and ")}.` };
  const toolCalls = ["lookup", "refund", "mail"].map((name) => ({ id: `call-${name}`, name, arguments: '{"order":"7"}' }));
  return { name: "clerk model:1", content: "I look it up, pay it back, and write to the customer about it.", toolCalls };
}
