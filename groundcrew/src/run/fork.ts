/** A run that continues from another's past. The past is copied, not shared: neither can change the other. */
import type { Clock } from "../clock.ts";
import { GroundcrewError } from "../errors.ts";
import { DEFAULT_HISTORY_TURNS } from "../limits.ts";
import type { AuditEntry } from "../persistence/audit.ts";
import type { Codec, Encoding } from "../persistence/codec.ts";
import type { Event } from "../persistence/event.ts";
import { fold } from "../persistence/fold.ts";
import { newRunId } from "../persistence/id.ts";
import { type Blob, blobHash, type JsonValue } from "../persistence/json-value.ts";
import type { RunRow, Store } from "../persistence/store.ts";
import { loadValue } from "../persistence/value.ts";
import { historyOf } from "./history.ts";
import type { AgentInput } from "./transcript.ts";

export interface ForkDeps {
  store: Store;
  codec: Codec;
  clock: Clock;
}

/** Events about one stay of the old run, not about its work. Who holds it holds what comes of it as well: nobody shakes that off by a retry. */
const STAY: ReadonlySet<Event["type"]> = new Set([
  "run.claimed",
  "run.parked",
  "run.released",
  "cancel.requested",
  "retry.requested",
  "handover.began",
  "handover.ended",
  "run.succeeded",
  "run.failed",
  "run.cancelled",
  "run.expired",
]);

/** Who wants it, and what is on record of it once there is a new run. */
export interface Forking {
  by: string | undefined;
  audit(run: string): AuditEntry;
}

/** Starts a run with the old one's past. @throws GroundcrewError `EVENT_UNREADABLE` */
export async function forkRun(deps: ForkDeps, old: RunRow, past: Past, { by, audit }: Forking): Promise<RunRow> {
  const { store, clock } = deps;
  const now = clock.now();
  const id = newRunId(now, old.session ?? undefined);
  const deadline = now + (old.deadline - old.createdAt);
  const { step, behind } = past;
  const input = await inputOf(deps, old, past.events[0]);
  const state = await stateBefore(store, old);
  const more = state === undefined ? 0 : 1;
  const [first] = past.events;
  const keysOf = past.isRetry ? { keysOf: (first?.type === "run.created" && first.forked?.keysOf) || old.id } : {};
  const forked = {
    run: old.id,
    step,
    ...(by !== undefined && { by }),
    ...keysOf,
    ...(behind && { behind: [behind[0] + more, behind[1] + more] as const }),
  };
  const events = state === undefined ? past.events : past.events.toSpliced(1, 0, { type: "session.updated", state, seq: 2, at: now });
  const journal = events.map((event, index): Event => {
    const seq = index + 1;
    if ("id" in event) return { ...event, id: `${old.id}/${event.id}`, seq }; // the new run has an inbox, and ids, of its own
    if (event.type !== "run.created") return { ...event, seq };
    const { session: _session, turn: _turn, parent: _parent, ...created } = event;
    return { ...created, ...(input && { input: input.json }), seq, at: now, deadline, forked };
  });
  const known = input?.blob ? [input.blob] : [];
  const blobs = await blobsOf(journal, known, (hash) => store.blob(hash));
  const start = past.isRetry ? { start: { key: `retry:${old.id}`, hash: old.id } } : {}; // asked twice, it is tried again once
  const { run } = await store.create({
    id,
    agent: old.agent,
    principal: old.principal,
    deadline,
    dueAt: now,
    priority: old.priority,
    ...start,
    events: journal,
    blobs,
    audit: [audit(id)],
  });
  return run;
}

/** What of a run's record another run begins with. */
export interface Past {
  /** Where it goes on, for people. */
  step: string;
  events: Event[];
  /** The same work once more, not another way from the middle of it. */
  isRetry: boolean;
  /** Numbers, in the new journal, of the events behind the failure that is tried again. */
  behind?: readonly [first: number, last: number];
}

/**
 * What a run keeps when it is tried again: everything but the steps that broke it. Those are the last one that failed for
 * good and what failed beside it; what ended well is never done again, whether it began before them, beside them or after.
 * @throws GroundcrewError `EVENT_UNREADABLE`
 */
