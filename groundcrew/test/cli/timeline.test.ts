import { describe, expect, test } from "vitest";
import { timeline } from "../../src/cli/timeline.ts";
import type { Event } from "../../src/wire.ts";

type Written<E> = E extends Event ? Omit<E, "seq"> : never;

/** Events as a run would have them: numbered, with times counted from the run's start. */
function journal(...facts: Written<Event>[]): Event[] {
  return facts.map((fact, index) => ({ ...fact, seq: index + 1, at: START + fact.at }) as Event);
}

const START = Date.UTC(2026, 0, 5, 12, 0, 0);
const principal = { tenant: "acme", user: "dana", roles: [] };
const failure = (code: string, message: string) => ({ code, name: "GroundcrewError", message, user: "" });

const call = (toolName: string) => ({ type: "tool-call", toolCallId: toolName, toolName, input: {} });

function lines(events: Event[], full = false): string {
  return `\n${timeline(events, { paint: (_style, text) => text, full }).join("\n")}\n`;
}

const created = {
  type: "run.created",
  at: 0,
  agent: "support",
  principal,
  deadline: START + 60_000,
  session: "s1",
  turn: 2,
  input: { messages: [{ role: "user", content: "My teapot is broken." }] },
} as const;

const refunded = journal(
  created,
  { type: "run.claimed", at: 4, worker: "w1", epoch: 1, takeover: false },
  { type: "step.started", at: 5, step: "model:1", kind: "model", name: "gpt-5.6", attempt: 1, effect: "read" },
  {
    type: "step.succeeded",
    at: 1_205,
    step: "model:1",
    attempt: 1,
    value: { messages: [{ role: "assistant", content: [{ type: "text", text: "Let me look." }, call("lookupOrder"), call("refund")] }] },
    usage: { inputTokens: 812, outputTokens: 40 },
  },
  {
    type: "step.started",
    at: 1_206,
    step: "tool:a",
    kind: "tool",
    name: "lookupOrder",
    attempt: 1,
    effect: "read",
    input: { orderId: "A-7" },
  },
  {
    type: "step.started",
    at: 1_207,
    step: "tool:b",
    kind: "tool",
    name: "refund",
    attempt: 1,
    effect: "once",
    input: { orderId: "A-7", amount: 84.5 },
  },
  { type: "step.succeeded", at: 1_300, step: "tool:a", attempt: 1, value: { status: "paid" } },
  { type: "run.claimed", at: 3_000, worker: "w2", epoch: 2, takeover: true },
  { type: "step.unknown", at: 3_001, step: "tool:b", attempt: 1, why: "the worker was gone" },
  { type: "run.parked", at: 3_002, reason: "unknown_outcome", detail: 'nobody saw the outcome of "refund"' },
  { type: "step.resolved", at: 63_000, step: "tool:b", resolution: "happened", by: "ana", value: { refundId: "R-1" } },
  { type: "run.claimed", at: 63_001, worker: "w2", epoch: 3, takeover: false },
  { type: "run.succeeded", at: 64_000, output: "Done: R-1." },
);

