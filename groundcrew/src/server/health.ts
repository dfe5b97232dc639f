/**
 * | method | path | who | |
 * |---|---|---|---|
 * | GET | /healthz | anyone | the process answers |
 * | GET | /readyz | anyone; why not: operators | it can take work (200) or not (503) |
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import type { Crew } from "../runtime.ts";
import { liveView, type ReadyView, readyView } from "../wire.ts";
import { isOperator, type ServerEnv, type WhoIs } from "./authenticate.ts";
import { endpoint, json } from "./endpoint.ts";

export function healthRoutes(crew: Crew, whoIs: WhoIs): OpenAPIHono<ServerEnv> {
  const app = new OpenAPIHono<ServerEnv>();

  endpoint(app, { method: "get", path: "/healthz", summary: "The process answers", reply: liveView }, () => ({ live: true }) as const);

  const ready = { method: "get", path: "/readyz", summary: "It can take work", reply: readyView, also: { 503: "It cannot" } } as const;
  endpoint(app, ready, async ({ c }) => {
    const health: ReadyView = await crew.health();
    const asker = await whoIs(c.req.raw);
    const told = asker && isOperator(asker.principal) ? health : { ready: health.ready };
    return json(c, told, health.ready ? 200 : 503);
  });

  return app;
}
