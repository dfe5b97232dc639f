/** What is told outside, from many processes that share one PostgreSQL. */
import { expect, onTestFinished, test } from "vitest";
import { webhook } from "../../src/notify/webhook.ts";
import { groundcrew } from "../../src/runtime.ts";
import { listen, status } from "../notify/ground.ts";
import { ana, customer, type Ledger, refunds, supportAgent } from "../supervision/ground.ts";
import { reaches } from "../support/crew.ts";
import { createDatabase, dropDatabase } from "../support/database.ts";
import { describePostgres, sharedPostgres } from "../support/shared-postgres.ts";
import { until } from "../support/until.ts";

const RUNS = 8;

describePostgres("two processes with a webhook that fails at first", () => {
  test("tell each piece of news, none of it twice as new, and both decide from the same rows", async () => {
    const store = await createDatabase(await sharedPostgres());
    onTestFinished(() => dropDatabase(store));
    const { url, heard } = await listen(status(503), status(503), status(204));
    const ledger: Ledger = [];
    const crews = [1, 2].map(() => {
      const channels = [webhook({ url: `${url}/hook`, secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" })];
      const crew = groundcrew({
        agents: [supportAgent(ledger, ({ prompt }) => (prompt.length > 1 ? "Done." : refunds(7)))],
        store,
        people: { ana: { roles: ["finance"] } },
        supervision: { channels },
        onTrouble: () => {},
      });
      onTestFinished(() => crew.close());
      return crew;
    });
    const [one, two] = crews as [(typeof crews)[0], (typeof crews)[0]];
    await Promise.all(crews.map((crew) => crew.work()));
    const runs = await Promise.all(Array.from({ length: RUNS }, () => one.start("support", { prompt: "Hi", principal: customer })));
    for (const run of runs) await reaches(run as never, "parked");
    const ids = () => heard.slice(2).map(({ headers }) => headers["webhook-id"]);
    await until("all of it has arrived", async () => new Set(ids()).size >= RUNS || undefined, 20_000);
    expect(ids()).toHaveLength(RUNS); // each by one of the two, and once

    const inbox = await two.inbox(ana);
    expect(inbox).toHaveLength(RUNS);
    for (const { id } of inbox) await two.decide(id, { do: "approve" }, ana);
    await Promise.all(runs.map((run) => reaches(run as never, "succeeded")));
    expect(ledger).toHaveLength(RUNS);
    expect(new Set(ledger.map(({ key }) => key)).size).toBe(RUNS);
    await until("the ends have arrived", async () => new Set(ids()).size >= 2 * RUNS || undefined, 20_000);
    expect(ids()).toHaveLength(2 * RUNS);
  });
});
