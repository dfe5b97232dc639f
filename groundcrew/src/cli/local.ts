/** The store right here: commands act on it as the person who is logged in at this machine. */
import { userInfo } from "node:os";
import { GroundcrewError } from "../errors.ts";
import { auditHash } from "../persistence/audit.ts";
import { type Actor, localPrincipal } from "../principal.ts";
import type { Crew, Run } from "../runtime.ts";
import type { Backend, Handle } from "./backend.ts";

/** Tenants whose logs are looked at for the key that they are written with. */
const KEYS_LOOKED_AT = 5;

/** @param mayWrite asked before each change. */
export function local(crew: Crew, mayWrite: () => Promise<void> = async () => {}): Backend {
  const actor = whoIsHere(crew);
  const write = async <T>(what: () => Promise<T>): Promise<T> => {
    await mayWrite();
    return what();
  };
  return {
    isServer: false,
    auditKey: crew.auditKey,
    start: async (agent, request) => localHandle(await crew.start(agent, request), actor, write),
    run: async (id) => localHandle(await crew.run(id), actor, write),
    runs: async (query) => {
      const [{ runSummaryOf }, rows] = await Promise.all([import("../wire.ts"), crew.runs(query)]);
      return rows.map(runSummaryOf);
    },
    inbox: ({ all, ...page }) => (all ? crew.approvals({ status: "open", ...page }) : crew.inbox(actor, page)),
    approval: (id) =>
      write(async () => {
        await crew.viewed(id, actor);
        return crew.approval(id);
      }),
    decide: (id, decision, hash) => write(() => crew.decide(id, decision, actor, { hash })),
    stops: () => crew.stops(),
    stop: (what) => write(() => crew.stop(what, actor)),
    lift: (agent) => write(() => crew.lift(agent, actor)),
    audit: ({ tenant = actor.tenant, after, limit }) => crew.audit(tenant, after, limit),
    auditHeads: (tenant) => crew.auditHeads(tenant),
    cleanup: (dryRun) => crew.cleanup({ dryRun }),
    close: () => crew.close(),
  };
}

function localHandle(run: Run, by: Actor, write: <T>(what: () => Promise<T>) => Promise<T>): Handle {
  return {
    id: run.id,
    view: () => run.view(),
    events: ({ after, signal }) => run.events({ after, signal }),
    journal: () => run.journal(),
    cancel: (why) => write(() => run.cancel(why, by)),
    signal: (name, value, id) => write(() => run.signal(name, value, { by: by.user, ...(id !== undefined && { id }) })),
    resolve: (step, answer) => write(() => run.resolve(step, { ...answer, by })),
    retry: async () => (await write(() => run.retry(by))).id,
    fork: async (from) => (await write(() => run.fork({ from, by }))).id,
    pause: (why) => write(() => run.pause(why, by)),
    resume: () => write(() => run.resume(by)),
    say: (text) => write(() => run.say(text, by)),
    raise: (steps) => write(() => run.raise({ steps }, by)),
    takeOver: () => write(() => run.takeOver(by)),
    speak: (text) => write(() => run.speak(text, by)),
    handBack: () => write(() => run.handBack(by)),
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

/**
 * Of a bare store nobody says with which key its audit log is written: with another, or without one, it would be broken from there on.
 * @throws GroundcrewError `CONFIG_INVALID`
 */
export async function mustKnowAuditKey(crew: Crew): Promise<void> {
  const heads = (await crew.auditHeads()).filter(({ seq }) => seq > 0).slice(0, KEYS_LOOKED_AT);
  for (const { tenant, seq } of heads) {
    const [last] = await crew.audit(tenant, seq - 1, 1);
    if (last && auditHash(last.record, crew.auditKey) === last.hash) return;
  }
  if (heads.length === 0) return;
  throw new GroundcrewError("CONFIG_INVALID", "The audit log of this store is written with a key, and this command does not have it.", {
    fix: "Name the config file with --config, or give the key in $GROUNDCREW_AUDIT_KEY. If there is none: `groundcrew audit verify`.",
  });
}
