/**
 * A call that somebody has to agree to, whose process is killed before and after every single commit between the model's wish and the
 * recorded result, with the decision coming before, during and after the outage. The refund reaches the ledger exactly once, with the
 * approved arguments and the approval's id, or not at all; and the id is the same all the time.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Failpoint } from "../../src/failpoint.ts";
import { type Actor, type Crew, groundcrew, isError, type Run } from "../../src/index.ts";
import { bundle } from "../support/bundle.ts";
import { until, within } from "../support/until.ts";
import { asking, type Payment } from "./asking.ts";
import { type Child, endOf, killLeftovers, spawnWorker } from "./child.ts";
import { dropGrounds, type Ground, groundOf, kinds } from "./ground.ts";

const ana: Actor = { tenant: "default", user: "ana", roles: ["finance"], kind: "person", channel: "api" };
const customer = { tenant: "default", user: "customer", roles: [] };
const worker = await bundle(new URL("./approval-worker.ts", import.meta.url));

/** When somebody decides: while the process that will die works, while none does, or when another works. */
type Moment = "before" | "during" | "after";
type Say = "approve" | "edit" | "deny";

let dir: string;
let ground: Ground;
let crew: Crew;
let ledger: Server;
let asked: Payment[];
let url: string;

afterAll(dropGrounds);

async function begin(kind: (typeof kinds)[number]): Promise<void> {
  dir = mkdtempSync(join(tmpdir(), "groundcrew-approval-"));
  ground = await groundOf(kind, dir);
  asked = [];
  ledger = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "", "http://ledger");
    if (pathname === "/paid") return response.end(JSON.stringify(asked.find(({ key }) => key === searchParams.get("key")) ?? null));
    let body = "";
    for await (const chunk of request) body += chunk;
    asked.push(JSON.parse(body) as Payment);
    return response.end();
  });
  await new Promise<void>((resolve) => ledger.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(ledger.address() as AddressInfo).port}`;
  crew = groundcrew({ agents: [asking(url)], store: await ground.open(), worker: false });
}

async function end(): Promise<void> {
  killLeftovers();
  await crew.close();
  ledger.closeAllConnections();
  ledger.close();
  await ground.remove();
  rmSync(dir, { recursive: true });
}

const spawn = (dieAt?: `${Failpoint}:${number}`): Child =>
  spawnWorker({ store: ground.location, lease: 10_000, world: url, model: "", reconcile: true }, dieAt, worker);

const requestOf = (run: Run) => until("somebody is asked", async () => (await crew.approvals({ run: run.id }))[0]);

/** Says it once; when the run came to its end first there is nothing to say. */
async function decide(run: Run, say: Say): Promise<string> {
  const { id } = await requestOf(run);
  const decision =
    say === "deny" ? { do: "deny" as const, reason: "no" } : { do: "approve" as const, ...(say === "edit" && { input: { amount: 99 } }) };
  await crew.decide(id, decision, ana).catch((error: unknown) => {
    if (!isError(error, "APPROVAL_ENDED")) throw error;
  });
  return id;
}

/** @returns whether the process came to die: past its last commit there is nothing left to kill. */
async function play(dieAt: `${Failpoint}:${number}`, moment: Moment, say: Say): Promise<boolean> {
  asked = [];
  const run = await crew.start("asking", { prompt: "Money back!", principal: customer });
  const victim = spawn(dieAt);
  let id: string | undefined;
  if (moment === "before") {
    const deciding = until(
      "somebody is asked, or it is dead",
      async () => victim.isOver || (await crew.approvals({ run: run.id })).length > 0,
    );
    await deciding;
    if (!victim.isOver) id = await decide(run, say);
  }
  const isOver = async () => victim.isOver || (await run.view()).status === "succeeded" || (await isWaiting(run, moment));
  await until("it is dead, done, or waits", isOver);
  const hasDied = victim.isOver;
  if (hasDied) await endOf(victim, "SIGKILL");
  else victim.kill("SIGKILL");
  await until("it is gone", () => victim.isOver);

  if (moment === "during" && (await crew.approvals({ run: run.id })).length > 0) id = await decide(run, say);
  const heir = spawn();
  id ??= await decide(run, say);
  const output = await within("the run ends", run.result());
  heir.kill("SIGKILL");

  const rows = await crew.approvals({ run: run.id });
  expect(
    rows.map((row) => row.id),
    "the id never changes",
  ).toEqual([id]);
  const expected = { approve: [{ key: id, amount: 250 }], edit: [{ key: id, amount: 99 }], deny: [] }[say];
  expect(asked, `${dieAt}, decided ${moment}`).toEqual(expected);
  expect(output).toBe(`It ended as ${say === "deny" ? "execution-denied" : "text"}.`);
  return hasDied;
}

/** Parked for an answer that comes only later: the process has nothing more to die of. */
async function isWaiting(run: Run, moment: Moment): Promise<boolean> {
  return moment !== "before" && (await run.row()).reason === "approval";
}

describe.each(kinds)("an approval on %s", (kind) => {
  beforeEach(() => begin(kind));
  afterEach(end);

  const cases = (["commit.before", "commit.after"] as const).flatMap((point) =>
    (
      [
        ["before", "approve"],
        ["during", "edit"],
        ["after", "deny"],
      ] as const
    ).map(([moment, say]) => [point, moment, say] as const),
  );

  test.each(cases)("survives a kill at each %s, decided %s the outage: %s", { timeout: 240_000 }, async (point, moment, say) => {
    let kills = 0;
    for (let nth = 1; await play(`${point}:${nth}`, moment, say); nth++) kills++;
    expect(kills).toBeGreaterThan(3); // join, claim, the request, parked; and what a decision leads to
  });

  test("survives a kill in the middle of the effect: it is looked up, and not done again", { timeout: 60_000 }, async () => {
    for (const point of ["effect.before:2", "effect.after:2"] as const) expect(await play(point, "before", "approve")).toBe(true);
  });
});
