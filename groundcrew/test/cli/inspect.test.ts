/** What `show` and `run` offer to somebody whose run does not move by itself. */
import { expect, test } from "vitest";
import { nextCommands } from "../../src/cli/inspect.ts";
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
