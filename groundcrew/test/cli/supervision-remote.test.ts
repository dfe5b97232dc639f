/** People at the command line who work on a server: they are whoever their key belongs to, and no more than that. */
import { userInfo } from "node:os";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import type { ToolPolicy } from "../../src/policy.ts";
import { type Serving, serve } from "../../src/server/server.ts";
import type { ScriptedAnswer } from "../../src/testing/model.ts";
import { customer, type Ledger, type Refund, refunds, supportAgent } from "../supervision/ground.ts";
import { makeCrew, reaches, tempStore } from "../support/crew.ts";
import { project } from "./command.ts";

const { groundcrew, start, remove } = project();
afterAll(remove);

const keys = {
  ana: "key-of-ana-0123456789",
  bo: "key-of-bo-01234567890",
  cy: "key-of-cy-01234567890",
  service: "key-of-a-service-0123",
} as const;

let server: Serving;
let ledger: Ledger;
let crew: ReturnType<typeof makeCrew>;

async function serving(script: readonly ScriptedAnswer[], policy: ToolPolicy<Refund> = {}) {
  ledger = [];
  crew = makeCrew([supportAgent(ledger, script, policy)], {
    people: { ana: { roles: ["finance", "operator"] }, bo: { roles: ["finance"] } },
  });
  const apiKeys = [
    { key: keys.ana, user: "ana", person: true },
    { key: keys.bo, user: "bo", person: true },
    { key: keys.cy, user: "cy", person: true },
    keys.service,
  ];
  server = await serve(crew, { port: 0, apiKeys });
  onTestFinished(() => server.close());
}

/** A run that asks; @returns the approval's id. */
async function asking(): Promise<string> {
  const run = await crew.start("support", { prompt: "Refund me.", principal: customer });
  const { approvals } = await reaches(run, "approval");
  return approvals[0]?.id ?? "";
}

type Who = keyof typeof keys;

const at = (who: Who) => ({ GROUNDCREW_URL: server.url, GROUNDCREW_API_KEY: keys[who] });
const as = (who: Who, ...args: string[]) => start(args, at(who)).ended;
const jsonAs = async (who: Who, ...args: string[]) => JSON.parse((await as(who, ...args, "--json")).out);

test("a request is found, shown and approved by whoever the key belongs to", async () => {
  await serving([refunds(250), "Done."]);
  const id = await asking();
  expect((await as("bo", "inbox")).out).toMatch(new RegExp(`^${id} .* refund +customer +`, "m"));
  expect((await as("cy", "inbox")).err).toBe("Nothing waits for you.\n");
  expect(await as("cy", "inbox", "--all")).toMatchObject({ code: 2, err: expect.stringContaining("FORBIDDEN") });
  expect((await jsonAs("ana", "inbox", "--all")).approvals).toMatchObject([{ id }]);
  expect((await as("bo", "approval", id)).out).toContain('"amount": 250');
  expect((await as("bo", "approve", id, "--reason", "fine")).out).toMatch(/approved by bo at .* \(api\): fine/);
  await reaches(await crew.run(id.replace(/\.\d+$/, "")), "succeeded");
  expect(ledger).toHaveLength(1);
  expect((await jsonAs("ana", "audit", "list", "--approval", id)).records.map(({ action }: { action: string }) => action)).toEqual([
    "approval.requested",
    "approval.viewed",
    "approval.approved",
    "approval.execution.begun",
    "approval.execution.succeeded",
  ]);
});

test("a key without a person, and a person without the role, decide nothing", async () => {
  await serving([refunds(250), "Done."]);
  const id = await asking();
  expect(await as("service", "approve", id)).toMatchObject({ code: 2, err: expect.stringContaining("only a person can decide") });
  expect(await as("cy", "approve", id)).toMatchObject({ code: 3, err: expect.stringContaining("APPROVAL_NOT_FOUND") });
  expect(await groundcrew("approve", id, "--url", server.url)).toMatchObject({
    code: 2,
    err: expect.stringMatching(/UNAUTHENTICATED.*\n +fix: .*GROUNDCREW_API_KEY, or with --api-key/),
  });
  expect((await crew.approval(id)).status).toBe("open");
  expect(ledger).toEqual([]);
});

