/** `stop`, `lift`, `stops`: the switch that keeps anything from beginning. */
import { span } from "../clock.ts";
import { isError } from "../errors.ts";
import { MAX_LIST_PAGE } from "../limits.ts";
import type { Stop } from "../persistence/store.ts";
import type { Stopped } from "../runtime.ts";
import { EVERYTHING } from "../supervision/stops.ts";
import { type Invocation, usage } from "./arguments.ts";
import type { Backend } from "./backend.ts";
import { type ExitCode, exit } from "./exit.ts";
import type { Output } from "./output.ts";
import { openBackend } from "./place.ts";
import { columns, inert, oneLine, shellWord } from "./terminal.ts";

const SHORT = 80;

export async function stop(call: Invocation, out: Output): Promise<ExitCode> {
  const [agent = EVERYTHING, why] = [call.args[0], call.text("why")];
  if (!why?.trim()) throw usage("`groundcrew stop` needs --why.", "It is on record, and whoever wonders why nothing moves reads it.");
  const backend = await openBackend(call, "runs");
  try {
    const stopped = await backend.stop({ agent, why });
    if (out.json) out.document({ ...stopped });
    else for (const line of stoppedLines(stopped)) out.line(line);
    if (agent !== EVERYTHING) tellIfUnknown(agent, await knownAgents(backend), out);
    return exit.ok;
  } finally {
    await backend.close();
  }
}

/** A name with a slip in it would leave the agent that was meant at work. The stop is set: the agent may be one of another process. */
function tellIfUnknown(agent: string, known: readonly string[] | undefined, out: Output): void {
  if (out.json || known === undefined || known.includes(agent)) return;
  out.note(out.paint("yellow", `No agent "${inert(agent)}" is known here: the one that you mean may go on.`));
  out.note(
    `Known are: ${known.map((name) => `"${inert(name)}"`).join(", ") || "none"}. \`groundcrew lift ${shellWord(agent)}\` takes this stop back.`,
  );
}

/** Those that are configured here, and those that had runs of late: a bare store has only these. Undefined: cannot be told. */
async function knownAgents(backend: Backend): Promise<string[] | undefined> {
  try {
    const [agents, runs] = await Promise.all([backend.agents(), backend.runs({ limit: MAX_LIST_PAGE })]);
    return [...new Set([...agents, ...runs.map(({ agent }) => agent)])].toSorted();
  } catch (error) {
    if (isError(error)) return undefined;
    throw error;
  }
}

function stoppedLines({ stop, inFlight, hasMore }: Stopped): string[] {
  const now = Date.now();
  const head = `Stopped: nothing ${of(stop.agent)} begins within a second from now, in any process. \`${liftCommand(stop)}\` lets it go on.`;
  const more = hasMore ? ["More runs were at work than were looked at: `groundcrew runs --status running` shows them."] : [];
  if (inFlight.length === 0) return [head, "Nothing was in flight.", ...more];
  const rows = inFlight.map(({ run, agent, name, since }) => [run, agent, name, span(now - since)].map((cell) => oneLine(cell, SHORT)));
  const lines = columns([["RUN", "AGENT", "STEP", "FOR"], ...rows]);
  return [head, "In flight, and not interrupted (`groundcrew cancel <run>` does that):", ...lines.map((line) => `  ${line}`), ...more];
}

export async function lift(call: Invocation, out: Output): Promise<ExitCode> {
  const [agent = EVERYTHING] = call.args;
  const backend = await openBackend(call, "runs");
  try {
    const wasStopped = await backend.lift(agent);
    const left = await backend.stops();
    if (out.json) out.document({ lifted: wasStopped, stops: left });
    else {
      const what = agent === EVERYTHING ? "everything" : `"${inert(agent)}"`;
      out.line(wasStopped ? `Lifted the stop of ${what}.` : `There was no stop of ${what}; nothing was changed.`);
      if (!wasStopped && left.length === 0) out.note("Nothing is stopped.");
      for (const line of stopLines(left)) out.note(wasStopped ? line : `But: ${line}`);
    }
    return exit.ok;
  } finally {
    await backend.close();
  }
}

export async function stops(call: Invocation, out: Output): Promise<ExitCode> {
  const backend = await openBackend(call, "runs");
  try {
    const found = await backend.stops();
    if (out.json) out.document({ stops: found });
    else if (found.length === 0) out.note("Nothing is stopped.");
    else for (const line of stopLines(found)) out.line(line);
    return exit.ok;
  } finally {
    await backend.close();
  }
}

/** What is in force, for people who wonder why nothing moves. @param agent only what concerns it */
export function stopLines(stops: readonly Stop[], agent?: string): string[] {
  const now = Date.now();
  const about = stops.filter((stop) => agent === undefined || stop.agent === EVERYTHING || stop.agent === agent);
  return about.map((stop) => {
    const what = stop.agent === EVERYTHING ? "Everything" : `"${inert(stop.agent)}"`;
    return `${what} is stopped by ${inert(stop.by)}, for ${span(now - stop.at)}: ${inert(stop.why)}. \`${liftCommand(stop)}\` lets it go on.`;
  });
}

/**
 * The stops, for commands that are about something else and do not fail with this: none where whoever asks may not know, where the
 * server is older, or gone for a moment.
 */
export async function knownStops(backend: Backend): Promise<Stop[]> {
  try {
    return await backend.stops();
  } catch (error) {
    if (isError(error)) return [];
    throw error;
  }
}

function of(agent: string): string {
  return agent === EVERYTHING ? "of any agent" : `of "${inert(agent)}"`;
}

function liftCommand({ agent }: Stop): string {
  return `groundcrew lift${agent === EVERYTHING ? "" : ` ${shellWord(agent)}`}`;
}
