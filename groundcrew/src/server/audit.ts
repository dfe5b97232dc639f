/**
 * | method | path | who | |
 * |---|---|---|---|
 * | GET | /audit | operator, scope `audit` | the audit log of one's own tenant, as it is stored |
 *
 * With `Accept: application/x-ndjson` all of it behind `after`, a record a line: what `groundcrew audit verify` reads.
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import { AUDIT_PAGE } from "../limits.ts";
import type { Crew } from "../runtime.ts";
import { auditHeaders, auditPage, auditQuery } from "../wire-approvals.ts";
import type { Admission } from "./admission.ts";
import type { ServerEnv } from "./authenticate.ts";
import { endpoint } from "./endpoint.ts";
import type { Guard } from "./guard.ts";

const LINES = "application/x-ndjson";

export function auditRoutes(crew: Crew, guard: Guard, admission: Admission): OpenAPIHono<ServerEnv> {
  const app = new OpenAPIHono<ServerEnv>();
  const route = {
    method: "get",
    path: "/audit",
    summary: "The audit log",
    query: auditQuery,
    headers: auditHeaders,
    reply: auditPage,
  } as const;
  endpoint(app, route, async ({ c, query, headers, principal: { tenant } }) => {
    guard.requireOperator(c);
    const { after, limit } = query;
    if (headers.accept?.includes(LINES)) {
      admission.mustHaveRoom();
      const lines = linesOf(crew, tenant, after, admission);
      return c.body(ReadableStream.from(lines).pipeThrough(new TextEncoderStream()), 200, { "content-type": LINES });
    }
    const records = await crew.audit(tenant, after, limit);
    const [head = null] = await crew.auditHeads(tenant); // behind the records: it never is before one of them
    return { records, head };
  });
  return app;
}

/** Read as fast as it is taken. Its place among the streams it takes with the first line: whoever never reads holds none. */
async function* linesOf(crew: Crew, tenant: string, after: number, admission: Admission): AsyncGenerator<string> {
  const leave = admission.enterStream();
  try {
    for (let last = after; ; ) {
      const records = await crew.audit(tenant, last, AUDIT_PAGE);
      if (records.length > 0) yield records.map((record) => `${JSON.stringify(record)}\n`).join("");
      last = records.at(-1)?.seq ?? last;
      if (records.length < AUDIT_PAGE) return;
    }
  } finally {
    leave();
  }
}
