/** What passes between a tool and its code in another process. */
import type { Call } from "../call.ts";

/** What isolated code knows of its call: `currentCall()` does not reach into another process. */
export interface IsolatedCall extends Pick<Call, "run" | "step" | "attempt" | "key" | "progress"> {}

/** The default export of an isolated module. Outside a run, where the AI SDK alone calls the tool, there is no `call`. */
export type IsolatedModule<INPUT, OUTPUT> = (input: INPUT, call: IsolatedCall | undefined) => Promise<OUTPUT> | OUTPUT;

export interface Request {
  module: string;
  input: unknown;
  call: Omit<IsolatedCall, "progress"> | undefined;
}

export interface Answer {
  progress?: [fraction: number, what: string];
  output?: unknown;
  thrown?: Thrown;
  /** Why the output cannot be copied. */
  refused?: string;
}

/** An error in words: what `classify` and people look at, and nothing that cannot be copied. */
export interface Thrown {
  name: string;
  message: string;
  stack: string | undefined;
  props: Record<string, string | number | boolean>;
  cause?: Thrown;
}
