/**
 * How text that a model, a tool or a user wrote is shown to a person: complete, and without any effect on what shows it. It must not
 * move a cursor, turn the reading direction, hide a line, or pass for another text because a part of it cannot be seen.
 */

/** Control characters, what is drawn as nothing (direction overrides, tags, fillers), lone surrogates, the two odd line ends. */
export const ACTIVE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

/** Writing that joins its letters, and says with an invisible character where it does not, or where it does. */
const JOINING =
  "[\\p{scx=Arab}\\p{scx=Syrc}\\p{scx=Deva}\\p{scx=Beng}\\p{scx=Guru}\\p{scx=Gujr}\\p{scx=Telu}\\p{scx=Knda}\\p{scx=Mlym}\\p{scx=Sinh}]";
const EMOJI = "\\p{Extended_Pictographic}[\\ufe0f\\p{Emoji_Modifier}]*";

/** What belongs to the writing: line feeds, tabs, and what joins emoji, or such letters, where there is something to be joined. */
function writing(before: string, behind: string): string {
  const emoji = `(?<=${EMOJI}${before})\\u200d(?=\\p{Extended_Pictographic}${behind})|(?<=\\p{Extended_Pictographic}${before})\\ufe0f`;
  return `[\\n\\t]|${emoji}|(?<=[0-9#*])\\ufe0f(?=\\u20e3)|(?<=${JOINING}\\p{M}*${before})[\\u200c\\u200d](?=${JOINING}${behind})`;
}

const WHOLE = new RegExp(`(${writing("", "")})|${ACTIVE.source}`, "gu");
const PIECE = new RegExp(`(${writing("|^", "|$")})|${ACTIVE.source}`, "gu");

/** `text` with whatever acts, or cannot be seen, spelled out: `⟨U+202E⟩`. */
export function inert(text: string): string {
  return spell(text, WHOLE);
}

/** The same for a piece of a text that comes bit by bit: what joins at its edges may join what is not here. */
export function inertPiece(text: string): string {
  return spell(text, PIECE);
}

function spell(text: string, found: RegExp): string {
  return text.replaceAll("\r\n", "\n").replace(found, (character, isWriting) => (isWriting === undefined ? spelled(character) : character));
}

function spelled(character: string): string {
  return `⟨U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
}