test("the second of two is told who was first and when, whatever they say", async () => {
  await serving([refunds(250), "Done."]);
  const id = await asking();
  expect((await as("bo", "deny", id, "--reason", "not this one")).code).toBe(0);
  for (const args of [
    ["approve", id],
    ["deny", id, "--reason", "no"],
    ["delegate", id, "user:cy"],
  ]) {
    expect(await as("ana", ...args)).toMatchObject({ code: 4, err: expect.stringMatching(/Approval \S+ is denied by bo at \d{4}-/) });
  }
});

test("of several who have to agree each is counted once, and what one has edited is what the next is shown", async () => {
  await serving([refunds(250), "Done."], { quorum: 2 });
  const id = await asking();
  const before = await jsonAs("ana", "approval", id);
  expect((await as("bo", "approve", id, "--input", '{"order":"o1","amount":50}')).out).toMatch(/refund {2}open/);
  expect((await as("bo", "approve", id)).out).toMatch(/refund {2}open/);
  const shown = (await as("ana", "approval", id)).out;
  expect(shown).toContain("2 different people have to agree, 1 did");
  expect(shown).toMatch(/edited to {2}\{\n +"order": "o1",\n +"amount": 50\n/);
  expect(await as("ana", "approve", id, "--hash", before.approval.request.hash)).toMatchObject({
    code: 2,
    err: expect.stringContaining("edited since"),
  });
  const now = /its hash {3}(\S+)/.exec(shown)?.[1] ?? "";
  expect((await as("ana", "approve", id, "--hash", now)).out).toMatch(/approved by bo and ana/);
  await reaches(await crew.run(id.replace(/\.\d+$/, "")), "succeeded");
  expect(ledger).toMatchObject([{ order: "o1", amount: 50 }]);
});

test("a run is held, guided, taken over and stopped through the server, by operators only", async () => {
  await serving([refunds(250), "Done."]);
  const id = await asking();
  const run = id.replace(/\.\d+$/, "");
  for (const args of [
    ["pause", run, "wait"],
    ["say", run, "x"],
    ["raise", run, "2"],
    ["takeover", run],
    ["stop", "--why", "x"],
    ["stops"],
    ["audit", "list"],
  ])
    expect((await as("bo", ...args)).code, args.join(" ")).toBeGreaterThanOrEqual(2);
  expect((await as("ana", "pause", run, "wait")).code).toBe(0);
  expect((await as("ana", "raise", run, "2")).code).toBe(0);
  expect((await as("ana", "say", run, "Be brief.")).code).toBe(0);
  await as("bo", "approve", id);
  await reaches(await crew.run(run), "attention");
  expect((await as("ana", "show", run)).out).toContain("ana has paused it: wait");
  expect(ledger).toEqual([]);
  expect((await jsonAs("ana", "stop", "support", "--why", "look")).stop).toMatchObject({ agent: "support", by: "ana" });
  expect((await as("ana", "runs")).err).toContain('"support" is stopped by ana');
  expect(await as("bo", "runs")).toMatchObject({ code: 0, err: expect.not.stringContaining("stopped") });
  expect(await jsonAs("ana", "lift", "support")).toEqual({ lifted: true, stops: [] });
  expect((await as("ana", "resume", run)).code).toBe(0);
  await reaches(await crew.run(run), "succeeded");
  expect(ledger).toHaveLength(1);
});

test("the log is read, exported and verified through the server, and only that of one's own tenant", async () => {
  await serving([refunds(250), "Done."]);
  const id = await asking();
  for (let n = 0; n < 5; n++) await as("bo", "approval", id);
  const verified = await as("ana", "audit", "verify");
  expect(verified).toMatchObject({ code: 0, out: expect.stringMatching(/^Whole: The log of "default", 6 records\. Head: 6:/) });
  const exported = await as("ana", "audit", "export");
  expect(exported.out.trimEnd().split("\n")).toHaveLength(6);
  expect(await as("ana", "audit", "verify", "--tenant", "acme")).toMatchObject({
    code: 2,
    err: expect.stringContaining("the tenant that the key belongs to"),
  });
  expect((await as("bo", "audit", "verify")).code).toBe(2);
});

test("a watcher whose server is gone says so once, and goes on when it is back", async () => {
  await serving([refunds(250), "Done."]);
  const watching = start(["inbox", "--watch"], at("bo"));
  await watching.until(/Waiting for requests/);
  const port = Number(new URL(server.url).port);
  await server.close();
  await watching.until(/The server does not answer; trying again\./);
  server = await serve(crew, { port, apiKeys: [{ key: keys.bo, user: "bo", person: true }] });
  onTestFinished(() => server.close());
  await watching.until(/The server answers again\./);
  const id = await asking();
  await watching.until(new RegExp(`groundcrew approve ${id}`));
  watching.child.kill("SIGINT");
  expect((await watching.ended).code).toBe(130);
  expect(watching.printed().split("does not answer")).toHaveLength(2);
});

const WITHHELD = 'Nothing waits for you.\n1 more waits for somebody else: the run works for you, and "selfApproval" is off.\n';

describe("whoever a run works for", () => {
  test("is told that others decide, sees no empty parts, and is offered nothing that would be refused", async () => {
    await serving([refunds(250), "Done."]);
    const terminal = start(["run", "support", "Refund me."], at("cy"));
    const [, id = ""] = await terminal.until(/groundcrew approval (\S+\.1)\n/);
    await terminal.until(new RegExp(`asked +about refund, until [-0-9 :]+Z \\(${id}\\)\n`));
    terminal.child.kill("SIGINT");
    await terminal.ended;
    expect(terminal.printed()).not.toMatch(/groundcrew (approve|deny)|: ,|: \(|: $/m);
    expect((await as("cy", "inbox")).err).toBe(WITHHELD);
    expect((await as("bo", "inbox")).err).not.toContain("somebody else");
    expect((await as("ana", "inbox")).err).not.toContain("somebody else");
    expect((await as("cy", "approval", id)).out).toMatch(/decides +others\n/);
    expect(await crew.audit("default", 0, 10)).toHaveLength(1);
  });

  test("is sent to the request that they may decide themselves, and offered the commands there", async () => {
    await serving([refunds(250), "Done."], { by: "requester" });
    const terminal = start(["run", "support", "Refund me."], at("cy"));
    const [, id = ""] = await terminal.until(/groundcrew approval (\S+\.1)\n/);
    expect((await as("cy", "inbox")).err).not.toContain("somebody else");
    expect((await as("cy", "approval", id)).out).toContain(`groundcrew approve ${id}\n`);
    expect((await as("cy", "approve", id)).code).toBe(0);
    expect((await terminal.ended).out).toBe("Done.\n");
  });

  test("and is the only user, of a server without keys or of this machine, reads why nobody can decide", async () => {
    const store = tempStore();
    crew = makeCrew([supportAgent([], [refunds(250), refunds(250)], { by: "role:operator" })], { store });
    server = await serve(crew, { port: 0 });
    onTestFinished(() => server.close());
    await reaches(await crew.start("support", { prompt: "Refund me." }), "approval");
    expect((await groundcrew("inbox", "--url", server.url)).err).toBe(WITHHELD);
    const principal = { tenant: "default", user: userInfo().username, roles: [] };
    await reaches(await crew.start("support", { prompt: "Refund me.", principal }), "approval");
    expect((await groundcrew("inbox", "--store", store)).err).toContain("\n1 more waits for somebody else");
  });
});
