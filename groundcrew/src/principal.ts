/** Who asks: the person or system on whose behalf a run works. */
export interface Principal {
  tenant: string;
  user: string;
  /** What the user may be, e.g. `operator`, who sees every run of the tenant. */
  roles: readonly string[];
}

/** Of those who name none. */
export const DEFAULT_TENANT = "default";

/** Whoever sits at this machine. Runs started without a principal belong to them. */
export const localPrincipal: Principal = { tenant: DEFAULT_TENANT, user: "local", roles: ["operator"] };

/** By what way somebody acted. */
export type Channel = "api" | "chat" | "cli" | "link" | "slack" | "runtime";

/** Somebody who acts on runs. Only a person can decide; a service (a key without a person, an agent's own key) never can. */
export interface Actor extends Principal {
  kind: "person" | "service";
  channel: Channel;
}
