/**
 * A run as a person reads it: one row for each attempt of a step, at the place where it began, and one for everything else
 * that happened. A pure fold over the journal's events, the same for a finished run and for one that is being followed.
 */
import { span } from "../clock.ts";
import { contentOf, textOf } from "../persistence/model-step.ts";
import { verdictText } from "../run/summary.ts";
import { withoutText } from "../stream/plain-words.ts";
import type { Event } from "../wire.ts";
import type { Mark, Row } from "./row.ts";
import { clockTime, inert, oneLine, type Paint, part, type Style, valueText } from "./terminal.ts";
import { type PeopleEvent, PeopleRows } from "./timeline-people.ts";

const STYLES: Readonly<Record<Mark, Style>> = {
  "·": "dim",
  "✓": "green",
  "✗": "red",
  "?": "yellow",
  "↻": "yellow",
  "‖": "yellow",
  "▸": "cyan",
};

type EventOf<T extends Event["type"]> = Extract<Event, { type: T }>;
type StepEnd = EventOf<"step.succeeded" | "step.failed" | "step.abandoned" | "step.unknown">;
type Moment = Exclude<Event, { type: "step.started" } | StepEnd | PeopleEvent>;

export class Timeline {
  readonly rows: Row[] = [];
  readonly #attempts = new Map<string, { row: Row; claim: number }>();
  readonly #names = new Map<string, string>();
  readonly #people = new PeopleRows();
  #createdAt = 0;
  #claims = 0;

  /** @returns the row that this event made or finished; none for what another row says better. */
  add(event: Event): Row | undefined {
    switch (event.type) {
      case "step.started":
        return this.#begin(event);
      case "step.succeeded":
      case "step.failed":
      case "step.abandoned":
      case "step.unknown":
        return this.#end(event);
      case "signal.received":
        if (event.name.startsWith("child:")) return undefined; // the step that waited for the child ends with it
        return this.#tell(event);
      case "approval.requested":
      case "approval.escalated":
      case "approval.reminded":
      case "approval.ended":
      case "approval.voided":
      case "approval.skipped":
      case "handover.began":
      case "handover.said":
      case "handover.ended":
      case "run.paused":
      case "run.resumed":
      case "limit.raised":
        return this.#push({ ...this.#people.row(event), at: event.at, done: true });
      default:
        return this.#tell(event);
    }
  }

