/** People whom somebody else vouches for: JSON Web Tokens of an identity provider. */
import { createLocalJWKSet, createRemoteJWKSet, errors, type JSONWebKeySet, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from "jose";
import { describe, GroundcrewError } from "../errors.ts";
import { JWKS_COOLDOWN_MS, JWKS_TIMEOUT_MS, JWT_TOLERANCE_MS, MAX_NAME_CHARS, MAX_TOKEN_CHARS } from "../limits.ts";
import { DEFAULT_TENANT, type Principal } from "../principal.ts";

export interface JwtOptions {
  /** Who vouches: the token's `iss`, exactly. */
  issuer: string;
  /** Whom it is for: the token's `aud`. */
  audience: string;
  /** The provider's public keys, or where they are. */
  jwks: string | JSONWebKeySet;
  /** Claims that name user, tenant and roles. Default `sub`; without a tenant's claim everybody is of `default`, without a roles' nobody has one. */
  user?: string;
  tenant?: string;
  roles?: string;
}

/** Asymmetric ones: with a secret that is shared, whoever can verify a token could make one. */
const ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"];

/** @returns who the token says it is. @throws GroundcrewError `CONFIG_INVALID`; when called `UNAUTHENTICATED`, `UNREACHABLE` */
export function tokenReader(options: JwtOptions): (token: string) => Promise<Principal> {
  const { issuer, audience } = options;
  for (const field of ["issuer", "audience"] as const)
    if (typeof options[field] !== "string" || options[field] === "") throw unset(field, options[field]);
  const keys = keysOf(options);
  return async (token) => {
    if (token.length > MAX_TOKEN_CHARS) throw refused("it is too long");
    try {
      const checks = { issuer, audience, algorithms: ALGORITHMS, clockTolerance: JWT_TOLERANCE_MS / 1_000, requiredClaims: ["exp"] };
      const { payload } = await jwtVerify(token, keys, checks);
      return principalOf(payload, options);
    } catch (error) {
      if (isKeysAway(error))
        throw new GroundcrewError("UNREACHABLE", "The identity provider's keys cannot be read.", { cause: error, retryAfterMs: 1_000 });
      if (error instanceof errors.JOSEError) throw refused(error.message);
      throw error;
    }
  };
}

function keysOf({ jwks }: JwtOptions): JWTVerifyGetKey {
  if (typeof jwks === "object" && jwks !== null) return createLocalJWKSet(jwks);
  if (typeof jwks !== "string" || !URL.canParse(jwks)) throw unset("jwks", jwks);
  return createRemoteJWKSet(new URL(jwks), { timeoutDuration: JWKS_TIMEOUT_MS, cooldownDuration: JWKS_COOLDOWN_MS });
}

/** Not the token's fault. */
function isKeysAway(error: unknown): boolean {
  if (error instanceof errors.JWKSTimeout || error instanceof errors.JWKSInvalid) return true;
  if (error instanceof errors.JOSEError) return error.code === "ERR_JOSE_GENERIC";
  return error instanceof TypeError && error.message === "fetch failed";
}

function principalOf(payload: JWTPayload, { user: userClaim = "sub", tenant: tenantClaim, roles: rolesClaim }: JwtOptions): Principal {
  const user = payload[userClaim];
  if (typeof user !== "string" || user === "" || user.length > MAX_NAME_CHARS) throw refused(`its claim "${userClaim}" names no user`);
  const tenant = tenantClaim === undefined ? DEFAULT_TENANT : payload[tenantClaim];
  if (typeof tenant !== "string" || tenant === "" || tenant.length > MAX_NAME_CHARS)
    throw refused(`its claim "${tenantClaim}" names no tenant`);
  const given = rolesClaim === undefined ? [] : (payload[rolesClaim] ?? []);
  const roles = typeof given === "string" ? given.split(/[ ,]+/).filter(Boolean) : given;
  if (!Array.isArray(roles) || roles.some((role) => typeof role !== "string"))
    throw refused(`its claim "${rolesClaim}" is no list of roles`);
  return { tenant, user, roles };
}

function refused(why: string): GroundcrewError {
  return new GroundcrewError("UNAUTHENTICATED", `The token is not accepted: ${why}.`);
}

function unset(field: string, value: unknown): GroundcrewError {
  return new GroundcrewError("CONFIG_INVALID", `Expected \`jwt.${field}\` to be set, got ${describe(value)}.`, { value });
}
