/** How the failure of a tool looks to the model. */
import type { ToolResultPart } from "ai";
import { expect, test } from "vitest";
import type { Event, Fact } from "../../src/persistence/event.ts";
import { fold } from "../../src/persistence/fold.ts";
import { transcriptOf } from "../../src/run/transcript.ts";

const principal = { tenant: "t", user: "u", roles: [] };
const failed: Fact = {
  type: "step.failed",
  step: "tool:c",
  attempt: 1,
  error: { code: "TOOL_FAILED", name: "Error", message: "no route to host", user: "" },
  final: true,
};

async function resultAfter(...facts: Fact[]): Promise<ToolResultPart["output"] | undefined> {
  const call = { type: "tool-call", toolCallId: "c", toolName: "search", input: {} };
  const all: Fact[] = [
    { type: "run.created", agent: "a", principal, deadline: 0, input: { messages: [{ role: "user", content: "Find it." }] } },
    { type: "step.started", step: "model:1", kind: "model", name: "m", attempt: 1 },
    {
      type: "step.succeeded",
      step: "model:1",
      attempt: 1,
      value: { messages: [{ role: "assistant", content: [call] }], finishReason: "tool-calls" },
    },
    { type: "step.started", step: "tool:c", kind: "tool", name: "search", attempt: 1 },
    ...facts,
  ];
  const state = fold(all.map((fact, index) => ({ ...fact, seq: index + 1, at: 0 }) as Event));
  const { messages, openCalls } = await transcriptOf(state, async (json) => json);
  expect(openCalls).toEqual([]);
  const last = messages.at(-1);
  const part = last?.role === "tool" ? last.content[0] : undefined;
  return part?.type === "tool-result" ? part.output : undefined;
}

test("an optional tool that is down is a fact to work around: what is missing, and why", async () => {
  expect(await resultAfter(failed, { type: "step.degraded", step: "tool:c", name: "search", reason: "network" })).toEqual({
    type: "json",
    value: { unavailable: true, tool: "search", reason: "network", message: "no route to host" },
  });
});

test("any other tool's failure is the error that it was", async () => {
  expect(await resultAfter(failed)).toEqual({ type: "error-text", value: "no route to host" });
});

test("what stood in for a tool is its result", async () => {
  const stoodIn: Fact[] = [
    { type: "step.succeeded", step: "tool:c", attempt: 2, value: "from the cache" },
    { type: "step.degraded", step: "tool:c", name: "search", reason: "network", instead: "cache" },
  ];
  expect(await resultAfter(...stoodIn)).toEqual({ type: "text", value: "from the cache" });
});

test("a late result is not the call's result", async () => {
  const late: Fact = { type: "step.late", step: "tool:c", attempt: 1, outcome: "succeeded", value: "too late" };
  expect(await resultAfter(failed, late)).toEqual({ type: "error-text", value: "no route to host" });
});
