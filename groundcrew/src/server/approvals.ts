/**
 * | method | path | who | |
 * |---|---|---|---|
 * | GET | /approvals | anyone known; `all`: operators | what waits for one's decision |
 * | GET | /approvals/{id} | owner of the run, who may decide, operator | one of them |
 * | POST | /approvals/{id}/approve | who may decide | let it happen, perhaps with other arguments |
 * | POST | /approvals/{id}/deny | who may decide | and why |
 * | POST | /approvals/{id}/answer | who may decide | to a question |
 * | POST | /approvals/{id}/delegate | who may decide | let others decide as well |
 *
 * Arguments are data here, and only data.
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { z } from "zod";
import type { Duration } from "../clock.ts";
import { GroundcrewError } from "../errors.ts";
import type { ApprovalRow } from "../persistence/approval.ts";
import type { Crew } from "../runtime.ts";
import {
  answerRequest,
  approvalsPage,
  approvalsQuery,
  approvalView,
  approveRequest,
  delegateRequest,
  denyRequest,
} from "../wire-approvals.ts";
import { approvalFor, decideFor, seenBy } from "./approval-sight.ts";
import { isOperator, type ServerEnv } from "./authenticate.ts";
import { endpoint } from "./endpoint.ts";

const params = z.object({ id: z.string() });

export function approvalRoutes(crew: Crew): OpenAPIHono<ServerEnv> {
  const app = new OpenAPIHono<ServerEnv>();
  readingRoutes(app, crew);

  const deciding = { method: "post", params, reply: approvalView } as const;
  const approve = { ...deciding, path: "/approvals/{id}/approve", summary: "Let it happen", body: approveRequest } as const;
  endpoint(app, approve, ({ c, params, body }) => {
    const { hash, similar, ...rest } = body;
    const rule = similar && { uses: similar.uses, within: similar.within as Duration }; // texts are parsed, and refused, by `duration()`
    return decideFor(c, crew, params.id, { do: "approve", ...rest, ...(rule && { similar: rule }) }, { hash });
  });
  const deny = { ...deciding, path: "/approvals/{id}/deny", summary: "Do not let it happen", body: denyRequest } as const;
  endpoint(app, deny, ({ c, params, body }) => decideFor(c, crew, params.id, { do: "deny", reason: body.reason }));
  const answer = { ...deciding, path: "/approvals/{id}/answer", summary: "Answer a question", body: answerRequest } as const;
  endpoint(app, answer, ({ c, params, body }) => decideFor(c, crew, params.id, { do: "answer", answer: body.answer }));
  const delegate = { ...deciding, path: "/approvals/{id}/delegate", summary: "Let others decide as well", body: delegateRequest } as const;
  endpoint(app, delegate, ({ c, params, body }) => decideFor(c, crew, params.id, { do: "delegate", ...body }));
  return app;
}

function readingRoutes(app: OpenAPIHono<ServerEnv>, crew: Crew): void {
  const list = { method: "get", path: "/approvals", summary: "What waits for you", query: approvalsQuery, reply: approvalsPage } as const;
  endpoint(app, list, async ({ c, query, actor }) => {
    const { all = false, run, status, before, limit } = query;
    const page = { limit, ...(before !== undefined && { before }) };
    if (before !== undefined) await seenBy(c, crew, before); // a stranger's request would tell when it was made
    if (all) return pageOf(await everybodys(c, crew, { ...page, run, status }), limit);
    if (run === undefined && status === undefined) return pageOf(await crew.inbox(actor, page), limit);
    throw new GroundcrewError("INPUT_INVALID", "`query.run` and `query.status` go with `all=true`.");
  });

  const one = { method: "get", path: "/approvals/{id}", summary: "What somebody is asked", params, reply: approvalView } as const;
  endpoint(app, one, async ({ c, params, actor }) => {
    const { row, sight } = await seenBy(c, crew, params.id);
    if (sight === "whole" && c.req.method !== "HEAD") await crew.viewed(row.id, actor); // an owner who looks all day is no news
    return approvalFor(sight, row);
  });
}

interface Filter {
  limit: number;
  before?: string;
  run: string | undefined;
  status: ApprovalRow["status"] | undefined;
}

function everybodys(c: Context<ServerEnv>, crew: Crew, { run, status = "open", ...page }: Filter): Promise<ApprovalRow[]> {
  const asker = c.get("principal");
  if (!isOperator(asker)) throw new GroundcrewError("FORBIDDEN", "`all` takes the role `operator`.");
  return crew.approvals({ ...page, tenant: asker.tenant, status, ...(run !== undefined && { run }) });
}

function pageOf(approvals: ApprovalRow[], limit: number): { approvals: ApprovalRow[]; next: string | null } {
  return { approvals, next: approvals.length === limit ? (approvals.at(-1)?.id ?? null) : null };
}
