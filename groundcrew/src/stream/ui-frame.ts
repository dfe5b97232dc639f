/** A run's UI message stream in frames, each with its place, so that a reader can go on where it was. */
import { type FeedItem, parseCursor } from "./feed.ts";
import type { UiChunk } from "./ui-chunk.ts";
import { UiProjection } from "./ui-message.ts";

/** One chunk with its place: hand `id` back as `after` to go on behind it. */
export interface UiFrame {
  id: string;
  chunk: UiChunk;
}

/**
 * The frames of a run behind `after`; ends with the run.
 * @param items the run's feed from its start, values decoded. Skipping is done here: what a chunk means depends on what came before.
 * @throws GroundcrewError `CURSOR_INVALID`
 */
export async function* uiFrames(items: AsyncIterable<FeedItem>, run: string, after?: string): AsyncGenerator<UiFrame> {
  const projection = new UiProjection(run);
  const isSeen = seenBy(after);
  for await (const item of items) {
    const chunks = projection.project(item);
    for (const [index, chunk] of chunks.entries()) {
      const isLast = index === chunks.length - 1;
      if (!isSeen(item.cursor, index)) yield { id: isLast ? item.cursor : `${item.cursor}/${index + 1}`, chunk };
    }
  }
}

/** Frame ids are the feed's cursors; within an item that gives several chunks, all but the last say how many came: `12/2`. */
function seenBy(after: string | undefined): (cursor: string, index: number) => boolean {
  const [place, count] = (after ?? "").split("/", 2);
  const seen = parseCursor(place);
  if (count !== undefined && !/^\d{1,6}$/.test(count)) parseCursor(after); // refuses it
  const seenOfItem = count === undefined ? Number.POSITIVE_INFINITY : Number(count);
  return (cursor, index) => {
    const { seq, chunk } = parseCursor(cursor);
    if (seq !== seen.seq) return seq < seen.seq;
    return chunk === seen.chunk ? index < seenOfItem : chunk < seen.chunk;
  };
}
