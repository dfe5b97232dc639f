/** A run as any process sees it: everything here goes through the store, nothing needs the worker that has the run. */
import type { Definition } from "../agent.ts";
import type { Clock } from "../clock.ts";
import { describe, fromErrorRecord, GroundcrewError } from "../errors.ts";
import { KEEP_ALIVE_MS, MAX_REASON_CHARS, MAX_STEP_CAP } from "../limits.ts";
import type { AuditEntry } from "../persistence/audit.ts";
import type { Codec } from "../persistence/codec.ts";
import type { Event, Resolution } from "../persistence/event.ts";
import { fold } from "../persistence/fold.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import { isTerminal, type RunRow, type Signal, type SignalKind, type Store } from "../persistence/store.ts";
import { loadValue } from "../persistence/value.ts";
import { type Actor, localPrincipal, type Principal } from "../principal.ts";
import { type FeedItem, follow, isEnd, Latch, parseCursor } from "../stream/feed.ts";
import { forkRun, type Past, pastBefore, pastForRetry } from "./fork.ts";
import { checkSignalName } from "./signal.ts";
import { type RunView, viewOf } from "./view.ts";

export interface HandleDeps {
  store: Store;
  codec: Codec;
  clock: Clock;
  /** As far as this process knows them: a run can be looked at without. */
  agents: ReadonlyMap<string, Definition>;
  /** Tells the worker of this process, if there is one, that something changed. */
  poke: () => void;
  /** Whether what is done to a run may go on record. @throws GroundcrewError `CONFIG_INVALID` */
  mayRecord: () => Promise<void>;
  /** Somebody here waits for a run: this process lends a hand, unless it may not. */
  lendAHand: () => void;
  /** Fires when the store closes. */
  closed: AbortSignal;
}

/** A run, from any process. */
export class Run<OUTPUT = unknown> {
  readonly id: string;
  readonly #deps: HandleDeps;

  constructor(deps: HandleDeps, id: string) {
    this.#deps = deps;
    this.id = id;
  }

  /** The run without its journal: cheap. @throws GroundcrewError `RUN_NOT_FOUND` */
  async row(): Promise<RunRow> {
    const row = await this.#deps.store.run(this.id);
    if (!row) throw new GroundcrewError("RUN_NOT_FOUND", `There is no run ${this.id}.`, { value: this.id });
    return row;
  }

