import { stripVTControlCharacters, styleText } from "node:util";

let isMidLine = false;

export const paint: typeof styleText = (style, text) => styleText(style, text, { stream: process.stdout });

/** Text as it comes. What a model wrote must not steer the terminal. */
export function write(text: string): void {
  process.stdout.write(stripVTControlCharacters(text));
  if (text !== "") isMidLine = !text.endsWith("\n");
}

/** A line of its own. */
export function say(line = ""): void {
  if (isMidLine) process.stdout.write("\n");
  isMidLine = false;
  process.stdout.write(`${line}\n`);
}

/** Something the conversation's two sides never see. */
export function note(line: string): void {
  say(paint("yellow", `  ┆ ${line}`));
}

export function heading(text: string): void {
  say();
  say(paint("bold", text));
}
