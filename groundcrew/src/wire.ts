/**
 * The HTTP contract: what may be asked and what is answered. The server checks requests with these schemas and generates its
 * OpenAPI document from them; the client takes its types from them. Requests are strict, so that a misspelt field is told and
 * not ignored; answers may gain fields.
 */
import { z } from "zod";
import { FAILURE_REASONS } from "./failure.ts";
import { MAX_LONG_POLL_MS, MAX_NAME_CHARS } from "./limits.ts";
import { approvalRequest, targets, verdict, waitingApproval } from "./wire-approvals.ts";
import { anyValue, duration, label, page, time } from "./wire-values.ts";

export const principal = z
  .object({ tenant: z.string().min(1), user: z.string().min(1), roles: z.array(z.string()).readonly() })
  .meta({ id: "Principal", description: "Who asks: the person or system on whose behalf a run works." });

// ——— Errors ———

export const errorBody = z
  .object({
    error: z.object({
      code: z.string().describe("Stable; `groundcrew help CODE` prints the page about it."),
      message: z.string().describe("Safe to show to an end user."),
      detail: z.string().optional().describe("For the developer of the caller: what was wrong with the request. Only with status 4xx."),
      reference: z.string().optional().describe("What to quote: a run, or an incident that the server has reported to its operator."),
      retry_after: z.number().optional().describe("Seconds after which it makes sense to try again."),
      decided: z
        .object({ status: z.string(), by: z.array(z.string()).readonly(), at: time.nullable() })
        .optional()
        .describe("Of a request that nobody can decide any more: how it ended, by whom and when."),
    }),
  })
  .meta({ id: "Error" });

// ——— Runs ———

export const runStatus = z.enum(["queued", "running", "parked", "succeeded", "failed", "cancelled", "expired"]);
const parkReason = z.enum(["approval", "signal", "timer", "child", "budget", "authorization", "unknown_outcome", "retry", "attention"]);
const stepKind = z.enum(["model", "tool", "code", "sleep", "signal", "child", "approval"]);
const effect = z.enum(["read", "idempotent", "keyed", "once"]);
const resolution = z.enum(["happened", "did_not_happen"]);
const failureReason = z.enum(FAILURE_REASONS);
const degraded = {
  name: z.string().describe("What the run goes on without."),
  reason: failureReason.describe("Operators only; others are told `unavailable`."),
  instead: z.string().optional().describe("What stands in for it."),
};

const part = z.looseObject({ type: z.string() });
const message = z
  .looseObject({
    role: z.enum(["user", "assistant", "tool"]).describe("Instructions belong to the agent: there are no system messages."),
    content: z.union([z.string(), z.array(part)]),
  })
  .meta({ id: "Message", description: "A model message of the AI SDK." });

export const startRequest = z
  .strictObject({
    prompt: z.string().min(1).optional().describe("For an agent: this, or `messages`."),
    messages: z.array(message).min(1).optional(),
    input: anyValue.optional().describe("For a flow."),
    session: label.optional().describe("Conversation this run is the next turn of; created at first use."),
    whenBusy: z.enum(["queue", "reject", "interrupt", "steer"]).optional().describe("When the turn before is still open. Default `queue`."),
    after: duration.optional().describe("Not before this long from now."),
    deadline: duration.optional().describe("The run's whole life. Default: the agent's."),
  })
  .meta({ id: "StartRequest" });

export const startHeaders = z.object({
  "idempotency-key": label
    .optional()
    .describe("The same key with the same request is the same run; with another request it is a conflict."),
});

export const runRef = z.object({ id: z.string() }).meta({ id: "RunRef", description: "The run that goes on." });

export const runSummary = z
  .object({
    id: z.string(),
    agent: z.string(),
    status: runStatus,
    reason: parkReason.nullable(),
    dueAt: time.nullable(),
    principal,
    session: z.string().nullable(),
    turn: z.number().nullable(),
    parent: z.string().nullable(),
    createdAt: time,
    changedAt: time,
    deadline: time,
  })
  .meta({ id: "RunSummary" });

