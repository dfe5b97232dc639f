/** A server somewhere: commands act on it as whoever their key belongs to. */
import { type ApprovalView, type Client, connect, type RemoteRun } from "../client/client.ts";
import { GroundcrewError, isError } from "../errors.ts";
import { MAX_LIST_PAGE } from "../limits.ts";
import type { ApprovalRow } from "../persistence/approval.ts";
import { localPrincipal } from "../principal.ts";
import type { Decision } from "../runtime.ts";
import type { FeedItem } from "../wire.ts";
import type { Json } from "../wire-values.ts";
import { isAsked } from "./approval-text.ts";
import { usage } from "./arguments.ts";
import type { Backend, Handle } from "./backend.ts";
import { shellWord } from "./terminal.ts";

export function openServer(url: string, apiKey: string | undefined): Backend {
  const client = connect(url, apiKey === undefined ? {} : { apiKey });
  return {
    isServer: true,
    auditKey: undefined,
    agents: async () => (await client.agents()).map(({ name }) => name),
    start: async (agent, request) => remoteHandle(await client.start(agent, request), url),
    run: async (id) => remoteHandle(client.run(id), url),
    runs: async (query) => (await client.runs(query)).runs,
    inbox: async ({ all, ...page }) => (await client.approvals(all ? { all, status: "open", ...page } : page)).approvals,
    withheld: (theirs) => (apiKey === undefined ? withheldFromLocal(client) : withheldFromOwner(client, theirs)),
    approval: (id) => client.approval(id),
    decide: (id, decision, hash) => decide(client, id, decision, hash),
    stops: () => client.stops(),
    stop: (what) => client.stop(what),
    lift: (agent) => client.lift(agent),
    audit: async ({ tenant, ...page }) => {
      mustBeOwn(tenant);
      return (await client.audit(page)).records;
    },
    auditHeads: async (tenant) => {
      mustBeOwn(tenant);
      const { head } = await client.audit({ after: Number.MAX_SAFE_INTEGER, limit: 1 });
      return head ? [head] : [];
    },
    cleanup: async () => {
      throw usage("A server's worker cleans up by itself.", "For a pass by hand, name the config file with --config.");
    },
    close: async () => {},
  };
}

/** A server without keys knows one user, who operates it. */
async function withheldFromLocal(client: Client): Promise<ApprovalRow[]> {
  const { approvals } = await client.approvals({ all: true, status: "open", limit: MAX_LIST_PAGE });
  return approvals.filter(({ request }) => request.user === localPrincipal.user && !request.selfApproval);
}

/** Runs that are looked at for what they ask. */
const MAX_LOOKS = 20;

/** Who is no operator sees the own runs only, and not who is asked. Who an operator's key belongs to, no answer tells. */
async function withheldFromOwner(client: Client, theirs: readonly ApprovalRow[]): Promise<ApprovalRow[]> {
  const { runs } = await client.runs({ status: ["parked"], limit: MAX_LIST_PAGE });
  const asking = runs.filter(({ reason }) => reason === "approval").slice(0, MAX_LOOKS);
  const found: ApprovalRow[] = [];
  for (const { id } of asking) {
    const { approvals } = await client.run(id).view();
    if (approvals.some(isAsked)) return [];
    const others = approvals.filter((one) => !theirs.some((row) => row.id === one.id));
    found.push(...(await Promise.all(others.map((one) => client.approval(one.id)))));
  }
  return found.filter(({ request }) => !request.selfApproval);
}

function decide(client: Client, id: string, decision: Decision, hash: string | undefined): Promise<ApprovalView> {
  switch (decision.do) {
    case "approve": {
      const { do: _do, input, ...rest } = decision;
      const edited = input === undefined ? {} : { input: input as Json }; // it was read from JSON
      return client.approve(id, { ...rest, ...edited, ...(hash !== undefined && { hash }) });
    }
    case "deny":
      return client.deny(id, decision.reason);
    case "answer":
      return client.answer(id, decision.answer);
    case "delegate": {
      const { do: _do, to, ...rest } = decision;
      return client.delegate(id, { to: [to].flat(), ...rest });
    }
  }
}

function mustBeOwn(tenant: string | undefined): void {
  if (tenant === undefined) return;
  throw usage(
    "A server shows the log of the tenant that the key belongs to.",
    "Leave --tenant out, or name the store with --config or --store.",
  );
}

function remoteHandle(run: RemoteRun, url: string): Handle {
  return {
    id: run.id,
    view: () => run.view(),
    events: (options) => followed(run, url, options),
    journal: () => run.journal(),
    cancel: (why) => run.cancel(why),
    signal: (name, value, id) => run.signal(name, value, id === undefined ? {} : { id }),
    resolve: (step, answer) => run.resolve(step, answer),
    retry: async () => (await run.retry()).id,
    fork: async (from) => (await run.fork({ from })).id,
    pause: (why) => run.pause(why),
    resume: () => run.resume(),
    say: (text) => run.say(text),
    raise: (steps) => run.raise({ steps }),
    takeOver: () => run.takeOver(),
    speak: (text) => run.speak(text),
    handBack: () => run.handBack(),
  };
}

/** The second failure in a row is a server that is gone; the first may be a connection that had its time. */
async function* followed(run: RemoteRun, url: string, { tell, ...options }: Parameters<Handle["events"]>[0]): AsyncGenerator<FeedItem> {
  const onReconnect = (failures: number) => {
    if (failures === 2) tell("The server does not answer; trying again. The run goes on by itself.");
  };
  try {
    yield* run.events({ ...options, onReconnect });
  } catch (error) {
    if (!isError(error, "UNREACHABLE")) throw error;
    const fix = `The run is recorded: \`groundcrew tail ${shellWord(run.id)} --url ${shellWord(url)}\``;
    throw new GroundcrewError("UNREACHABLE", "The server does not answer.", { fix, cause: error, run: run.id });
  }
}