  #tell(event: Moment): Row | undefined {
    const row = this.#moment(event);
    return row && this.#push(row);
  }

  #push(row: Row): Row {
    this.rows.push(row);
    return row;
  }

  #begin(event: EventOf<"step.started">): Row {
    this.#names.set(event.step, event.name);
    const row = this.#push({
      at: event.at,
      mark: "▸",
      label: event.kind,
      text: subject(event),
      step: event.step,
      details: [],
      done: false,
    });
    if (event.input !== undefined) row.details.push(["in", event.input]);
    this.#attempts.set(`${event.step} ${event.attempt}`, { row, claim: this.#claims });
    return row;
  }

  #end(event: StepEnd): Row {
    const begun = this.#attempts.get(`${event.step} ${event.attempt}`);
    const row = begun?.row ?? this.#push(newRow(event.at, "▸", "step", event.step));
    // An attempt that a later worker gave up for a dead one: nobody knows how long it ran.
    const isHearsay = (event.type === "step.abandoned" || event.type === "step.unknown") && begun?.claim !== this.#claims;
    if (!isHearsay) row.tookMs = event.at - row.at;
    row.done = true;
    switch (event.type) {
      case "step.succeeded":
        row.mark = "✓";
        row.text += tokens(event.usage);
        row.details.push(...outcome(row.label, event.value));
        break;
      case "step.failed":
        row.mark = "✗";
        row.note = `${event.error.code}: ${event.error.message}`;
        row.verdict = verdictOf(event);
        break;
      case "step.abandoned":
        row.mark = "↻";
        row.note = `given up${part(": ", event.why)}`;
        break;
      case "step.unknown":
        row.mark = "?";
        row.note = `outcome unknown${part(": ", event.why)}`;
    }
    return row;
  }

  #moment(event: Moment): Row | undefined {
    const row = (mark: Mark, label: string, text: string, ...details: Row["details"]) => newRow(event.at, mark, label, text, details);
    switch (event.type) {
      case "run.created":
        this.#createdAt = event.at;
        return row("·", "created", origin(event), ...request(event.input));
      case "run.claimed":
        this.#claims++;
        if (event.takeover) return row("↻", "takeover", `continued after an interruption${part(", by ", event.worker)}`);
        return row("·", this.#claims === 1 ? "claimed" : "resumed", part("by ", event.worker));
      case "run.parked":
        return row("‖", "parked", parking(event));
      case "run.released":
        return row("·", "released", event.why);
      case "step.resolved": {
        const answer = event.resolution === "happened" ? "happened" : "did not happen";
        return row(
          "·",
          "resolved",
          `${this.#names.get(event.step) ?? event.step} ${answer}${part(", says ", event.by)}`,
          ...named("result", event.value),
        );
      }
      case "step.late":
        return row("·", "late", this.#late(event), ...named("out", event.value));
      case "step.degraded":
        return row("↻", "degraded", `going on ${withoutText([event])} (${event.reason})`);
      case "loop.blocked":
        return row(
          "✗",
          "blocked",
          `nothing else ran for ${span(event.ms)}, with this at work: ${event.steps.join(", ") || "nothing of ours"}`,
        );
      case "signal.received":
        if (event.name.startsWith("resolve:"))
          return row("·", "answer", `for ${event.name.slice("resolve:".length)}${part(" by ", event.from)}`);
        return row("·", "signal", `${event.name}${part(" by ", event.from)}`, ...named("value", event.value));
      case "message.received":
        return row("·", "message", `while at work${part(" by ", event.from)}`, ...named("text", event.message ?? undefined));
      case "cancel.requested":
        return row("·", "cancel", `asked for${part(" by ", event.from)}${part(": ", event.why)}`);
      case "retry.requested":
        return row("·", "retry", `asked for${part(" by ", event.from)}`);
      case "session.updated":
        return row("·", "session", "state changed", ["state", event.state]);
      case "progress":
        return row("·", "progress", `${Math.round(event.fraction * 100)} % ${event.what}`);
      case "run.succeeded":
        return row("✓", "succeeded", this.#after(event), ...named("output", event.output));
      case "run.failed":
        return row("✗", "failed", this.#after(event, `${event.error.code}: ${event.error.message}`));
      case "run.cancelled":
        return row("✗", "cancelled", this.#after(event, `${event.why}${part(" by ", event.by)}`.trimStart()));
      case "run.expired":
        return row("✗", "expired", this.#after(event, event.why || `its deadline was ${clockTime(event.deadline)}`));
      default:
        event satisfies never;
        return undefined; // a newer server knows more events
    }
  }

  #late({ step, attempt, outcome, error }: EventOf<"step.late">): string {
    const how = error === undefined ? outcome : `${outcome} with ${error.code}: ${error.message}`;
    return `${this.#names.get(step) ?? step}, attempt ${attempt}, when nobody waited for it any more: ${how}`;
  }

  /** How long the run took, where its beginning was seen, and how it ended. */
  #after(event: Event, how?: string): string {
    const took = this.#createdAt === 0 ? undefined : `after ${span(event.at - this.#createdAt)}`;
    return [took, how].filter(Boolean).join(", ");
  }
}

function newRow(at: number, mark: Mark, label: string, text: string, details: Row["details"] = []): Row {
  return { at, mark, label, text, details, done: true };
}

function named(name: string, value: unknown): Row["details"] {
  return value === undefined ? [] : [[name, value]];
}

/** `retry (PAUSED): its reason, until 2026-11-23 10:00:00Z` */
function parking({ reason, code, detail, until }: EventOf<"run.parked">): string {
  return `${reason}${code === undefined ? "" : ` (${code})`}${part(": ", detail)}${until === undefined ? "" : `, until ${clockTime(until)}`}`;
}

/** `overloaded 529, tried again after 1.4s` */
function verdictOf({ at, final, retryAt, failure, exhausted, isFatal, isProbe }: EventOf<"step.failed">): string {
  const parts = [failure && verdictText(failure), failure?.chance === "later" && "told when", isProbe && "a probe"];
  if (exhausted) parts.push("no attempt left");
  else if (isFatal) parts.push("the run fails with it");
  else if (!final) parts.push(retryAt === undefined ? "tried again" : `tried again after ${span(retryAt - at)}`);
  return parts.filter(Boolean).join(", ");
}

/** What a step is about, in a few words. */
function subject(event: EventOf<"step.started">): string {
  const fallback = event.candidate === undefined ? "" : ", fallback";
  const attempt = event.attempt > 1 ? `, attempt ${event.attempt}` : "";
  const until = event.until === undefined ? "" : `, until ${clockTime(event.until)}`;
  const child = event.child === undefined ? "" : ` → ${event.child}`;
  const effect = event.kind === "tool" || event.kind === "code" ? ` (${event.effect ?? "once"})` : "";
  return `${event.name}${effect}${child}${fallback}${attempt}${until}`;
}

function origin(event: EventOf<"run.created">): string {
  const parts = [`${event.agent} for ${event.principal.tenant}/${event.principal.user}`];
  if (event.session !== undefined) parts.push(`session ${event.session}${event.turn === undefined ? "" : `, turn ${event.turn}`}`);
  if (event.parent) parts.push(`child of ${event.parent.run}`);
  if (event.forked) parts.push(`forked from ${event.forked.run} at ${event.forked.step}`);
  return parts.join(", ");
}

/** What a step gave. Of a model's answer the words and the calls; the messages it stands for are in `--json`. */
function outcome(label: string, value: unknown): Row["details"] {
  if (label !== "model" || !isRecord(value)) return named("out", value);
  if (typeof value["text"] === "string") return named("said", value["text"]); // a flow's `generate`
  if (!Array.isArray(value["messages"])) return named("out", value);
  const content = contentOf({ messages: value["messages"] });
  const calls = content.flatMap((part) => (part.type === "tool-call" ? part.toolName : []));
  return [...named("said", textOf(content) || undefined), ...named("calls", calls.join(", ") || undefined)];
}

/** What was asked for: the user's words where there is nothing else. */
function request(input: unknown): Row["details"] {
  const messages = isRecord(input) && Array.isArray(input["messages"]) ? input["messages"] : [];
  const only: unknown = messages.length === 1 ? messages[0] : undefined;
  return isRecord(only) && typeof only["content"] === "string" ? named("asked", only["content"]) : named("input", input);
}

function tokens(usage: unknown): string {
  if (!isRecord(usage) || typeof usage["inputTokens"] !== "number" || typeof usage["outputTokens"] !== "number") return "";
  return `, ${usage["inputTokens"]} + ${usage["outputTokens"]} tokens`;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

export interface Rendering {
  paint: Paint;
  /** Values whole and on lines of their own, instead of shortened. */
  full: boolean;
}

/** The whole of a run, with times counted from its start. */
export function timeline(events: readonly Event[], rendering: Rendering): string[] {
  const all = new Timeline();
  for (const event of events) all.add(event);
  const start = events[0]?.at ?? 0;
  return all.rows.flatMap((row) => rowLines(row, start, rendering));
}

const LABEL_CHARS = 9;
const TIME_CHARS = 9;
const INDENT = " ".repeat(TIME_CHARS + 4);
const SHORT_TEXT = 160;
const SHORT_VALUE = 110;

export function rowLines(row: Row, start: number, { paint, full }: Rendering): string[] {
  const time = `+${span(row.at - start)}`.padStart(TIME_CHARS);
  const took = row.tookMs === undefined ? "" : `  ${paint("dim", span(row.tookMs))}`;
  const verdict = row.verdict ? ` (${inert(row.verdict)})` : "";
  const note = row.note === undefined ? "" : `  ${paint(STYLES[row.mark], shown(row.note, full) + verdict)}`;
  const running = row.done ? "" : `  ${paint("cyan", "running")}`;
  const label = paint("bold", row.label.padEnd(LABEL_CHARS));
  const head = `${paint("dim", time)}  ${paint(STYLES[row.mark], row.mark)} ${label}${part(" ", shown(row.text, full))}${took}${running}${note}`;
  const isKeyShown = row.step !== undefined && (full || row.mark === "?"); // in doubt, it is what `resolve` asks for
  const details: Row["details"] = isKeyShown ? [["step", row.step], ...row.details] : row.details;
  return [head, ...details.flatMap(([name, value]) => detailLines(name, value, { paint, full }))];
}

function shown(text: string, full: boolean): string {
  return oneLine(text, full ? Number.POSITIVE_INFINITY : SHORT_TEXT);
}

function detailLines(name: string, value: unknown, { paint, full }: Rendering): string[] {
  const head = `${INDENT}${paint("dim", name.padEnd(LABEL_CHARS))} `;
  if (!full) return [head + oneLine(valueText(value, false), SHORT_VALUE)];
  const [first = "", ...rest] = inert(valueText(value, true)).split("\n");
  return [head + first, ...rest.map((line) => `${INDENT}${" ".repeat(LABEL_CHARS)} ${line}`)];
}