export const runView = z
  .object({
    id: z.string(),
    agent: z.string(),
    status: runStatus,
    summary: z.string().describe("One sentence: where the run is, why, and what happens next."),
    reason: parkReason.nullable(),
    code: z.string().nullable().describe("Of a run that waits for somebody to look at it: what it is about, as an error code."),
    since: time.describe("Since when it has this status."),
    dueAt: time.nullable().describe("When it goes on by itself; null when only somebody else can move it."),
    createdAt: time,
    deadline: time,
    principal,
    session: z.string().nullable(),
    turn: z.number().nullable(),
    parent: z.string().nullable(),
    forkedFrom: z.string().nullable(),
    worker: z.string().nullable().describe("Operators only."),
    takeovers: z.number(),
    current: z
      .array(z.object({ step: z.string(), kind: z.string(), name: z.string(), attempt: z.number(), since: time, status: z.string() }))
      .describe("Steps that are open now."),
    stepsDone: z.number(),
    progress: z.object({ fraction: z.number(), what: z.string() }).nullable(),
    degraded: z.array(z.object(degraded)).describe("What the run had to go on without so far, each once."),
    approvals: z.array(waitingApproval).describe("What people are asked, and have not decided."),
    paused: z.object({ by: z.string().nullable(), why: z.string() }).nullable().describe("Who holds it, and why."),
    handover: z.string().nullable().describe("Who speaks to the user in the agent's place."),
    output: anyValue.optional(),
    error: z.object({ code: z.string(), message: z.string() }).optional(),
  })
  .meta({ id: "Run" });

const listOf = <T extends z.ZodType>(item: T) =>
  z.preprocess((given) => (given === undefined || Array.isArray(given) ? given : [given]), z.array(item).optional());

export const runsQuery = z.strictObject({
  status: listOf(runStatus).describe("Repeat it for several."),
  agent: label.optional(),
  session: label.optional(),
  parent: label.optional(),
  user: label.optional(),
  before: label.optional().describe("Runs created before this one: the `next` of the page before."),
  limit: page,
});

export const runsPage = z
  .object({ runs: z.array(runSummary).describe("Newest first."), next: z.string().nullable().describe("Hand it back as `before`.") })
  .meta({ id: "RunsPage" });

export const runResult = z
  .object({
    id: z.string(),
    status: runStatus,
    output: anyValue.optional(),
    error: z.object({ code: z.string(), message: z.string() }).optional(),
  })
  .meta({ id: "RunResult", description: "Status 200: the run has ended, `output` or `error` says how. Status 202: not yet, ask again." });

export const resultQuery = z.strictObject({
  wait: z.coerce.number().int().min(0).max(MAX_LONG_POLL_MS).default(0).describe("Wait up to this many milliseconds for the end."),
});

export const cancelRequest = z.strictObject({ why: z.string().max(1_000).optional() }).meta({ id: "CancelRequest" });
export const retryRequest = z.strictObject({}).meta({ id: "RetryRequest" });
export const forkRequest = z
  .strictObject({ from: label.describe("A step's key: everything before it is shared.") })
  .meta({ id: "ForkRequest" });
export const signalRequest = z
  .strictObject({ name: label, value: anyValue.optional(), id: label.optional().describe("The same id twice is one signal.") })
  .meta({ id: "SignalRequest" });
export const resolveRequest = z
  .strictObject({ step: label, resolution, result: anyValue.optional().describe("What the step gave, when it happened.") })
  .meta({ id: "ResolveRequest" });

// ——— The feed ———

const place = { seq: z.number(), at: time };
const onStep = { step: z.string(), attempt: z.number() };
const ofApproval = { approval: z.string() };
const fromPerson = { id: z.string(), from: z.string().optional() };
const errorRecord = z.object({
  code: z.string(),
  name: z.string(),
  message: z.string().describe("For operators; others are told `user` here too."),
  user: z.string(),
});
const failure = z
  .object({
    chance: z.enum(["never", "again", "later"]).describe("Whether the same call may go well another time."),
    reason: failureReason,
    at: time.optional().describe("For `later`: not before."),
    status: z.number().optional().describe("Of the HTTP answer, where there was one."),
  })
  .describe("Operators only: what the failure was taken for.");

