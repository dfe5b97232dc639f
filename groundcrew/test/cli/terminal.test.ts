import { describe, expect, test } from "vitest";
import { columns, inert, jsonText, oneLine, shellWord, valueText } from "../../src/cli/terminal.ts";
import { span } from "../../src/clock.ts";

/** What a terminal would act on, or a reader could not see. */
const hostile = {
  "a colour": "\u001b[31mred",
  "a cleared screen": "\u001b[2J\u001b[H",
  "a window title": "\u001b]0;owned\u0007",
  "a link with another text": "\u001b]8;;https://evil.example\u001b\\click\u001b]8;;\u001b\\",
  "an 8-bit control sequence": "\u009b2J",
  "a carriage return that hides a line": "safe\rrm -rf",
  backspaces: "no\b\bok",
  "a reversed reading direction": "\u202egnp.exe",
  "an isolate": "\u2066x\u2069",
  "invisible tags": "\u{e0041}\u{e0042}",
  "a zero-width space": "a\u200bb",
  "a byte-order mark": "\ufeffx",
  "a line separator": "a\u2028b",
  NUL: "a\0b",
  "a lone surrogate": "a\ud800b",
};

const active = /(?![\n\t\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

describe("text from elsewhere", () => {
  test.each(Object.entries(hostile))("%s never reaches the terminal as such", (_name, text) => {
    expect(inert(text)).not.toMatch(active);
    expect(oneLine(text, 100)).not.toMatch(active);
    expect(inert(valueText({ text }, true))).not.toMatch(active);
    expect(jsonText({ text })).not.toMatch(active);
  });

  test("shows what was taken out, so that nothing disappears in silence", () => {
    expect(inert("\u001b[2Jx\u202e")).toBe("⟨U+001B⟩[2Jx⟨U+202E⟩");
  });

  test("keeps what is only writing: lines, tabs, emoji with joiners, right-to-left letters", () => {
    const writing = "a\n\tb 👩‍👩‍👧 שלום می‌خواهم é";
    expect(inert(writing)).toBe(writing);
    expect(inert("a\r\nb")).toBe("a\nb");
  });

  test("reads back from JSON as exactly the value it was", () => {
    expect(JSON.parse(jsonText(hostile))).toEqual(hostile);
  });

  test("on one line stays on one line and never ends in half a character", () => {
    expect(oneLine("a\n\n  b\tc", 100)).toBe("a ⏎ b c");
    expect(oneLine("😀😀😀", 3)).toBe("😀… (6 characters)");
  });
});

test("values JSON has no form for are written, and a cycle ends", () => {
  const cyclic: { self?: unknown } = {};
  cyclic.self = cyclic;
  expect(JSON.parse(jsonText({ n: 12n, when: new Date(0), all: new Set([1]), cyclic }))).toEqual({
    n: "12",
    when: "1970-01-01T00:00:00.000Z",
    all: [1],
    cyclic: { self: "[circular]" },
  });
});

test.each([
  [-5, "0ms"],
  [340, "340ms"],
  [12_340, "12.3s"],
  [59_999, "59.9s"],
  [250_000, "4m 10s"],
  [2 * 3_600_000 + 300_000, "2h 5m"],
  [3 * 86_400_000 + 4 * 3_600_000, "3d 4h"],
])("%d ms are %s", (ms, text) => {
  expect(span(ms)).toBe(text);
});

test("columns stand under each other, without blanks at the end", () => {
  expect(
    columns([
      ["RUN", "AGENT", "X"],
      ["r1", "support", ""],
      ["run22", "a", "long"],
    ]),
  ).toEqual(["RUN    AGENT    X", "r1     support", "run22  a        long"]);
});

test("a suggested command quotes what a shell would act on", () => {
  expect(shellWord("tool:call_1#2")).toBe("tool:call_1#2");
  expect(shellWord("x; rm -rf $HOME")).toBe("'x; rm -rf $HOME'");
  expect(shellWord("it's")).toBe("'it'\\''s'");
  expect(shellWord("a\nb")).toBe("'a\nb'");
});
