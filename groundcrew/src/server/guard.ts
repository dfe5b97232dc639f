/** What the one who asks may see, for every resource: what is not theirs answers exactly like what does not exist. */
import type { Context } from "hono";
import { describe, GroundcrewError, isError } from "../errors.ts";
import type { RunRow } from "../persistence/store.ts";
import type { Principal } from "../principal.ts";
import type { Crew, Run, Session } from "../runtime.ts";
import { isOperator, type ServerEnv } from "./authenticate.ts";

export interface Guard {
  /** The run and its row. @throws GroundcrewError `RUN_NOT_FOUND`, also for a run of somebody else */
  run(c: Context<ServerEnv>, id: string): Promise<{ run: Run; row: RunRow }>;
  /** @throws GroundcrewError `SESSION_NOT_FOUND`, also for a session of somebody else */
  session(c: Context<ServerEnv>, id: string): Promise<Session>;
  /** What a list is narrowed to; null when nothing of it is theirs. */
  scope(c: Context<ServerEnv>, user: string | undefined): { tenant: string; user?: string } | null;
  /** @throws GroundcrewError `FORBIDDEN` */
  requireOperator(c: Context<ServerEnv>): void;
}

export function createGuard(crew: Crew): Guard {
  return {
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
