import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as wait } from "node:timers/promises";
import { z } from "zod";

/** What reached the outside world. A `repeat` is a refund that was asked for again with the same key, and not paid again. */
export type Entry =
  | { kind: "refund"; id: string; at: string; key: string | null; orderId: string; amount: number }
  | { kind: "repeat"; of: string; at: string; key: string }
  | { kind: "email"; id: string; at: string; key: string | null; to: string; subject: string; body: string };

export interface Ledger {
  url: string;
  entries(): Entry[];
  stop(): Promise<void>;
}

export interface LedgerOptions {
  /** Where effects are recorded. What it holds already counts, so a restarted service still knows every key. */
  file: string;
  port?: number;
  /** How long the bank takes to answer. The refund itself happens when the request arrives. */
  refundMs?: number;
  /** The same for the mail service. */
  emailMs?: number;
}

const ORDERS = [
  { id: "A-1042", customer: "Dana Whitfield", email: "dana@example.com", item: "stoneware teapot", total: 84.5, delivered: "18 November" },
  { id: "A-1043", customer: "Luis Ortega", email: "luis@example.com", item: "reading lamp", total: 129, delivered: "20 November" },
  { id: "A-1077", customer: "Dana Whitfield", email: "dana@example.com", item: "espresso machine", total: 429, delivered: "19 November" },
];

const refundBody = z.object({ orderId: z.string(), amount: z.number().positive() });
const emailBody = z.object({ to: z.email(), subject: z.string().min(1), body: z.string() });

type Answer = { status: number; body: unknown; afterMs?: number };

/**
 * The payments and mail service that the support agent's tools call: the world outside, which no crash of ours rolls back.
 * The bank knows keys: a refund that is asked for again with its key is answered with its receipt. The mail service knows none:
 * what is sent twice goes out twice. Under another key the same order is refunded again, so that a caller's mistake shows.
 */
export async function startLedger({ file, port = 0, refundMs = 2_000, emailMs = 0 }: LedgerOptions): Promise<Ledger> {
  const entries = readEntries(file);
  const stopping = new AbortController();

  function record(entry: Entry): void {
    appendFileSync(file, `${JSON.stringify(entry)}\n`);
    entries.push(entry);
  }

  function refund(body: unknown, key: string | null): Answer {
    const asked = refundBody.parse(body);
    const paid = key === null ? undefined : entries.find((entry) => entry.kind === "refund" && entry.key === key);
    if (paid?.kind === "refund" && key !== null) {
      record({ kind: "repeat", of: paid.id, at: now(), key });
      return { status: 200, body: receipt(paid) };
    }
    const order = ORDERS.find(({ id }) => id === asked.orderId);
    if (!order) return { status: 404, body: { error: `There is no order ${asked.orderId}.` } };
    if (asked.amount > order.total) return { status: 422, body: { error: `Order ${order.id} cost only ${order.total}.` } };
    const entry = { kind: "refund" as const, id: nextId("RF", entries), at: now(), key, ...asked };
    record(entry);
    return { status: 201, body: receipt(entry), afterMs: refundMs };
  }

  function email(body: unknown, key: string | null): Answer {
    const entry = { kind: "email" as const, id: nextId("EM", entries), at: now(), key, ...emailBody.parse(body) };
    record(entry);
    return { status: 202, body: { emailId: entry.id }, afterMs: emailMs };
  }

  async function answer(request: IncomingMessage): Promise<Answer> {
    const { pathname } = new URL(request.url ?? "/", "http://ledger");
    const key = request.headers["idempotency-key"]?.toString() ?? null;
    if (request.method === "POST" && pathname === "/refunds") return refund(await readJson(request), key);
    if (request.method === "POST" && pathname === "/emails") return email(await readJson(request), key);
    if (request.method === "GET" && pathname === "/entries") return { status: 200, body: entries };
    const order = ORDERS.find(({ id }) => request.method === "GET" && pathname === `/orders/${id}`);
    if (order) return { status: 200, body: order };
    return { status: 404, body: { error: `There is nothing at ${request.method} ${pathname}.` } };
  }

  const server = createServer(async (request, response) => {
    try {
      const { status, body, afterMs = 0 } = await answer(request);
      // A caller that dies during this wait has its effect done and its answer lost.
      if (afterMs > 0) await wait(afterMs, undefined, { signal: stopping.signal });
      send(response, status, body);
    } catch (error) {
      const invalid = error instanceof z.ZodError || error instanceof SyntaxError;
      send(response, invalid ? 400 : 503, { error: error instanceof Error ? error.message : String(error) });
    }
  });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    entries: () => [...entries],
    async stop() {
      stopping.abort();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** What the file says has happened: readable without the service, and after it. */
export function readEntries(file: string): Entry[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8").split("\n").filter(Boolean);
  return lines.map((line) => JSON.parse(line) as Entry);
}

function nextId(prefix: "RF" | "EM", entries: Entry[]): string {
  const kind = prefix === "RF" ? "refund" : "email";
  return `${prefix}-${String(entries.filter((entry) => entry.kind === kind).length + 1).padStart(4, "0")}`;
}

function receipt({ id, orderId, amount }: { id: string; orderId: string; amount: number }) {
  return { refundId: id, orderId, amount };
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return JSON.parse(Buffer.concat(chunks).toString("utf8"));
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

function now(): string {
  return new Date().toISOString();
}