describe("the timeline of a run", () => {
  test("tells what was asked, each step with its values, the takeover, the doubt and who ended it", () => {
    expect(lines(refunded)).toBe(`
     +0ms  · created   support for acme/dana, session s1, turn 2
             asked     My teapot is broken.
     +4ms  · claimed   by w1
     +5ms  ✓ model     gpt-5.6, 812 + 40 tokens  1.2s
             said      Let me look.
             calls     lookupOrder, refund
    +1.2s  ✓ tool      lookupOrder (read)  94ms
             in        { orderId: 'A-7' }
             out       { status: 'paid' }
    +1.2s  ? tool      refund (once)  outcome unknown: the worker was gone
             step      tool:b
             in        { orderId: 'A-7', amount: 84.5 }
    +3.0s  ↻ takeover  continued after an interruption, by w2
    +3.0s  ‖ parked    unknown_outcome: nobody saw the outcome of "refund"
   +1m 3s  · resolved  refund happened, says ana
             result    { refundId: 'R-1' }
   +1m 3s  · resumed   by w2
   +1m 4s  ✓ succeeded after 1m 4s
             output    Done: R-1.
`);
  });

  test("says no duration of an attempt that a later worker gave up: the time until then belongs to nobody", () => {
    const begun = { type: "step.started", at: 10, step: "model:1", kind: "model", name: "m", attempt: 1 } as const;
    const givenUp = { type: "step.abandoned", at: 90_000, step: "model:1", attempt: 1, why: "the worker was gone" } as const;
    const takeover = { type: "run.claimed", at: 89_000, worker: "w2", epoch: 2, takeover: true } as const;
    expect(lines(journal(created, begun, takeover, givenUp))).toContain("↻ model     m  given up: the worker was gone\n");
    expect(lines(journal(created, begun, { ...givenUp, at: 110 }))).toContain("↻ model     m  100ms  given up");
  });

  test("gives each attempt its own row and its own fate", () => {
    const events = journal(
      { type: "step.started", at: 0, step: "model:1", kind: "model", name: "m", attempt: 1 },
      {
        type: "step.failed",
        at: 500,
        step: "model:1",
        attempt: 1,
        error: failure("MODEL_FAILED", "503"),
        final: false,
        retryAt: START + 1_500,
      },
      { type: "step.started", at: 1_500, step: "model:1", kind: "model", name: "m", attempt: 2 },
      { type: "step.abandoned", at: 1_600, step: "model:1", attempt: 2, why: "the worker was gone" },
      { type: "step.started", at: 1_700, step: "model:1", kind: "model", name: "m", attempt: 3 },
      { type: "step.failed", at: 1_900, step: "model:1", attempt: 3, error: failure("MODEL_FAILED", "503"), final: true },
      { type: "run.failed", at: 1_901, error: failure("MODEL_FAILED", "503") },
    );
    expect(lines(events)).toBe(`
     +0ms  ✗ model     m  500ms  MODEL_FAILED: 503 (tried again after 1.0s)
    +1.5s  ↻ model     m, attempt 2  100ms  given up: the worker was gone
    +1.7s  ✗ model     m, attempt 3  200ms  MODEL_FAILED: 503
    +1.9s  ✗ failed    MODEL_FAILED: 503
`);
  });

  test("tells of each attempt what it was taken for, who was asked and when the next one comes", () => {
    const asked = (at: number, attempt: number, name: string, candidate?: number) =>
      ({ type: "step.started", at, step: "model:1", kind: "model", name, attempt, ...(candidate !== undefined && { candidate }) }) as const;
    const failed = (at: number, attempt: number, rest: object) =>
      ({
        type: "step.failed",
        at,
        step: "model:1",
        attempt,
        error: failure("MODEL_FAILED", "x".repeat(400)),
        final: false,
        ...rest,
      }) as const;
    const events = journal(
      asked(0, 1, "big"),
      failed(100, 1, { failure: { chance: "later", reason: "rate_limited", status: 429, at: 1 }, retryAt: START + 30_100 }),
      asked(30_100, 2, "small", 1),
      failed(30_200, 2, { failure: { chance: "again", reason: "network" }, retryAt: START + 31_200, isProbe: true }),
      asked(31_200, 3, "small", 1),
      failed(31_300, 3, { failure: { chance: "never", reason: "auth", status: 401 }, exhausted: true }),
      { type: "run.parked", at: 31_301, reason: "attention", code: "RETRIES_EXHAUSTED", detail: '"small" has failed' },
      asked(40_000, 4, "big"),
      failed(40_100, 4, { failure: { chance: "never", reason: "invalid_request", status: 400 }, final: true, isFatal: true }),
    );
    const long = `MODEL_FAILED: ${"x".repeat(146)}… (414 characters)`;
    expect(lines(events)).toBe(`
     +0ms  ✗ model     big  100ms  ${long} (rate_limited 429, told when, tried again after 30.0s)
   +30.1s  ✗ model     small, fallback, attempt 2  100ms  ${long} (network, a probe, tried again after 1.0s)
   +31.2s  ✗ model     small, fallback, attempt 3  100ms  ${long} (auth 401, no attempt left)
   +31.3s  ‖ parked    attention (RETRIES_EXHAUSTED): "small" has failed
   +40.0s  ✗ model     big, attempt 4  100ms  ${long} (invalid_request 400, the run fails with it)
`);
  });

  test("shows late results, what the run goes on without, a blocked process and why a run ended before its deadline", () => {
    const events = journal(
      { type: "step.started", at: 0, step: "tool:a", kind: "tool", name: "search", attempt: 1, effect: "read" },
      {
        type: "step.failed",
        at: 10,
        step: "tool:a",
        attempt: 1,
        error: failure("STEP_TIMEOUT", "too slow"),
        final: true,
        failure: { chance: "again", reason: "timeout" },
      },
      { type: "step.degraded", at: 10, step: "tool:a", name: "search", reason: "timeout" },
      { type: "step.degraded", at: 11, step: "tool:b", name: "rates", reason: "network", instead: "yesterday" },
      { type: "step.late", at: 20, step: "tool:a", attempt: 1, outcome: "succeeded", value: { hits: 3 } },
      { type: "step.late", at: 21, step: "tool:c", attempt: 2, outcome: "failed", error: failure("TOOL_FAILED", "cut") },
      { type: "loop.blocked", at: 30, ms: 30_000, steps: ["search (tool:a)"] },
      { type: "run.expired", at: 40, deadline: START + 60_000, why: "workers have spent 5m 0s on it" },
    );
    expect(lines(events)).toBe(`
     +0ms  ✗ tool      search (read)  10ms  STEP_TIMEOUT: too slow (timeout)
    +10ms  ↻ degraded  going on without search (timeout)
    +11ms  ↻ degraded  going on with yesterday instead of rates (network)
    +20ms  · late      search, attempt 1, when nobody waited for it any more: succeeded
             out       { hits: 3 }
    +21ms  · late      tool:c, attempt 2, when nobody waited for it any more: failed with TOOL_FAILED: cut
    +30ms  ✗ blocked   nothing else ran for 30.0s, with this at work: search (tool:a)
    +40ms  ✗ expired   workers have spent 5m 0s on it
`);
  });

  test("shows waits, children, signals and how a run was ended", () => {
    const until = START + 3_600_000;
    const events = journal(
      { type: "run.created", at: 0, agent: "report", principal, deadline: until, parent: { run: "run_p", step: "call:report", depth: 1 } },
      { type: "step.started", at: 1, step: "sleep", kind: "sleep", name: "sleep", attempt: 1, until },
      { type: "run.parked", at: 2, reason: "timer", detail: "asleep", until },
      { type: "retry.requested", at: 3, id: "1", from: "ana" },
      { type: "step.started", at: 4, step: "call:x", kind: "child", name: "x", attempt: 1, child: "run_c" },
      { type: "signal.received", at: 5, id: "2", name: "child:call:x" },
      { type: "signal.received", at: 6, id: "3", name: "reply", value: { ok: true }, from: "bo" },
      { type: "progress", at: 7, fraction: 0.4, what: "reading" },
      { type: "run.released", at: 8, why: "the worker is shutting down" },
      { type: "cancel.requested", at: 9, id: "4", why: "enough", from: "ana" },
      { type: "run.cancelled", at: 10, why: "enough", by: "ana" },
    );
    expect(lines(events)).toBe(`
     +0ms  · created   report for acme/dana, child of run_p
     +1ms  ▸ sleep     sleep, until 2026-01-05 13:00:00Z  running
     +2ms  ‖ parked    timer: asleep, until 2026-01-05 13:00:00Z
     +3ms  · retry     asked for by ana
     +4ms  ▸ child     x → run_c  running
     +6ms  · signal    reply by bo
             value     { ok: true }
     +7ms  · progress  40 % reading
     +8ms  · released  the worker is shutting down
     +9ms  · cancel    asked for by ana: enough
    +10ms  ✗ cancelled after 10ms, enough by ana
`);
  });

  test("shortens values unless they are asked for whole", () => {
    const text = `${"x".repeat(200)}\nlast line`;
    const events = journal(
      { type: "step.started", at: 0, step: "fetch", kind: "code", name: "fetch", attempt: 1, effect: "read" },
      { type: "step.succeeded", at: 9, step: "fetch", attempt: 1, value: text },
    );
    expect(lines(events)).toBe(`
     +0ms  ✓ code      fetch (read)  9ms
             out       ${"x".repeat(110)}… (210 characters)
`);
    expect(lines(events, true)).toBe(`
     +0ms  ✓ code      fetch (read)  9ms
             step      fetch
             out       ${"x".repeat(200)}
                       last line
`);
  });

  test("lets no name, value or message of a run act on the terminal", () => {
    const evil = "\u001b[2J\u202e\r";
    const events = journal(
      {
        ...created,
        agent: evil,
        session: evil,
        principal: { ...principal, user: evil },
        input: { messages: [{ role: "user", content: evil }] },
      },
      { type: "run.claimed", at: 0, worker: evil, epoch: 1, takeover: true },
      { type: "step.started", at: 1, step: evil, kind: "tool", name: evil, attempt: 1, input: { [evil]: evil } },
      { type: "step.failed", at: 2, step: evil, attempt: 1, error: failure(evil, evil), final: true },
      {
        type: "step.failed",
        at: 2,
        step: "x",
        attempt: 1,
        error: failure(evil, evil),
        final: true,
        failure: { chance: "never", reason: evil as never },
      },
      { type: "step.late", at: 2, step: evil, attempt: 1, outcome: "failed", value: evil, error: failure(evil, evil) },
      { type: "step.degraded", at: 2, step: evil, name: evil, reason: evil as never, instead: evil },
      { type: "loop.blocked", at: 2, ms: 1, steps: [evil] },
      { type: "signal.received", at: 3, id: evil, name: evil, value: evil, from: evil },
      { type: "progress", at: 4, fraction: 0, what: evil },
      { type: "run.parked", at: 5, reason: "attention", detail: evil },
      { type: "run.succeeded", at: 6, output: [evil] },
    );
    for (const full of [false, true]) expect(lines(events, full)).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}]/u);
  });

  test("stands the end of a step whose beginning is not there", () => {
    expect(lines(journal({ type: "step.succeeded", at: 0, step: "tool:a", attempt: 1, value: 1 }))).toContain("✓ step      tool:a");
  });
});

