/** The store right here: commands act on it as the person who is logged in at this machine. */
import { userInfo } from "node:os";
import { MAX_LIST_PAGE } from "../limits.ts";
import { type Actor, localPrincipal } from "../principal.ts";
import type { Crew, Run } from "../runtime.ts";
import type { Backend, Handle } from "./backend.ts";

export function local(crew: Crew): Backend {
  const actor = whoIsHere(crew);
  return {
    isServer: false,
    auditKey: crew.auditKey,
    agents: async () => [...crew.agents.keys()],
    start: async (agent, request) => localHandle(await crew.start(agent, request), actor),
    run: async (id) => localHandle(await crew.run(id), actor),
    runs: async (query) => {
      const [{ runSummaryOf }, rows] = await Promise.all([import("../wire.ts"), crew.runs(query)]);
      return rows.map(runSummaryOf);
    },
    inbox: ({ all, ...page }) => (all ? crew.approvals({ status: "open", ...page }) : crew.inbox(actor, page)),
    withheld: async () => {
      const open = await crew.approvals({ tenant: actor.tenant, status: "open", limit: MAX_LIST_PAGE });
      return open.filter(({ request }) => request.user === actor.user && !request.selfApproval);
    },
    approval: async (id) => {
      await crew.viewed(id, actor);
      return crew.approval(id);
    },
    decide: (id, decision, hash) => crew.decide(id, decision, actor, { hash }),
    stops: () => crew.stops(),
    stop: (what) => crew.stop(what, actor),
    lift: (agent) => crew.lift(agent, actor),
    audit: ({ tenant = actor.tenant, after, limit }) => crew.audit(tenant, after, limit),
    auditHeads: (tenant) => crew.auditHeads(tenant),
    cleanup: (dryRun) => crew.cleanup({ dryRun }),
    close: () => crew.close(),
  };
}

function localHandle(run: Run, by: Actor): Handle {
  return {
    id: run.id,
    view: () => run.view(),
    events: ({ after, signal }) => run.events({ after, signal }),
    journal: () => run.journal(),
    cancel: (why) => run.cancel(why, by),
    signal: (name, value, id) => run.signal(name, value, { by: by.user, ...(id !== undefined && { id }) }),
    resolve: (step, answer) => run.resolve(step, { ...answer, by }),
    retry: async () => (await run.retry(by)).id,
    fork: async (from) => (await run.fork({ from, by })).id,
    pause: (why) => run.pause(why, by),
    resume: () => run.resume(by),
    say: (text) => run.say(text, by),
    raise: (steps) => run.raise({ steps }, by),
    takeOver: () => run.takeOver(by),
    speak: (text) => run.speak(text, by),
    handBack: () => run.handBack(by),
  };
}

/** Whom the configuration names is what it says; anybody else at this machine operates it. */
function whoIsHere({ people }: Crew): Actor {
  const { tenant, roles } = localPrincipal;
  const user = userName();
  return { tenant, user, roles: people.named(tenant, user) ? [] : roles, kind: "person", channel: "cli" };
}

/** A container may run as somebody whom its system does not know. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid-${process.getuid?.() ?? "unknown"}`;
  }
}
