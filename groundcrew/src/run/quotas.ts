/** What bounds the runs of agents and of tenants, as the crew was given it. */
import { type CheckedLimits, checkLimits, type Definition, type Limits } from "../agent.ts";
import { GroundcrewError } from "../errors.ts";
import type { Quota, Quotas } from "../persistence/store.ts";

/** The same for each tenant, or asked for each: `(tenant) => plans[tenant]`. */
export type TenantLimits = Limits | ((tenant: string) => Limits | undefined);

/** Nobody is served by mistake: a tenant whose limits cannot be told waits until they can. */
const NONE: Quota = { concurrency: 0 };

/**
 * @param onTrouble told once of each tenant whose limits cannot be told.
 * @returns undefined when nothing is bounded.
 * @throws GroundcrewError `CONFIG_INVALID`, `DURATION_INVALID`
 */
export function quotasOf(
  agents: ReadonlyMap<string, Definition>,
  tenants: TenantLimits | undefined,
  onTrouble: (error: unknown) => void,
): Quotas | undefined {
  const ofTenant = typeof tenants === "function" ? asked(tenants, onTrouble) : same(checkLimits("tenants", tenants, "CONFIG_INVALID"));
  const isBounded = tenants !== undefined || [...agents.values()].some(({ limits }) => limits !== undefined);
  return isBounded ? { agent: (name) => agents.get(name)?.limits, tenant: ofTenant } : undefined;
}

function same(limits: CheckedLimits | undefined): () => Quota | undefined {
  return () => limits;
}

function asked(tell: (tenant: string) => Limits | undefined, onTrouble: (error: unknown) => void): Quotas["tenant"] {
  const troubled = new Set<string>();
  return (tenant) => {
    try {
      const limits = checkLimits(`tenants(${JSON.stringify(tenant)})`, tell(tenant), "CONFIG_INVALID");
      troubled.delete(tenant);
      return limits;
    } catch (error) {
      if (!troubled.has(tenant)) onTrouble(untold(tenant, error));
      troubled.add(tenant);
      return NONE;
    }
  };
}

function untold(tenant: string, cause: unknown): GroundcrewError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new GroundcrewError("CONFIG_INVALID", `The limits of tenant ${JSON.stringify(tenant)} cannot be told: ${why}`, {
    value: tenant,
    cause,
    fix: "Its runs wait. Let the function `tenants` of the crew give limits, or undefined, for every tenant.",
  });
}
