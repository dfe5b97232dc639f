/** What waits for somebody is found, however much waits for others; and nothing of one tenant is told to another. */
import { expect, test } from "vitest";
import type { Store } from "../../src/persistence/store.ts";
import { Desk } from "../../src/run/desk.ts";
import { People } from "../../src/supervision/people.ts";
import { approvalRow } from "../notify/ground.ts";
import { ana, ask, open, person, refunds } from "./ground.ts";

test("a request behind 2,500 that are others' is in one's inbox", async () => {
  const mine = approvalRow();
  const others = Array.from({ length: 2_500 }, (_, i) => approvalRow({ id: `run_x${i}.1`, to: ["role:others"] }));
  const all = [...others, mine];
  const approvals: Store["approvals"] = async ({ before, limit }) => {
    const from = before === undefined ? 0 : all.findIndex(({ id }) => id === before) + 1;
    return all.slice(from, from + limit);
  };
  const store = { approvals } as Store;
  const desk = new Desk({ store, agents: new Map(), people: new People(), channels: [], poke: () => {} });
  expect(await desk.inbox(ana)).toEqual([mine]);
});

test("who belongs to another tenant decides nothing, and reads nothing of it in the own log", async () => {
  const { crew } = await open([refunds(500), "Done."]);
  const run = await ask(crew);
  const [asked] = await crew.inbox(ana);
  await crew.decide(asked?.id ?? "", { do: "approve" }, ana);
  await crew.settle(run);
  const eve = { ...person("eve", "finance"), tenant: "evil" };
  await expect(crew.decide(asked?.id ?? "", { do: "approve" }, eve)).rejects.toMatchObject({ code: "FORBIDDEN" });
  const log = await crew.audit("evil", 0, 10);
  expect(log).toHaveLength(1);
  expect(JSON.parse(log[0]?.record ?? "")).toMatchObject({ action: "approval.refused", actor: { id: "eve" }, approval: asked?.id });
  expect(log[0]?.record).not.toMatch(/ana|customer|finance/);
});
