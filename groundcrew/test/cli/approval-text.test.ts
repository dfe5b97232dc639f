/** What a person reads before they decide: all of it, exactly, and nothing that pretends to be something else. */
import { describe, expect, test } from "vitest";
import { askedLines, decideCommands, endText, inboxCells, summaryLines } from "../../src/cli/approval-text.ts";
import type { ApprovalRow, Vote } from "../../src/persistence/approval.ts";

const NOW = Date.UTC(2026, 0, 5, 12, 0, 0);
const MINUTE = 60_000;

const open: ApprovalRow = {
  id: "run_1.2",
  run: "run_1",
  tenant: "acme",
  status: "open",
  version: 1,
  level: 0,
  to: ["role:finance"],
  requestedAt: NOW - 3 * MINUTE,
  expiresAt: NOW + 237 * MINUTE,
  request: {
    kind: "tool",
    name: "refund",
    step: "tool:call_1",
    agent: "support",
    session: "s1",
    user: "dana",
    input: { order: "A-7", amount: 250 },
    hash: "h1",
    tool: "t1",
    rules: "r1",
    why: "more than 100",
    spent: { modelSteps: 4, inputTokens: 812, outputTokens: 40 },
    context: ["user: My teapot is broken.", "assistant: I refund it."],
    quorum: 1,
    selfApproval: false,
    onExpire: "deny",
  },
  votes: [],
  verdict: null,
};

const vote = (by: string, more: Partial<Vote> = {}): Vote => ({
  by,
  roles: [],
  hash: "h1",
  at: NOW,
  channel: "slack",
  ...more,
});
const shown = (row: ApprovalRow) => askedLines(row, (_style, text) => text, NOW).join("\n");

test("everything that one decides on is there", () => {
  expect(`\n${shown(open)}\n`).toBe(`
run_1.2  refund  open, for 3m 0s; it expires in 3h 57m, at 2026-01-05 15:57:00Z
  groundcrew approve run_1.2
  groundcrew deny run_1.2 --reason '<why>'

  why        more than 100
  agent      support, session s1
  for        dana (tenant acme)
  asked      2026-01-05 11:57:00Z, 3m 0s ago, by run run_1, step tool:call_1
  decides    role:finance; not dana
  spent      4 model steps, 812 + 40 tokens
  hash       h1
  arguments  {
               "order": "A-7",
               "amount": 250
             }
  context    user: My teapot is broken.
             assistant: I refund it.
`);
});

describe("where several have to agree", () => {
  const row = { ...open, request: { ...open.request, quorum: 2 }, level: 1, to: ["role:finance", "user:bo"] };

  test("it is said how many do, each person counted once", () => {
    expect(shown({ ...row, votes: [vote("ana", { reason: "fine" })] })).toContain(
      "role:finance or user:bo; 2 different people have to agree, 1 did; not dana; escalated once",
    );
    expect(shown({ ...row, votes: [vote("ana", { reason: "fine" })] })).toContain("ana agrees, 2026-01-05 12:00:00Z (slack): fine");
  });

  test("a vote is for other arguments only where somebody has edited them", () => {
    const input = open.request.input as NonNullable<Vote["input"]>;
    expect(shown({ ...row, votes: [vote("ana", { input })] })).toContain("votes      ana agrees, 2026");
    expect(shown({ ...row, votes: [vote("ana", { hash: "h2", input: 1 })] })).toContain("ana agrees, with other arguments, 2026");
  });

  test("what somebody has edited is shown beside what was asked, because that is what the next one agrees to", () => {
    const edited = vote("ana", { hash: "h2", input: { order: "A-7", amount: 100 } });
    const text = shown({ ...row, votes: [edited] });
    expect(text).toMatch(/arguments {2}\{\n +"order": "A-7",\n +"amount": 250\n/);
    expect(text).toMatch(/edited to {2}\{\n +"order": "A-7",\n +"amount": 100\n +\}\n +its hash +h2/);
  });
});

test("an owner who may not decide reads no empty lines, and no commands that would be refused", () => {
  const text = shown({ ...open, to: [], request: { ...open.request, quorum: 2, why: "", rules: "", context: [] } });
  expect(text).toContain("decides    others\n");
  expect(text).not.toContain("why");
  expect(text).not.toContain("groundcrew");
  expect(text).not.toMatch(/ $/m);
});

describe("hostile text", () => {
  const evil = "\u001b]0;gone\u0007\u202e\u2066\u200b\u0000\r\nsecond\u2028line";
  const row: ApprovalRow = {
    ...open,
    id: `run_1.${evil}`,
    tenant: evil,
    to: [evil],
    request: { ...open.request, name: evil, agent: evil, user: evil, why: evil, step: evil, context: [evil], input: { [evil]: evil } },
    votes: [vote(evil, { reason: evil })],
  };
  const ended: ApprovalRow = {
    ...row,
    status: "denied",
    verdict: { outcome: "denied", by: [evil], at: NOW, channel: "cli", reason: evil, hash: evil, answer: evil, input: [evil] },
  };
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there
  const ACTIVE = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b\u2028\u2029\u202a-\u202e\u2066-\u2069]/;

  test("does nothing, wherever it stands", () => {
    for (const text of [shown(row), shown(ended), ...summaryLines(ended, (_s, t) => t, NOW), ...inboxCells(row, NOW)])
      expect(text).not.toMatch(ACTIVE);
    for (const command of decideCommands({ id: row.id, kind: "tool" })) expect(command).not.toMatch(ACTIVE);
  });

  test("in arguments can be read back, character for character", () => {
    const text = shown({ ...row, votes: [] });
    const json = /arguments {2}(\{[\s\S]*?\n {13}\})/.exec(text)?.[1] ?? "";
    expect(JSON.parse(json)).toEqual({ [evil]: evil });
  });

  test("cannot look like a line of its own in an inbox", () => {
    expect(inboxCells(row, NOW).join("")).not.toContain("\n");
    expect(inboxCells({ ...row, request: { ...row.request, why: "w".repeat(500) } }, NOW).at(-1)).toMatch(/^w{80}… \(500 characters\)$/);
  });
});

test("how it ended says who, when, by what way and why", () => {
  const verdict = { outcome: "approved", by: ["ana", "bo"], at: NOW, channel: "slack", reason: "fine", hash: "h1" } as const;
  expect(endText({ verdict })).toBe(" by ana and bo at 2026-01-05 12:00:00Z (slack): fine");
  expect(endText({ verdict: { ...verdict, by: [], channel: "runtime", reason: "nobody decided" } })).toBe(
    " at 2026-01-05 12:00:00Z: nobody decided",
  );
  const answered: ApprovalRow = { ...open, status: "answered", verdict: { ...verdict, outcome: "answered", answer: { days: 3 } } };
  expect(shown(answered)).toMatch(/answer +\{\n +"days": 3\n/);
  expect(shown(answered)).not.toContain("groundcrew approve");
});

test("a question is answered and not approved; one that never expires says so", () => {
  expect(decideCommands({ id: "run_1.2", kind: "question" })[0]).toBe("groundcrew answer run_1.2 '<answer>'");
  expect(shown({ ...open, expiresAt: null })).toContain("it does not expire");
  expect(shown({ ...open, expiresAt: NOW - 1 })).toContain("it has expired");
  expect(inboxCells({ ...open, expiresAt: null }, NOW)[2]).toBe("never");
});
