/** Groundcrew: you bring the agent, Groundcrew keeps it flying. */
export {
  type Agent,
  type AgentOptions,
  type Approved,
  agent,
  type CheckpointOptions,
  type Definition,
  type Flow,
  type FlowContext,
  type FlowOptions,
  type FlowStep,
  flow,
  type GenerateRequest,
  type Limits,
  type StepOptions,
} from "./agent.ts";
export type { ApproverRules, Escalation, RuleVerdict, RunFacts } from "./approval.ts";
export { type Call, callOrUndefined, currentCall, type SessionPart, sessionState } from "./call.ts";
export type { Clock, Duration } from "./clock.ts";
export { type ErrorCode, GroundcrewError, isError } from "./errors.ts";
export { type Chance, type Classify, FAILURE_REASONS, type Failure, type FailureReason } from "./failure.ts";
export type { Fallback, Faults } from "./faults.ts";
export type { Notice, NotifyChannel } from "./notify/channel.ts";
export { type EmailOptions, email } from "./notify/email.ts";
export { type SlackOptions, slack } from "./notify/slack.ts";
export { type WebhookOptions, webhook } from "./notify/webhook.ts";
export type {
  ApprovalFilter,
  ApprovalOutcome,
  ApprovalRequest,
  ApprovalRow,
  ApprovalStatus,
  Verdict,
  Vote,
} from "./persistence/approval.ts";
export type { AuditHead, AuditRecord, StoredAudit } from "./persistence/audit.ts";
export type { Event, ParkReason, Resolution } from "./persistence/event.ts";
export type { ClassCodec } from "./persistence/rich.ts";
export type {
  BusyPolicy,
  Priority,
  RunFilter,
  RunRow,
  RunStatus,
  SessionFilter,
  SessionPlace,
  SessionRow,
  Stop,
  Store,
  SweepReport,
} from "./persistence/store.ts";
export type { ApprovalRule, Effect, PolicyMap, Reconciled, ToolPolicy } from "./policy.ts";
export { type Actor, type Channel, localPrincipal, type Principal } from "./principal.ts";
export {
  type AgentRequest,
  type By,
  Crew,
  type CrewOptions,
  type Decision,
  type FlowRequest,
  groundcrew,
  type Health,
  type InFlight,
  type PersonOptions,
  type Retention,
  Run,
  type RunView,
  type Session,
  type StartOptions,
  type StartRequest,
  type Stopped,
  type SupervisionOptions,
  type TenantLimits,
} from "./runtime.ts";
export { openSqlite } from "./sqlite/open.ts";
export type { FeedItem } from "./stream/feed.ts";
export type { AnswerMetadata, ProgressData, StatusData } from "./stream/ui-chunk.ts";
export { type Answer, type EscalationOptions, escalation, type Question } from "./tool/escalation.ts";
export { type IsolateOptions, isolate } from "./tool/isolate.ts";
export type { IsolatedCall, IsolatedModule } from "./tool/isolated.ts";
