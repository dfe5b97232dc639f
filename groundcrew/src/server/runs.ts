/**
 * | method | path | who | |
 * |---|---|---|---|
 * | POST | /agents/{agent}/runs | anyone known | start a run; durable when answered |
 * | GET | /runs | own; operators: the tenant's | newest first |
 * | GET | /runs/{id} | owner, operator | where it is |
 * | GET | /runs/{id}/result | owner, operator | how it ended; may wait for it |
 * | GET | /runs/{id}/journal | operator | every recorded fact |
 * | GET | /runs/{id}/events | owner, operator | follow it (`events.ts`) |
 * | GET | /runs/{id}/ui | owner, operator | follow it as a UI message stream (`ui-stream.ts`) |
 * | POST | /runs/{id}/cancel | owner, operator | end it |
 * | POST | /runs/{id}/signal | owner, operator | a durable message to it |
 * | POST | /runs/{id}/retry | owner, operator | go on now, or from where it broke |
 * | POST | /runs/{id}/fork | operator | a new run from one of its steps; what came after is done again |
 * | POST | /runs/{id}/resolve | operator | say what became of a step of unknown outcome |
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import { z } from "zod";
import type { Duration } from "../clock.ts";
import { describe, GroundcrewError } from "../errors.ts";
import { hashValue } from "../persistence/hash.ts";
import { isTerminal } from "../persistence/store.ts";
import type { Principal } from "../principal.ts";
import type { Crew, Run, RunView, StartOptions } from "../runtime.ts";
import {
  cancelRequest,
  forkRequest,
  journalView,
  type RunResult,
  resolveRequest,
  resultQuery,
  retryRequest,
  runRef,
  runResult,
  runSummaryOf,
  runsPage,
  runsQuery,
  runView,
  signalRequest,
  startHeaders,
  startRequest,
} from "../wire.ts";
import { viewFor } from "./audience.ts";
import { isOperator, type ServerEnv } from "./authenticate.ts";
import { endpoint, json } from "./endpoint.ts";
import type { Guard } from "./guard.ts";

const params = z.object({ id: z.string() });
const ofAgent = z.object({ agent: z.string() });

export function runRoutes(crew: Crew, guard: Guard, closing: AbortSignal): OpenAPIHono<ServerEnv> {
  const app = new OpenAPIHono<ServerEnv>();
  readingRoutes(app, crew, guard, closing);
  commandRoutes(app, crew, guard);
  return app;
}

function readingRoutes(app: OpenAPIHono<ServerEnv>, crew: Crew, guard: Guard, closing: AbortSignal): void {
  endpoint(
    app,
    { method: "get", path: "/runs", summary: "Runs, newest first", query: runsQuery, reply: runsPage },
    async ({ c, query }) => {
      const scope = guard.scope(c, query.user);
      if (query.before !== undefined) await guard.run(c, query.before); // a stranger's run would tell when it was created
      const rows = scope ? await crew.runs({ ...query, ...scope }) : [];
      const next = rows.length === query.limit ? (rows.at(-1)?.id ?? null) : null;
      return { runs: rows.map(runSummaryOf), next };
    },
  );

  endpoint(
    app,
    { method: "get", path: "/runs/{id}", summary: "Where a run is", params, reply: runView },
    async ({ c, params, principal }) => {
      const { run } = await guard.run(c, params.id);
      return viewFor(principal, await run.view());
    },
  );

  endpoint(
    app,
    { method: "get", path: "/runs/{id}/journal", summary: "Every recorded fact", params, reply: journalView },
    async ({ c, params }) => {
      const { run } = await guard.run(c, params.id);
      guard.requireOperator(c);
      return { events: await run.journal() };
    },
  );

  const result = {
    method: "get",
    path: "/runs/{id}/result",
    summary: "How the run ended",
    params,
    query: resultQuery,
    reply: runResult,
    also: { 202: "It has not ended yet" },
  } as const;
  endpoint(app, result, async ({ c, params, query, principal }) => {
    const { run, row } = await guard.run(c, params.id);
    const signals = [AbortSignal.timeout(query.wait), closing, c.req.raw.signal];
    const latest = isTerminal(row.status) || query.wait === 0 ? await run.view() : await viewAtEnd(run, AbortSignal.any(signals));
    return json(c, resultOf(viewFor(principal, latest)), isTerminal(latest.status) ? 200 : 202);
  });
}

function commandRoutes(app: OpenAPIHono<ServerEnv>, crew: Crew, guard: Guard): void {
  const start = {
    method: "post",
    path: "/agents/{agent}/runs",
    summary: "Start a run",
    params: ofAgent,
    headers: startHeaders,
    body: startRequest,
    status: 202,
    reply: runRef,
  } as const;
  endpoint(app, start, async ({ c, params, headers, body, principal }) => {
    const run = await crew.start(params.agent, startOf(body, headers["idempotency-key"], principal));
    c.header("location", `/v1/runs/${run.id}`);
    return { id: run.id };
  });

  const command = { method: "post", status: 202, params, reply: runRef } as const;
  endpoint(app, { ...command, path: "/runs/{id}/cancel", summary: "End it", body: cancelRequest }, async ({ c, params, body, actor }) => {
    const { run } = await guard.run(c, params.id);
    await run.cancel(body.why, actor);
    return { id: run.id };
  });

  const signal = { ...command, path: "/runs/{id}/signal", summary: "Send it a durable message", body: signalRequest } as const;
  endpoint(app, signal, async ({ c, params, body, principal }) => {
    const { run } = await guard.run(c, params.id);
    const { name, value, id } = body;
    await run.signal(name, value, { by: principal.user, ...(id !== undefined && { id }) });
    return { id: run.id };
  });

  const retry = { ...command, path: "/runs/{id}/retry", summary: "Go on now, or from where it broke", body: retryRequest } as const;
  endpoint(app, retry, async ({ c, params, actor }) => {
    const { run, row } = await guard.run(c, params.id);
    if (row.reason === "attention" && (await run.view()).code === "APPROVALS_FLOODED") guard.requireOperator(c); // it waits for one
    return { id: (await run.retry(actor)).id };
  });

  const fork = { ...command, path: "/runs/{id}/fork", summary: "A new run from one of its steps", body: forkRequest } as const;
  endpoint(app, fork, async ({ c, params, body, actor }) => {
    const { run } = await guard.run(c, params.id);
    guard.requireOperator(c); // it repeats effects: an end user could pay a refund out as often as it is forked
    return { id: (await run.fork({ from: body.from, by: actor })).id };
  });

  const resolve = { ...command, path: "/runs/{id}/resolve", summary: "Say what became of a step", body: resolveRequest } as const;
  endpoint(app, resolve, async ({ c, params, body, actor }) => {
    const { run } = await guard.run(c, params.id);
    guard.requireOperator(c);
    const { step, ...answer } = body;
    await run.resolve(step, { ...answer, by: actor });
    return { id: run.id };
  });
}

type StartRequest = StartOptions & { prompt?: string; messages?: never; input?: unknown };

function startOf(body: z.output<typeof startRequest>, key: string | undefined, principal: Principal): StartRequest {
  const { after, deadline, messages, ...rest } = body;
  if (messages !== undefined && !isOperator(principal)) refuseForged(messages as { role?: unknown }[]);
  return {
    ...rest,
    principal,
    ...(key !== undefined && { key: keyOf(key, principal) }),
    ...(messages !== undefined && { messages: messages as never }), // their parts are checked where the AI SDK's schemas are
    ...(after !== undefined && { after: after as Duration }), // texts are parsed, and refused, by `duration()`
    ...(deadline !== undefined && { deadline: deadline as Duration }),
  };
}

/** A user says what users say. What an assistant said, or a tool answered, is for the run's own record to tell. */
function refuseForged(messages: readonly { role?: unknown }[]): void {
  const forged = messages.findIndex(({ role }) => role !== "user");
  if (forged === -1) return;
  throw new GroundcrewError("INPUT_INVALID", `Expected \`messages.${forged}.role\` to be "user", got ${describe(messages[forged]?.role)}.`);
}

/** Keys are one space per tenant and agent; two users who happen to choose the same must not meet in one run. */
function keyOf(key: string, principal: Principal): string {
  return isOperator(principal) ? key : hashValue(["start", principal.user, key]);
}

/** Where the run is when it ends or `signal` fires. How it ended stands in the view. */
async function viewAtEnd(run: Run, signal: AbortSignal): Promise<RunView> {
  const fired = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
  const ended = run.result({ signal }).then(
    () => {},
    () => {},
  );
  await Promise.race([ended, fired]);
  return run.view();
}

function resultOf({ id, status, output, error }: RunView): RunResult {
  return { id, status, ...(output !== undefined && { output }), ...(error !== undefined && { error }) };
}
