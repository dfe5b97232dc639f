/** A refund that needs somebody's agreement, the people who may give it, and a real server that they ask. */
import { onTestFinished } from "vitest";
import type { ToolPolicy } from "../../src/policy.ts";
import type { Crew, CrewOptions, PersonOptions, Run } from "../../src/runtime.ts";
import { type ApiKey, type ServeOptions, type Serving, serve } from "../../src/server/server.ts";
import type { TestCrew } from "../../src/testing/crew.ts";
import type { ScriptedAnswer } from "../../src/testing/model.ts";
import { ask, type Ledger, open, type Refund, refunds } from "../supervision/ground.ts";

/** Signs links. */
export const SECRET = "a secret of more than 32 characters, for links";

export const people: Record<string, PersonOptions> = {
  ana: { roles: ["finance"], slack: "U0ANA", email: "ana@example.com" },
  bo: { roles: ["finance"], slack: "U0BO" },
  customer: { slack: "U0CUSTOMER" },
};

/** Long enough to be a key. */
export const keyOf = (name: string) => `${name}-`.padEnd(40, "0");

const person = (user: string, more: Partial<ApiKey> = {}): ApiKey => ({ key: keyOf(user), user, person: true, ...more });

export const apiKeys: (string | ApiKey)[] = [
  keyOf("service"),
  person("ana"),
  person("bo"),
  person("customer"),
  person("zoe"),
  person("olga", { roles: ["operator"] }),
  person("olga-abroad", { tenant: "other", roles: ["operator", "finance"] }),
  { key: keyOf("agent"), user: "agent", roles: ["finance", "operator"] },
];

export interface Setting {
  script?: readonly ScriptedAnswer[];
  policy?: ToolPolicy<Refund>;
  supervision?: CrewOptions["supervision"];
  people?: Record<string, PersonOptions>;
  serve?: ServeOptions;
}

export interface ServedDesk {
  crew: TestCrew;
  server: Serving;
  ledger: Ledger;
  /** The customer's, which has asked. */
  run: Run;
  /** What it has asked. */
  id: string;
  /** As whoever holds the key, or with a whole bearer token. */
  get(path: string, who: string, headers?: Record<string, string>): Promise<Response>;
  post(path: string, who: string, body?: unknown): Promise<Response>;
  /** Says something to the request. */
  say(who: string, what?: string, body?: unknown): Promise<Response>;
}

export async function openDesk(setting: Setting = {}): Promise<ServedDesk> {
  const { script = [refunds(250), "Done."], policy = {}, supervision = { secret: SECRET } } = setting;
  const desk = await open(script, policy, { people: setting.people ?? people, supervision, onTrouble: () => {} });
  const run = await ask(desk.crew);
  const [asked] = await desk.crew.approvals();
  const id = asked?.id ?? "";
  const served = await serveDesk(desk.crew, setting.serve);
  const say: ServedDesk["say"] = (who, what = "approve", body = {}) => served.post(`/v1/approvals/${id}/${what}`, who, body);
  return { ...served, crew: desk.crew, ledger: desk.ledger, run, id, say };
}

/** Another process on the same store would be served the same. */
export async function serveDesk(crew: Crew, options: ServeOptions = {}) {
  const server = await serve(crew, { port: 0, apiKeys, report: () => {}, ...options });
  onTestFinished(() => server.close());
  const bearer = (who: string) => ({ authorization: `Bearer ${who.length > 40 ? who : keyOf(who)}` });
  const get: ServedDesk["get"] = (path, who, headers = {}) => fetch(`${server.url}${path}`, { headers: { ...bearer(who), ...headers } });
  const post: ServedDesk["post"] = (path, who, body = {}) => {
    const headers = { "content-type": "application/json", ...bearer(who) };
    return fetch(`${server.url}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  };
  return { server, get, post };
}

/** The error of an answer. */
export async function errorOf(response: Response): Promise<{ code: string; message: string; detail?: string; decided?: unknown }> {
  return ((await response.json()) as { error: { code: string; message: string } }).error;
}

export async function codeOf(response: Response): Promise<string> {
  return (await errorOf(response)).code;
}

/** What is on record, oldest first. */
export async function recordsOf(crew: Crew, tenant = "default") {
  type Shown = { action: string; actor: { kind: string; id: string }; channel: string; reason?: string; detail?: Record<string, unknown> };
  return (await crew.audit(tenant, 0, 1_000)).map(({ record }) => JSON.parse(record) as Shown);
}
