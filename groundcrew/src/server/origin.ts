/** Which web pages may ask at all. */
import { isIPv4 } from "node:net";
import type { MiddlewareHandler } from "hono";
import { describe, GroundcrewError } from "../errors.ts";
import { bearerToken, type ServerEnv } from "./authenticate.ts";

/**
 * Keeps web pages of other origins out. A browser on this machine reaches the loopback address as well as we do: a page may
 * send state-changing requests across origins, or point its own host name at 127.0.0.1 (DNS rebinding). A bearer token is
 * nothing a browser adds by itself, so whoever sends one is no page by accident.
 */
export function refuseForeignPages(open: boolean): MiddlewareHandler<ServerEnv> {
  return async function foreignPages(c, next) {
    const host = c.req.header("host") ?? new URL(c.req.url).host;
    if (open && !isLoopback(hostnameOf(host))) {
      throw new GroundcrewError(
        "FORBIDDEN",
        `Host ${describe(host)} is not this machine, and without API keys only this machine is served.`,
      );
    }
    const origin = c.req.header("origin");
    const changes = c.req.method !== "GET" && c.req.method !== "HEAD";
    if (changes && origin !== undefined && bearerToken(c.req.raw.headers) === undefined && hostOf(origin) !== host) {
      throw new GroundcrewError("FORBIDDEN", `Origin ${describe(origin)} is not ${describe(host)}.`, {
        fix: "Send requests of other origins through your own backend, or with a bearer token.",
      });
    }
    await next();
  };
}

/** Whether nobody but this machine can reach the name. */
export function isLoopback(hostname: string): boolean {
  const bare = hostname.replace(/^\[(.*)\]$/, "$1").toLowerCase();
  return bare === "localhost" || bare === "::1" || (isIPv4(bare) && bare.startsWith("127."));
}

function hostOf(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined; // "null": a sandboxed page
}

function hostnameOf(host: string): string {
  return URL.canParse(`http://${host}`) ? new URL(`http://${host}`).hostname : host;
}
