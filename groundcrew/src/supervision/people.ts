/** Who people are: their roles, and by which address of which channel they are known. One person has one name, whatever the channel. */

import { checkName } from "../agent.ts";
import { REQUESTER } from "../approval.ts";
import { describe, GroundcrewError, misset } from "../errors.ts";
import { type Actor, DEFAULT_TENANT, type Principal } from "../principal.ts";

export interface PersonOptions {
  /** Beside those that a token or the application gives. */
  roles?: readonly string[];
  /** Default: `default`. */
  tenant?: string;
  /** Their member id in Slack, e.g. `U024BE7LH`. */
  slack?: string;
  email?: string;
}

export interface Person extends Principal {
  slack?: string;
  email?: string;
}

const FIELDS = ["roles", "tenant", "slack", "email"];

export class People {
  readonly #people: readonly Person[];

  /** @param options by user name. @throws GroundcrewError `CONFIG_INVALID` */
  constructor(options: Readonly<Record<string, PersonOptions>> = {}) {
    this.#people = Object.entries(options).map(([user, person]) => checkPerson(user, person));
    for (const way of ["slack", "email"] as const) this.#mustDiffer(way);
  }

  get size(): number {
    return this.#people.length;
  }

  /**
   * What somebody may be: what the configuration says now, beside what they came with. A key that is no person's is somebody else than the
   * person of its name.
   */
  rolesOf({ tenant, user, roles, kind }: Principal & Partial<Pick<Actor, "kind">>): ReadonlySet<string> {
    const known = kind === "service" ? undefined : this.named(tenant, user);
    return new Set([...roles, ...(known?.roles ?? [])]);
  }

  /** Whether the configuration knows this person, so that it alone says what they may be. */
  named(tenant: string, user: string): Person | undefined {
    return this.#people.find((person) => person.user === user && person.tenant === tenant);
  }

  bySlack(id: string): Person | undefined {
    return this.#people.find(({ slack }) => slack === id);
  }

  /** Whether one of the targets is this person. @param requester the user that the run works for */
  isMeant(actor: Principal & Partial<Pick<Actor, "kind">>, targets: readonly string[], requester: string): boolean {
    const roles = this.rolesOf(actor);
    return targets.some(
      (target) =>
        (target === REQUESTER && actor.user === requester) ||
        target === `user:${actor.user}` ||
        (target.startsWith("role:") && roles.has(target.slice("role:".length))),
    );
  }

  /** Everybody known that the targets mean: who can be told. */
  meant(tenant: string, targets: readonly string[], requester: string): Person[] {
    return this.#people.filter((person) => person.tenant === tenant && this.isMeant(person, targets, requester));
  }

  #mustDiffer(way: "slack" | "email"): void {
    const seen = new Set<string>();
    for (const { user, [way]: address } of this.#people) {
      const key = address?.toLowerCase();
      if (key === undefined) continue;
      if (seen.has(key)) {
        throw new GroundcrewError("CONFIG_INVALID", `\`people.${user}.${way}\` is somebody else's as well: ${describe(address)}.`, {
          value: address,
          fix: "An address belongs to one person: by two of them, one person could count twice.",
        });
      }
      seen.add(key);
    }
  }
}

function checkPerson(user: string, options: PersonOptions): Person {
  checkName("CONFIG_INVALID", `name \`people.${user}\``, user);
  const field = `people.${user}`;
  if (typeof options !== "object" || options === null) throw invalid(field, `an object with ${FIELDS.join(", ")}`, options);
  const unknown = Object.keys(options).find((given) => !FIELDS.includes(given));
  if (unknown !== undefined) throw invalid(`${field}.${unknown}`, `left out (known: ${FIELDS.join(", ")})`, unknown);
  const { roles = [], tenant = DEFAULT_TENANT, slack, email } = options;
  if (!Array.isArray(roles) || roles.some((role) => typeof role !== "string" || role === ""))
    throw invalid(`${field}.roles`, "a list of names", roles);
  if (typeof tenant !== "string" || tenant === "") throw invalid(`${field}.tenant`, "a text", tenant);
  if (slack !== undefined && !/^[UW][A-Z0-9]{2,}$/.test(slack)) throw invalid(`${field}.slack`, "a Slack member id, e.g. U024BE7LH", slack);
  if (email !== undefined && !/^[^\s@<>,;]+@[^\s@<>,;]+$/.test(email)) throw invalid(`${field}.email`, "an e-mail address", email);
  return { user, tenant, roles: [...roles], ...(slack !== undefined && { slack }), ...(email !== undefined && { email }) };
}

function invalid(field: string, expected: string, value: unknown): GroundcrewError {
  return misset(field, expected, value, "CONFIG_INVALID");
}