export function pastForRetry(events: readonly Event[]): Past {
  const work = workOf(events);
  const kinds = new Map([...fold(events).steps].map(([step, { kind }]) => [step, kind]));
  const failures = work.filter((event) => event.type === "step.failed" && event.final && kinds.get(event.step) !== "tool");
  const last = failures.at(-1);
  if (!last || events.at(-1)?.type !== "run.failed") return { step: "the end", events: work, isRetry: true };
  const lastStart = work.findLast((event) => event.type === "step.started" && event.seq < last.seq)?.seq ?? 0;
  const broken = new Set(failures.flatMap((event) => (event.type === "step.failed" && event.seq > lastStart ? event.step : [])));
  const kept = work.filter((event) => !("step" in event && event.step !== undefined && broken.has(event.step)));
  const before = kept.filter(({ seq }) => seq < last.seq).length;
  return {
    step: [...broken].join(", "),
    events: kept,
    isRetry: true,
    ...(kept.length > before && { behind: [before + 1, kept.length] as const }),
  };
}

/**
 * What a fork keeps: everything before `from` first started, and how the steps that were in flight then have ended.
 * @throws GroundcrewError `STEP_NOT_FOUND`
 */
export function pastBefore(run: string, events: readonly Event[], from: string): Past {
  const work = workOf(events);
  const at = work.findIndex((event) => event.type === "step.started" && event.step === from);
  if (at === -1) {
    const steps = work.flatMap((event) => (event.type === "step.started" ? event.step : []));
    throw new GroundcrewError("STEP_NOT_FOUND", `Run ${run} has no step "${from}".`, {
      run,
      value: from,
      fix: `Its steps: ${[...new Set(steps)].slice(0, 20).join(", ") || "none"}.`,
    });
  }
  const begun = new Set(work.slice(0, at).flatMap((event) => (event.type === "step.started" ? event.step : [])));
  return {
    step: from,
    isRetry: false,
    events: work.filter((event, index) => index < at || ("step" in event && begun.has(event.step ?? ""))),
  };
}

/** The events about the run's work. A child run without an outcome belongs to the old run: the new one starts its own. */
function workOf(events: readonly Event[]): Event[] {
  const open = new Set(
    [...fold(events).steps.values()].filter(({ kind, status }) => kind === "child" && status === "running").map(({ step }) => step),
  );
  return events.filter((event) => !STAY.has(event.type) && !("step" in event && open.has(event.step ?? "")));
}

/** A fork of a session's turn stands outside the session, so it takes along what had been said before. */
async function inputOf({ store, codec }: ForkDeps, old: RunRow, first: Event | undefined): Promise<Encoding | undefined> {
  if (old.session === null || first?.type !== "run.created") return undefined;
  const decode = (json: JsonValue | undefined) => loadValue(store, codec, json);
  const history = await historyOf(store, old, DEFAULT_HISTORY_TURNS, decode);
  const { messages } = (await decode(first.input)) as AgentInput;
  return codec.encode({ messages: [...history, ...messages] }, "input");
}

/** And the state in which the turn had found its session. */
async function stateBefore(store: Store, old: RunRow): Promise<JsonValue | undefined> {
  if (old.session === null) return undefined;
  const earlier = await store.runs({ tenant: old.principal.tenant, session: old.session, before: old.id, limit: DEFAULT_HISTORY_TURNS });
  for (const turn of earlier) {
    const { sessionState } = fold(await store.journal(turn.id));
    if (sessionState !== undefined) return sessionState;
  }
  return undefined;
}

async function blobsOf(events: readonly Event[], known: readonly Blob[], load: (hash: string) => Promise<string | null>): Promise<Blob[]> {
  const hashes = new Set(events.flatMap((event) => Object.values(event).flatMap((value) => blobHash(value as JsonValue) ?? [])));
  const find = async (hash: string) => known.find((blob) => blob.hash === hash)?.data ?? (await load(hash)) ?? missing(hash);
  return Promise.all([...hashes].map(async (hash) => ({ hash, data: await find(hash) })));
}

function missing(hash: string): never {
  throw new GroundcrewError("EVENT_UNREADABLE", `The value ${hash} is missing from the store.`, { value: hash });
}
