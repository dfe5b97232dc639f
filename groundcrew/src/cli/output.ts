/** Where a command's words go: what was asked for to standard output, everything about it to standard error. */
import { GroundcrewError } from "../errors.ts";
import { inert, jsonText, type Paint, painter } from "./terminal.ts";

export interface Output {
  /** Whether a program reads. */
  readonly json: boolean;
  readonly paint: Paint;
  /** A line for people. Text in it that came from elsewhere has to be inert already. */
  line(text: string): void;
  /** A value for a program, on one line. */
  document(value: unknown): void;
  /** A line that is not the answer. */
  note(text: string): void;
}

export const standardStreams = { out: process.stdout, err: process.stderr };

export function standardOutput(json: boolean): Output {
  return {
    json,
    paint: painter(process.stdout),
    line: (text) => process.stdout.write(`${text}\n`),
    document: (value) => process.stdout.write(`${jsonText(value)}\n`),
    note: (text) => process.stderr.write(`${text}\n`),
  };
}

interface KnownError extends Error {
  code: string;
  fix?: string;
  help?: string;
  run?: string;
}

/** By its shape: a config file may bring its own copy of the library, whose class is another one. */
function isKnown(error: unknown): error is KnownError {
  return error instanceof Error && error.name === "GroundcrewError" && "code" in error && typeof error.code === "string";
}

/** What helps on a command line, where the error was thrown by something that does not know of one. */
const FIXES: Readonly<Record<string, string>> = {
  UNAUTHENTICATED: "Give the key that the server knows in GROUNDCREW_API_KEY, or with --api-key.",
};

/** Any thrown thing as one of ours. */
export function known(thrown: unknown): KnownError {
  if (isKnown(thrown)) return thrown;
  const message = thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : String(thrown);
  return new GroundcrewError("INTERNAL", message, {
    cause: thrown,
    fix: "Run the command again with --debug for the stack.",
  }) as KnownError;
}

/** What an error tells an operator, with the next thing to do; the stack only for those who ask. */
export function errorText(error: KnownError, paint: Paint, debug: boolean): string {
  const lines = [`${paint("red", `error ${inert(error.code)}`)}: ${inert(withoutFix(error))}`];
  const fix = fixOf(error);
  if (fix) lines.push(`  fix:  ${inert(fix)}`);
  if (error.help) lines.push(`  more: \`${inert(error.help)}\``);
  if (debug) lines.push(...stacks(error));
  return lines.join("\n");
}

function fixOf({ code, fix }: KnownError): string | undefined {
  return fix ?? FIXES[code];
}

/** The fix stands in the message as well, for those who see only that. */
export function withoutFix({ message, fix }: KnownError): string {
  return fix && message.endsWith(fix) ? message.slice(0, -fix.length).trimEnd() : message;
}

function stacks(error: unknown): string[] {
  if (!(error instanceof Error)) return error === undefined ? [] : [inert(String(error))];
  return [inert(error.stack ?? error.message), ...(error.cause === undefined ? [] : ["caused by:", ...stacks(error.cause)])];
}

export function errorDocument(error: KnownError, debug: boolean): unknown {
  const { code, help, run } = error;
  return { error: { code, message: withoutFix(error), fix: fixOf(error), help, run, ...(debug && { stack: stacks(error) }) } };
}
