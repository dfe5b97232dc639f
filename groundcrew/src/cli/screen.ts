/**
 * Where a run is followed by eye: streamed text, lines about what happened, and one status line at the bottom that is
 * redrawn in place. In a pipe there are only the lines.
 */
import { stripVTControlCharacters } from "node:util";
import { inert, inertPiece } from "../inert.ts";

const REDRAW_MS = 200;
const ERASE_LINE = "\r\u001b[K";

/** Where a command writes. */
export interface Streams {
  out: NodeJS.WriteStream;
  err: NodeJS.WriteStream;
}

export class Screen {
  readonly #streams: Streams;
  readonly #lines: NodeJS.WriteStream;
  readonly #isLive: boolean;
  readonly #status: () => string | undefined;
  readonly #timer: NodeJS.Timeout | undefined;
  #isStatusShown = false;
  #isMidLine = false;
  #half = "";

  /**
   * @param lines where lines go: to the answer when they are what was asked for, beside it otherwise.
   * @param status asked for each time it is drawn; undefined for none.
   */
  constructor(streams: Streams, lines: "out" | "err", status: () => string | undefined) {
    this.#streams = streams;
    this.#lines = streams[lines];
    this.#status = status;
    this.#isLive = streams.out.isTTY === true && streams.err.isTTY === true;
    if (this.#isLive) this.#timer = setInterval(() => this.#draw(), REDRAW_MS).unref();
  }

  /** Whether text can be shown as it comes, because what has to be taken back can be marked as such. */
  get isLive(): boolean {
    return this.#isLive;
  }

  /** The next piece of a text that is being written. */
  text(delta: string): void {
    const whole = this.#half + delta;
    this.#half = /[\ud800-\udbff]$/.exec(whole)?.[0] ?? ""; // the other half of the character comes with the next piece
    const text = inertPiece(whole.slice(0, whole.length - this.#half.length));
    if (text === "") return;
    this.#erase();
    this.#streams.out.write(text);
    this.#isMidLine = !text.endsWith("\n");
  }

  /** A line of its own, already inert. */
  line(text: string): void {
    this.breakLine();
    this.#erase();
    this.#lines.write(`${text}\n`);
  }

  /** A line beside the answer, already inert. */
  note(text: string): void {
    this.breakLine();
    this.#erase();
    this.#streams.err.write(`${text}\n`);
  }

  /** Ends the text that was being written, so that something else can begin. */
  breakLine(): void {
    if (this.#half !== "") this.#streams.out.write(inert(this.#half));
    this.#half = "";
    if (this.#isMidLine) this.#streams.out.write("\n");
    this.#isMidLine = false;
  }

  close(): void {
    clearInterval(this.#timer);
    this.breakLine();
    this.#erase();
  }

  #draw(): void {
    if (this.#isMidLine) return; // the text itself shows that something moves
    this.#erase();
    const status = this.#status();
    if (status === undefined) return;
    this.#streams.err.write(cut(status, (this.#streams.err.columns ?? 80) - 1));
    this.#isStatusShown = true;
  }

  #erase(): void {
    if (this.#isStatusShown) this.#streams.err.write(ERASE_LINE);
    this.#isStatusShown = false;
  }
}

/** A status that wraps could not be erased: what does not fit goes, and with it the colours; a wide character counts double. */
function cut(line: string, width: number): string {
  const plain = stripVTControlCharacters(line);
  let used = 0;
  let kept = "";
  for (const character of plain) {
    used += character > "\u02ff" ? 2 : 1;
    if (used > width) return kept;
    kept += character;
  }
  return line;
}
