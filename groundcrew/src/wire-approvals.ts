/** The part of the HTTP contract that is about people: what they are asked, what they say, and what is on record of it. */
import { z } from "zod";
import { MAX_APPROVERS, MAX_NAME_CHARS, MAX_REASON_CHARS, MAX_SIMILAR_USES, MAX_STEP_CAP } from "./limits.ts";
import { duration, jsonValue, label, page, time } from "./wire-values.ts";

const reason = z.string().max(MAX_REASON_CHARS);
const said = reason.min(1);
export const targets = z.array(z.string()).readonly().describe("`user:ana`, `role:finance`, `requester`.");
const outcome = z.enum(["approved", "denied", "answered", "expired", "cancelled", "superseded"]);
const approvalStatus = z.enum(["open", ...outcome.options]);
const channel = z.enum(["api", "chat", "cli", "link", "slack", "runtime"]);
const approvalKind = z
  .enum(["tool", "checkpoint", "question"])
  .describe("`tool`: may this call run? `checkpoint`: may the flow go on? `question`: what do you say to this?");

// ——— Requests ———

export const approvalRequest = z
  .object({
    kind: approvalKind,
    name: z.string().describe("The tool, or what the flow calls it."),
    step: z.string(),
    agent: z.string(),
    session: z.string().nullable(),
    user: z.string().describe("On whose behalf the run works."),
    input: jsonValue.optional().describe("The exact arguments, complete, or what the flow shows. Data, never markup."),
    hash: z.string().describe("Binds run, call, arguments, tool and rules."),
    tool: z.string(),
    rules: z.string(),
    why: z.string(),
    spent: z.object({ modelSteps: z.number(), inputTokens: z.number(), outputTokens: z.number() }),
    context: z.array(z.string()).readonly().describe("The last things said, newest last, cut short."),
    quorum: z.number(),
    selfApproval: z.boolean(),
    onExpire: z.enum(["deny", "fail", "wait"]),
  })
  .meta({ id: "ApprovalRequest" });

const similar = z.object({ uses: z.number(), until: time });

export const vote = z
  .object({
    by: z.string(),
    roles: z.array(z.string()).readonly(),
    hash: z.string().describe("Of the arguments that it is about: the request's own, or edited ones."),
    input: jsonValue.optional(),
    at: time,
    channel,
    reason: z.string().optional(),
    link: z.string().optional(),
    similar: similar.optional().describe("So many further calls of the tool in this run need nobody, if all who agree say so."),
  })
  .meta({ id: "Vote" });

export const verdict = z
  .object({
    outcome,
    by: z.array(z.string()).readonly().describe("Empty where time or the runtime decided."),
    at: time,
    channel,
    reason: z.string().optional().describe("Not told to an owner who may not decide."),
    hash: z.string(),
    input: jsonValue.optional().describe("Edited arguments: what may run instead."),
    answer: jsonValue.optional(),
    similar: similar.optional().describe("What all who agreed have said: the fewest uses, the earliest end."),
  })
  .meta({ id: "Verdict" });

export const approvalView = z
  .object({
    id: z.string(),
    run: z.string(),
    tenant: z.string(),
    status: approvalStatus,
    version: z.number(),
    level: z.number().describe("How often it was escalated."),
    to: targets.describe("Who may decide now."),
    requestedAt: time,
    expiresAt: time.nullable().describe("null: never by itself."),
    request: approvalRequest,
    votes: z.array(vote).readonly().describe("Empty for an owner of the run who may not decide."),
    verdict: verdict.nullable(),
  })
  .meta({ id: "Approval" });

/** As a run's view tells of it. */
export const waitingApproval = z.object({
  id: z.string(),
  kind: approvalKind,
  name: z.string(),
  why: z.string(),
  to: targets,
  since: time,
  until: time.nullable().describe("When it expires; null: never by itself."),
});

export const approvalsQuery = z.strictObject({
  all: z.stringbool().optional().describe("Operators: also what others have to decide. Default: what you may decide, if it is open."),
  status: approvalStatus.optional().describe("With `all`. Default `open`."),
  run: label.optional().describe("With `all`: of one run."),
  before: label.optional().describe("Asked for before this one: the `next` of the page before."),
  limit: page,
});

