import { type ErrorDetail, GroundcrewError } from "../errors.ts";
import { NEWER_EVENT_RETRY_MS } from "../limits.ts";
import type { Event, EventType } from "./event.ts";

const required: Record<EventType, readonly string[]> = {
  "run.created": ["agent", "principal", "deadline"],
  "run.claimed": ["worker", "epoch"],
  "run.parked": ["reason"],
  "run.released": [],
  "step.started": ["step", "kind", "name", "attempt"],
  "step.succeeded": ["step", "attempt"],
  "step.failed": ["step", "attempt", "error", "final"],
  "step.abandoned": ["step", "attempt"],
  "step.unknown": ["step", "attempt"],
  "step.resolved": ["step", "resolution"],
  "step.late": ["step", "attempt", "outcome"],
  "step.degraded": ["step", "name", "reason"],
  "signal.received": ["id", "name"],
  "message.received": ["id", "message"],
  "cancel.requested": ["id"],
  "retry.requested": ["id"],
  "run.paused": ["id"],
  "run.resumed": ["id"],
  "limit.raised": ["id", "steps"],
  "approval.requested": ["approval", "to", "request"],
  "approval.escalated": ["id", "approval", "level", "to"],
  "approval.reminded": ["id", "approval", "times"],
  "approval.ended": ["id", "approval", "verdict"],
  "approval.voided": ["approval"],
  "approval.skipped": ["step", "name"],
  "handover.began": ["id", "from"],
  "handover.said": ["id", "message", "from"],
  "handover.ended": ["id", "from"],
  "session.updated": ["state"],
  progress: ["fraction", "what"],
  "loop.blocked": ["ms", "steps"],
  "run.succeeded": [],
  "run.failed": ["error"],
  "run.cancelled": [],
  "run.expired": ["deadline"],
};

type Packed = Record<string, unknown>;

/** What the fold counts and looks up by. */
const SHAPES: Record<string, (value: unknown) => boolean> = {
  at: Number.isFinite,
  step: (value) => typeof value === "string",
  name: (value) => typeof value === "string",
  attempt: (value) => Number.isSafeInteger(value) && (value as number) > 0,
};

/** Event types about an attempt of a step, and the shapes of each type's fields: put together once, read for every event. */
const attemptTypes: ReadonlySet<string> = new Set(Object.keys(required).filter((type) => required[type as EventType].includes("attempt")));
const shapesOf = Object.fromEntries(
  Object.entries(required).map(([type, fields]) => [
    type,
    Object.entries(SHAPES).filter(([field]) => field === "at" || fields.includes(field)),
  ]),
) as Record<EventType, [field: string, fits: (value: unknown) => boolean][]>;

/**
 * One journal row: the consecutive events of one write. What an event shares with the one before it in the row, and what is
 * nearly always the same, is left out: at a kilobyte a step that decides how many steps fit on a page.
 *
 * What is left out of a step's event is left out together: step and attempt; kind, name and the first attempt. One of them that
 * is missing by itself is damage, and never filled in.
 */
export function writeEvents(events: readonly Event[]): string {
  return JSON.stringify(events.map((event, index) => packed(event, events[index - 1])));
}

function packed(event: Event, before: Event | undefined): Packed {
  const result: Packed = { ...event };
  if (before) {
    result["seq"] = undefined;
    result["at"] = event.at === before.at ? undefined : event.at - before.at;
  }
  if (event.type === "step.started" && event.kind === "code" && event.name === event.step && event.attempt === 1) leaveOut(result, USUAL);
  else if (before && isAttempt(event) && goesOn(event, before)) leaveOut(result, SHARED);
  return result;
}

/** The first attempt of a piece of a flow that is named like its step. */
const USUAL = ["kind", "name", "attempt"] as const;
/** With the event before, which is about the same attempt. */
const SHARED = ["step", "attempt"] as const;

function leaveOut(event: Packed, fields: readonly string[]): void {
  for (const field of fields) event[field] = undefined;
}

type AttemptEvent = Extract<Event, { attempt: number }>;

function isAttempt(event: Event): event is AttemptEvent {
  return attemptTypes.has(event.type);
}

function goesOn(event: AttemptEvent, before: Event): boolean {
  return isAttempt(before) && before.step === event.step && before.attempt === event.attempt;
}

/**
 * The events of a row, checked: each of a known type, at its place, with every field that its type cannot be without.
 * @param last the number of the row's last event.
 * @throws GroundcrewError `EVENT_UNREADABLE` for anything else: a run is never resumed on a guess.
 */
export function readEvents(run: string, last: number, row: string): Event[] {
  const parsed = parse(run, last, row);
  const first = last - parsed.length + 1;
  for (let index = 0; index < parsed.length; index++) check(run, first + index, parsed[index], parsed[index - 1] as Event | undefined);
  return parsed as unknown as Event[];
}

function check(run: string, seq: number, event: Packed | null | undefined, before: Event | undefined): void {
  const type: unknown = event?.["type"];
  if (!event || typeof type !== "string" || !Object.hasOwn(required, type)) {
    throw unreadable(run, seq, `its type ${JSON.stringify(type)} is not known to this release`, { retryAfterMs: NEWER_EVENT_RETRY_MS });
  }
  unpack(event, before, seq);
  for (const field of required[type as EventType]) {
    if (event[field] === undefined) throw unreadable(run, seq, `${type} lacks \`${field}\``);
  }
  if (event["seq"] !== seq) throw unreadable(run, seq, `it says it is number ${JSON.stringify(event["seq"])}`);
  for (const [field, fits] of shapesOf[type as EventType]) {
    if (!fits(event[field])) throw unreadable(run, seq, `its \`${field}\` is ${JSON.stringify(event[field])}`);
  }
}

function parse(run: string, last: number, row: string): (Packed | null)[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(row);
  } catch (cause) {
    throw unreadable(run, last, "it is not JSON", { cause });
  }
  if (Array.isArray(parsed) && parsed.length > 0) return parsed;
  throw unreadable(run, last, "it is not a list of events");
}

/** Fills in, in place, what `packed` left out. */
function unpack(event: Packed, before: Event | undefined, seq: number): void {
  if (before) {
    event["seq"] ??= seq;
    event["at"] = before.at + ((event["at"] as number | undefined) ?? 0);
  }
  if (event["attempt"] !== undefined) return;
  if (event["type"] === "step.started" && event["kind"] === undefined && event["name"] === undefined) {
    event["kind"] = "code";
    event["name"] = event["step"];
    event["attempt"] = 1;
  } else if (before && isAttempt(before) && attemptTypes.has(event["type"] as string) && event["step"] === undefined) {
    event["step"] = before.step;
    event["attempt"] = before.attempt;
  }
}

function unreadable(run: string, seq: number, why: string, detail: ErrorDetail = {}): GroundcrewError {
  return new GroundcrewError("EVENT_UNREADABLE", `Event ${seq} of run ${run} cannot be read: ${why}.`, {
    run,
    ...detail,
    fix: "If it was written by a newer release, finish the roll-out; otherwise restore the store from a backup.",
  });
}
