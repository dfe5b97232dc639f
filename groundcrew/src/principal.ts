/** Who asks: the person or system on whose behalf a run works. */
export interface Principal {
  tenant: string;
  user: string;
  /** What the user may be, e.g. `operator`, who sees every run of the tenant. */
  roles: readonly string[];
}

/** Whoever sits at this machine. Runs started without a principal belong to them. */
export const localPrincipal: Principal = { tenant: "default", user: "local", roles: ["operator"] };
