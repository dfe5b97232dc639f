/** What people do, by the typed client: decide, steer, stop, read the log. */
import { expect, test } from "vitest";
import { connect } from "../../src/client/client.ts";
import { isError } from "../../src/errors.ts";
import { keyOf, openDesk } from "../server/desk.ts";

async function clients() {
  const desk = await openDesk();
  const as = (who: string) => connect(desk.server.url, { apiKey: keyOf(who) });
  return { ...desk, ana: as("ana"), bo: as("bo"), olga: as("olga"), service: as("service") };
}

const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );

test("somebody looks at what waits for them, and decides; the second is told by whom, and when, as data", async () => {
  const { ana, bo, crew, run, ledger, id } = await clients();
  const { approvals, next } = await ana.approvals({ limit: 10 });
  expect([approvals.map((one) => one.id), next]).toEqual([[id], null]);
  const shown = await ana.approval(id);
  expect(await ana.approve(id, { reason: "fair", hash: shown.request.hash })).toMatchObject({
    status: "approved",
    verdict: { by: ["ana"] },
  });
  const late = await failure(bo.deny(id, "no"));
  expect(isError(late, "APPROVAL_ENDED") && late.value).toEqual({ status: "approved", by: ["ana"], at: expect.any(Number) });
  expect(String(late)).toContain("approved by ana at");
  await crew.settle(run);
  expect(ledger).toHaveLength(1);
});

test("a request is handed on, denied, and none that one may not decide", async () => {
  const { ana, bo, olga, service, id } = await clients();
  expect(isError(await failure(service.approve(id)), "FORBIDDEN")).toBe(true);
  expect(isError(await failure(ana.answer(id, "yes")), "INPUT_INVALID")).toBe(true);
  expect(isError(await failure(ana.approval("run_0.1")), "APPROVAL_NOT_FOUND")).toBe(true);
  expect(await bo.delegate(id, { to: ["user:olga"] })).toMatchObject({ to: ["role:finance", "user:olga"] });
  expect((await olga.approvals({ all: true })).approvals).toHaveLength(1);
  expect((await olga.approvals({ all: true, status: "denied" })).approvals).toEqual([]);
  expect(await olga.deny(id, "no receipt")).toMatchObject({ status: "denied", verdict: { reason: "no receipt" } });
});

test("an operator steers a run, stops everything, and reads what is on record of it", async () => {
  const { olga, crew, run } = await clients();
  const remote = olga.run(run.id);
  await remote.pause("look");
  await remote.resume();
  await remote.say("Be kind.");
  await remote.raise({ steps: 3 });
  await remote.takeOver();
  await crew.advance("1s");
  await remote.speak("A person here.");
  await remote.handBack();
  expect(await olga.stop({ why: "harm" })).toMatchObject({ stop: { agent: "*", by: "olga" }, inFlight: [] });
  expect(await olga.stops()).toMatchObject([{ agent: "*", why: "harm" }]);
  expect([await olga.lift(), await olga.lift()]).toEqual([true, false]);
  const { records, head } = await olga.audit({ limit: 200 });
  const actions = records.map(({ record }) => (JSON.parse(record) as { action: string }).action);
  for (const action of [
    "run.paused",
    "run.resumed",
    "run.guided",
    "run.raised",
    "handover.began",
    "handover.said",
    "handover.ended",
    "stop.set",
    "stop.lifted",
  ]) {
    expect(actions).toContain(action);
  }
  expect(head?.seq).toBe(records.at(-1)?.seq);
  expect((await olga.audit({ after: records.length - 1 })).records.map(({ seq }) => seq)).toEqual([records.length]);
});
