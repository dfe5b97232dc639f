/** What must hold of a conversation: every message that was acknowledged is there, once, in one order that everybody was shown. */
import { isDeepStrictEqual } from "node:util";
import type { Crew, Event, RunRow } from "../groundcrew/src/index.ts";
import { fold } from "../groundcrew/src/persistence/fold.ts";
import type { Checks } from "./checks.ts";
import { idOf } from "./expected.ts";
import { heard } from "./model.ts";
import { insist } from "./patience.ts";
import { type Conversation, errandsOf } from "./programs.ts";
import type { Report } from "./report.ts";
import type { World } from "./world.ts";

const MOST_TURNS = 200;

interface Turn {
  row: RunRow;
  events: Event[];
  /** What was said in it. */
  tokens: string[];
}

export interface SessionDeps {
  crew: Crew;
  world: World;
  report: Report;
  checks: Checks;
}

/** @param acknowledged the run that took each remark. */
export async function checkConversation(
  deps: SessionDeps,
  { label, clients }: Conversation,
  acknowledged: ReadonlyMap<string, string>,
): Promise<void> {
  const { crew, world, report, checks } = deps;
  const wrong = (what: string) => report.add("wrong", `session ${label}: ${what}`);
  const turns = await turnsOf(crew, checks, label);
  const said = turns.flatMap(({ tokens }) => tokens);

  turns.forEach(({ row }, index) => {
    if (row.turn !== index + 1) wrong(`turn ${row.turn} stands in place ${index + 1}`);
  });
  for (const [token, run] of acknowledged) {
    const times = said.filter((one) => one === token).length;
    if (times === 0) report.add("lost", `session ${label}: ${token} was acknowledged, and is not there`);
    if (times > 1) report.add("doubled", `session ${label}: ${token} is there ${times} times`);
    const turn = turns.find(({ tokens }) => tokens.includes(token));
    if (turn && turn.row.id !== run) wrong(`${token} was acknowledged by ${run} and stands in ${turn.row.id}`);
  }
  for (const token of said) if (!acknowledged.has(token)) wrong(`${token} is there, and nobody said it`);
  for (const remarks of clients) {
    const inLine = remarks.filter(({ whenBusy }) => whenBusy !== "steer"); // the others go to the turn at work, past those that wait
    const order = inLine.map(({ token }) => said.indexOf(token));
    if (order.some((place, i) => place < (order[i - 1] ?? -1))) wrong(`what one client said stands in another order: ${order}`);
  }
  for (const tokens of world.shown.get(label) ?? []) {
    if (!isDeepStrictEqual(tokens, said.slice(0, tokens.length))) wrong(`the model was shown ${tokens}, and the order is ${said}`);
  }
  checkAnswers(
    turns,
    clients.flat().some(({ whenBusy }) => whenBusy === "interrupt"),
    wrong,
  );
  for (const token of said) {
    for (const { name } of errandsOf(token)) {
      const id = idOf(label, name);
      const page = world.pages.get(id);
      if (page) checks.effects.ofPage(id, page, undefined);
    }
  }
  const notes = turns.flatMap(({ events }) => notesIn(events));
  const state = await insist("a session's state", async () => (await crew.session(label)).state());
  if (!isDeepStrictEqual(state["notes"] ?? [], notes))
    wrong(`its state is ${JSON.stringify(state["notes"])}, and these notes were made: ${notes}`);
  report.operations += acknowledged.size;
  world.shown.delete(label);
}

async function turnsOf(crew: Crew, checks: Checks, session: string): Promise<Turn[]> {
  const rows = await insist("a session's turns", () => crew.runs({ session, limit: MOST_TURNS }));
  const turns: Turn[] = [];
  for (const row of rows.sort((a, b) => (a.turn ?? 0) - (b.turn ?? 0))) {
    const events = await checks.journal(row.id);
    turns.push({ row, events, tokens: events.flatMap(tokensIn) });
  }
  return turns;
}

function tokensIn(event: Event): string[] {
  if (event.type === "run.created") return (event.input as { messages: { content: string }[] }).messages.map(tokenOf);
  return event.type === "message.received" ? [tokenOf(event.message as { content: string })] : [];
}

function tokenOf({ content }: { content: string }): string {
  return content.slice("remark ".length);
}

/** Each answer tells everything that was said before it. */
function checkAnswers(turns: readonly Turn[], mayBeInterrupted: boolean, wrong: (what: string) => void): void {
  const before: string[] = [];
  for (const { row, events, tokens } of turns) {
    before.push(...tokens);
    const end = events.at(-1);
    if (end?.type === "run.cancelled" && mayBeInterrupted) continue;
    if (end?.type !== "run.succeeded") wrong(`turn ${row.id} ended with ${JSON.stringify(end)}`);
    else if (end.output !== heard(before)) wrong(`turn ${row.id} answered ${JSON.stringify(end.output)}, and this was said: ${before}`);
  }
}

function notesIn(events: readonly Event[]): string[] {
  const steps = fold(events).steps;
  return events.flatMap((event) => {
    const step = event.type === "step.succeeded" ? steps.get(event.step) : undefined;
    return step?.name === "note" ? [(step.input as { token: string }).token] : [];
  });
}
