/** Groundcrew: you bring the agent, Groundcrew keeps it flying. */
export {
  type Agent,
  type AgentOptions,
  agent,
  type Definition,
  type Effect,
  type Flow,
  type FlowContext,
  type FlowOptions,
  type FlowStep,
  flow,
  type PolicyMap,
  type Reconciled,
  type StepOptions,
  type ToolPolicy,
} from "./agent.ts";
export { type Call, callOrUndefined, currentCall, sessionState } from "./call.ts";
export type { Clock, Duration } from "./clock.ts";
export { type ErrorCode, GroundcrewError, isError } from "./errors.ts";
export type { ClassCodec } from "./persistence/codec.ts";
export type { Event, ParkReason } from "./persistence/event.ts";
export { openSqlite } from "./persistence/sqlite.ts";
export type { BusyPolicy, RunFilter, RunRow, RunStatus, SessionRow, Store } from "./persistence/store.ts";
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
} from "./runtime.ts";
export type { FeedItem } from "./stream/feed.ts";
export type { ProgressData, StatusData } from "./stream/ui-chunk.ts";