export const approvalsPage = z
  .object({ approvals: z.array(approvalView).describe("Newest first."), next: z.string().nullable().describe("Hand it back as `before`.") })
  .meta({ id: "ApprovalsPage" });

export const approveRequest = z
  .strictObject({
    input: jsonValue.optional().describe("Other arguments than asked for; they have to fit the tool and its rules."),
    reason: reason.optional(),
    similar: z
      .strictObject({ uses: z.number().int().min(1).max(MAX_SIMILAR_USES), within: duration })
      .optional()
      .describe("So many further calls of the tool in this run need nobody; where several have to agree, if all say so."),
    hash: z
      .string()
      .max(MAX_NAME_CHARS)
      .optional()
      .describe("Of the arguments that you were shown: when others are on the table by now, it is refused."),
  })
  .meta({ id: "ApproveRequest" });
export const denyRequest = z.strictObject({ reason: said.describe("The agent is told it.") }).meta({ id: "DenyRequest" });
export const answerRequest = z.strictObject({ answer: jsonValue }).meta({ id: "AnswerRequest" });
export const delegateRequest = z
  .strictObject({
    to: z.union([label, z.array(label).min(1).max(MAX_APPROVERS)]).describe("They may decide as well from now on."),
    reason: reason.optional(),
  })
  .meta({ id: "DelegateRequest" });

// ——— Steering, and stops ———

export const pauseRequest = z.strictObject({ why: said }).meta({ id: "PauseRequest" });
export const sayRequest = z.strictObject({ text: said }).meta({ id: "SayRequest" });
export const raiseRequest = z
  .strictObject({ steps: z.number().int().min(1).max(MAX_STEP_CAP).describe("Model steps beyond those of the agent.") })
  .meta({ id: "RaiseRequest" });
export const nothingRequest = z.strictObject({}).meta({ id: "NothingRequest" });

const stopped = label.describe("An agent's name, or `*`: everything.");
const stopView = z.object({ agent: z.string(), why: z.string(), by: z.string(), at: time }).meta({ id: "Stop" });
export const stopsView = z.object({ stops: z.array(stopView) }).meta({ id: "Stops" });
export const stopRequest = z.strictObject({ agent: stopped.default("*"), why: said }).meta({ id: "StopRequest" });
export const stoppedView = z
  .object({
    stop: stopView,
    inFlight: z
      .array(z.object({ run: z.string(), agent: z.string(), step: z.string(), name: z.string(), since: time }))
      .describe("Steps that were at work. They are not interrupted."),
    hasMore: z.boolean().describe("Whether more runs were at work than were looked at."),
  })
  .meta({ id: "StopSet" });
export const liftRequest = z.strictObject({ agent: stopped.default("*") }).meta({ id: "LiftRequest" });
export const liftedView = z.object({ lifted: z.boolean().describe("Whether it was stopped.") }).meta({ id: "StopLifted" });

// ——— Audit ———

export const auditQuery = z.strictObject({
  after: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(0).describe("The `seq` of the last record seen."),
  limit: page,
});
export const auditHeaders = z.object({
  accept: z.string().optional().describe("`application/x-ndjson`: everything behind `after`, a record a line."),
});
export const auditPage = z
  .object({
    records: z.array(
      z.object({ tenant: z.string(), seq: z.number(), record: z.string().describe("The exact text that was hashed."), hash: z.string() }),
    ),
    head: z
      .object({ tenant: z.string(), seq: z.number(), hash: z.string() })
      .nullable()
      .describe("Where the log ends, read after the records."),
  })
  .meta({ id: "AuditPage" });

export type ApprovalView = z.infer<typeof approvalView>;
export type ApprovalsQuery = Partial<z.output<typeof approvalsQuery>>;
export type ApprovalsPage = z.infer<typeof approvalsPage>;
export type ApproveRequest = z.infer<typeof approveRequest>;
export type DelegateRequest = z.infer<typeof delegateRequest>;
export type StopView = z.infer<typeof stopView>;
export type StopRequest = z.input<typeof stopRequest>;
export type StoppedView = z.infer<typeof stoppedView>;
export type AuditPage = z.infer<typeof auditPage>;
