/** Where people decide: the requests that wait for them, what they say to one, and the switch that stops everything. */
import type { Agent, Definition } from "../agent.ts";
import { checkName } from "../agent.ts";
import { type Duration, duration } from "../clock.ts";
import { type ErrorCode, GroundcrewError, isError, misset } from "../errors.ts";
import { INBOX_PAGE, MAX_IN_FLIGHT_RUNS, MAX_REASON_CHARS } from "../limits.ts";
import { type ApprovalRow, approvalNotFound, proposal } from "../persistence/approval.ts";
import type { AuditEntry } from "../persistence/audit.ts";
import { fold, type RunState } from "../persistence/fold.ts";
import type { JsonValue } from "../persistence/json-value.ts";
import type { RunRow, Stop, Store } from "../persistence/store.ts";
import { type Actor, DEFAULT_TENANT } from "../principal.ts";
import { type CheckedDecision, entry, judge, mayDecide } from "../supervision/judge.ts";
import type { People } from "../supervision/people.ts";
import { bind, rulingOf } from "../supervision/request.ts";
import { EVERYTHING } from "../supervision/stops.ts";
import { tooLarge } from "./approval.ts";
import { exactMisfitOf, factsOf } from "./release.ts";

/** What somebody says to a request. */
export type Decision =
  | {
      do: "approve";
      /** Other arguments than were asked for; they have to fit the tool and its rules like those. */
      input?: unknown;
      reason?: string;
      /** So many further calls of the tool in this run need nobody, until `within` has passed. */
      similar?: { uses: number; within: Duration };
    }
  | { do: "deny"; reason: string }
  | { do: "answer"; answer: unknown }
  | { do: "delegate"; to: string | readonly string[]; reason?: string };

/** What somebody decides by. */
export interface Shown {
  /** A single-use link. */
  link?: string | undefined;
  /** Of the arguments that they were shown. Default: those that are on the table now. */
  hash?: string | undefined;
  /** The run before them: what another has asked is not decided here. Default: any. */
  run?: string | undefined;
}

/** A step that was at work when everything was stopped: it is not interrupted. */
export interface InFlight {
  run: string;
  agent: string;
  step: string;
  name: string;
  since: number;
}

/** What somebody has stopped. */
export interface Stopped {
  stop: Stop;
  inFlight: InFlight[];
  /** Whether more runs were at work than were looked at. */
  hasMore: boolean;
}

export interface DeskDeps {
  store: Store;
  agents: ReadonlyMap<string, Definition>;
  people: People;
  channels: readonly string[];
  /** Tells the worker of this process that something changed. */
  poke: () => void;
}

/** Rounds of compare-and-set: each lost one means that somebody else has moved the request on. */
const MAX_ROUNDS = 50;

