/**
 * The world outside, in the driver's process, which nothing kills. What a call does is in its books the moment it arrives, and
 * no crash rolls it back. It is also the provider of the model.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Effect } from "../groundcrew/src/index.ts";
import { DECLINED, receiptOf } from "./expected.ts";
import { answerModel } from "./model.ts";
import type { Manner } from "./programs.ts";

/** What a worker's tool asks of the world. */
export interface Call {
  id: string;
  /** Idempotency key. */
  key: string;
  attempt: number;
  effect: Effect;
  manner: Manner;
  ms: number;
}

export type Answer = "done" | "declined" | "nothing" | "crash" | "refused" | "failed";

export interface Arrival {
  key: string;
  attempt: number;
  pid: number;
  at: number;
  answer: Answer;
}

/** The page of one effect in the books. */
export interface Page {
  effect: Effect;
  arrivals: Arrival[];
  /** Whoever asked was told that no call up to this attempt happened: one that still comes is refused, or it would have been a lie. */
  voided: number;
}

export class World {
  readonly pages = new Map<string, Page>();
  /** What each model call of a conversation was shown. */
  readonly shown = new Map<string, string[][]>();
  readonly #ids = new Map<string, string>();
  readonly #server: Server;
  /** Told when a call has its process die. */
  onCrash: (pid: number) => void = () => {};
  /** Whether every process that may have sent something can be seen to be well or dead: otherwise nobody can tell what is still to come. */
  isSure: () => boolean = () => true;

  private constructor() {
    this.#server = createServer((request, response) => {
      void this.#serve(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
    // A connection that the server ends while its client begins a request would look like a failure of the call.
    this.#server.keepAliveTimeout = this.#server.requestTimeout = this.#server.headersTimeout = 0;
  }

  static async open(): Promise<World> {
    const world = new World();
    await new Promise<void>((resolve) => world.#server.listen(0, "127.0.0.1", resolve));
    return world;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Whether the effect took place, as the books have it. */
  happened(id: string): boolean {
    return this.pages.get(id)?.arrivals.some(took) ?? false;
  }

  /** For whoever has been told that nothing happened so far. */
  void(id: string, attempt: number): void {
    const page = this.#page(id, "once");
    page.voided = Math.max(page.voided, attempt);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://world");
    if (url.pathname === "/known") return send(response, 200, this.#lookUp(url.searchParams.get("key") ?? ""));
    const pid = Number(request.headers["x-pid"]);
    const body: unknown = JSON.parse(await textOf(request));
    if (url.pathname === "/act") return this.#act(body as Call, pid, response);
    await answerModel(body, response, {
      arrive: (id, answer) => this.#arrive({ id, key: id, attempt: 1, effect: "read" }, pid, answer),
      isFirst: (id) => !this.pages.has(id),
      show: (conversation, tokens) => this.#show(conversation, tokens),
    });
  }

  async #act(call: Call, pid: number, response: ServerResponse): Promise<void> {
    const answer = this.#answerTo(call);
    this.#arrive(call, pid, answer);
    if (answer === "crash") this.onCrash(pid);
    if (call.ms > 0) await sleep(call.ms);
    switch (answer) {
      case "done":
        return send(response, 200, { receipt: receiptOf(call.id) });
      case "crash":
        return send(response, 200, { crash: true });
      case "nothing":
        return; // until the caller has had enough
      default:
        return send(response, 422, { error: DECLINED });
    }
  }

  #answerTo({ id, effect, manner, attempt }: Call): Answer {
    const page = this.pages.get(id);
    if (page && attempt <= page.voided) return "refused";
    switch (manner) {
      case "ok":
        return "done";
      case "decline":
        return "declined";
      case "hang":
        return effect === "once" && page?.arrivals.length ? "done" : "nothing";
      case "crash":
        return page?.arrivals.length ? "done" : "crash";
    }
  }

  #arrive({ id, key, attempt, effect }: Pick<Call, "id" | "key" | "attempt" | "effect">, pid: number, answer: Answer): void {
    this.#page(id, effect).arrivals.push({ key, attempt, pid, at: performance.now(), answer });
    this.#ids.set(key, id);
  }

  #page(id: string, effect: Effect): Page {
    const page = this.pages.get(id) ?? { effect, arrivals: [], voided: 0 };
    this.pages.set(id, page);
    return page;
  }

  #lookUp(key: string): unknown {
    const id = this.#ids.get(key);
    if (id !== undefined && this.happened(id)) return { happened: true, result: receiptOf(id) };
    return this.isSure() ? { happened: false } : "unknown";
  }

  #show(conversation: string, tokens: string[]): void {
    const shown = this.shown.get(conversation) ?? [];
    this.shown.set(conversation, [...shown, tokens]);
  }
}

/** Whether the call had its effect. */
export function took({ answer }: Arrival): boolean {
  return answer === "done" || answer === "nothing" || answer === "crash";
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const part of request.setEncoding("utf8")) text += part;
  return text;
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}
