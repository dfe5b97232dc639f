/** What both stores do with an append before its transaction: what is checked and serialised here cannot fail half-way. */
import { GroundcrewError } from "../errors.ts";
import { checkNews, runOfApproval } from "./approval.ts";
import type { Chunk, Event } from "./event.ts";
import { writeEvents } from "./event-row.ts";
import type { Append, Aside } from "./store.ts";

/** The chunks `first` to `last` behind event `after`, as one row. */
export type ChunkRow = {
  after: number;
  first: number;
  last: number;
  data: string;
};

export interface PreparedAppend {
  write: Append;
  /** Numbers of its events; 0 without any. */
  first: number;
  last: number;
  data: string;
  chunks: ChunkRow[];
  sessionState: string | undefined;
  bytes: number;
}

/** @throws GroundcrewError `INTERNAL` for events or chunks that do not follow each other, or an approval of another run; `APPROVAL_NOT_FOUND` */
export function prepareAppend(write: Append): PreparedAppend {
  const { run, events, next, aside } = write;
  const first = events[0]?.seq ?? 0;
  if (!events.every((event, i) => event.seq === first + i)) throw outOfOrder(run, "its events are not numbered one after the other");
  if (next?.to === "parked" && next.dueAt !== null) millis(next.dueAt, "dueAt");
  if (aside) checkAside(run, aside);

  const data = events.length > 0 ? writeEvents(events) : "";
  const chunks = chunkRows(run, write.chunks);
  const state = next && "sessionState" in next ? next.sessionState : undefined;
  const sessionState = state === undefined ? undefined : JSON.stringify(state);
  const sizes = [data, sessionState ?? "", ...chunks.map((row) => row.data), ...write.blobs.map((blob) => blob.data)];
  if (aside) sizes.push(JSON.stringify(aside));
  return {
    write,
    first,
    last: events.at(-1)?.seq ?? 0,
    data,
    chunks,
    sessionState,
    bytes: sizes.reduce((sum, text) => sum + text.length, 0),
  };
}

function checkAside(run: string, { opens, closes, deliveries }: Aside): void {
  const foreign =
    opens.find((row) => row.run !== run)?.id ?? [...opens.map(({ id }) => id), ...closes].find((id) => runOfApproval(id) !== run);
  if (foreign !== undefined) {
    throw new GroundcrewError("INTERNAL", `A write to run ${run} is about approval ${JSON.stringify(foreign)} of another run.`, { run });
  }
  checkNews(deliveries);
}

/** One row for the chunks behind one event. */
function chunkRows(run: string, chunks: readonly Chunk[]): ChunkRow[] {
  const groups: Chunk[][] = [];
  for (const chunk of chunks) {
    const group = groups.at(-1);
    const before = group?.at(-1);
    if (before?.after === chunk.after && before.index + 1 === chunk.index) group?.push(chunk);
    else if (before && (chunk.after <= before.after || chunk.index !== 1)) throw outOfOrder(run, "its chunks do not follow each other");
    else groups.push([chunk]);
  }
  return groups.map((group) => {
    const { after, index } = group[0] as Chunk;
    return { after, first: index, last: index + group.length - 1, data: JSON.stringify(group) };
  });
}

/** A fork begins with the events it takes over: they are cut into rows that a reader can take in one bite. */
const EVENTS_PER_ROW = 100;

/** The rows of the journal that a run begins with. */
export function firstRows(events: readonly Event[]): { last: number; data: string }[] {
  const rows: { last: number; data: string }[] = [];
  for (let i = 0; i < events.length; i += EVENTS_PER_ROW) {
    const part = events.slice(i, i + EVENTS_PER_ROW);
    rows.push({ last: i + part.length, data: writeEvents(part) });
  }
  return rows;
}

export function outOfOrder(run: string, why: string): GroundcrewError {
  return new GroundcrewError("INTERNAL", `A write to run ${run} is out of order: ${why}.`, { run });
}

/** A time as the tables hold it, in whole milliseconds: SQLite would store NaN as null, which for a run means "never". */
export function millis(value: number, what: string): number {
  if (Number.isSafeInteger(Math.ceil(value))) return Math.ceil(value);
  throw new GroundcrewError("INTERNAL", `Expected \`${what}\` to be wall-clock milliseconds, got ${value}.`, { value });
}