test("what people were asked and did has its place and its name; an event of a newer server is passed over", () => {
  const request = { kind: "tool", name: "refund", why: "more than 100", input: { amount: 250 } };
  const verdict = {
    outcome: "approved",
    by: ["ana"],
    at: START + 60_000,
    channel: "slack",
    reason: "fine",
    hash: "h",
    input: { amount: 50 },
  };
  const facts = [
    { type: "approval.requested", at: 0, approval: "run_1.1", to: ["role:finance", "requester"], until: START + 3_600_000, request },
    { type: "approval.reminded", at: 1_000, id: "r", approval: "run_1.1", times: 2 },
    { type: "approval.escalated", at: 2_000, id: "e", approval: "run_1.1", level: 1, to: ["role:lead"] },
    { type: "approval.ended", at: 60_000, id: "d", approval: "run_1.1", verdict },
    { type: "approval.voided", at: 61_000, approval: "run_1.1", why: "the tool has changed" },
    { type: "approval.requested", at: 62_000, approval: "run_1.2", to: ["role:finance"], request, like: "run_1.1" },
    { type: "approval.skipped", at: 63_000, step: "s", name: "refund", why: "more than 100" },
    { type: "run.paused", at: 64_000, id: "p", why: "let me look", from: "ana" },
    { type: "run.resumed", at: 65_000, id: "u" },
    { type: "limit.raised", at: 66_000, id: "l", steps: 5, from: "ana" },
    { type: "handover.began", at: 67_000, id: "b", from: "ana" },
    { type: "handover.said", at: 68_000, id: "s", message: { role: "assistant", content: "Hello\u001b[2J" }, from: "ana" },
    { type: "handover.ended", at: 69_000, id: "h", from: "ana" },
    { type: "moon.landed", at: 70_000 },
  ];
  expect(lines(journal(...(facts as never[])))).toBe(`
     +0ms  ‖ asked     role:finance or whoever the run works for about refund, until 2026-01-05 13:00:00Z: more than 100 (run_1.1)
             in        { amount: 250 }
    +1.0s  · reminded  refund, 2 times so far
    +2.0s  · escalated refund to role:lead
   +1m 0s  ✓ approved  refund by ana at 2026-01-05 12:01:00Z (slack): fine
             instead   { amount: 50 }
   +1m 1s  · voided    what was decided on refund: the tool has changed
   +1m 2s  · covered   refund needs nobody, as decided by run_1.1
   +1m 3s  · skipped   nobody was asked about refund, in shadow mode: more than 100
   +1m 4s  ‖ paused    by ana: let me look
   +1m 5s  · resumed   it goes on
   +1m 6s  · raised    5 more model steps, by ana
   +1m 7s  ‖ handover  taken over by ana
   +1m 8s  · handover  ana says
             text      Hello⟨U+001B⟩[2J
   +1m 9s  · handover  handed back by ana
`);
});

