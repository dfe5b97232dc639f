/** A run followed by a person: rows as steps end, text as it comes, and visibly taken back when it does not count. */
import { span } from "../clock.ts";
import type { Event, FeedItem } from "../wire.ts";
import type { Handle } from "./backend.ts";
import type { Output } from "./output.ts";
import type { Row } from "./row.ts";
import { Screen, type Streams } from "./screen.ts";
import { oneLine, type Paint } from "./terminal.ts";
import { rowLines, Timeline } from "./timeline.ts";

export interface Following {
  /** `all`: the run's timeline as it grows. `work`: only what it does, for someone who waits for the result. */
  rows: "all" | "work";
  full: boolean;
  paint: Paint;
  /** Where the rows go. */
  to: "out" | "err";
  streams: Streams;
}

/** What became of following. */
export interface Followed {
  isInterrupted: boolean;
  /** The text of the last step that ended well, when it stands on the screen. */
  lastText: string;
}

/** From where it is followed, and until when. */
export interface Until {
  after?: string;
  enough?: (item: FeedItem, tell: (line: string) => void) => Promise<boolean>;
  /** Default: the first Ctrl-C from now on. */
  signal?: AbortSignal;
}

/**
 * The run's items as they come, for a person as `following` says, or as JSON for a program: to its end, to the first Ctrl-C, or
 * to the item that is `enough`. A cursor in `after` begins behind it.
 */
export async function followRun(
  run: Handle,
  out: Output,
  following: Following,
  { after, enough, signal = untilInterrupted() }: Until,
): Promise<Followed> {
  const follow = out.json ? undefined : new Follow(following);
  const tell = (line: string) => (follow ?? out).note(line);
  try {
    for await (const item of run.events({ signal, tell, ...(after !== undefined && { after }) })) {
      if (follow) follow.item(item);
      else out.document(item);
      if (await enough?.(item, tell)) break;
    }
  } finally {
    follow?.close();
  }
  return { isInterrupted: signal.aborted, lastText: follow?.lastText ?? "" };
}

/** Fires at the first Ctrl-C. The second one finds Node's own handling again and ends the process at once. */
export function untilInterrupted(): AbortSignal {
  const controller = new AbortController();
  process.once("SIGINT", () => controller.abort());
  return controller.signal;
}

/** Rows that say nothing to someone who waits for a result. */
const BACKGROUND: ReadonlySet<string> = new Set(["created", "claimed", "resumed", "released", "session", "progress", "late", "succeeded"]);

const STRUCK_CHARS = 60;

export class Follow {
  readonly #following: Following;
  readonly #screen: Screen;
  readonly #timeline = new Timeline();
  readonly #open = new Set<Row>();
  /** Text shown of each attempt whose step has not ended well. */
  readonly #shown = new Map<string, string>();
  #writing: string | undefined;
  #startedAt = Date.now();
  #isStarted = false;
  #standing = "queued";
  #progress = "";
  #lastText = "";

  constructor(following: Following) {
    this.#following = following;
    this.#screen = new Screen(following.streams, following.to, () => this.#status());
  }

  /** The text of the last step that ended well, when it stands on the screen. */
  get lastText(): string {
    return this.#lastText;
  }

  item(item: FeedItem): void {
    if (item.type === "chunk") this.#chunk(`${item.step} ${item.attempt}`, item.part);
    else this.#event(item);
  }

  /** A line about the following itself. */
  note(text: string): void {
    this.#screen.note(text);
  }

  close(): void {
    this.#screen.close();
  }

  #chunk(attempt: string, part: unknown): void {
    if (!this.#screen.isLive || typeof part !== "object" || part === null) return;
    const delta = Reflect.get(part, "type") === "text-delta" ? Reflect.get(part, "delta") : undefined;
    if (typeof delta !== "string") return;
    if (this.#writing !== attempt) this.#screen.breakLine(); // steps side by side take turns
    this.#writing = attempt;
    this.#shown.set(attempt, (this.#shown.get(attempt) ?? "") + delta);
    this.#screen.text(delta);
  }

  #event(event: Event): void {
    if (!this.#isStarted) this.#startedAt = event.at;
    this.#isStarted = true;
    this.#settleText(event);
    this.#note(event);
    const row = this.#timeline.add(event);
    if (!row) return;
    if (!row.done) {
      this.#open.add(row);
      return;
    }
    this.#open.delete(row);
    if (this.#isShown(row, event)) this.#print(row, event.at);
  }

  /** Text of a step that ended well stays; text of an attempt that was given up is taken back. */
  #settleText(event: Event): void {
    if (!event.type.startsWith("step.") || !("attempt" in event)) return;
    const attempt = `${event.step} ${event.attempt}`;
    const text = this.#shown.get(attempt);
    if (text === undefined || event.type === "step.started") return;
    this.#shown.delete(attempt);
    this.#screen.breakLine();
    if (event.type === "step.succeeded") {
      this.#lastText = text;
      return;
    }
    const { paint } = this.#following;
    this.#screen.line(`${paint("yellow", "↶ taken back:")} ${paint("strikethrough", oneLine(text, STRUCK_CHARS))}`);
  }

  #note(event: Event): void {
    if (event.type === "run.claimed") this.#standing = "running";
    if (event.type === "run.released") this.#standing = "queued";
    if (event.type === "run.parked") this.#standing = `parked (${event.detail || event.reason})`;
    if (event.type === "progress") this.#progress = `${Math.round(event.fraction * 100)} % ${event.what}`;
    if (event.type === "step.succeeded") this.#progress = "";
  }

  #isShown(row: Row, event: Event): boolean {
    if (this.#following.rows === "all") return true;
    const isAnswer = row.label === "model" && event.type === "step.succeeded";
    return !isAnswer && !BACKGROUND.has(row.label);
  }

  /** With the time of its end, because that is when it appears. */
  #print(row: Row, at: number): void {
    const isBrief = this.#following.rows === "work";
    const ended = { ...row, at, ...(isBrief && { details: [] }) };
    for (const line of rowLines(ended, this.#startedAt, this.#following)) this.#screen.line(line);
  }

  #status(): string | undefined {
    const now = Date.now();
    const steps = [...this.#open].map((row) => `${row.label} ${row.text} ${span(now - row.at)}`);
    const parts = [span(now - this.#startedAt), this.#standing, ...steps, this.#progress].filter((part) => part !== "");
    return this.#following.paint("dim", oneLine(parts.join(" · "), 400));
  }
}
