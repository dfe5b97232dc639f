/** What the run has found out. */
import { styleText } from "node:util";

/** `lost`: what was accepted or done is gone. `doubled`: what may happen once happened again. `wrong`: any other broken promise. */
export type Kind = "lost" | "doubled" | "wrong";

const MAX_SHOWN = 40;

export class Report {
  readonly #tell: (line: string) => void;
  readonly problems: { kind: Kind; what: string }[] = [];
  /** Steps that succeeded, and messages that were acknowledged. */
  operations = 0;
  /** `once` steps of which nobody knew the outcome. */
  unknown = 0;
  /** Runs that somebody read along, coming and going. */
  read = 0;
  /** Programs that came to their end and were looked at. */
  done = 0;

  constructor(tell: (line: string) => void = () => {}) {
    this.#tell = tell;
  }

  add(kind: Kind, what: string): void {
    this.problems.push({ kind, what });
    if (this.problems.length <= MAX_SHOWN) this.#tell(`${styleText("red", kind)} ${what}`);
  }

  count(kind: Kind): number {
    return this.problems.filter((problem) => problem.kind === kind).length;
  }
}

/** A line for people. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
