/** Names of signals: whose they are to send. */
import { checkName } from "../agent.ts";
import { GroundcrewError } from "../errors.ts";

/** Names of signals that the run sends itself: nobody else may pass for it. */
const RESERVED = ["child:", "resolve:"];

/** @throws GroundcrewError `INPUT_INVALID` */
export function checkSignalName(name: unknown): asserts name is string {
  checkName("INPUT_INVALID", "signal name", name);
  if (!RESERVED.some((prefix) => name.startsWith(prefix))) return;
  throw new GroundcrewError("INPUT_INVALID", `Expected the signal name not to begin with ${RESERVED.join(" or ")}, got "${name}".`, {
    value: name,
  });
}

/** The name under which the end of a child run is recorded. */
export function childSignal(step: string): string {
  return `child:${step}`;
}
