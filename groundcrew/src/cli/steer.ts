/** Commands by which a person takes part in a run: holds it, tells it something, gives it more steps, speaks in its place. */
import { MAX_STEP_CAP } from "../limits.ts";
import { act } from "./act.ts";
import { type Invocation, parseCount, readGiven } from "./arguments.ts";
import type { Handle } from "./backend.ts";
import type { ExitCode } from "./exit.ts";
import type { Output } from "./output.ts";

type Command = (call: Invocation, out: Output) => Promise<ExitCode>;

/** A worker does it as soon as it looks; until then the run does not show it. */
function steering(done: string, what: (run: Handle, text: string) => Promise<void>): Command {
  return async (call, out) => {
    const given = call.args[1];
    const text = given === undefined ? "" : await readGiven(given, "the text");
    return act(call, out, async (run) => {
      await what(run, text);
      return done;
    });
  };
}

export const pause = steering("Asked the run to pause: no further step begins. What is in flight may end.", (run, why) => run.pause(why));
export const resume = steering("Asked the run to go on.", (run) => run.resume());
export const say = steering("Sent. The agent reads it before its next step.", (run, text) => run.say(text));
export const takeover = steering("Asked to take over: from then on you speak to the user, and the agent waits.", (run) => run.takeOver());
export const speak = steering("Said to the user.", (run, text) => run.speak(text));
export const handback = steering("Asked the agent to go on, with what was said.", (run) => run.handBack());

export async function raise(call: Invocation, out: Output): Promise<ExitCode> {
  const steps = parseCount(call.args[1] ?? "", "steps", 1, MAX_STEP_CAP, "<steps>");
  return act(call, out, async (run) => {
    await run.raise(steps);
    return `Gave the run ${steps} more model steps.`;
  });
}