  /** Where the run is, and why. @throws GroundcrewError `RUN_NOT_FOUND`, `EVENT_UNREADABLE` */
  async view(): Promise<RunView> {
    const row = await this.row();
    let state = fold([]);
    try {
      state = fold(await this.#deps.store.journal(this.id));
    } catch (error) {
      if (row.reason !== "attention") throw error; // a run set aside because its journal cannot be read can still be looked at
    }
    const isAlive = row.worker === null || (await this.#deps.store.isAlive(row.worker));
    const { agents, clock } = this.#deps;
    return viewOf(row, state, { output: await this.#decode(state.output), isAlive, now: clock.now(), definition: agents.get(row.agent) });
  }

  /** Everything so far, then live, up to the run's end. @throws GroundcrewError `RUN_NOT_FOUND`, `CURSOR_INVALID` */
  events(options: { after?: string | undefined; signal?: AbortSignal | undefined } = {}): AsyncIterable<FeedItem> {
    this.#deps.lendAHand();
    return decoded(this.#deps, follow(this.#deps.store, this.id, parseCursor(options.after), this.#untilClosed(options.signal)));
  }

  /** Waits for the end. @throws GroundcrewError the run's own error; `RUN_CANCELLED`, `RUN_EXPIRED`; the signal's reason */
  async result(options: { signal?: AbortSignal | undefined } = {}): Promise<OUTPUT> {
    const end = await this.#end(options.signal);
    if (end.type === "run.succeeded") return (await this.#decode(end.output)) as OUTPUT;
    throw failureOf(this.id, end);
  }

  /** The run's last event. Looks only when the run may have ended: following its every step would cost more than the steps. */
  async #end(signal: AbortSignal | undefined): Promise<Event> {
    const { store, lendAHand } = this.#deps;
    lendAHand();
    const stop = this.#untilClosed(signal);
    const latch = new Latch(store, (change) => change.runs === null || change.ended.has(this.id), stop);
    const keepAlive = setInterval(() => {}, KEEP_ALIVE_MS);
    try {
      for (;;) {
        const isOver = isTerminal((await this.row()).status);
        if (!isOver) {
          await latch.next();
          stop.throwIfAborted();
        }
        const last = await store.last(this.id);
        if (isEnd(last)) return last;
        if (isOver) throw noEnd(this.id);
      }
    } finally {
      clearInterval(keepAlive);
      latch.close();
    }
  }

  #untilClosed(signal: AbortSignal | undefined): AbortSignal {
    return AbortSignal.any(signal ? [this.#deps.closed, signal] : [this.#deps.closed]);
  }

  /** Every recorded event, values decoded. @throws GroundcrewError `RUN_NOT_FOUND`, `EVENT_UNREADABLE` */
  async journal(): Promise<Event[]> {
    const events = await this.#deps.store.journal(this.id);
    return Promise.all(events.map((event) => decodeFields(event, this.#deps.store, this.#deps.codec)));
  }

  /** @throws GroundcrewError `RUN_NOT_FOUND`, `RUN_FINISHED` */
  async cancel(why = "cancelled by request", by?: By): Promise<void> {
    await this.#command("cancel", why, by, why);
  }

  /** No step begins until somebody says `resume`. What is in flight may end. @throws GroundcrewError `RUN_NOT_FOUND`, `RUN_FINISHED`, `INPUT_INVALID` */
  async pause(why: string, by?: By): Promise<void> {
    checkText("why", why);
    await this.#command("pause", why, by, why);
  }

  /** @throws GroundcrewError `RUN_NOT_FOUND`, `RUN_FINISHED` */
  async resume(by?: By): Promise<void> {
    await this.#command("resume", undefined, by);
  }

  /** Guidance that the agent reads at its next step. @throws GroundcrewError `RUN_NOT_FOUND`, `RUN_FINISHED`, `INBOX_FULL`, `INPUT_INVALID` */
  async say(text: string, by?: By): Promise<void> {
    checkText("text", text);
    await this.#mustBeAgents("say something to");
    await this.#command("message", { role: "user", content: text }, by, undefined, "say");
  }

  /** More model steps than its agent has. @throws GroundcrewError `RUN_NOT_FOUND`, `RUN_FINISHED`, `INPUT_INVALID` */
  async raise({ steps }: { steps: number }, by?: By): Promise<void> {
    if (!Number.isInteger(steps) || steps < 1 || steps > MAX_STEP_CAP) {
      throw new GroundcrewError(
        "INPUT_INVALID",
        `Expected \`steps\` to be a whole number from 1 to ${MAX_STEP_CAP}, got ${describe(steps)}.`,
        {
          value: steps,
        },
      );
    }
    await this.#command("raise", steps, by);
  }

  /** From now on a person speaks to the user, and the agent waits. @throws GroundcrewError `RUN_NOT_FOUND`, `RUN_FINISHED`, `INPUT_INVALID` */
  async takeOver(by: By): Promise<void> {
    await this.#mustBeAgents("take over");
    await this.#command("handover", undefined, by, undefined, "take");
  }

  /** Says something to the user in the agent's place. @throws GroundcrewError `RUN_NOT_FOUND`, `RUN_FINISHED`, `INBOX_FULL`, `INPUT_INVALID` */
  async speak(text: string, by: By): Promise<void> {
    checkText("text", text);
    const { handover } = fold(await this.#deps.store.journal(this.id));
    if (handover === undefined) {
      throw new GroundcrewError("INPUT_INVALID", `Nobody has taken over run ${this.id}.`, {
        run: this.id,
        fix: "Take it over first, or `say` something to the agent.",
      });
    }
    await this.#command("handover", { role: "assistant", content: text }, by, undefined, "say");
  }

  /** The agent goes on, and has read what was said. @throws GroundcrewError `RUN_NOT_FOUND`, `RUN_FINISHED` */
  async handBack(by: By): Promise<void> {
    await this.#command("handover", undefined, by, undefined, "back");
  }

  /** Something that a person has done to the run: it is in the audit log by the same transaction. */
  async #command(kind: SignalKind, value: JsonValue | undefined, by: By | undefined, reason?: string, name: string = kind): Promise<void> {
    const { principal } = await this.row();
    const audit = auditOf(this.id, principal, ACTIONS[name === kind ? kind : `${kind}.${name}`] ?? kind, by, reason);
    const from = nameOf(by);
    await this.#send({ id: unique(kind), kind, name, ...(value !== undefined && { value }), from }, [audit]);
  }

  /** A flow has no conversation. */
  async #mustBeAgents(what: string): Promise<void> {
    const { agent } = await this.row();
    if (this.#deps.agents.get(agent)?.kind !== "flow") return;
    throw new GroundcrewError("INPUT_INVALID", `"${agent}" is a flow: nobody can ${what} it.`, {
      run: this.id,
      fix: "Send it a signal that it waits for.",
    });
  }

  /** @param options.id the same id twice is one signal. @throws GroundcrewError `RUN_NOT_FOUND`, `RUN_FINISHED`, `INBOX_FULL` */
  async signal(name: string, value?: unknown, options: { id?: string | undefined; by?: string | undefined } = {}): Promise<void> {
    checkSignalName(name);
    const { json, blob } = this.#deps.codec.encode(value, `signal "${name}"`);
    if (blob)
      throw new GroundcrewError("LIMIT_EXCEEDED", `The value of signal "${name}" is too large.`, {
        fix: "Send an address instead of the data.",
        run: this.id,
      });
    await this.#send({
      id: `signal:${options.id ?? crypto.randomUUID()}`,
      kind: "signal",
      name,
      ...(json !== undefined && { value: json }),
      from: options.by,
    });
  }

  /**
   * Answers for a step whose outcome is unknown.
   * @param given the step's key, or its name when only one step of that name is in doubt. @throws GroundcrewError `STEP_NOT_FOUND`, `STEP_NOT_UNKNOWN`, `RUN_FINISHED`
   */
  async resolve(given: string, answer: { resolution: Resolution; result?: unknown; by?: By | undefined }): Promise<void> {
    const { steps, created } = fold(await this.#deps.store.journal(this.id));
    const doubtful = [...steps.values()].filter(({ status }) => status === "unknown");
    const found = steps.get(given) ?? onlyOne(doubtful.filter(({ name }) => name === given));
    if (!found) {
      throw new GroundcrewError("STEP_NOT_FOUND", `Run ${this.id} has no step "${given}".`, {
        run: this.id,
        value: given,
        fix: `Steps in doubt: ${doubtful.map(({ step, name }) => (step === name ? step : `${name} (${step})`)).join(", ") || "none"}.`,
      });
    }
    const { step } = found;
    if (found.status !== "unknown") {
      throw new GroundcrewError("STEP_NOT_UNKNOWN", `Step "${step}" of run ${this.id} is ${found.status}, not in doubt.`, {
        run: this.id,
        value: step,
      });
    }
    checkAnswer(answer);
    const { json, blob } = this.#deps.codec.encode(answer.result, `result of "${step}"`);
    if (blob)
      throw new GroundcrewError("LIMIT_EXCEEDED", `The result of step "${step}" is too large to be sent.`, {
        run: this.id,
        fix: "Give its address instead of the data.",
      });
    const value: JsonValue = { resolution: answer.resolution, ...(json !== undefined && { result: json }) };
    const audit = auditOf(this.id, created?.principal ?? localPrincipal, "run.resolved", answer.by, undefined, {
      step,
      resolution: answer.resolution,
    });
    const from = nameOf(answer.by);
    const isFirst = await this.#send({ id: `resolve:${step}:${found.attempt}`, kind: "resolve", name: step, value, from }, [audit]);
    if (!isFirst)
      throw new GroundcrewError("STEP_NOT_UNKNOWN", `Step "${step}" of run ${this.id} has been answered for already.`, {
        run: this.id,
        value: step,
      });
  }

  /**
   * A parked run goes on now; a run that failed, expired or was cancelled continues as a new run from where it broke.
   * @returns the run that goes on. @throws GroundcrewError `RUN_ACTIVE`, `RUN_FINISHED` for one that succeeded
   */
  async retry(by?: By): Promise<Run<OUTPUT>> {
    const row = await this.row();
    if (row.status === "succeeded")
      throw new GroundcrewError("RUN_FINISHED", `Run ${this.id} has succeeded; there is nothing to retry.`, { run: this.id });
    if (row.status === "running") throw new GroundcrewError("RUN_ACTIVE", `Run ${this.id} is running.`, { run: this.id });
    if (isTerminal(row.status)) return this.#fork(pastForRetry(await this.#deps.store.journal(this.id)), by);
    await this.#send({ id: unique("retry"), kind: "retry", name: "retry", from: nameOf(by) }, [
      auditOf(this.id, row.principal, "run.retried", by),
    ]);
    return this;
  }

  /** A new run that shares everything before `from` (a step's key) and goes on by itself. @throws GroundcrewError `STEP_NOT_FOUND` */
  async fork({ from, by }: { from: string; by?: By | undefined }): Promise<Run<OUTPUT>> {
    return this.#fork(pastBefore(this.id, await this.#deps.store.journal(this.id), from), by);
  }

  async #fork(past: Past, by: By | undefined): Promise<Run<OUTPUT>> {
    await this.#deps.mayRecord();
    const row = await this.row();
    const audit = (fork: string) => auditOf(this.id, row.principal, "run.forked", by, undefined, { from: past.step, fork });
    const run = await forkRun(this.#deps, row, past, { by: nameOf(by), audit });
    this.#deps.poke();
    return new Run(this.#deps, run.id);
  }

  async #send(signal: Omit<Signal, "at" | "run" | "from"> & { from: string | undefined }, audit?: readonly AuditEntry[]): Promise<boolean> {
    if (audit) await this.#deps.mayRecord();
    const { from, ...rest } = signal;
    const isNew = await this.#deps.store.signal({ ...rest, run: this.id, ...(from !== undefined && { from }) }, audit);
    this.#deps.poke();
    return isNew;
  }

  async #decode(json: JsonValue | undefined): Promise<unknown> {
    return loadValue(this.#deps.store, this.#deps.codec, json);
  }
}

/** Who does something: somebody the server has identified, or what a program says. */
export type By = Actor | string;

function nameOf(by: By | undefined): string | undefined {
  return typeof by === "object" ? by.user : by;
}

/** What each command is called in the log, by kind of signal, or kind and name. */
const ACTIONS: Record<string, string> = {
  cancel: "run.cancelled",
  pause: "run.paused",
  resume: "run.resumed",
  raise: "run.raised",
  "message.say": "run.guided",
  "handover.take": "handover.began",
  "handover.say": "handover.said",
  "handover.back": "handover.ended",
};

function auditOf(run: string, owner: Principal, action: string, by: By | undefined, reason?: string, detail?: JsonValue): AuditEntry {
  const who = typeof by === "object" ? by : { user: by ?? "program", kind: "service" as const, channel: "api" as const };
  return {
    tenant: owner.tenant,
    action,
    actor: { kind: who.kind, id: who.user },
    onBehalfOf: owner.user,
    channel: who.channel,
    run,
    ...(reason !== undefined && { reason }),
    ...(detail !== undefined && { detail }),
  };
}

function checkText(field: string, text: unknown): void {
  if (typeof text === "string" && text.trim() !== "" && text.length <= MAX_REASON_CHARS) return;
  throw new GroundcrewError(
    "INPUT_INVALID",
    `Expected \`${field}\` to be a text of 1 to ${MAX_REASON_CHARS} characters, got ${describe(text)}.`,
    {
      value: text,
    },
  );
}

function onlyOne<T>(found: readonly T[]): T | undefined {
  return found.length === 1 ? found[0] : undefined;
}

function checkAnswer({ resolution, result }: { resolution: unknown; result?: unknown }): void {
  if (resolution !== "happened" && resolution !== "did_not_happen") {
    throw new GroundcrewError(
      "INPUT_INVALID",
      `Expected \`resolution\` to be "happened" or "did_not_happen", got ${describe(resolution)}.`,
      { value: resolution },
    );
  }
  if (resolution === "did_not_happen" && result !== undefined) {
    throw new GroundcrewError("INPUT_INVALID", "Expected no `result` of a step that did not happen.", { value: result });
  }
}

/** It was ended without its journal, because that could not be read. */
function noEnd(run: string): GroundcrewError {
  return new GroundcrewError("EVENT_UNREADABLE", `Run ${run} was ended, and its journal does not say how.`, { run });
}

function failureOf(run: string, end: Event): GroundcrewError {
  if (end.type === "run.failed") return fromErrorRecord(end.error, run);
  if (end.type === "run.cancelled") return new GroundcrewError("RUN_CANCELLED", `Run ${run} was cancelled: ${end.why}.`, { run });
  return new GroundcrewError("RUN_EXPIRED", `Run ${run} passed its deadline.`, { run });
}

function unique(kind: string): string {
  return `${kind}:${crypto.randomUUID()}`;
}

/** Fields of events that hold a user's value. */
const VALUES = ["input", "value", "output", "state", "message", "shown"] as const;

async function decodeFields<T extends object>(item: T, store: Store, codec: Codec): Promise<T> {
  const decoded: Record<string, unknown> = {};
  for (const field of VALUES) {
    const json = Reflect.get(item, field) as JsonValue | undefined;
    if (typeof json === "object" && json !== null) decoded[field] = await loadValue(store, codec, json);
  }
  return { ...item, ...decoded };
}

/** @throws GroundcrewError `CLOSED` when the items end because there are no more to be had */
async function* decoded({ store, codec, closed }: HandleDeps, items: AsyncIterable<FeedItem>): AsyncGenerator<FeedItem> {
  const keepAlive = setInterval(() => {}, KEEP_ALIVE_MS); // a process that follows a run must not end in the middle
  try {
    for await (const item of items) {
      yield item.type === "chunk" ? item : await decodeFields(item, store, codec);
      if (isEnd(item)) return;
    }
    closed.throwIfAborted();
  } finally {
    clearInterval(keepAlive);
  }
}
