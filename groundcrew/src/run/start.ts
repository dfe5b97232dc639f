/** From what a caller asks to the first event of a run. */
import { type ModelMessage, modelMessageSchema } from "ai";
import { type Agent, checkName, type Definition } from "../agent.ts";
import { type Clock, type Duration, duration } from "../clock.ts";
import { GroundcrewError } from "../errors.ts";
import { MAX_NAME_CHARS } from "../limits.ts";
import type { Codec } from "../persistence/codec.ts";
import type { RunCreated } from "../persistence/event.ts";
import { hashValue } from "../persistence/hash.ts";
import { newRunId } from "../persistence/id.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import type { BusyPolicy, NewRun, Priority } from "../persistence/store.ts";
import { localPrincipal, type Principal } from "../principal.ts";

export interface StartOptions {
  /** Idempotency key: the same key with the same request is the same run; with another request it is `START_CONFLICT`. */
  key?: string | undefined;
  /** On whose behalf. Default: the local user. */
  principal?: Partial<Principal> | undefined;
  /** Conversation this run is the next turn of; created at first use. */
  session?: string | undefined;
  /** What to do when the session's turn before is still open. Default `queue`. */
  whenBusy?: BusyPolicy | undefined;
  /** Not before this long from now. */
  after?: Duration | undefined;
  /** The run's whole life. Default: the agent's. */
  deadline?: Duration | undefined;
  /** It expires when nobody has taken it up this long after it might have begun. Default: only its deadline counts. */
  startWithin?: Duration | undefined;
  /** Its place among the waiting runs of its tenant, from 1, which goes first, to 5. Default 3. It passes no other tenant's runs. */
  priority?: Priority | undefined;
}

export type AgentRequest = StartOptions & ({ prompt: string } | { messages: ModelMessage[] });
export type FlowRequest<INPUT> = StartOptions & (undefined extends INPUT ? { input?: INPUT } : { input: INPUT });
export type StartRequest = StartOptions & { prompt?: string; messages?: ModelMessage[]; input?: unknown };

const PRIORITIES: readonly Priority[] = [1, 2, 3, 4, 5];
const BUSY: readonly BusyPolicy[] = ["queue", "reject", "interrupt", "steer"];

/** @throws GroundcrewError `INPUT_INVALID`, `VALUE_UNSERIALIZABLE`, `LIMIT_EXCEEDED`, `DURATION_INVALID` */
export function newRunOf(definition: Definition, request: StartRequest, codec: Codec, clock: Clock): NewRun {
  checkOptions(definition, request);
  const input = definition.kind === "agent" ? { messages: messagesOf(definition, request) } : request.input;
  const { json, blob } = codec.encode(input, "input");
  const now = clock.now();
  const deadline = now + (request.deadline === undefined ? definition.deadlineMs : duration(request.deadline, "deadline"));
  const dueAt = now + (request.after === undefined ? 0 : duration(request.after, "after"));
  const principal = principalOf(request.principal);
  const id = newRunId(now, request.session);
  const created: RunCreated = {
    type: "run.created",
    agent: definition.name,
    principal,
    deadline,
    ...(request.startWithin !== undefined && { startBy: dueAt + duration(request.startWithin, "startWithin") }),
    ...(json !== undefined && { input: json }),
    ...(request.session !== undefined && { session: request.session }),
  };
  return {
    id,
    agent: definition.name,
    principal,
    deadline,
    dueAt,
    ...(request.priority !== undefined && { priority: request.priority }),
    ...(request.key !== undefined && {
      start: { key: request.key, hash: hashValue({ input: json ?? null, session: request.session ?? null, user: principal.user }) },
    }),
    ...(request.session !== undefined && {
      session: { id: request.session, busy: request.whenBusy ?? "queue", message: lastMessage(request, codec) },
    }),
    events: [{ ...created, seq: 1, at: now }],
    blobs: blob ? [blob] : [],
  };
}

/** Roles are given, never assumed: only who names no principal at all is the local operator. */
function principalOf(given: Partial<Principal> | undefined): Principal {
  if (given === undefined) return localPrincipal;
  const { tenant = localPrincipal.tenant, user = localPrincipal.user, roles = [] } = Object(given) as Partial<Principal>;
  checkId("principal.tenant", tenant);
  checkId("principal.user", user);
  if (!Array.isArray(roles) || roles.some((role) => typeof role !== "string")) throw invalid("principal.roles", "a list of texts", roles);
  return { tenant, user, roles: [...roles] };
}

function checkId(field: string, id: unknown): void {
  if (typeof id !== "string" || id === "" || id.length > MAX_NAME_CHARS)
    throw invalid(field, `a text of 1 to ${MAX_NAME_CHARS} characters`, id);
}

/** Keys that the runtime itself starts runs with. */
const RESERVED_KEYS = ["child:", "retry:"];

function checkOptions(definition: Definition, request: StartRequest): void {
  if (typeof request !== "object" || request === null) throw invalid("the request", "an object", request);
  if (request.session !== undefined) {
    checkName("INPUT_INVALID", "session", request.session);
    if (definition.kind === "flow") throw invalid("session", "left out: a flow has no conversation", request.session);
  }
  if (request.key !== undefined) {
    checkId("key", request.key);
    if (RESERVED_KEYS.some((prefix) => request.key?.startsWith(prefix)))
      throw invalid("key", `a text that does not begin with ${RESERVED_KEYS.join(" or ")}`, request.key);
  }
  for (const field of ["prompt", "messages"] as const) {
    if (definition.kind === "flow" && request[field] !== undefined) throw invalid(field, "left out: a flow takes `input`", request[field]);
  }
  if (request.whenBusy !== undefined && !BUSY.includes(request.whenBusy))
    throw invalid("whenBusy", `one of ${BUSY.join(", ")}`, request.whenBusy);
  if (request.priority !== undefined && !PRIORITIES.includes(request.priority))
    throw invalid("priority", `one of ${PRIORITIES.join(", ")}`, request.priority);
}

/** @throws GroundcrewError `INPUT_INVALID` */
export function messagesOf(agent: Agent, request: StartRequest): ModelMessage[] {
  if (request.input !== undefined)
    throw invalid("input", `left out: "${agent.name}" is an agent and takes \`prompt\` or \`messages\``, request.input);
  if (request.messages === undefined) {
    if (typeof request.prompt !== "string" || request.prompt === "") throw invalid("prompt", "a text that is not empty", request.prompt);
    return [{ role: "user", content: request.prompt }];
  }
  if (request.prompt !== undefined) throw invalid("prompt", "left out when `messages` is given", request.prompt);
  const checked = modelMessageSchema.array().min(1).safeParse(request.messages);
  if (!checked.success) {
    const [issue] = checked.error.issues;
    throw invalid(
      ["messages", ...(issue?.path ?? [])].join("."),
      `an AI SDK model message (${issue?.message ?? "it is not"})`,
      request.messages,
    );
  }
  return request.messages;
}

/** What a running turn is told when it takes the message instead of a new turn. */
function lastMessage({ prompt, messages }: StartRequest, codec: Codec): JsonValue {
  const { json, blob } = codec.encode(messages?.at(-1) ?? { role: "user", content: prompt ?? "" }, "message");
  return (blob ? (JSON.parse(blob.data) as JsonValue) : json) ?? null;
}

function invalid(field: string, expected: string, value: unknown): GroundcrewError {
  return new GroundcrewError("INPUT_INVALID", `Expected \`${field}\` to be ${expected}.`, { value });
}
