import { type Client, connect, type FeedItem } from "groundcrew/client";
import { note, paint, say, write } from "./screen.ts";

/** Somebody who follows a run through the HTTP API with the typed client, and tells what comes. */
export class Reader {
  readonly client: Client;
  readonly url: string;
  readonly items: FeedItem[] = [];
  /** The cursors from which the client took a broken stream up again. It does so by itself. */
  readonly resumedFrom: string[] = [];
  /** When the process that served the run was killed last. */
  killedAt = 0;
  readonly #names = new Map<string, string>();

  constructor(url: string) {
    this.url = url;
    this.client = connect(url, { fetch: (input, init) => this.#fetch(input, init) });
  }

  async #fetch(input: Parameters<typeof fetch>[0], init: RequestInit = {}): Promise<Response> {
    const response = await fetch(input, init);
    const cursor = new Headers(init.headers).get("last-event-id");
    if (cursor !== null) {
      this.resumedFrom.push(cursor);
      note(`reader: connected again by itself, going on behind ${cursor}`);
    }
    return response;
  }

  /** Follows to the end of the run. */
  async follow(run: string): Promise<FeedItem[]> {
    const seen: FeedItem[] = [];
    for await (const item of this.client.run(run).events()) {
      seen.push(item);
      this.items.push(item);
      this.#show(item);
    }
    return seen;
  }

  /** What a reader sees who comes when everything is over. */
  async again(run: string): Promise<FeedItem[]> {
    const seen: FeedItem[] = [];
    for await (const item of this.client.run(run).events()) seen.push(item);
    return seen;
  }

  /** Whether a tool of this name is at work, as far as the reader was told. */
  saw(type: FeedItem["type"], name: string): boolean {
    return this.items.some((item) => item.type === type && "step" in item && this.#names.get(item.step ?? "") === name);
  }

  /** Whether the run's reader was told of this. */
  has(run: string, type: FeedItem["type"]): boolean {
    return this.items.some((item) => item.type === type && "approval" in item && item.approval.startsWith(`${run}.`));
  }

  #show(item: FeedItem): void {
    switch (item.type) {
      case "step.started":
        this.#names.set(item.step, item.name);
        if (item.kind === "tool")
          say(`  → ${item.name} ${brief(item.input)}${item.attempt > 1 ? paint("yellow", `  (attempt ${item.attempt})`) : ""}`);
        return;
      case "chunk":
        return this.#type(item.part);
      case "step.succeeded":
        if (item.step.startsWith("tool:")) say(paint("dim", `  ← ${brief(item.value)}`));
        return;
      case "step.failed":
        return say(paint("red", `  ✗ ${this.#names.get(item.step)}: ${item.error.message}`));
      case "step.abandoned":
        return note(`run: the ${this.#names.get(item.step)} in flight is given up, because ${item.why}; it is keyed, so it is asked again`);
      case "step.unknown":
        return note(`run: nobody saw the outcome of ${this.#names.get(item.step)}, because ${item.why}; it is once, so it is not repeated`);
      case "step.resolved":
        return note(`run: its reconcile hook looked in the outbox: it ${item.resolution.replaceAll("_", " ")} ${brief(item.value)}`);
      case "run.claimed":
        if (item.takeover) note(`run: taken over ${item.at - this.killedAt} ms after the kill`);
        return;
      case "approval.requested":
        return note(`run: asks ${item.to.join(" or ")} whether ${item.request.name} may run, because ${item.request.why}`);
      case "approval.escalated":
        return note(`run: nobody has answered; ${item.to.join(" or ")} may decide now`);
      case "approval.ended":
        return note(`run: ${item.verdict.outcome}${item.verdict.by.length > 0 ? ` by ${item.verdict.by.join(" and ")}` : ""}`);
      case "run.parked":
        return note(`run: waits, ${item.detail}`);
      default:
        return;
    }
  }

  #type(part: unknown): void {
    const { type, delta } = part as { type: string; delta?: string };
    if (type === "text-start") write(`${paint("green", "Agent:")} `);
    if (type === "text-delta") write(delta ?? "");
    if (type === "text-end") write("\n");
  }
}

function brief(value: unknown): string {
  const text = JSON.stringify(value) ?? "";
  return text.length > 100 ? `${text.slice(0, 99)}…` : text;
}
