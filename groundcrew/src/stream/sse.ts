/**
 * Server-sent events on a stream that is bounded by its reader: the next frames are asked for only when the reader has taken the
 * last ones, so a slow reader costs a few frames of memory, and one that takes nothing at all is cut.
 */
import { type Clock, systemClock } from "../clock.ts";
import { GroundcrewError } from "../errors.ts";
import { HEARTBEAT_MS, MAX_FRAMES_CHARS, RECONNECT_MS } from "../limits.ts";

export interface Frame {
  /** What a reader hands back as `Last-Event-ID`. Without it the reader's place stays where it was. */
  id?: string;
  event?: string;
  /** One line: JSON, for instance. */
  data: string;
}

export interface SseOptions {
  /** Told once, when nobody reads any more: the end of the frames, a reader that left, or one that was cut. */
  onClose: () => void;
  /** Breaks the connection: of a reader that takes nothing, or when `frames` fail. */
  cut: () => void;
  heartbeatMs?: number;
  clock?: Clock;
}

export const sseHeaders: Readonly<Record<string, string>> = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache, no-transform",
  "x-accel-buffering": "no",
};

const HEARTBEAT = ": alive\n\n";

/** Where there was no connection to cut, the stream itself is broken after this. */
const CUT_MS = 1_000;

/** Ends when `frames` end. When they fail the connection breaks, without a word: what there is to say stands in a frame. */
export function sseStream(frames: AsyncIterator<Frame>, options: SseOptions): ReadableStream<Uint8Array> {
  const bytes = new TextEncoder();
  const { clock = systemClock, cut } = options;
  const source = new Frames(frames);
  let stopHeart: () => void = () => {};
  let pulls = 0;
  let isClosed = false;
  const close = () => {
    isClosed = true;
    stopHeart();
    options.onClose();
  };
  /** The host cancels a stream whose connection is gone, which is quieter than an error in its hands. */
  const breakOff = (controller: ReadableStreamDefaultController<Uint8Array>, error: unknown) => {
    close();
    cut();
    clock.after(CUT_MS, () => controller.error(error));
  };
  return new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(bytes.encode(`retry: ${RECONNECT_MS}\n\n`));
      const onStall = () => breakOff(controller, new GroundcrewError("LIMIT_EXCEEDED", "The reader took nothing for too long."));
      stopHeart = startHeart(controller, () => pulls, onStall, options);
    },
    async pull(controller) {
      pulls++;
      try {
        const text = await source.next();
        if (isClosed) return; // cancelled or cut while we waited
        if (text !== null) return controller.enqueue(bytes.encode(text));
        close();
        controller.close();
      } catch (error) {
        if (!isClosed) breakOff(controller, error);
      }
    },
    async cancel() {
      if (!isClosed) close();
      await frames.return?.();
    },
  });
}

/**
 * Frames as text. Those that are there already go out in one piece: a process with many readers spends most of its time on
 * writing to their connections.
 */
class Frames {
  readonly #frames: AsyncIterator<Frame>;
  #asked: Promise<IteratorResult<Frame>> | undefined;

  constructor(frames: AsyncIterator<Frame>) {
    this.#frames = frames;
  }

  /** @returns null at the end */
  async next(): Promise<string | null> {
    let next = await this.#take();
    if (next.done) return null;
    let text = encode(next.value);
    const later = nextTurn();
    while (text.length < MAX_FRAMES_CHARS) {
      this.#asked = this.#frames.next();
      const isThere = await Promise.race([settled(this.#asked), later]);
      if (!isThere) break;
      next = await this.#asked;
      if (next.done) break; // told by the next call
      this.#asked = undefined;
      text += encode(next.value);
    }
    return text;
  }

  #take(): Promise<IteratorResult<Frame>> {
    const asked = this.#asked ?? this.#frames.next();
    this.#asked = undefined;
    return asked;
  }
}

/** True for a value; a failure is told to whoever takes it. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  try {
    await promise;
    return true;
  } catch {
    return false;
  }
}

/** False when the event loop has turned once. */
async function nextTurn(): Promise<false> {
  await new Promise((turn) => setImmediate(turn));
  return false;
}

/** A comment in each pause, so that proxies and readers know the connection lives; and a look whether the reader does. */
function startHeart(
  controller: ReadableStreamDefaultController<Uint8Array>,
  pulls: () => number,
  onStall: () => void,
  { clock = systemClock, heartbeatMs = HEARTBEAT_MS }: SseOptions,
): () => void {
  const heartbeat = new TextEncoder().encode(HEARTBEAT);
  let seen = 0;
  let idleBeats = 0;
  let cancel: () => void = () => {};
  const beat = () => {
    const isWaiting = (controller.desiredSize ?? 0) > 0;
    idleBeats = isWaiting || pulls() !== seen ? 0 : idleBeats + 1;
    seen = pulls();
    if (idleBeats === 2) return onStall();
    if (isWaiting) controller.enqueue(heartbeat);
    cancel = clock.after(heartbeatMs, beat);
  };
  cancel = clock.after(heartbeatMs, beat);
  return () => cancel();
}

function encode({ id, event, data }: Frame): string {
  return `${id === undefined ? "" : `id: ${id}\n`}${event === undefined ? "" : `event: ${event}\n`}data: ${data}\n\n`;
}
