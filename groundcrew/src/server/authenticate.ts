/** Who asks. It fails closed: a request is somebody's or it is refused. */
import { createHash, timingSafeEqual } from "node:crypto";
import type { Context, MiddlewareHandler } from "hono";
import { describe, GroundcrewError, misset } from "../errors.ts";
import { MIN_API_KEY_CHARS } from "../limits.ts";
import { type Actor, DEFAULT_TENANT, localPrincipal, type Principal } from "../principal.ts";
import { principal as principalShape } from "../wire.ts";
import { type JwtOptions, tokenReader } from "./jwt.ts";

/** What a key may be used for, whatever its roles allow. */
export type Scope = "read" | "start" | "steer" | "decide" | "stop" | "audit";

export const SCOPES: readonly Scope[] = ["read", "start", "steer", "decide", "stop", "audit"];

/** A key with a name. */
export interface ApiKey {
  key: string;
  /** Whose it is: what it does is on record under this name. */
  user: string;
  /** Default `default`. */
  tenant?: string;
  /** Default: none. */
  roles?: readonly string[];
  /** Default: all that its roles allow. */
  scopes?: readonly Scope[];
  /** Whether a person holds it and decides by it. A key without can never decide, whatever its roles: it is a program's. */
  person?: boolean;
}

export interface AccessOptions {
  /** `Authorization: Bearer <key>`. A bare text is a service's key, and an operator of the default tenant. */
  apiKeys?: readonly (string | ApiKey)[];
  /** Tokens of an identity provider: whoever has one is a person. */
  jwt?: JwtOptions;
  /**
   * The application's own users, e.g. from its session cookie. Asked when nothing else fits; `null` refuses. It must not read
   * the body. Whoever it names is a person.
   */
  authenticate?: (request: Request) => Principal | null | Promise<Principal | null>;
}

/** Who asks, and what for. */
export interface Identity {
  /** With the roles that they came with: what the configuration adds is looked up whenever somebody decides. */
  actor: Actor;
  /** With those of the configuration. */
  principal: Principal;
  /** Undefined: whatever the roles allow. */
  scopes: readonly Scope[] | undefined;
}

export type WhoIs = (request: Request) => Promise<Identity | null>;

export type ServerEnv = { Variables: { principal: Principal; actor: Actor; scopes: readonly Scope[] | undefined } };

/** Sees every run and session of the tenant, and what only operators are told. */
export function isOperator(principal: Principal): boolean {
  return principal.roles.includes("operator");
}

/** Whether anybody at all is asked who they are. */
export function isOpen({ apiKeys, authenticate, jwt }: AccessOptions): boolean {
  return (apiKeys === undefined || apiKeys.length === 0) && authenticate === undefined && jwt === undefined;
}

/** Finds out who asks. @param rolesOf what the configuration says of somebody, beside what they come with. @returns null for nobody. */
export function authenticator(options: AccessOptions, rolesOf: (principal: Principal) => ReadonlySet<string>): WhoIs {
  const keyOf = keyFinder(options.apiKeys ?? []);
  const readToken = options.jwt && tokenReader(options.jwt);
  const { authenticate } = options;
  const person = ({ tenant, user, roles }: Principal): Identity => ({
    actor: { tenant, user, roles, kind: "person", channel: "api" },
    principal: { tenant, user, roles: [...rolesOf({ tenant, user, roles })] },
    scopes: undefined,
  });
  if (isOpen(options)) return async () => person(localPrincipal);
  return async (request) => {
    const token = bearerToken(request.headers);
    const known = token === undefined ? undefined : keyOf(token);
    if (known) return { ...(known.person ? person(known) : service(known)), scopes: known.scopes };
    if (token !== undefined && readToken && isJwt(token)) return person(await readToken(token));
    const found = authenticate ? await authenticate(request) : null;
    return found === null ? null : person(checkPrincipal(found));
  };
}

/** Only what its key says: a person of the same name is somebody else. */
function service({ tenant, user, roles }: Principal): Omit<Identity, "scopes"> {
  return { actor: { tenant, user, roles, kind: "service", channel: "api" }, principal: { tenant, user, roles } };
}

function isJwt(token: string): boolean {
  return token.split(".").length === 3;
}

/** A hook that forgot the tenant must not open every tenant. */
function checkPrincipal(found: unknown): Principal {
  const checked = principalShape.safeParse(found);
  if (checked.success) return checked.data;
  throw new GroundcrewError("CONFIG_INVALID", `Expected \`authenticate\` to return a principal or null, got ${describe(found)}.`, {
    fix: "Return `{ tenant, user, roles }`, each set.",
  });
}

