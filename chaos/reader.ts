/** A reader that goes away and comes back, from its last cursor, again and again; and what it saw, against the whole story. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Crew, type FeedItem, isError } from "../groundcrew/src/index.ts";
import { isEnd } from "../groundcrew/src/stream/feed.ts";
import { flawOf } from "../groundcrew/test/crash/readers.ts";
import { insist } from "./patience.ts";
import type { Random } from "./random.ts";

const RETRY_MS = 100;

/** Follows a run to its end, in pieces. */
export async function readInPieces(crew: Crew, id: string, random: Random): Promise<FeedItem[]> {
  const seen: FeedItem[] = [];
  for (let last: FeedItem | undefined; !last || !isEnd(last); ) {
    let patience = random.between(1, 8);
    try {
      const run = await crew.run(id);
      for await (const item of run.events({ after: last?.cursor })) {
        seen.push(item);
        last = item;
        if (--patience === 0) break;
      }
    } catch (error) {
      if (!isError(error) || !error.code.startsWith("STORE_")) throw error;
      await sleep(RETRY_MS);
    }
  }
  return seen;
}

/** What is wrong with what was seen, now that the run is over; undefined when nothing is. */
export async function flawIn(crew: Crew, id: string, seen: readonly FeedItem[]): Promise<string | undefined> {
  const whole = await insist("a whole feed", async () => {
    const items: FeedItem[] = [];
    for await (const item of (await crew.run(id)).events()) items.push(item);
    return items;
  });
  const flaw = flawOf(whole);
  if (flaw !== undefined) return `its feed has a flaw: ${flaw}`;
  const at = seen.findIndex((item, index) => JSON.stringify(item) !== JSON.stringify(whole[index]));
  if (at !== -1) return `a reader was shown ${JSON.stringify(seen[at])} where the feed has ${JSON.stringify(whole[at])}`;
  return seen.length === whole.length ? undefined : `a reader was shown ${seen.length} items of ${whole.length}`;
}