/** Every fact of a run's journal. */
export const event = z
  .discriminatedUnion("type", [
    z.object({
      ...place,
      type: z.literal("run.created"),
      agent: z.string(),
      input: anyValue.optional(),
      principal,
      deadline: time,
      startBy: time.optional(),
      session: z.string().optional(),
      turn: z.number().optional(),
      parent: z.object({ run: z.string(), step: z.string(), depth: z.number() }).optional(),
      forked: z.object({ run: z.string(), step: z.string(), by: z.string().optional() }).optional(),
    }),
    z.object({ ...place, type: z.literal("run.claimed"), worker: z.string(), epoch: z.number(), takeover: z.boolean() }),
    z.object({
      ...place,
      type: z.literal("run.parked"),
      reason: parkReason,
      until: time.optional(),
      detail: z.string(),
      code: z.string().optional(),
    }),
    z.object({ ...place, type: z.literal("run.released"), why: z.string() }),
    z.object({
      ...place,
      ...onStep,
      type: z.literal("step.started"),
      kind: stepKind,
      name: z.string(),
      effect: effect.optional(),
      key: z.string().optional(),
      argsHash: z.string().optional(),
      input: anyValue.optional(),
      until: time.optional(),
      child: z.string().optional(),
      candidate: z.number().optional().describe("Which of its models, or tools, is tried, from 0. Absent: the first."),
    }),
    z.object({
      ...place,
      ...onStep,
      type: z.literal("step.succeeded"),
      value: anyValue.optional(),
      shown: anyValue.optional(),
      usage: anyValue.optional(),
    }),
    z.object({
      ...place,
      ...onStep,
      type: z.literal("step.failed"),
      error: errorRecord,
      final: z.boolean().describe("Whether the step is over."),
      retryAt: time.optional(),
      failure: failure.optional(),
      exhausted: z.literal(true).optional().describe("No attempt is left: the run waits for somebody who says `retry`."),
      isFatal: z.literal(true).optional().describe("The run fails with it."),
      isProbe: z.literal(true).optional().describe("It found out that what was down still is, and does not count."),
    }),
    z.object({ ...place, ...onStep, type: z.literal("step.abandoned"), why: z.string() }),
    z.object({ ...place, ...onStep, type: z.literal("step.unknown"), why: z.string() }),
    z
      .object({
        ...place,
        ...onStep,
        type: z.literal("step.late"),
        outcome: z.enum(["succeeded", "failed"]),
        value: anyValue.optional(),
        error: errorRecord.optional(),
      })
      .describe("What an attempt came to when nobody waited for it any more. It changes nothing."),
    z.object({ ...place, type: z.literal("step.degraded"), step: z.string(), ...degraded }),
    z.object({
      ...place,
      type: z.literal("loop.blocked"),
      ms: z.number().describe("So long nothing else ran in that process."),
      steps: z.array(z.string()).readonly().describe("Operators only: what was at work then."),
    }),
    z.object({
      ...place,
      type: z.literal("step.resolved"),
      step: z.string(),
      resolution,
      value: anyValue.optional(),
      by: z.string(),
    }),
    z.object({
      ...place,
      type: z.literal("signal.received"),
      id: z.string(),
      name: z.string(),
      value: anyValue.optional(),
      from: z.string().optional(),
    }),
    z.object({ ...place, type: z.literal("message.received"), id: z.string(), message: anyValue, from: z.string().optional() }),
    z.object({ ...place, type: z.literal("cancel.requested"), id: z.string(), why: z.string(), from: z.string().optional() }),
    z.object({ ...place, type: z.literal("retry.requested"), id: z.string(), from: z.string().optional() }),
    z.object({ ...place, ...fromPerson, type: z.literal("run.paused"), why: z.string() }),
    z.object({ ...place, ...fromPerson, type: z.literal("run.resumed") }),
    z.object({ ...place, ...fromPerson, type: z.literal("limit.raised"), steps: z.number() }),
    z.object({
      ...place,
      ...ofApproval,
      type: z.literal("approval.requested"),
      to: targets,
      until: time.optional(),
      request: approvalRequest,
      like: z.string().optional().describe("The approval that covers this one as well: nobody is asked."),
    }),
    z.object({ ...place, ...ofApproval, type: z.literal("approval.escalated"), id: z.string(), level: z.number(), to: targets }),
    z.object({ ...place, ...ofApproval, type: z.literal("approval.reminded"), id: z.string(), times: z.number() }),
    z.object({ ...place, ...ofApproval, type: z.literal("approval.ended"), id: z.string(), verdict }),
    z.object({ ...place, ...ofApproval, type: z.literal("approval.voided"), why: z.string() }),
    z.object({ ...place, type: z.literal("approval.skipped"), step: z.string(), name: z.string(), why: z.string() }),
    z.object({ ...place, type: z.literal("handover.began"), id: z.string(), from: z.string() }),
    z.object({ ...place, type: z.literal("handover.said"), id: z.string(), message: anyValue, from: z.string() }),
    z.object({ ...place, type: z.literal("handover.ended"), id: z.string(), from: z.string(), message: anyValue.optional() }),
    z.object({ ...place, type: z.literal("session.updated"), state: anyValue }),
    z.object({ ...place, type: z.literal("progress"), step: z.string().optional(), fraction: z.number(), what: z.string() }),
    z.object({ ...place, type: z.literal("run.succeeded"), output: anyValue.optional() }),
    z.object({ ...place, type: z.literal("run.failed"), error: errorRecord }),
    z.object({ ...place, type: z.literal("run.cancelled"), why: z.string(), by: z.string().optional() }),
    z.object({ ...place, type: z.literal("run.expired"), deadline: time, why: z.string().optional() }),
  ])
  .meta({ id: "Event", description: "One fact of a run's journal. Newer releases may send types that are not listed here: skip them." });