/** What somebody has tried and was not allowed: it stands in the log. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set(["FORBIDDEN", "APPROVAL_ENDED", "INPUT_INVALID", "LIMIT_EXCEEDED", "LINK_INVALID"]);

export class Desk {
  readonly #deps: DeskDeps;

  constructor(deps: DeskDeps) {
    this.#deps = deps;
  }

  /** Open requests that `actor` may decide, newest first. */
  async inbox(actor: Actor, { limit = 50, before }: { limit?: number; before?: string } = {}): Promise<ApprovalRow[]> {
    const { store, people } = this.#deps;
    const found: ApprovalRow[] = [];
    let last = before;
    while (found.length < limit) {
      const filter = { tenant: actor.tenant, status: "open" as const, limit: INBOX_PAGE, ...(last !== undefined && { before: last }) };
      const rows = await store.approvals(filter);
      found.push(...rows.filter((row) => mayDecide(row, actor, people)));
      last = rows.at(-1)?.id;
      if (rows.length < INBOX_PAGE) break;
    }
    return found.slice(0, limit);
  }

  /** @throws GroundcrewError `APPROVAL_NOT_FOUND` */
  async approval(id: string): Promise<ApprovalRow> {
    const row = await this.#deps.store.approval(id);
    if (!row) throw approvalNotFound(id);
    return row;
  }

  /** Somebody was shown the request. @throws GroundcrewError `APPROVAL_NOT_FOUND` */
  async viewed(id: string, actor: Actor): Promise<void> {
    const row = await this.approval(id);
    await this.#deps.store.record([entry(row, actor, "approval.viewed", { status: row.status, hash: row.request.hash })]);
  }

  /**
   * One of those who decide wins; all others are told who and when.
   * @throws GroundcrewError `APPROVAL_NOT_FOUND`, `APPROVAL_ENDED`, `FORBIDDEN`, `INPUT_INVALID`, `DURATION_INVALID`, `LIMIT_EXCEEDED`
   */
  async decide(id: string, decision: Decision, actor: Actor, { link, hash, run }: Shown = {}): Promise<ApprovalRow> {
    const { store, people, channels, poke } = this.#deps;
    let row = await this.approval(id);
    if (row.tenant !== actor.tenant) throw await this.#strange(id, decision, actor);
    for (let round = 0; round < MAX_ROUNDS; round++) {
      try {
        if (run !== undefined && row.run !== run)
          throw new GroundcrewError("FORBIDDEN", `Approval ${row.id} is none of run ${run}.`, { value: id });
        const word = await this.#wordOf(row, decision);
        const amended = await store.amend(judge(row, word, actor, { people, now: store.now(), link, hash, channels }));
        row = amended.row;
        if (amended.won) {
          poke();
          return row;
        }
      } catch (error) {
        if (isError(error) && REFUSALS.has(error.code)) await this.#refused(row, decision, actor, error);
        throw error;
      }
    }
    throw new GroundcrewError("STORE_BUSY", `Others keep changing approval ${id}.`, { value: id, fix: "Try again." });
  }

  /** What was tried and not allowed is on record as well. */
  async #refused(row: ApprovalRow, decision: Decision, actor: Actor, error: GroundcrewError): Promise<void> {
    const detail = { tried: triedOf(decision), code: error.code };
    await this.#deps.store.record([entry(row, actor, "approval.refused", detail, error.message.slice(0, MAX_REASON_CHARS))]);
  }

  /** A stranger's attempt stands in the stranger's log, and tells nothing there of the tenant that it was about. */
  async #strange(id: string, decision: Decision, actor: Actor): Promise<GroundcrewError> {
    const error = new GroundcrewError("FORBIDDEN", `Approval ${id}: "${actor.user}" belongs to another tenant.`, { value: id });
    const attempt = commandEntry(actor, "approval.refused", { tried: triedOf(decision), code: error.code }, error.message);
    await this.#deps.store.record([{ ...attempt, approval: id }]);
    return error;
  }

  async #wordOf(row: ApprovalRow, decision: Decision): Promise<CheckedDecision> {
    if (typeof decision !== "object" || decision === null) throw invalid("the decision", "an object with `do`", decision);
    switch (decision.do) {
      case "approve": {
        const { reason, similar } = decision;
        const edited = decision.input === undefined ? undefined : await this.#edited(row, decision.input);
        return {
          do: "approve",
          ...(reason !== undefined && { reason }),
          ...(edited && { edited }),
          ...(similar && { similar: { uses: similar.uses, withinMs: duration(similar.within, "similar.within") } }),
        };
      }
      case "deny":
        if (typeof decision.reason !== "string") throw invalid("reason", "a text", decision.reason);
        return decision;
      case "answer": {
        const answer = plain("answer", decision.answer);
        const problem = tooLarge({ name: row.request.name, input: answer });
        if (problem !== undefined)
          throw new GroundcrewError("LIMIT_EXCEEDED", "The answer is too large.", { fix: "Give an address instead of the data." });
        return { do: "answer", answer };
      }
      case "delegate": {
        const { reason } = decision;
        return { do: "delegate", to: [decision.to].flat(), ...(reason !== undefined && { reason }) };
      }
      default:
        throw invalid("do", "approve, deny, answer or delegate", Reflect.get(decision, "do"));
    }
  }

  /** Edited arguments have to fit the tool, and pass its rules, like any others. Undefined: they are those on the table. */
  async #edited(row: ApprovalRow, given: unknown): Promise<{ input: JsonValue; hash: string } | undefined> {
    const { request, run } = row;
    const input = plain("input", given);
    const { step, name, tool, rules } = request;
    const hash = bind({ run, step, name, tool, rules, input });
    if (hash === proposal(row).hash) return undefined;
    if (tooLarge({ name, input }) !== undefined) {
      throw new GroundcrewError("LIMIT_EXCEEDED", "The edited arguments are too large.", { fix: "Give an address instead of the data." });
    }
    const agent = this.#agentOf(request.agent);
    const misfit = await exactMisfitOf(agent, name, input);
    if (misfit !== undefined) throw invalid("input", `such that it fits the tool "${name}" (${misfit})`, input);
    const approval = agent.policy.get(name)?.approval;
    const ruling = approval && rulingOf(approval, name, input, await this.#factsOf(row, agent));
    if (ruling?.is === "never") throw invalid("input", `allowed by the rules of "${name}" (${ruling.why})`, input);
    return { input, hash };
  }

  /** A process that does not know the agent cannot tell whether its tool would take the arguments. */
  #agentOf(name: string): Agent {
    const definition = this.#deps.agents.get(name);
    if (definition?.kind === "agent") return definition;
    throw new GroundcrewError("AGENT_NOT_FOUND", `This process does not know the agent "${name}", and cannot check edited arguments.`, {
      value: name,
      fix: "Approve without edits, or ask a process that has the agent in its configuration.",
    });
  }

  async #factsOf({ run, request }: ApprovalRow, agent: Agent) {
    const { store } = this.#deps;
    const row = await store.run(run);
    if (!row) throw new GroundcrewError("RUN_NOT_FOUND", `There is no run ${run}.`, { value: run });
    return factsOf({ run: row, state: fold(await store.journal(run)) }, agent, { step: request.step, name: request.name });
  }

  /** @throws GroundcrewError `FORBIDDEN`, `INPUT_INVALID` */
  async stop({ agent = EVERYTHING, why }: { agent?: string; why: string }, actor: Actor): Promise<Stopped> {
    const { store } = this.#deps;
    this.#mustOperate(actor);
    if (agent !== EVERYTHING) checkName("INPUT_INVALID", "agent", agent);
    if (typeof why !== "string" || why.trim() === "" || why.length > MAX_REASON_CHARS) {
      throw invalid("why", `a text of 1 to ${MAX_REASON_CHARS} characters`, why);
    }
    await store.stop({ agent, why, by: actor.user }, [commandEntry(actor, "stop.set", { agent }, why)]);
    const stop = { agent, why, by: actor.user, at: store.now() };
    return { stop, ...(await this.#inFlight(agent)) };
  }

  /** @returns whether it was stopped. @throws GroundcrewError `FORBIDDEN` */
  async lift(agent: string, actor: Actor): Promise<boolean> {
    this.#mustOperate(actor);
    const wasStopped = await this.#deps.store.lift(agent, [commandEntry(actor, "stop.lifted", { agent })]);
    this.#deps.poke();
    return wasStopped;
  }

  /** Agents are everybody's: only those who run the service stop them. */
  #mustOperate(actor: Actor): void {
    if (actor.tenant === DEFAULT_TENANT && this.#deps.people.rolesOf(actor).has("operator")) return;
    throw new GroundcrewError("FORBIDDEN", `"${actor.user}" is no operator of this service.`, { value: actor.user });
  }

  /** One journal at a time: some are long. */
  async #inFlight(agent: string): Promise<Omit<Stopped, "stop">> {
    const { store } = this.#deps;
    const runs = await store.runs({ status: ["running"], limit: MAX_IN_FLIGHT_RUNS + 1, ...(agent !== EVERYTHING && { agent }) });
    const inFlight: InFlight[] = [];
    for (const run of runs.slice(0, MAX_IN_FLIGHT_RUNS)) inFlight.push(...inFlightOf(run, fold(await store.journal(run.id))));
    return { inFlight, hasMore: runs.length > MAX_IN_FLIGHT_RUNS };
  }
}

function inFlightOf({ id, agent }: RunRow, state: RunState): InFlight[] {
  const running = [...state.steps.values()].filter(({ status, effect }) => status === "running" && effect !== undefined);
  return running.map(({ step, name, startedAt }) => ({ run: id, agent, step, name, since: startedAt }));
}

function triedOf(decision: Decision): string {
  return typeof decision?.do === "string" ? decision.do : "nothing";
}

/** A command that is about no single run. */
function commandEntry(actor: Actor, action: string, detail: JsonValue, reason?: string): AuditEntry {
  const { tenant, kind, user, channel } = actor;
  return { tenant, action, actor: { kind, id: user }, channel, detail, ...(reason !== undefined && { reason }) };
}

/** As JSON has it; anything else is no argument. */
function plain(field: string, given: unknown): JsonValue {
  let text: string | undefined;
  try {
    text = JSON.stringify(given);
  } catch {
    // a cycle, or a BigInt
  }
  if (text === undefined) throw invalid(field, "a JSON value", given);
  return JSON.parse(text) as JsonValue;
}

function invalid(field: string, expected: string, value: unknown): GroundcrewError {
  return misset(field, expected, value, "INPUT_INVALID");
}
