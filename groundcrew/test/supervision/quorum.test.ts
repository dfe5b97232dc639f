/** What several people have to agree to is not freed of that by the word of one. */
import { expect, test } from "vitest";
import { actionsOf, ana, ask, bo, open, person, refunds } from "./ground.ts";

const cy = person("cy", "finance");

test.each(["first", "last"])("calls of which one of two says that they need nobody (the %s) need both", async (place) => {
  const { crew, ledger } = await open([refunds(1), refunds(100_000), "Done."], { quorum: 2 });
  const run = await ask(crew);
  const id = (await crew.inbox(ana))[0]?.id ?? "";
  const generous = { do: "approve", similar: { uses: 100, within: "1d" } } as const;
  await crew.decide(id, place === "first" ? generous : { do: "approve" }, ana);
  const row = await crew.decide(id, place === "last" ? generous : { do: "approve" }, bo);
  expect(row).toMatchObject({ status: "approved", verdict: { by: ["ana", "bo"] } });
  expect(row.verdict?.similar).toBeUndefined();
  await crew.settle(run);
  expect(ledger.map(({ amount }) => amount)).toEqual([1]);
  expect(await crew.inbox(ana)).toMatchObject([{ request: { input: { amount: 100_000 } } }]);
});

test("of what all of them say the least counts: the fewest calls, the earliest end; and each word is on record", async () => {
  const { crew, ledger } = await open([refunds(1), refunds(2), refunds(3), "Done."], { quorum: 3 });
  const run = await ask(crew);
  const id = (await crew.inbox(ana))[0]?.id ?? "";
  const now = crew.clock.now();
  await crew.decide(id, { do: "approve", similar: { uses: 50, within: "1h" } }, ana);
  const voted = await crew.decide(id, { do: "approve", similar: { uses: 1, within: "1d" } }, bo);
  expect(voted.votes.map(({ similar }) => similar?.uses)).toEqual([50, 1]);
  const row = await crew.decide(id, { do: "approve", similar: { uses: 7, within: "2h" } }, cy);
  expect(row.verdict?.similar?.uses).toBe(1);
  expect(row.verdict?.similar?.until).toBeLessThan(now + 90 * 60_000);
  await crew.settle(run);
  expect(ledger.map(({ amount }) => amount)).toEqual([1, 2]);
  expect(await crew.inbox(ana)).toMatchObject([{ request: { input: { amount: 3 } } }]);
  const records = (await crew.audit("default", 0, 100)).map(({ record }) => JSON.parse(record));
  expect(records.filter(({ action }) => action === "approval.voted").map(({ detail }) => detail.similar.uses)).toEqual([50, 1]);
});

test("who agrees again without it has taken it back", async () => {
  const { crew, ledger } = await open([refunds(1), refunds(2), "Done."], { quorum: 2 });
  const run = await ask(crew);
  const id = (await crew.inbox(ana))[0]?.id ?? "";
  const similar = { uses: 5, within: "1h" } as const;
  await crew.decide(id, { do: "approve", similar }, ana);
  await crew.decide(id, { do: "approve" }, ana);
  await crew.decide(id, { do: "approve", similar }, bo);
  await crew.settle(run);
  expect(ledger).toHaveLength(1);
  expect(await actionsOf(crew)).not.toContain("approval.covered");
});
