/**
 * Who asks, and what they may see. Access fails closed: a request is somebody's or it is refused, and what is not theirs
 * answers exactly like what does not exist.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { isIPv4 } from "node:net";
import type { Context, MiddlewareHandler } from "hono";
import { describe, GroundcrewError, isError } from "../errors.ts";
import { MIN_API_KEY_CHARS } from "../limits.ts";
import type { RunRow } from "../persistence/store.ts";
import { localPrincipal, type Principal } from "../principal.ts";
import type { Crew, Run, Session } from "../runtime.ts";
import { principal as principalShape } from "../wire.ts";

export interface AccessOptions {
  /** Keys of services and operators: `Authorization: Bearer <key>`. Whoever has one is an operator of the default tenant. */
  apiKeys?: readonly string[];
  /**
   * The application's own users, e.g. from its session cookie. Asked when no API key fits; `null` refuses. It must not read
   * the body.
   */
  authenticate?: (request: Request) => Principal | null | Promise<Principal | null>;
}

export type ServerEnv = { Variables: { principal: Principal } };

/** Who has an API key. */
const keyPrincipal: Principal = { ...localPrincipal, user: "api" };

/** Sees every run and session of the tenant, and what only operators are told. */
export function isOperator(principal: Principal): boolean {
  return principal.roles.includes("operator");
}

/** Whether anybody at all is asked who they are. */
export function isOpen({ apiKeys, authenticate }: AccessOptions): boolean {
  return (apiKeys === undefined || apiKeys.length === 0) && authenticate === undefined;
}

/** Finds out who asks. @returns null for nobody. */
export function authenticator(options: AccessOptions): (request: Request) => Promise<Principal | null> {
  const isKey = keyCheck(options.apiKeys ?? []);
  const { authenticate } = options;
  if (isOpen(options)) return async () => localPrincipal;
  return async (request) => {
    const token = bearerToken(request.headers);
    if (token !== undefined && isKey(token)) return keyPrincipal;
    const found = authenticate ? await authenticate(request) : null;
    return found === null ? null : checkPrincipal(found);
  };
}

/** A hook that forgot the tenant must not open every tenant. */
function checkPrincipal(found: unknown): Principal {
  const checked = principalShape.safeParse(found);
  if (checked.success) return checked.data;
  throw new GroundcrewError("CONFIG_INVALID", `Expected \`authenticate\` to return a principal or null, got ${describe(found)}.`, {
    fix: "Return `{ tenant, user, roles }`, each set.",
  });
}

/** Compares digests, in the same time for each key: neither length nor a common beginning can be measured. */
function keyCheck(keys: readonly string[]): (token: string) => boolean {
  for (const key of keys) {
    if (typeof key !== "string" || key.length < MIN_API_KEY_CHARS) {
      throw new GroundcrewError("CONFIG_INVALID", `Expected each of \`apiKeys\` to have ${MIN_API_KEY_CHARS} characters or more.`, {
        fix: "Make one with `openssl rand -hex 32`.",
      });
    }
  }
  const digest = (text: string) => createHash("sha256").update(text).digest();
  const known = keys.map(digest);
  return (token) => {
    const given = digest(token);
    return known.map((key) => timingSafeEqual(key, given)).includes(true);
  };
}

function bearerToken(headers: Headers): string | undefined {
  return /^Bearer +(\S+)$/i.exec(headers.get("authorization") ?? "")?.[1];
}

/** Refuses whoever is nobody, and remembers who it is. */
export function requirePrincipal(whoIs: (request: Request) => Promise<Principal | null>): MiddlewareHandler<ServerEnv> {
  return async function access(c, next) {
    const principal = await whoIs(c.req.raw);
    if (!principal)
      throw new GroundcrewError("UNAUTHENTICATED", "The request carries no valid API key and the application knows no user for it.");
    c.set("principal", principal);
    await next();
  };
}

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

/** What the one who asks may see, for every resource. */
export interface Guard {
  /** The run and its row. @throws GroundcrewError `RUN_NOT_FOUND`, also for a run of somebody else */
  run(c: Context<ServerEnv>, id: string): Promise<{ run: Run; row: RunRow }>;
  /** @throws GroundcrewError `SESSION_NOT_FOUND`, also for a session of somebody else */
  session(c: Context<ServerEnv>, id: string): Promise<Session>;
  /** What a list is narrowed to; null when nothing of it is theirs. */
  scope(c: Context<ServerEnv>, user: string | undefined): { tenant: string; user?: string } | null;
  /** @throws GroundcrewError `FORBIDDEN` */
  requireOperator(c: Context<ServerEnv>): void;
  /** Fires when the server closes: streams end, and their readers reconnect elsewhere. */
  closing: AbortSignal;
}

export function createGuard(crew: Crew, closing: AbortSignal): Guard {
  return {
    closing,
    async run(c, id) {
      const run = await crew.run(id).catch((error: unknown) => {
        throw isError(error, "RUN_NOT_FOUND") ? noRun(id) : error;
      });
      const row = await run.row();
      if (!isTheirs(c.get("principal"), row.principal)) throw noRun(id);
      return { run, row };
    },
    async session(c, id) {
      const asker = c.get("principal");
      const session = await crew.session(id, asker.tenant).catch((error: unknown) => {
        throw isError(error, "SESSION_NOT_FOUND") ? noSession(id) : error;
      });
      if (!isTheirs(asker, session.row.principal)) throw noSession(id);
      return session;
    },
    scope(c, user) {
      const asker = c.get("principal");
      if (isOperator(asker)) return user === undefined ? { tenant: asker.tenant } : { tenant: asker.tenant, user };
      return user === undefined || user === asker.user ? { tenant: asker.tenant, user: asker.user } : null;
    },
    requireOperator(c) {
      if (!isOperator(c.get("principal"))) throw new GroundcrewError("FORBIDDEN", "This takes the role `operator`.");
    },
  };
}

function isTheirs(asker: Principal, owner: Principal): boolean {
  return asker.tenant === owner.tenant && (isOperator(asker) || asker.user === owner.user);
}

// One wording for what is missing and for what is another's: the answers cannot be told apart.
const noRun = (id: string) => new GroundcrewError("RUN_NOT_FOUND", `There is no run ${describe(id)}.`);
const noSession = (id: string) => new GroundcrewError("SESSION_NOT_FOUND", `There is no session ${describe(id)}.`);
