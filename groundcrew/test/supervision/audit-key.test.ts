/** A log is written with one key from its first record on: who has another writes nothing. */
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import type { CrewOptions } from "../../src/runtime.ts";
import { makeCrew, reaches, tempStore } from "../support/crew.ts";
import { ana, customer, person, refunds, supportAgent } from "./ground.ts";

const KEY = "the key of this log, and of no other";
const operator = person("olga", "operator");

function crewWith(store: string, auditKey: string | undefined, more: Partial<CrewOptions> = {}) {
  const script = ({ prompt }: { prompt: unknown[] }) => (prompt.length > 1 ? "Done." : refunds(1));
  return makeCrew([supportAgent([], script)], { store, ...(auditKey !== undefined && { supervision: { auditKey } }), ...more });
}

test.each([
  [KEY, undefined],
  [KEY, "another key, that of another log"],
  [undefined, KEY],
])("a log that is begun with the key %s is written to by nobody with %s; reading goes on", async (own, other) => {
  const store = tempStore();
  const first = crewWith(store, own);
  const run = await first.start("support", { prompt: "Hi", principal: customer });
  await reaches(run as never, "parked");
  const [asked] = await first.inbox(ana);
  await first.close();
  const before = await crewWith(store, own, { worker: false }).audit("default", 0, 100);

  const wrong = crewWith(store, other);
  const refused = { code: "CONFIG_INVALID" };
  await expect(wrong.work()).rejects.toMatchObject(refused);
  await expect(wrong.decide(asked?.id ?? "", { do: "approve" }, ana)).rejects.toMatchObject(refused);
  await expect(wrong.viewed(asked?.id ?? "", ana)).rejects.toMatchObject(refused);
  await expect(wrong.stop({ why: "x" }, operator)).rejects.toMatchObject(refused);
  const handle = await wrong.run(run.id);
  await expect(handle.pause("x", operator)).rejects.toMatchObject(refused);
  await expect(handle.retry(operator)).rejects.toMatchObject(refused);
  expect(await wrong.inbox(ana)).toHaveLength(1);
  expect(await wrong.audit("default", 0, 100)).toEqual(before);

  const right = crewWith(store, own);
  await right.work();
  await right.decide(asked?.id ?? "", { do: "approve" }, ana);
  await reaches((await right.run(run.id)) as never, "succeeded");
});

test("one record that somebody has altered keeps nobody from work: to find it is the verifier's", async () => {
  const store = tempStore();
  const first = crewWith(store, KEY);
  const run = await first.start("support", { prompt: "Hi", principal: customer });
  await reaches(run as never, "parked");
  await run.pause("look", operator);
  await first.close();
  const db = new DatabaseSync(store);
  db.exec("update audit set record = replace(record, 'olga', 'anna') where seq = (select max(seq) from audit)");
  db.close();
  const again = crewWith(store, KEY);
  await again.work();
  await (await again.run(run.id)).resume(operator);
});
