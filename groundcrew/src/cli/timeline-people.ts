/** What people were asked, and what they did to a run, as rows of its timeline. */
import { REQUESTER } from "../approval.ts";
import type { Event } from "../wire.ts";
import { endText } from "./approval-text.ts";
import type { Row } from "./row.ts";
import { clockTime, part } from "./terminal.ts";

export type PeopleEvent = Extract<
  Event,
  { type: `approval.${string}` | `handover.${string}` | "run.paused" | "run.resumed" | "limit.raised" }
>;

type Said = Pick<Row, "mark" | "label" | "text" | "details">;

const MARKS = { approved: "✓", answered: "✓", denied: "✗", expired: "✗", cancelled: "·", superseded: "·" } as const;

/** Requests by their id, so that what becomes of one can be said by name. */
export class PeopleRows {
  readonly #names = new Map<string, string>();

  row(event: PeopleEvent): Said {
    switch (event.type) {
      case "approval.requested":
        this.#names.set(event.approval, event.request.name);
        return this.#asked(event);
      case "approval.ended": {
        const { outcome, input, answer } = event.verdict;
        const details: Said["details"] = [...named("instead", input), ...named("answer", answer)];
        return { mark: MARKS[outcome], label: outcome, text: `${this.#name(event)}${endText({ verdict: event.verdict })}`, details };
      }
      case "approval.escalated":
        return plain("escalated", `${this.#name(event)}${part(" to ", whom(event.to))}`);
      case "approval.reminded":
        return plain("reminded", `${this.#name(event)}${event.times > 1 ? `, ${event.times} times so far` : ""}`);
      case "approval.voided":
        return plain("voided", `what was decided on ${this.#name(event)}${part(": ", event.why)}`);
      case "approval.skipped":
        return plain("skipped", `nobody was asked about ${event.name}, in shadow mode${part(": ", event.why)}`);
      case "run.paused":
        return { ...plain("paused", pausedText(event)), mark: "‖" };
      case "run.resumed":
        return plain("resumed", `it goes on${part(", says ", event.from)}`);
      case "limit.raised":
        return plain("raised", `${event.steps} more model steps${part(", by ", event.from)}`);
      case "handover.began":
        return { ...plain("handover", `taken over${part(" by ", event.from)}`), mark: "‖" };
      case "handover.said":
        return { ...plain("handover", `${event.from || "a person"} says`), details: named("text", contentOf(event.message)) };
      case "handover.ended":
        return plain("handover", `handed back${part(" by ", event.from)}`);
    }
  }

  #asked({ approval, request, to, until, like }: Extract<PeopleEvent, { type: "approval.requested" }>): Said {
    if (like !== undefined) return plain("covered", `${request.name} needs nobody, as decided by ${like}`);
    const expires = until === undefined ? "" : `, until ${clockTime(until)}`;
    const text = `${to.length === 0 ? "" : `${whom(to)} `}about ${request.name}${expires}${part(": ", request.why)} (${approval})`;
    return { mark: "‖", label: "asked", text, details: named("in", request.input) };
  }

  #name({ approval }: { approval: string }): string {
    return this.#names.get(approval) ?? approval;
  }
}

function plain(label: string, text: string): Said {
  return { mark: "·", label, text, details: [] };
}

function named(name: string, value: unknown): Said["details"] {
  return value === undefined ? [] : [[name, value]];
}

function whom(to: readonly string[]): string {
  return to.map((target) => (target === REQUESTER ? "whoever the run works for" : target)).join(" or ");
}

function pausedText({ from, why }: Extract<PeopleEvent, { type: "run.paused" }>): string {
  return [part("by ", from), why].filter(Boolean).join(": ");
}

/** A message of the AI SDK, or what else it may be. */
function contentOf(message: unknown): unknown {
  const content: unknown = typeof message === "object" && message !== null ? Reflect.get(message, "content") : undefined;
  return content ?? message;
}