/** Output of a step while it comes. */
export const chunk = z
  .object({
    ...onStep,
    type: z.literal("chunk"),
    after: z.number().describe("The event it follows."),
    index: z.number(),
    at: time,
    part: anyValue.describe("A UI message chunk of the AI SDK, or a preliminary tool result."),
  })
  .meta({ id: "Chunk" });

const cursor = z.object({ cursor: z.string().describe("Hand it back as `Last-Event-ID` to go on behind this item.") });
export const feedItem = z.intersection(z.union([event, chunk]), cursor).meta({ id: "FeedItem" });

/** Name of the SSE event that tells of a failure of the stream itself; its data is an `Error`. */
export type FailureEvent = "failure";

export const eventsQuery = z.strictObject({
  after: z.string().max(MAX_NAME_CHARS).optional().describe("A `cursor`: begin behind it. The header `Last-Event-ID` comes first."),
});
export const eventsHeaders = z.object({ "last-event-id": z.string().max(MAX_NAME_CHARS).optional() });

export const journalView = z.object({ events: z.array(event) }).meta({ id: "Journal" });

// ——— Sessions, agents, health ———

export const sessionSummary = z
  .object({ id: z.string(), agent: z.string(), principal, turns: z.number(), createdAt: time, activeAt: time })
  .meta({ id: "SessionSummary" });

export const sessionView = z
  .object({
    ...sessionSummary.shape,
    state: anyValue.describe("The session's typed state; null when no tool has set any."),
    open: z.array(runSummary).describe("The open turns, oldest first."),
  })
  .meta({ id: "Session" });

export const sessionsQuery = z.strictObject({
  agent: label.optional(),
  user: label.optional(),
  before: z
    .string()
    .regex(/^\d{1,15}:/)
    .max(MAX_NAME_CHARS + 16)
    .optional()
    .describe("Sessions behind this one: the `next` of the page before."),
  limit: page,
});

export const sessionsPage = z
  .object({
    sessions: z.array(sessionSummary).describe("Last active first."),
    next: z.string().nullable().describe("Hand it back as `before`."),
  })
  .meta({ id: "SessionsPage" });

export const messagesView = z.object({ messages: z.array(anyValue).describe("What the model is shown.") }).meta({ id: "Messages" });

export const agentView = z
  .object({
    name: z.string(),
    kind: z.enum(["agent", "flow"]),
    deadlineMs: z.number(),
    tools: z.array(z.object({ name: z.string(), effect })),
  })
  .meta({ id: "Agent" });
export const agentsView = z.object({ agents: z.array(agentView) }).meta({ id: "Agents" });

export const liveView = z.object({ live: z.literal(true) }).meta({ id: "Live" });
export const readyView = z
  .object({
    ready: z.boolean(),
    problems: z.array(z.string()).optional().describe("Operators only, like all below."),
    store: z.string().optional(),
    worker: z.object({ id: z.string(), runs: z.number(), concurrency: z.number(), draining: z.boolean() }).nullable().optional(),
  })
  .meta({ id: "Ready" });

export type ErrorBody = z.infer<typeof errorBody>;
export type StartRequest = z.input<typeof startRequest>;
export type RunSummary = z.infer<typeof runSummary>;
export type RunView = z.infer<typeof runView>;
export type RunsQuery = Partial<z.output<typeof runsQuery>>;
export type RunsPage = z.infer<typeof runsPage>;
export type RunResult = z.infer<typeof runResult>;
export type SignalRequest = z.infer<typeof signalRequest>;
export type ResolveRequest = z.infer<typeof resolveRequest>;
export type Event = z.infer<typeof event>;
export type FeedItem = z.infer<typeof feedItem>;
export type SessionSummary = z.infer<typeof sessionSummary>;
export type SessionView = z.infer<typeof sessionView>;
export type SessionsQuery = Partial<z.output<typeof sessionsQuery>>;
export type SessionsPage = z.infer<typeof sessionsPage>;
export type AgentView = z.infer<typeof agentView>;
export type ReadyView = z.infer<typeof readyView>;

/** What is told of a run in a list: of all that a row knows, only this. */
export function runSummaryOf(row: RunSummary): RunSummary {
  const { id, agent, status, reason, dueAt, principal, session, turn, parent, createdAt, changedAt, deadline } = row;
  return { id, agent, status, reason, dueAt, principal, session, turn, parent, createdAt, changedAt, deadline };
}
