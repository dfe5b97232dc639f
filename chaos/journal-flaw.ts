/** What must hold of any journal. */
import type { Event } from "../groundcrew/src/index.ts";
import { isEnd } from "../groundcrew/src/stream/feed.ts";

/** What is wrong with a journal, whoever wrote it; undefined when nothing is. */
export function flawOfJournal(events: readonly Event[]): string | undefined {
  const gap = events.findIndex(({ seq }, index) => seq !== index + 1);
  if (gap !== -1) return `event ${events[gap]?.seq} stands in place ${gap + 1}`;
  const ends = events.filter(isEnd).length;
  if (ends !== 1 || !isEnd(events.at(-1) ?? { type: "" })) return `it has ${ends} ends and closes with ${events.at(-1)?.type}`;
  let epoch = 0;
  const done = new Set<string>();
  for (const event of events) {
    if (event.type === "run.claimed") {
      if (event.epoch <= epoch) return `epoch ${event.epoch} follows epoch ${epoch}`;
      epoch = event.epoch;
    }
    if (event.type === "step.started" && done.has(event.step)) return `step ${event.step} begins again after its end`;
    if (event.type === "step.succeeded" || (event.type === "step.failed" && event.final)) {
      if (done.has(event.step)) return `step ${event.step} ends twice`;
      done.add(event.step);
    }
    const isTooLate = event.type === "step.started" && event.effect !== undefined && isBehindCancel(events, event);
    if (isTooLate && !isUnbegun(events, event.step, event.attempt)) {
      return `step ${event.step} begins after the run was cancelled`;
    }
  }
  return undefined;
}

/** Whether the attempt was given up before its effect could begin. */
export function isUnbegun(events: readonly Event[], step: string, attempt: number): boolean {
  return events.some(
    (event) => event.type === "step.abandoned" && event.step === step && event.attempt === attempt && event.why.endsWith("before it began"),
  );
}

export function isBehindCancel(events: readonly Event[], event: Event): boolean {
  return events.some(({ type, seq }) => type === "cancel.requested" && seq < event.seq);
}
