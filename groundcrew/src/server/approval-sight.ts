/** What of a request for approval whoever asks may see, and what they are told when they decide it. */
import type { Context } from "hono";
import { GroundcrewError, isError } from "../errors.ts";
import { type ApprovalRow, approvalNotFound } from "../persistence/approval.ts";
import { type Crew, type Decision, mayDecide, type Shown } from "../runtime.ts";
import { withoutPeople, withoutReasons } from "./audience.ts";
import { isOperator, type ServerEnv } from "./authenticate.ts";

/** `whole`: who is asked, and operators. `own`: the request is about their run. `none`: it answers like what is not there. */
type Sight = "whole" | "own" | "none";

function sightOf(c: Context<ServerEnv>, { people }: Crew, row: ApprovalRow): Sight {
  const { actor, principal } = c.var;
  if (row.tenant !== actor.tenant) return "none";
  const isTheirs = actor.user === row.request.user;
  if (isOperator(principal) || mayDecide(row, actor, people)) return "whole";
  return isTheirs ? "own" : "none";
}

/** @throws GroundcrewError `APPROVAL_NOT_FOUND`, also for a request that is none of their business */
export async function seenBy(c: Context<ServerEnv>, crew: Crew, id: string): Promise<{ row: ApprovalRow; sight: Sight }> {
  const row = await crew.approval(id);
  const sight = sightOf(c, crew, row);
  if (sight === "none") throw approvalNotFound(id);
  return { row, sight };
}

/** Says it, as whoever asks; also for those who may not, because what they have tried goes on record. */
export async function decideFor(
  c: Context<ServerEnv>,
  crew: Crew,
  id: string,
  decision: Decision,
  shown: Shown = {},
): Promise<ApprovalRow> {
  const sight = sightOf(c, crew, await crew.approval(id));
  try {
    return approvalFor(sight, await crew.decide(id, decision, c.get("actor"), shown));
  } catch (error) {
    throw refusalFor(sight, id, error);
  }
}

/** An owner who may not decide sees that somebody is asked, what for, and until when; not who, by which rule, or what they said. */
export function approvalFor(sight: Sight, row: ApprovalRow): ApprovalRow {
  if (sight === "whole") return row;
  const { verdict, request } = row;
  return { ...row, to: [], votes: [], request: withoutReasons(request), verdict: verdict && withoutPeople(verdict) };
}

function refusalFor(sight: Sight, id: string, error: unknown): unknown {
  if (sight === "whole" || !isError(error) || error.status >= 500) return error;
  if (sight === "none") return approvalNotFound(id);
  if (error.code !== "APPROVAL_ENDED") return new GroundcrewError("FORBIDDEN", `You are none of those who may decide approval ${id}.`);
  const { status, at } = Object(error.value) as { status: string; at: number | null };
  return new GroundcrewError("APPROVAL_ENDED", `Approval ${id} is ${status} already.`, { value: { status, by: [], at } });
}
