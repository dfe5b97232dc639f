/** Who asks. It fails closed: a request is somebody's or it is refused. */
import { createHash, timingSafeEqual } from "node:crypto";
import type { MiddlewareHandler } from "hono";
import { describe, GroundcrewError } from "../errors.ts";
import { MIN_API_KEY_CHARS } from "../limits.ts";
import { localPrincipal, type Principal } from "../principal.ts";
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

export function bearerToken(headers: Headers): string | undefined {
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
