/** The HTTP server: where it listens, for whom, and how it stops. */
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { coerceError, GroundcrewError } from "../errors.ts";
import { CLOSE_GRACE_MS, MAX_UPLOAD_MS } from "../limits.ts";
import type { Crew } from "../runtime.ts";
import { type AppOptions, createApp } from "./app.ts";
import { isOpen } from "./authenticate.ts";
import { plainFailure, reportToConsole } from "./failure.ts";
import { isLoopback } from "./origin.ts";

export { type AppOptions, createApp } from "./app.ts";
export type { AccessOptions, ApiKey, Scope } from "./authenticate.ts";
export type { Report } from "./failure.ts";
export type { JwtOptions } from "./jwt.ts";

export interface ServeOptions extends Omit<AppOptions, "closing"> {
  /** Default `127.0.0.1`: this machine only. Any other address takes `apiKeys` or `authenticate`. */
  host?: string;
  /** Default 4280; 0 takes a free one. */
  port?: number;
}

export interface Serving {
  /** Without a slash at the end. */
  readonly url: string;
  /** Takes no more requests, ends streams so that their readers go elsewhere, and waits some seconds for requests in flight. */
  close(): Promise<void>;
}

/**
 * Serves a crew over HTTP. Closing the server does not close the crew.
 * @throws GroundcrewError `BIND_REFUSED`, `ADDRESS_IN_USE`, `CONFIG_INVALID`
 */
export async function serve(crew: Crew, options: ServeOptions = {}): Promise<Serving> {
  const { host = "127.0.0.1", port = 4280, ...appOptions } = options;
  if (!isLoopback(host) && isOpen(options)) {
    throw new GroundcrewError("BIND_REFUSED", `Refused to listen on ${host} without knowing who asks.`, {
      value: host,
      fix: "Set `apiKeys` or `authenticate`, or listen on 127.0.0.1.",
    });
  }
  const closing = new AbortController();
  const app = createApp(crew, { ...appOptions, closing: closing.signal });
  const errorHandler = (thrown: unknown) => plainFailure(thrown, options.report ?? reportToConsole);
  const answer = getRequestListener(app.fetch, { hostname: host, overrideGlobalObjects: false, errorHandler });
  const inFlight = new Set<ServerResponse>();
  const server = createServer({ requestTimeout: MAX_UPLOAD_MS }, (request, response) => {
    inFlight.add(response);
    response.once("close", () => inFlight.delete(response));
    return answer(request, response);
  });
  await listen(server, host, port);
  let closed: Promise<void> | undefined;
  return {
    url: urlOf(server, host),
    close: () => {
      closing.abort();
      closed ??= stop(server, inFlight);
      return closed;
    },
  };
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const isTaken = cause.code === "EADDRINUSE";
      const fix = isTaken
        ? "End it, or choose another port: `port` here, `--port` on the command line."
        : "Check the address and the port.";
      const why = isTaken ? "another process listens there" : coerceError(cause).message;
      reject(
        new GroundcrewError(isTaken ? "ADDRESS_IN_USE" : "CONFIG_INVALID", `Cannot listen on ${host}:${port}: ${why}.`, { cause, fix }),
      );
    });
    server.listen(port, host, resolve);
  });
}

function urlOf(server: Server, host: string): string {
  const { port } = server.address() as AddressInfo;
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

async function stop(server: Server, inFlight: ReadonlySet<ServerResponse>): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  const answered = Promise.all([...inFlight].map((response) => new Promise((resolve) => response.once("close", resolve))));
  const { promise: outOfTime, resolve: giveUp } = Promise.withResolvers<void>();
  const patience = setTimeout(giveUp, CLOSE_GRACE_MS);
  await Promise.race([answered, outOfTime]);
  clearTimeout(patience);
  server.closeAllConnections(); // Node would wait for connections that a browser holds in reserve
  await closed;
}
