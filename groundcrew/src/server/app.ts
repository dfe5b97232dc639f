/**
 * The application: every route, who may use it, and what happens when it fails. It speaks standard `Request` and `Response`,
 * so it can also be mounted in a server that exists.
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import type { Context, Hono, Next } from "hono";
import { GroundcrewError } from "../errors.ts";
import { MAX_DECISION_BYTES } from "../limits.ts";
import type { Crew } from "../runtime.ts";
import { Admission, type Most } from "./admission.ts";
import { agentRoutes } from "./agents.ts";
import { approvalRoutes } from "./approvals.ts";
import { auditRoutes } from "./audit.ts";
import { type AccessOptions, authenticator, isOpen, requirePrincipal, type ServerEnv } from "./authenticate.ts";
import { boundedBody } from "./body.ts";
import { chatRoutes } from "./chat.ts";
import { eventRoutes } from "./events.ts";
import { failureResponse, invalidInput, type Report, reportToConsole } from "./failure.ts";
import { createGuard } from "./guard.ts";
import { healthRoutes } from "./health.ts";
import { linkRoutes } from "./link.ts";
import { refuseForeignPages } from "./origin.ts";
import { runRoutes } from "./runs.ts";
import { sessionRoutes } from "./sessions.ts";
import { slackRoutes } from "./slack.ts";
import { steeringRoutes } from "./steering.ts";
import { uiRoutes } from "./ui-stream.ts";

export interface AppOptions extends AccessOptions {
  /** Told of each failure that is not the caller's. Default: standard error. */
  report?: Report;
  /** Ends all streams when it fires. */
  closing?: AbortSignal;
  /** Requests and open streams at the same time; beyond it they are answered with 429. Default: 1,000 and 10,000. */
  most?: Most;
}

/** Everything over HTTP, without a socket. Mounted elsewhere, without keys and hook, it serves loopback host names only. */
export function createApp(crew: Crew, options: AppOptions = {}): Hono<ServerEnv> {
  const { report = reportToConsole, closing = new AbortController().signal } = options;
  const whoIs = authenticator(options, (principal) => crew.people.rolesOf(principal));
  const guard = createGuard(crew);
  const admission = new Admission(options.most);
  const streams = { closing, report, admission };
  const app = new OpenAPIHono<ServerEnv>({ defaultHook: refuseInvalid });

  app.onError((thrown, c) => failureResponse(c, thrown, report));
  app.notFound((c) => {
    throw new GroundcrewError("ROUTE_NOT_FOUND", `There is no ${c.req.method} ${c.req.path}. See /openapi.json.`);
  });
  app.use(dropBodyOfHead, sniffNothing, hangUp);
  app.route("/v1", linkRoutes(crew, admission)); // what is brought here says who asks, and no browser adds it by itself
  app.route("/v1", slackRoutes(crew, admission, report));
  app.use(refuseForeignPages(isOpen(options)));
  app.route("/", healthRoutes(crew, whoIs));
  app.use("/v1/*", admission.admit, requirePrincipal(whoIs));
  app.use("/v1/approvals/*", boundedBody(MAX_DECISION_BYTES));
  app.use("/v1/*", boundedBody());
  app.route("/v1", agentRoutes(crew));
  app.route("/v1", runRoutes(crew, guard, closing));
  app.route("/v1", eventRoutes(guard, streams));
  app.route("/v1", uiRoutes(guard, streams));
  app.route("/v1", sessionRoutes(crew, guard));
  app.route("/v1", approvalRoutes(crew));
  app.route("/v1", steeringRoutes(crew, guard));
  app.route("/v1", auditRoutes(crew, guard, admission));
  app.route("/v1/chat", chatRoutes(crew, guard, streams));
  app.doc31("/openapi.json", { openapi: "3.1.0", info: { title: "Groundcrew", version: "1" } });
  return app;
}

/** Hono answers HEAD with the headers of GET and forgets the body; a stream that nobody reads would live on. */
async function dropBodyOfHead(c: Context, next: Next): Promise<void> {
  await next();
  if (c.req.method === "HEAD") await c.res.body?.cancel();
}

/** Answers hold what models and users wrote: nothing of it is to be taken for anything but what it says it is. */
async function sniffNothing(c: Context, next: Next): Promise<void> {
  await next();
  c.res.headers.set("x-content-type-options", "nosniff");
}

/** What was refused for its size, or unread, leaves the connection with the rest of it: who sends the next request there would get no answer. */
async function hangUp(c: Context, next: Next): Promise<void> {
  await next();
  if (c.req.method === "POST" && (c.res.status === 413 || c.res.status === 429)) c.res.headers.set("connection", "close");
}

type Validated = Parameters<NonNullable<OpenAPIHono["defaultHook"]>>[0];

function refuseInvalid(result: Validated): void {
  if (!result.success) throw invalidInput(result.target, result.error);
}
