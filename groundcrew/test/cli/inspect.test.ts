/** What `show` and `run` offer to somebody whose run does not move by itself. */
import { expect, test } from "vitest";
import { headLines, nextCommands } from "../../src/cli/inspect.ts";
import type { RunView } from "../../src/wire.ts";

const parked = { id: "run_1", status: "parked", current: [] } as unknown as RunView;

test("a run that waits for its next attempt can have it now", () => {
  expect(nextCommands({ ...parked, reason: "retry", code: null })).toEqual(["groundcrew retry run_1"]);
});

test.each(["RETRIES_EXHAUSTED", "QUARANTINED"])("a run that was given up (%s) can be tried again, forked or cancelled", (code) => {
  expect(nextCommands({ ...parked, reason: "attention", code })).toEqual([
    "groundcrew retry run_1",
    "groundcrew fork run_1 --from <step>",
    "groundcrew cancel run_1",
  ]);
});

test("a run that does not fit its code, and one of a server that knows no codes, is looked at again by `retry`", () => {
  expect(nextCommands({ ...parked, reason: "attention", code: null })).toEqual(["groundcrew retry run_1"]);
  const { code: _code, ...old } = { ...parked, reason: "attention" as const };
  expect(nextCommands(old as RunView)).toEqual(["groundcrew retry run_1"]);
});

const asked = (id: string, kind = "tool") => ({ id, kind, name: "refund", why: "w", to: ["role:finance"], since: 0, until: null });

test("a run that waits for people names the commands that decide, and not more than anybody reads", () => {
  const waiting = (...approvals: object[]) => ({ ...parked, reason: "approval", code: null, approvals }) as unknown as RunView;
  expect(nextCommands(waiting(asked("run_1.1")))).toEqual([
    "groundcrew approval run_1.1",
    "groundcrew approve run_1.1",
    "groundcrew deny run_1.1 --reason '<why>'",
  ]);
  expect(nextCommands(waiting(asked("run_1.1", "question")))[1]).toBe("groundcrew answer run_1.1 '<answer>'");
  const many = nextCommands(waiting(...Array.from({ length: 30 }, (_, n) => asked(`run_1.${n}`))));
  expect(many).toHaveLength(10);
  expect(many.at(-1)).toBe("groundcrew inbox");
});

test("an owner who is not told who may decide is sent to the request, and reads no empty parts", () => {
  const waiting = { ...parked, agent: "support", summary: "s", reason: "approval", code: null, createdAt: 0, since: 0 };
  const hidden = { to: [], why: "" };
  const view = {
    ...waiting,
    approvals: [
      { ...asked("run_1.1"), ...hidden },
      { ...asked("run_1.2"), ...hidden },
    ],
  } as unknown as RunView;
  expect(nextCommands(view)).toEqual(["groundcrew approval run_1.1", "groundcrew approval run_1.2"]);
  expect(headLines(view, (_style, text) => text).join("\n")).toMatch(/run_1\.1 {2}refund, for [^:]*, never expires\n/);
});

test("a run that a person holds is resumed, one that was taken over is handed back, and neither is retried", () => {
  const paused = { ...parked, reason: "attention", code: "PAUSED", approvals: [], paused: { by: "ana", why: "w" }, handover: null };
  expect(nextCommands(paused as unknown as RunView)).toEqual(["groundcrew resume run_1"]);
  const taken = { ...parked, reason: "signal", code: null, approvals: [], paused: null, handover: "ana" };
  expect(nextCommands(taken as unknown as RunView)).toEqual(["groundcrew speak run_1 '<text>'", "groundcrew handback run_1"]);
  const ended = { ...paused, status: "cancelled", approvals: [asked("run_1.1")] };
  expect(nextCommands(ended as unknown as RunView)).toEqual([]);
});

test("of several requests each says since when, until when, for whom and why", () => {
  const view = {
    ...parked,
    reason: "approval",
    agent: "support",
    summary: "s",
    approvals: [asked("run_1.1"), { ...asked("run_1.2"), until: Date.UTC(2026, 0, 5) }],
    createdAt: 0,
    since: 0,
  };
  const lines = headLines(view as unknown as RunView, (_style, text) => text).join("\n");
  expect(lines).toMatch(/run_1\.1 {2}refund, for .*, never expires: role:finance: w/);
  expect(lines).toContain("until 2026-01-05 00:00:00Z: role:finance: w");
});
