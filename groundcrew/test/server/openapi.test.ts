import { describe, expect, test } from "vitest";
import { createApp } from "../../src/server/server.ts";
import { makeCrew } from "./fixture.ts";

interface Operation {
  parameters?: { name: string; in: string; required?: boolean }[];
  requestBody?: { content: Record<string, { schema: unknown }> };
  responses: Record<string, { content?: Record<string, { schema: unknown }> }>;
}
interface OpenApi {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, unknown> };
}

async function document(): Promise<OpenApi> {
  const response = await createApp(makeCrew()).request("/openapi.json");
  expect(response.status).toBe(200);
  return response.json() as Promise<OpenApi>;
}

describe("the OpenAPI document", () => {
  test("describes every route, and each of its failures by one shape", async () => {
    const { openapi, paths } = await document();
    expect(openapi).toBe("3.1.0");
    const routes = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(routes).toEqual(
      expect.arrayContaining([
        "GET /healthz",
        "GET /readyz",
        "GET /v1/agents",
        "POST /v1/agents/{agent}/runs",
        "GET /v1/runs",
        "GET /v1/runs/{id}",
        "GET /v1/runs/{id}/journal",
        "GET /v1/runs/{id}/events",
        "GET /v1/runs/{id}/result",
        "POST /v1/runs/{id}/cancel",
        "POST /v1/runs/{id}/signal",
        "POST /v1/runs/{id}/retry",
        "POST /v1/runs/{id}/fork",
        "POST /v1/runs/{id}/resolve",
        ...["pause", "resume", "say", "raise", "takeover", "speak", "handback"].map((command) => `POST /v1/runs/{id}/${command}`),
        "GET /v1/approvals",
        "GET /v1/approvals/{id}",
        ...["approve", "deny", "answer", "delegate"].map((word) => `POST /v1/approvals/{id}/${word}`),
        "GET /v1/stops",
        "POST /v1/stops",
        "POST /v1/stops/lift",
        "GET /v1/audit",
        "GET /v1/sessions",
        "GET /v1/sessions/{id}",
        "GET /v1/sessions/{id}/messages",
      ]),
    );
    for (const operation of Object.values(paths).flatMap((methods) => Object.values(methods))) {
      expect(operation.responses["default"]?.content?.["application/json"]?.schema).toEqual({ $ref: "#/components/schemas/Error" });
    }
  });

  test("has every schema that it refers to", async () => {
    const { components, ...rest } = await document();
    const text = JSON.stringify({ components, ...rest });
    const named = [...text.matchAll(/"#\/components\/schemas\/([^"]+)"/g)].map(([, name]) => name);
    expect(named.length).toBeGreaterThan(20);
    expect(Object.keys(components.schemas)).toEqual(expect.arrayContaining([...new Set(named)]));
  });

  test("says what validates: the fields of a start, the places of parameters", async () => {
    const { paths, components } = await document();
    const start = paths["/v1/agents/{agent}/runs"]?.["post"];
    expect(start?.parameters?.map(({ name, in: place }) => [name, place])).toEqual(
      expect.arrayContaining([
        ["agent", "path"],
        ["idempotency-key", "header"],
      ]),
    );
    const body = components.schemas["StartRequest"] as { properties: object; additionalProperties: boolean };
    expect(Object.keys(body.properties)).toEqual(["prompt", "messages", "input", "session", "whenBusy", "after", "deadline"]);
    expect(body.additionalProperties).toBe(false);
    const list = paths["/v1/runs"]?.["get"];
    expect(list?.parameters?.map(({ name }) => name)).toEqual(["status", "agent", "session", "parent", "user", "before", "limit"]);
  });
});
