/**
 * | method | path | who | |
 * |---|---|---|---|
 * | GET | /sessions | own; operators: the tenant's | last active first |
 * | GET | /sessions/{id} | owner, operator | its state and open turns |
 * | GET | /sessions/{id}/messages | owner, operator | the conversation so far |
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import { z } from "zod";
import type { SessionRow } from "../persistence/store.ts";
import type { Crew } from "../runtime.ts";
import { messagesView, type SessionSummary, sessionsPage, sessionsQuery, sessionView } from "../wire.ts";
import type { Guard, ServerEnv } from "./access.ts";
import { endpoint } from "./endpoint.ts";
import { runSummaryOf } from "./runs.ts";

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
    const rows = scope ? await crew.sessions({ ...query, ...scope }) : [];
    const next = rows.length === query.limit ? (rows.at(-1)?.activeAt ?? null) : null;
    return { sessions: rows.map(summaryOf), next };
  });

  const show = { method: "get", path: "/sessions/{id}", summary: "A session", params, reply: sessionView } as const;
  endpoint(app, show, async ({ c, params }) => {
    const { row, open } = await guard.session(c, params.id);
    return { ...summaryOf(row), state: row.state, open: open.map(runSummaryOf) };
  });

  const messages = {
    method: "get",
    path: "/sessions/{id}/messages",
    summary: "The conversation so far",
    params,
    reply: messagesView,
  } as const;
  endpoint(app, messages, async ({ c, params }) => ({ messages: (await guard.session(c, params.id)).messages }));

  return app;
}

function summaryOf({ id, agent, principal, turns, createdAt, activeAt }: SessionRow): SessionSummary {
  return { id, agent, principal, turns, createdAt, activeAt };
}
