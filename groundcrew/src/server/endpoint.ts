/**
 * One endpoint: what may be asked, what is answered, and the function between. Each is checked against, and described in the
 * OpenAPI document by, the same schemas.
 */
import { createRoute, type OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import type { z } from "zod";
import { toJson } from "../json.ts";
import type { Actor, Principal } from "../principal.ts";
import { errorBody } from "../wire.ts";
import type { ServerEnv } from "./authenticate.ts";

interface Shape {
  method: "get" | "post";
  path: string;
  summary: string;
  params?: z.ZodObject;
  query?: z.ZodObject;
  headers?: z.ZodObject;
  body?: z.ZodObject;
  /** The status of the usual answer. Default 200. */
  status?: 200 | 202;
  /** The answer; for one that is no JSON, its media type. */
  reply: z.ZodType | "text/event-stream";
  /** Other answers than the usual one and errors: status → what it means. */
  also?: Record<number, string>;
}

type Given<S> = S extends z.ZodType ? z.output<S> : undefined;

/** What was asked, checked. */
export interface Asked<S extends Shape> {
  params: Given<S["params"]>;
  query: Given<S["query"]>;
  headers: Given<S["headers"]>;
  body: Given<S["body"]>;
  principal: Principal;
  /** Who asks, for what is on record of it. */
  actor: Actor;
  c: Context<ServerEnv>;
}

type Reply<S extends Shape> = S["reply"] extends z.ZodType ? z.input<S["reply"]> | Response : Response;

/** Adds the endpoint to `app`. */
export function endpoint<const S extends Shape>(
  app: OpenAPIHono<ServerEnv>,
  shape: S,
  answer: (asked: Asked<S>) => Promise<Reply<S>> | Reply<S>,
): void {
  const status = shape.status ?? 200;
  app.openapi(routeOf(shape, status), async (c: Context<ServerEnv>) => {
    const given = (target: string) => c.req.valid(target as never) as never;
    const who = { principal: c.get("principal"), actor: c.get("actor") };
    const asked = { params: given("param"), query: given("query"), headers: given("header"), body: given("json"), ...who, c };
    const reply = await answer(asked);
    return (reply instanceof Response ? reply : json(c, reply, status)) as never;
  });
}

/** A JSON answer, for values that plain JSON cannot hold too. */
export function json(c: Context<ServerEnv>, value: unknown, status: 200 | 202 | 503): Response {
  return c.body(toJson(value), status, { "content-type": "application/json" });
}

function routeOf(shape: Shape, status: number) {
  const { method, path, summary, params, query, headers, body, reply, also = {} } = shape;
  const others = Object.entries(also).map(([code, description]) => [code, { description }]);
  const content =
    reply === "text/event-stream" ? { [reply]: { schema: { type: "string" as const } } } : { "application/json": { schema: reply } };
  return createRoute({
    method,
    path,
    summary,
    request: {
      ...(params && { params }),
      ...(query && { query }),
      ...(headers && { headers }),
      ...(body && { body: { content: { "application/json": { schema: body } } } }),
    },
    responses: {
      [status]: { description: summary, content },
      ...Object.fromEntries(others),
      default: { description: "It failed; the status says on which side.", content: { "application/json": { schema: errorBody } } },
    },
  });
}
