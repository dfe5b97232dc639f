/** The power goes in the middle of a write: what the disk then holds of the log ends at any byte. */
import { copyFileSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { groundcrew } from "../../src/index.ts";
import { until } from "../support/until.ts";
import { endOf, killLeftovers, spawnWorker } from "./child.ts";
import { programOf } from "./program.ts";
import { seeded } from "./seeded.ts";
import { Stage } from "./stage.ts";

const CUTS = 16;

let stage: Stage;

afterEach(async () => {
  killLeftovers();
  await stage.end();
});

test("a run whose log was cut at any byte goes on from what is left of it, to the same end", async () => {
  stage = await Stage.begin("SQLite");
  const { world } = stage;
  const file = stage.ground.location;
  const request = { input: { order: "7" } };
  const worker = spawnWorker(stage.job({ start: { agent: "trip", request } }));
  await worker.ready;
  await stage.open();
  const whole = await until("the run waits for its signal", async () => {
    const [run] = await stage.crew.runs({ agent: "trip" });
    return run?.reason === "signal" && run;
  });
  worker.kill("SIGKILL");
  await endOf(worker, "SIGKILL");

  const random = seeded(7);
  const size = statSync(`${file}-wal`).size;
  const before = await stage.store.journal(whole.id);
  let continued = 0;
  for (let i = 0; i < CUTS; i++) {
    const cut = Math.floor(random() * size);
    const copy = join(stage.dir, `cut-${cut}.db`);
    copyFileSync(file, copy);
    copyFileSync(`${file}-wal`, `${copy}-wal`);
    truncateSync(`${copy}-wal`, cut);

    const crew = groundcrew({ agents: Object.values(programOf(stage.job({ reconcile: true }))), store: copy });
    const [left] = await crew.runs({ agent: "trip" });
    if (left)
      expect(before.slice(0, (await (await crew.run(left.id)).journal()).length), `cut at ${cut}`).toEqual(
        await (await crew.run(left.id)).journal(),
      );
    const run = await crew.start("trip", { ...request, key: "the one" });
    await run.signal("go", "all is well");
    const output = await run.result({ signal: AbortSignal.timeout(15_000) });
    expect(output, `cut at ${cut} of ${size}`).toMatchObject({ reply: "all is well", again: { receipt: "receipt of tell" } });
    if (left) expect(run.id).toBe(left.id);
    if (left) continued++;
    await crew.close();
  }
  expect(continued, "cuts that left a run to continue").toBeGreaterThan(CUTS / 2);
  expect(world.count("plan")).toBeLessThan(1 + CUTS);
});
