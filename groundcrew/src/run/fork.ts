/** A run that continues from another's past. The past is copied, not shared: neither can change the other. */
import type { Clock } from "../clock.ts";
import { GroundcrewError } from "../errors.ts";
import { DEFAULT_HISTORY_TURNS } from "../limits.ts";
import { type Blob, blobHash, type Codec, type Encoding, type JsonValue } from "../persistence/codec.ts";
import type { Event } from "../persistence/event.ts";
import { fold } from "../persistence/fold.ts";
import { newRunId } from "../persistence/id.ts";
import type { RunRow, Store } from "../persistence/store.ts";
import { loadValue } from "../persistence/value.ts";
import { historyOf } from "./history.ts";
import type { AgentInput } from "./transcript.ts";

export interface ForkDeps {
  store: Store;
  codec: Codec;
  clock: Clock;
}

/** Events about one stay of the old run, not about its work. */
const STAY: ReadonlySet<Event["type"]> = new Set([
  "run.claimed",
  "run.parked",
  "run.released",
  "cancel.requested",
  "retry.requested",
  "run.succeeded",
  "run.failed",
  "run.cancelled",
  "run.expired",
]);

/**
 * Starts a run with everything the old one had recorded before `from` first started.
 * @param from a step's key; undefined copies all that came to an end.
 * @throws GroundcrewError `STEP_NOT_FOUND`, `EVENT_UNREADABLE`
 */
export async function forkRun(deps: ForkDeps, old: RunRow, from: string | undefined, by: string | undefined): Promise<RunRow> {
  const { store, clock } = deps;
  const events = await store.journal(old.id);
  const now = clock.now();
  const id = newRunId(now, old.session ?? undefined);
  const deadline = now + (old.deadline - old.createdAt);
  const kept = cut(old.id, events, from);
  const input = await inputOf(deps, old, kept[0]);
  const forked = { run: old.id, step: from ?? "the end", ...(by !== undefined && { by }) };
  const journal = kept.map((event, index): Event => {
    const seq = index + 1;
    if (event.type !== "run.created") return { ...event, seq };
    const { session: _session, turn: _turn, parent: _parent, ...created } = event;
    return { ...created, ...(input && { input: input.json }), seq, at: now, deadline, forked };
  });
  const known = input?.blob ? [input.blob] : [];
  const blobs = await blobsOf(journal, known, (hash) => store.blob(hash));
  const { run } = await store.create({ id, agent: old.agent, principal: old.principal, deadline, dueAt: now, events: journal, blobs });
  return run;
}

/** Where a run that ended badly broke: the last step that failed for good or never came to an outcome. */
export function retryPoint(events: readonly Event[]): string | undefined {
  const steps = [...fold(events).steps.values()];
  return steps.findLast((step) => step.status === "failed" && step.kind !== "tool")?.step;
}

function cut(run: string, events: readonly Event[], from: string | undefined): Event[] {
  const work = events.filter((event) => !STAY.has(event.type));
  if (from === undefined) return work;
  const at = work.findIndex((event) => event.type === "step.started" && event.step === from);
  if (at === -1) {
    const steps = work.flatMap((event) => (event.type === "step.started" ? event.step : []));
    throw new GroundcrewError("STEP_NOT_FOUND", `Run ${run} has no step "${from}".`, {
      run,
      value: from,
      fix: `Its steps: ${[...new Set(steps)].slice(0, 20).join(", ") || "none"}.`,
    });
  }
  return work.slice(0, at);
}

/** A fork of a session's turn stands outside the session, so it takes along what had been said before. */
async function inputOf({ store, codec }: ForkDeps, old: RunRow, first: Event | undefined): Promise<Encoding | undefined> {
  if (old.session === null || first?.type !== "run.created") return undefined;
  const decode = (json: JsonValue | undefined) => loadValue(store, codec, json);
  const history = await historyOf(store, old, DEFAULT_HISTORY_TURNS, decode);
  const { messages } = (await decode(first.input)) as AgentInput;
  return codec.encode({ messages: [...history, ...messages] }, "input");
}

async function blobsOf(events: readonly Event[], known: readonly Blob[], load: (hash: string) => Promise<string | null>): Promise<Blob[]> {
  const hashes = new Set(events.flatMap((event) => Object.values(event).flatMap((value) => blobHash(value as JsonValue) ?? [])));
  const find = async (hash: string) => known.find((blob) => blob.hash === hash)?.data ?? (await load(hash)) ?? missing(hash);
  return Promise.all([...hashes].map(async (hash) => ({ hash, data: await find(hash) })));
}

function missing(hash: string): never {
  throw new GroundcrewError("EVENT_UNREADABLE", `The value ${hash} is missing from the store.`, { value: hash });
}
