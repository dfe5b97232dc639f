import { PassThrough } from "node:stream";
import { afterEach, expect, test } from "vitest";
import { Follow } from "../../src/cli/follow.ts";
import type { FeedItem } from "../../src/wire.ts";

/** A terminal in memory: what is written to either stream appears in one place, as on a screen. */
function terminal(isTTY: boolean) {
  const screen = new PassThrough();
  let shown = "";
  screen.on("data", (piece: Buffer) => {
    shown += piece.toString();
  });
  const stream = Object.assign(screen, { isTTY, columns: 80 }) as unknown as NodeJS.WriteStream;
  const follow = new Follow({
    rows: "work",
    full: false,
    paint: (style, text) => (style === "strikethrough" ? `~${text}~` : text),
    to: "err",
    streams: { out: stream, err: stream },
  });
  open.push(follow);
  let seq = 0;
  return {
    follow,
    shown: () => shown,
    tell: (...facts: object[]) => {
      for (const fact of facts) follow.item({ at: 0, seq: ++seq, cursor: String(seq), ...fact } as unknown as FeedItem);
    },
  };
}

const open: Follow[] = [];
afterEach(() => {
  for (const follow of open.splice(0)) follow.close();
});

const started = (attempt: number, step = "model:1") => ({ type: "step.started", step, kind: "model", name: "m", attempt });
const words = (delta: string, attempt: number, step = "model:1") => ({
  type: "chunk",
  step,
  attempt,
  part: { type: "text-delta", id: "t", delta },
});

test("text appears as it comes, and is the answer when its step has succeeded", () => {
  const { follow, shown, tell } = terminal(true);
  tell(started(1), words("Hel", 1), words("lo", 1));
  expect(shown()).toBe("Hello");
  tell({ type: "step.succeeded", step: "model:1", attempt: 1 });
  expect(shown()).toBe("Hello\n");
  expect(follow.lastText).toBe("Hello");
});

test("text of an attempt that was given up is taken back, and is never the answer", () => {
  const { follow, shown, tell } = terminal(true);
  tell(started(1), words("Half an ans", 1), { type: "step.abandoned", step: "model:1", attempt: 1, why: "the worker was gone" });
  expect(shown()).toContain("Half an ans\n↶ taken back: ~Half an ans~\n");
  expect(follow.lastText).toBe("");
  tell(started(2), words("Whole", 2), { type: "step.succeeded", step: "model:1", attempt: 2 });
  expect(follow.lastText).toBe("Whole");
});

test("text of steps side by side is not run together", () => {
  const { shown, tell } = terminal(true);
  tell(started(1, "a"), started(1, "b"), words("one", 1, "a"), words("two", 1, "b"));
  expect(shown()).toBe("one\ntwo");
});

test("a character that comes in two halves is shown once, whole", () => {
  const { shown, tell } = terminal(true);
  tell(started(1), words("a\ud83d", 1), words("\ude00b", 1));
  expect(shown()).toBe("a😀b");
});

test("what a model writes cannot act on the terminal, also in pieces", () => {
  const { shown, tell } = terminal(true);
  tell(started(1), words("\u001b", 1), words("[2J\u202e", 1), { type: "step.succeeded", step: "model:1", attempt: 1 });
  expect(shown()).toBe("⟨U+001B⟩[2J⟨U+202E⟩\n");
});

test("in a pipe no text is shown that may have to be taken back", () => {
  const { shown, tell } = terminal(false);
  tell(started(1), words("Half", 1), { type: "step.abandoned", step: "model:1", attempt: 1, why: "the worker was gone" });
  expect(shown()).not.toContain("Half");
});
