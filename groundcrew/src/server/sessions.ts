/**
 * | method | path | who | |
 * |---|---|---|---|
 * | GET | /sessions | own; operators: the tenant's | last active first |
 * | GET | /sessions/{id} | owner, operator | its state and open turns |
 * | GET | /sessions/{id}/messages | owner, operator | the conversation so far |
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import { z } from "zod";
import type { SessionPlace, SessionRow } from "../persistence/store.ts";
import type { Crew } from "../runtime.ts";
import { messagesView, runSummaryOf, type SessionSummary, sessionsPage, sessionsQuery, sessionView } from "../wire.ts";
import { isOperator, type ServerEnv } from "./authenticate.ts";
import { endpoint } from "./endpoint.ts";
import type { Guard } from "./guard.ts";

const params = z.object({ id: z.string() });

export function sessionRoutes(crew: Crew, guard: Guard): OpenAPIHono<ServerEnv> {
  const app = new OpenAPIHono<ServerEnv>();

  const list = {
    method: "get",
    path: "/sessions",
    summary: "Sessions, last active first",
    query: sessionsQuery,
    reply: sessionsPage,
  } as const;
  endpoint(app, list, async ({ c, query }) => {
    const scope = guard.scope(c, query.user);
    const { before, ...filter } = query;
    const rows = scope ? await crew.sessions({ ...filter, ...scope, ...(before && { before: placeOf(before, scope.tenant) }) }) : [];
    const last = rows.length === query.limit ? rows.at(-1) : undefined;
    return { sessions: rows.map(summaryOf), next: last ? `${last.activeAt}:${last.id}` : null };
  });

  const show = { method: "get", path: "/sessions/{id}", summary: "A session", params, reply: sessionView } as const;
  endpoint(app, show, async ({ c, params }) => {
    const session = await guard.session(c, params.id);
    const state = session.row.state === null ? null : await session.state();
    return { ...summaryOf(session.row), state, open: session.open.map(runSummaryOf) };
  });

  const messages = {
    method: "get",
    path: "/sessions/{id}/messages",
    summary: "The conversation so far",
    params,
    reply: messagesView,
  } as const;
  endpoint(app, messages, async ({ c, params, principal }) => {
    const session = await guard.session(c, params.id);
    return { messages: await session.messages({ guidance: isOperator(principal) }) };
  });

  return app;
}

/** Where a page goes on, out of its `before`. */
function placeOf(before: string, tenant: string): SessionPlace {
  const colon = before.indexOf(":");
  return { activeAt: Number(before.slice(0, colon)), tenant, id: before.slice(colon + 1) };
}

function summaryOf({ id, agent, principal, turns, createdAt, activeAt }: SessionRow): SessionSummary {
  return { id, agent, principal, turns, createdAt, activeAt };
}
