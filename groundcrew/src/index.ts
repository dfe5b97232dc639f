/** Groundcrew: you bring the agent, Groundcrew keeps it flying. */
export {
  type Agent,
  type AgentOptions,
  agent,
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
export { type Call, callOrUndefined, currentCall, type SessionPart, sessionState } from "./call.ts";
export type { Clock, Duration } from "./clock.ts";
export { type ErrorCode, GroundcrewError, isError } from "./errors.ts";
export { type Chance, type Classify, FAILURE_REASONS, type Failure, type FailureReason } from "./failure.ts";
export type { Fallback, Faults } from "./faults.ts";
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
  Store,
  SweepReport,
} from "./persistence/store.ts";
export type { Effect, PolicyMap, Reconciled, ToolPolicy } from "./policy.ts";
export type { Principal } from "./principal.ts";
export {
  type AgentRequest,
  Crew,
  type CrewOptions,
  type FlowRequest,
  groundcrew,
  type Health,
  type Retention,
  Run,
  type RunView,
  type Session,
  type StartOptions,
  type StartRequest,
  type TenantLimits,
} from "./runtime.ts";
export { openSqlite } from "./sqlite/open.ts";
export type { FeedItem } from "./stream/feed.ts";
export type { AnswerMetadata, ProgressData, StatusData } from "./stream/ui-chunk.ts";
export { type IsolateOptions, isolate } from "./tool/isolate.ts";
export type { IsolatedCall, IsolatedModule } from "./tool/isolated.ts";
