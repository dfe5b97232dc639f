/** Readers of a run and of its child runs, in this process, while other processes write and die. */
import { type Crew, type FeedItem, isError } from "../../src/index.ts";
import { isEnd } from "../../src/stream/feed.ts";
import { until } from "../support/until.ts";

/** What two kinds of readers saw of one run. */
export interface Watched {
  run: string;
  agent: string;
  /** Seen by a reader that stayed. */
  steady: FeedItem[];
  /** Seen by one that went away and came back, from its last cursor, again and again. */
  restless: FeedItem[];
}

export interface Readers {
  /** The run and its child runs, as they are found. */
  watched: readonly Watched[];
  /** Resolves when every reader has seen the end of its run. */
  ended: Promise<void>;
}

/** @param onItem told what the steady readers see. */
export function watchAll(crew: Crew, agent: string, random: () => number, onItem: (watched: Watched, item: FeedItem) => void): Readers {
  const watched: Watched[] = [];

  async function steady(one: Watched): Promise<void> {
    const children: Promise<void>[] = [];
    for await (const item of (await crew.run(one.run)).events()) {
      one.steady.push(item);
      onItem(one, item);
      const isChild = item.type === "step.started" && item.child !== undefined;
      if (isChild && watched.every(({ run }) => run !== item.child)) children.push(watch(item.child ?? "", item.name));
    }
    await Promise.all(children);
  }

  async function restless(one: Watched): Promise<void> {
    const run = await crew.run(one.run);
    for (let last: FeedItem | undefined; !last || !isEnd(last); ) {
      let patience = 1 + Math.floor(random() * 4);
      for await (const item of run.events({ after: last?.cursor })) {
        one.restless.push(item);
        last = item;
        if (--patience === 0) break;
      }
    }
  }

  async function watch(run: string, name: string): Promise<void> {
    const one: Watched = { run, agent: name, steady: [], restless: [] };
    watched.push(one);
    await until(`run ${run} of ${name} is there`, () => exists(crew, run));
    await Promise.all([steady(one), restless(one)]);
  }

  const first = async () => {
    const [row] = await until(`a run of ${agent} is there`, async () => {
      const rows = await crew.runs({ agent });
      return rows.length > 0 && rows;
    });
    await watch(row?.id ?? "", agent);
  };
  const ended = first();
  ended.catch(() => {}); // told to whoever awaits it, later
  return { watched, ended };
}

async function exists(crew: Crew, run: string): Promise<boolean> {
  try {
    await crew.run(run);
    return true;
  } catch (error) {
    if (isError(error, "RUN_NOT_FOUND")) return false;
    throw error;
  }
}

/** What a reader shows for a run in the end, token by token, having taken back what was retracted. */
export function shownBy(items: readonly FeedItem[]): string {
  const shown = new Map<string, string>();
  for (const item of items) {
    if (item.type === "chunk") {
      const { delta } = item.part as { delta?: string };
      const key = `${item.step}/${item.attempt}`;
      shown.set(key, (shown.get(key) ?? "") + (delta ?? ""));
    } else if (item.type === "step.abandoned" || item.type === "step.failed") {
      shown.delete(`${item.step}/${item.attempt}`);
    }
  }
  return [...shown.values()].join("|");
}

/** Whether something was shown and then taken back. */
export function hasRetraction(items: readonly FeedItem[]): boolean {
  return items.some(
    (item, index) =>
      item.type === "step.abandoned" &&
      items.slice(0, index).some((shown) => shown.type === "chunk" && shown.step === item.step && shown.attempt === item.attempt),
  );
}

/** Why the items are not one whole story: a gap, a repetition, no end or two. Undefined when they are. */
export function flawOf(items: readonly FeedItem[]): string | undefined {
  let seq = 0;
  let chunk = 0;
  for (const item of items) {
    if (item.type === "chunk") {
      if (item.after !== seq || item.index !== chunk + 1) return `chunk ${item.cursor} follows ${seq}.${chunk}`;
      chunk++;
    } else {
      if (item.seq !== seq + 1) return `event ${item.seq} follows event ${seq}`;
      [seq, chunk] = [item.seq, 0];
    }
  }
  const ends = items.filter(isEnd).length;
  const last = items.at(-1);
  return ends === 1 && last && isEnd(last) ? undefined : `it has ${ends} ends and closes with ${last?.type}`;
}
