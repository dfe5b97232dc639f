import { describe, expect, test } from "vitest";
import { inert, inertPiece } from "../../src/inert.ts";
import { HOSTILE } from "./ground.ts";

const active = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/u;

describe("inert text", () => {
  test.each(Object.entries(HOSTILE))("%s: nothing is left that acts or cannot be seen, and nothing is lost", (_name, text) => {
    const shown = inert(text);
    expect(shown.replaceAll("\n", "")).not.toMatch(active);
    const back = shown.replace(/⟨U\+([0-9A-F]+)⟩/g, (_all, hex) => String.fromCodePoint(Number.parseInt(hex, 16)));
    expect(back).toBe(text.replaceAll("\r\n", "\n"));
  });

  test("spells what it takes out", () => {
    expect(inert("a\u202eb\u001b\ud800")).toBe("a⟨U+202E⟩b⟨U+001B⟩⟨U+D800⟩");
  });

  test.each([
    ["a joiner between Latin letters", "ana\u200d@x", "ana⟨U+200D⟩@x"],
    ["a joiner at the end", "ana\u200d", "ana⟨U+200D⟩"],
    ["a non-joiner in a name", "pay\u200cpal", "pay⟨U+200C⟩pal"],
    ["a filler that looks like a space", "a\u3164b\u115f", "a⟨U+3164⟩b⟨U+115F⟩"],
    ["a grapheme joiner", "a\u034fb", "a⟨U+034F⟩b"],
    ["a variation selector behind a letter", "a\ufe0fb", "a⟨U+FE0F⟩b"],
  ])("shows %s", (_what, text, shown) => {
    expect(inert(text)).toBe(shown);
  });

  test("leaves writing as it is: lines, tabs, emoji, right-to-left letters, letters that join", () => {
    const writing = "a\n\tb 👩‍👩‍👧 👩🏽‍💻 ❤️ 1️⃣ שלום می‌خواهم é क्‍ष";
    expect(inert(writing)).toBe(writing);
  });

  test("an emoji that comes in pieces is not taken apart", () => {
    expect(["👨", "\u200d", "👩\u200d", "👧"].map(inertPiece).join("")).toBe("👨‍👩‍👧");
  });

  test("takes no time for what is made to cost it", () => {
    const began = performance.now();
    for (const text of ["a\u200d".repeat(50_000), `क${"\u0300".repeat(50_000)}\u200d`, "\ufe0f".repeat(50_000), "👩\u200d".repeat(50_000)])
      inert(text);
    expect(performance.now() - began).toBeLessThan(2_000);
  });
});