test("what an owner may not know leaves no empty parts: the names and reasons of others are empty texts", () => {
  const request = { kind: "tool", name: "refund", why: "", rules: "", input: 1 };
  const verdict = { outcome: "approved", by: [], at: START + 3_000, channel: "slack", hash: "h" };
  const facts = [
    { type: "run.claimed", at: 0, worker: "", epoch: 1, takeover: false },
    { type: "run.claimed", at: 1, worker: "", epoch: 2, takeover: true },
    { type: "step.started", at: 2, step: "tool:a", kind: "tool", name: "refund", attempt: 1 },
    { type: "step.unknown", at: 3, step: "tool:a", attempt: 1, why: "" },
    { type: "step.resolved", at: 4, step: "tool:a", resolution: "happened", by: "" },
    { type: "run.parked", at: 5, reason: "retry", detail: "", until: START + 60_000 },
    { type: "approval.requested", at: 6, approval: "run_1.1", to: [], until: START + 60_000, request },
    { type: "approval.escalated", at: 7, id: "e", approval: "run_1.1", level: 1, to: [] },
    { type: "approval.ended", at: 8, id: "d", approval: "run_1.1", verdict },
    { type: "approval.voided", at: 9, approval: "run_1.1", why: "" },
    { type: "approval.skipped", at: 10, step: "s", name: "refund", why: "" },
    { type: "run.paused", at: 11, id: "p", why: "" },
    { type: "limit.raised", at: 12, id: "l", steps: 5 },
    { type: "handover.began", at: 13, id: "b", from: "" },
    { type: "handover.said", at: 14, id: "s", message: { role: "assistant", content: "Hello" }, from: "" },
    { type: "handover.ended", at: 15, id: "h", from: "" },
    { type: "message.received", at: 16, id: "m", message: null },
    { type: "cancel.requested", at: 17, id: "c", why: "" },
    { type: "run.cancelled", at: 18, why: "" },
  ];
  expect(lines(journal(...(facts as never[]))).replace(/ +$/gm, "")).toBe(`
     +0ms  · claimed
     +1ms  ↻ takeover  continued after an interruption
     +2ms  ? tool      refund (once)  1ms  outcome unknown
             step      tool:a
     +4ms  · resolved  refund happened
     +5ms  ‖ parked    retry, until 2026-01-05 12:01:00Z
     +6ms  ‖ asked     about refund, until 2026-01-05 12:01:00Z (run_1.1)
             in        1
     +7ms  · escalated refund
     +8ms  ✓ approved  refund at 2026-01-05 12:00:03Z (slack)
     +9ms  · voided    what was decided on refund
    +10ms  · skipped   nobody was asked about refund, in shadow mode
    +11ms  ‖ paused
    +12ms  · raised    5 more model steps
    +13ms  ‖ handover  taken over
    +14ms  · handover  a person says
             text      Hello
    +15ms  · handover  handed back
    +16ms  · message   while at work
    +17ms  · cancel    asked for
    +18ms  ✗ cancelled
`);
});
