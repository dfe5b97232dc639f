/**
 * | method | path | who | |
 * |---|---|---|---|
 * | GET | /agents | anyone known | what can be run here |
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import type { Definition } from "../agent.ts";
import type { Crew } from "../runtime.ts";
import { type AgentView, agentsView } from "../wire.ts";
import type { ServerEnv } from "./authenticate.ts";
import { endpoint } from "./endpoint.ts";

export function agentRoutes(crew: Crew): OpenAPIHono<ServerEnv> {
  const app = new OpenAPIHono<ServerEnv>();
  endpoint(app, { method: "get", path: "/agents", summary: "What can be run here", reply: agentsView }, () => ({
    agents: [...crew.agents.values()].map(viewOf),
  }));
  return app;
}

/** Names and effects of tools; instructions and models stay in. */
function viewOf(definition: Definition): AgentView {
  const { name, kind, deadlineMs } = definition;
  const policy = kind === "agent" ? [...definition.policy] : [];
  return { name, kind, deadlineMs, tools: policy.map(([tool, { effect }]) => ({ name: tool, effect })) };
}