interface Holder extends Principal {
  scopes: readonly Scope[] | undefined;
  person: boolean;
}

/** Compares digests, in the same time for each key: neither length nor a common beginning can be measured. */
function keyFinder(keys: readonly (string | ApiKey)[]): (token: string) => Holder | undefined {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  const known = keys.map((key, index) => ({ digest: digest(checkKey(key, index)), holder: holderOf(key) }));
  if (new Set(known.map((key) => key.digest.toString("hex"))).size < known.length) {
    throw new GroundcrewError(
      "CONFIG_INVALID",
      "Expected each of `apiKeys` to be another key: by one of them, nobody could tell who asks.",
    );
  }
  return (token) => {
    const given = digest(token);
    return known.filter((key) => timingSafeEqual(key.digest, given))[0]?.holder;
  };
}

function holderOf(key: string | ApiKey): Holder {
  if (typeof key === "string") return { ...localPrincipal, user: "api", scopes: undefined, person: false };
  const { user, tenant = DEFAULT_TENANT, roles = [], scopes, person = false } = key;
  return { tenant, user, roles, scopes, person };
}

const KEY_FIELDS = ["key", "user", "tenant", "roles", "scopes", "person"];

function checkKey(given: string | ApiKey, index: number): string {
  const key: unknown = typeof given === "string" ? given : Object(given).key;
  if (typeof key !== "string" || key.length < MIN_API_KEY_CHARS) {
    throw new GroundcrewError("CONFIG_INVALID", `Expected each of \`apiKeys\` to have ${MIN_API_KEY_CHARS} characters or more.`, {
      fix: "Make one with `openssl rand -hex 32`.",
    });
  }
  if (typeof given === "string") return key;
  const field = `apiKeys[${index}]`;
  const unknown = Object.keys(given).find((name) => !KEY_FIELDS.includes(name));
  if (unknown !== undefined) throw invalid(`${field}.${unknown}`, `left out (known: ${KEY_FIELDS.join(", ")})`, unknown);
  const { user, tenant = DEFAULT_TENANT, roles = [], scopes, person = false } = given;
  if (!principalShape.safeParse({ user, tenant, roles }).success)
    throw invalid(field, "`user`, and `tenant` and `roles` where they are set", user);
  const isKnown = scopes === undefined || (Array.isArray(scopes) && scopes.every((scope) => SCOPES.includes(scope)));
  if (!isKnown) throw invalid(`${field}.scopes`, `some of ${SCOPES.join(", ")}`, scopes);
  if (typeof person !== "boolean") throw invalid(`${field}.person`, "true or false", person);
  return key;
}

function invalid(field: string, expected: string, value: unknown): GroundcrewError {
  return misset(field, expected, value, "CONFIG_INVALID");
}

export function bearerToken(headers: Headers): string | undefined {
  return /^Bearer +(\S+)$/i.exec(headers.get("authorization") ?? "")?.[1];
}

/** Refuses whoever is nobody, and what a key is not for, and remembers who it is. */
export function requirePrincipal(whoIs: WhoIs): MiddlewareHandler<ServerEnv> {
  return async function access(c, next) {
    const identity = await whoIs(c.req.raw);
    if (!identity)
      throw new GroundcrewError("UNAUTHENTICATED", "The request carries no valid API key and the application knows no user for it.");
    const { actor, principal, scopes } = identity;
    c.set("principal", principal);
    c.set("actor", actor);
    c.set("scopes", scopes);
    requireScope(c, scopeOf(c.req.method, c.req.path));
    await next();
  };
}

/** @throws GroundcrewError `FORBIDDEN` when the key is for other things */
export function requireScope(c: Context<ServerEnv>, scope: Scope): void {
  const scopes = c.get("scopes");
  if (!scopes || scopes.includes(scope)) return;
  throw new GroundcrewError("FORBIDDEN", `The key of "${c.get("actor").user}" is not for this: it takes the scope \`${scope}\`.`, {
    value: scope,
  });
}

/** What a request is for. */
function scopeOf(method: string, path: string): Scope {
  if (path.startsWith("/v1/audit")) return "audit";
  if (method === "GET" || method === "HEAD") return "read";
  if (path.startsWith("/v1/approvals/")) return "decide";
  if (path.startsWith("/v1/stops")) return "stop";
  if (/^\/v1\/agents\/[^/]+\/runs$/.test(path) || /^\/v1\/chat\/[^/]+$/.test(path)) return "start";
  return "steer";
}
