/** Text on its way to a person: made inert, shortened, coloured where a terminal shows colours, put in columns. */
import { inspect, styleText } from "node:util";
import { ACTIVE, inert } from "../inert.ts";
import { toJson } from "../json.ts";

export { inert };

/** `text` on one line, at most `max` characters of it. */
export function oneLine(text: string, max: number): string {
  const short = text.length > max ? `${text.slice(0, max).replace(/[\ud800-\udbff]$/, "")}… (${text.length} characters)` : text;
  return inert(short.replace(/\s*\n\s*/g, " ⏎ ").replaceAll("\t", " "));
}

const WHOLE = { depth: Number.POSITIVE_INFINITY, maxArrayLength: null, maxStringLength: null, breakLength: 100 } as const;
const SHORT = { depth: 5, maxArrayLength: 50, maxStringLength: 500, breakLength: Number.POSITIVE_INFINITY, compact: true } as const;

/** Any recorded value for a person: a text as it is, everything else as a literal. */
export function valueText(value: unknown, full: boolean): string {
  if (typeof value === "string") return value;
  return inspect(value, { ...(full ? WHOLE : SHORT), customInspect: false });
}

/** JSON for a program, inert as well: what it escapes reads back as the same value. */
export function jsonText(value: unknown): string {
  return escaped(toJson(value));
}

/** The same for a person who has to see exactly what it is, on lines of its own. */
export function jsonLines(value: unknown): string[] {
  const text = JSON.stringify(value, null, 2) ?? "null";
  return text.split("\n").map(escaped); // a line feed within a text is written as one
}

function escaped(json: string): string {
  return json.replace(ACTIVE, (found) => [...Array(found.length).keys()].map((i) => `\\u${hex(found.charCodeAt(i))}`).join(""));
}

function hex(unit: number): string {
  return unit.toString(16).padStart(4, "0");
}

export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan" | "strikethrough";
export type Paint = (style: Style, text: string) => string;

/** Colours as `stream` shows them: none in a pipe, none with NO_COLOR. */
export function painter(stream: NodeJS.WriteStream): Paint {
  return (style, text) => styleText(style, text, { stream });
}

/** Rows with their columns under each other; the last column may be as long as it likes. */
export function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
}

/** `text` behind `mark`, and neither where there is no text: what somebody may not know, a server leaves empty. */
export function part(mark: string, text: string | undefined): string {
  return text ? `${mark}${text}` : "";
}

/** `2026-11-23 10:00:00Z` */
export function clockTime(at: number): string {
  return new Date(at)
    .toISOString()
    .replace("T", " ")
    .replace(/\.\d+Z$/, "Z");
}

/** A word of a suggested command line. A step's key may come from a model: what a shell would act on stands in quotes. */
export function shellWord(word: string): string {
  const safe = inert(word);
  return /^[\w:.@/#-]+$/.test(safe) ? safe : `'${safe.replaceAll("'", "'\\''")}'`;
}
