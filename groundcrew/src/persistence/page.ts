/** How rows of a journal and of the chunks beside it become what readers see: the same from every store. */
import { GroundcrewError } from "../errors.ts";
import type { Chunk, Event } from "./event.ts";
import { readEvents } from "./event-row.ts";
import { type Cursor, isTerminal, type Page, type RunStatus } from "./store.ts";

/** The events of one write, numbered by the last of them. */
export interface EventRow {
  last: number;
  data: string;
}

/** Chunks of one write behind event `after`. */
interface StreamRow {
  after: number;
  data: string;
}

/** How far a run has come. */
export interface Reached {
  status: RunStatus;
  head: number;
  /** The last chunk behind the event that the cursor names. */
  chunk: number;
}

/** @throws GroundcrewError `CURSOR_INVALID` */
export function mustHaveReached(run: string, { seq, chunk }: Cursor, reached: Reached): void {
  // Chunks of a finished run are swept away before its events; a reader that had seen them goes on behind them.
  const chunks = isTerminal(reached.status) ? chunk : reached.chunk;
  if (seq >= 0 && chunk >= 0 && seq <= reached.head && chunk <= chunks) return;
  throw new GroundcrewError("CURSOR_INVALID", `Run ${run} has not reached ${seq}.${chunk}; its last event is ${reached.head}.`, { run });
}

/**
 * The page behind `after`.
 * @param events rows that end behind it, in order; as the chunks, taken one by one, and no more of them than the page shows.
 */
export function pageOf(run: string, after: Cursor, limit: number, events: Iterable<EventRow>, chunks: Iterable<StreamRow>): Page {
  const [facts, parts] = [eventsAfter(run, after, events), chunksAfter(after, chunks)];
  try {
    return merge(facts, parts, limit);
  } finally {
    facts.return(undefined);
    parts.return(undefined);
  }
}

/** A whole journal. @throws GroundcrewError `EVENT_UNREADABLE` */
export function journalOf(run: string, rows: Iterable<EventRow>): Event[] {
  const events: Event[] = [];
  for (const { last, data } of rows) {
    for (const event of readEvents(run, last, data)) {
      if (event.seq !== events.length + 1) throw missing(run, events.length + 1);
      events.push(event);
    }
  }
  return events;
}

export function missing(run: string, seq: number): GroundcrewError {
  return new GroundcrewError("EVENT_UNREADABLE", `Event ${seq} of run ${run} is missing from the store.`, {
    run,
    fix: "Restore the store from a backup.",
  });
}

export function noRun(run: string): GroundcrewError {
  return new GroundcrewError("RUN_NOT_FOUND", `There is no run ${run}.`, { run });
}

/** A list of runs that is to go on behind a run that is not there. */
export function noPlace(id: string, what: "run" | "approval" = "run"): GroundcrewError {
  return new GroundcrewError("CURSOR_INVALID", `The list cannot go on behind ${what} ${id}: there is no such ${what}.`, {
    ...(what === "run" ? { run: id } : { value: id }),
  });
}

function* eventsAfter(run: string, { seq }: Cursor, rows: Iterable<EventRow>): Generator<Event, undefined> {
  for (const { last, data } of rows) {
    for (const event of readEvents(run, last, data)) if (event.seq > seq) yield event;
  }
}

function* chunksAfter({ seq, chunk }: Cursor, rows: Iterable<StreamRow>): Generator<Chunk, undefined> {
  for (const { after, data } of rows) {
    for (const item of JSON.parse(data) as Chunk[]) if (after > seq || item.index > chunk) yield item;
  }
}

/** The one order of every reader: an event, then the chunks that followed it, then the next event. */
function merge(events: Generator<Event, undefined>, chunks: Generator<Chunk, undefined>, limit: number): Page {
  const items: (Event | Chunk)[] = [];
  let event = events.next().value;
  let chunk = chunks.next().value;
  while ((event || chunk) && items.length < limit) {
    if (chunk && (!event || chunk.after < event.seq)) {
      items.push(chunk);
      chunk = chunks.next().value;
    } else if (event) {
      items.push(event);
      event = events.next().value;
    }
  }
  return { items, more: event !== undefined || chunk !== undefined };
}
