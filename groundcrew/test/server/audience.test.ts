/** What an owner who is no operator must not read, whatever happened to the run. */
import { describe, expect, test } from "vitest";
import type { ApprovalRequest } from "../../src/persistence/approval.ts";
import type { Fact } from "../../src/persistence/event.ts";
import type { RunView } from "../../src/runtime.ts";
import { itemFor, viewFor } from "../../src/server/audience.ts";
import { event, runView } from "../../src/wire.ts";

const SECRET = "the-password-of-the-database";
const dana = { tenant: "acme", user: "dana", roles: [] };
const olga = { tenant: "acme", user: "olga", roles: ["operator"] };
const error = { code: "TOOL_FAILED", name: "Error", message: SECRET, user: "A tool has failed." } as const;
const refused = { chance: "never", reason: "auth", status: 401 } as const;

const request: ApprovalRequest = {
  kind: "tool",
  name: "refund",
  step: "tool:a",
  agent: "support",
  session: null,
  user: "dana",
  input: { amount: 250 },
  hash: "h",
  tool: "t",
  rules: SECRET,
  why: SECRET,
  spent: { modelSteps: 1, inputTokens: 1, outputTokens: 1 },
  context: [],
  quorum: 1,
  selfApproval: false,
  onExpire: "deny",
};

const told: Fact[] = [
  { type: "step.failed", step: "tool:a", attempt: 1, error, final: true, failure: refused },
  { type: "step.failed", step: "tool:a", attempt: 1, error, final: false, failure: refused, exhausted: true },
  { type: "step.late", step: "tool:a", attempt: 1, outcome: "failed", error },
  { type: "step.degraded", step: "tool:a", name: "search", reason: "auth" },
  { type: "loop.blocked", ms: 30_000, steps: [SECRET] },
  { type: "step.abandoned", step: "tool:a", attempt: 1, why: SECRET },
  { type: "step.unknown", step: "tool:a", attempt: 1, why: SECRET },
  { type: "run.claimed", worker: SECRET, epoch: 1, takeover: true },
  { type: "run.released", why: SECRET },
  { type: "run.parked", reason: "attention", code: "RETRIES_EXHAUSTED", detail: SECRET },
  { type: "run.expired", deadline: 0, why: SECRET },
  { type: "run.failed", error },
  { type: "approval.requested", approval: "run_1.1", to: [SECRET], request },
  { type: "approval.escalated", id: "s", approval: "run_1.1", level: 1, to: [SECRET] },
  {
    type: "approval.ended",
    id: "s",
    approval: "run_1.1",
    verdict: { outcome: "denied", by: [SECRET], at: 0, channel: "slack", reason: SECRET, hash: "h", answer: SECRET },
  },
  { type: "approval.voided", approval: "run_1.1", why: SECRET },
  { type: "approval.skipped", step: "tool:a", name: "refund", why: SECRET },
  { type: "run.paused", id: "s", why: SECRET, from: SECRET },
  { type: "run.resumed", id: "s", from: SECRET },
  { type: "limit.raised", id: "s", steps: 5, from: SECRET },
  { type: "cancel.requested", id: "s", why: SECRET, from: SECRET },
  { type: "run.cancelled", why: SECRET, by: SECRET },
  { type: "retry.requested", id: "s", from: SECRET },
  { type: "message.received", id: "s", message: { role: "user", content: SECRET }, from: SECRET },
  { type: "signal.received", id: "s", name: "go", from: SECRET },
  { type: "handover.began", id: "s", from: SECRET },
  { type: "handover.said", id: "s", message: { role: "assistant", content: "Hello" }, from: SECRET },
  { type: "handover.ended", id: "s", from: SECRET },
  { type: "step.resolved", step: "tool:a", resolution: "happened", by: SECRET },
  { type: "run.created", agent: "support", principal: dana, deadline: 1, forked: { run: "run_0", step: "model:1", by: SECRET } },
];

