/**
 * Server-sent events on a stream that is bounded by its reader: the next frame is asked for only when the reader has taken the
 * last one, so a slow reader costs one frame of memory, and one that takes nothing at all is cut.
 */
import { type Clock, systemClock } from "../clock.ts";
import { HEARTBEAT_MS, RECONNECT_MS } from "../limits.ts";

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
  /** Ends the connection of a reader that takes nothing. */
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

/** Ends when `frames` end. A failure of `frames` breaks the connection; tell it in a frame instead. */
export function sseStream(frames: AsyncIterator<Frame>, options: SseOptions): ReadableStream<Uint8Array> {
  const bytes = new TextEncoder();
  let stopHeart: () => void = () => {};
  let pulls = 0;
  const close = () => {
    stopHeart();
    options.onClose();
  };
  return new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(bytes.encode(`retry: ${RECONNECT_MS}\n\n`));
      stopHeart = startHeart(controller, () => pulls, options);
    },
    async pull(controller) {
      pulls++;
      const next = await frames.next();
      if (!next.done) return controller.enqueue(bytes.encode(encode(next.value)));
      close();
      controller.close();
    },
    async cancel() {
      close();
      await frames.return?.();
    },
  });
}

/** A comment in each pause, so that proxies and readers know the connection lives; and a look whether the reader does. */
function startHeart(controller: ReadableStreamDefaultController<Uint8Array>, pulls: () => number, options: SseOptions): () => void {
  const { clock = systemClock, heartbeatMs = HEARTBEAT_MS } = options;
  const heartbeat = new TextEncoder().encode(HEARTBEAT);
  let seen = 0;
  let idleBeats = 0;
  let cancel: () => void = () => {};
  const beat = () => {
    const isWaiting = (controller.desiredSize ?? 0) > 0;
    idleBeats = isWaiting || pulls() !== seen ? 0 : idleBeats + 1;
    seen = pulls();
    if (idleBeats === 2) return options.cut();
    if (isWaiting) controller.enqueue(heartbeat);
    cancel = clock.after(heartbeatMs, beat);
  };
  cancel = clock.after(heartbeatMs, beat);
  return () => cancel();
}

function encode({ id, event, data }: Frame): string {
  return `${id === undefined ? "" : `id: ${id}\n`}${event === undefined ? "" : `event: ${event}\n`}data: ${data}\n\n`;
}