describe.each(told)("of $type", (fact) => {
  const item = { ...fact, seq: 7, at: 0, cursor: "7" };

  test("an owner reads its place and type, and nothing that was written for operators", () => {
    const hers = itemFor(dana, item);
    expect(hers).toMatchObject({ type: fact.type, seq: 7, cursor: "7" });
    expect(JSON.stringify(hers)).not.toMatch(new RegExp(`${SECRET}|auth|401`));
    expect(event.parse(hers)).toMatchObject({ type: fact.type });
  });

  test("an operator reads everything, as the contract has it", () => {
    expect(itemFor(olga, item)).toBe(item);
    const { cursor: _cursor, ...recorded } = item;
    expect(event.parse(recorded)).toEqual(recorded);
  });
});

test("what somebody is asked about is the owner's own, to the letter", () => {
  const asked: Fact = { type: "approval.requested", approval: "run_1.1", to: ["role:finance"], until: 9, request };
  expect(itemFor(dana, { ...asked, seq: 7, at: 0, cursor: "7" })).toMatchObject({
    until: 9,
    request: { name: "refund", input: { amount: 250 } },
  });
});

test("who holds a run, and who is asked, is told to operators only", () => {
  const hers = viewFor(dana, {
    ...({ summary: "", degraded: [], status: "parked", reason: "approval", code: null } as unknown as RunView),
    approvals: [{ id: "run_1.1", kind: "tool", name: "refund", why: SECRET, to: [SECRET], since: 0, until: 9 }],
    paused: { by: SECRET, why: SECRET },
  });
  expect(JSON.stringify(hers)).not.toContain(SECRET);
  expect(hers).toMatchObject({ approvals: [{ id: "run_1.1", name: "refund", until: 9 }], paused: { by: null } });
});

test("what a late result was is the owner's own, like any other result", () => {
  const late: Fact = { type: "step.late", step: "tool:a", attempt: 1, outcome: "succeeded", value: { hits: 3 } };
  expect(itemFor(dana, { ...late, seq: 7, at: 0, cursor: "7" })).toMatchObject({ value: { hits: 3 } });
});

describe("where the run is", () => {
  const view: RunView = {
    id: "run_1",
    agent: "support",
    status: "succeeded",
    summary: `Done, without search. ${SECRET}`,
    reason: null,
    code: null,
    since: 0,
    dueAt: null,
    createdAt: 0,
    deadline: 0,
    principal: dana,
    session: null,
    turn: null,
    parent: null,
    forkedFrom: null,
    worker: SECRET,
    takeovers: 0,
    current: [],
    stepsDone: 1,
    progress: null,
    degraded: [{ name: "search", reason: "auth" }],
    approvals: [],
    paused: null,
    handover: null,
  };
  const parked: RunView = { ...view, status: "parked", degraded: [] };

  test.each<[string, RunView]>([
    ["Done, without search.", view],
    ["Running without search.", { ...view, status: "running" }],
    ["Done.", { ...view, degraded: [] }],
    ["Something did not work. Trying again in a moment.", { ...parked, reason: "retry", dueAt: 5 }],
    [
      "A service that is needed is not available. An operator has to look at it.",
      { ...parked, reason: "attention", code: "RETRIES_EXHAUSTED" },
    ],
    [
      "The run was stopped because it disturbs the service. An operator has to look at it.",
      { ...parked, reason: "attention", code: "QUARANTINED" },
    ],
    ["Waiting for somebody.", { ...parked, reason: "attention" }],
    ["Waiting for an approval.", { ...parked, reason: "approval", dueAt: 5 }], // it expires then: it does not go on by itself
  ])("is told to its owner as: %s", (summary, view) => {
    const hers = viewFor(dana, view);
    expect(hers.summary).toBe(summary);
    expect(JSON.stringify(hers)).not.toMatch(new RegExp(`${SECRET}|auth`));
    expect(viewFor(olga, view)).toBe(view);
    expect(runView.parse(view)).toEqual(view);
  });
});
